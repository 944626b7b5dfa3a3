"""Is a clip kept? Facts are measured once, in workers; decided as often as you like, in the driver."""
