"""Publish a set and keep it publishable: editions, card, upload, version, take-down, exports."""
