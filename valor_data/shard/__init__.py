"""Plan, sample, writer, reader: from kept clips to finished WebDataset tars and their sidecars."""

from __future__ import annotations


def shard_name(split: str, shard: int) -> str:
    """The name of a shard without extension, `<split>-000000`."""
    return f"{split}-{shard:06d}"
