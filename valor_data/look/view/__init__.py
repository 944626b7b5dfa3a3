"""`valor-data view`: shards in a browser, on this machine alone: an index to search in, and a small server."""
