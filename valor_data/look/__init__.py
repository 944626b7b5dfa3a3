"""Status, why, verify: what a run has made, read without changing anything."""
