"""The shard plan: which clip belongs to which shard. Fixed once; numbers never shift."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping


def shuffled(identities: Iterable[tuple[int, str]], seed: int) -> list[int]:
    """Clip ids in a seeded order that depends on the clips alone, not on the order they come in.

    Args:
        identities: (clip id, identity) pairs.
        seed: another seed gives another order.
    """
    salt = f"valor-data shard plan {seed}".encode()[:64]
    keyed = [(hashlib.blake2b(name.encode(), digest_size=16, key=salt).digest(), number) for number, name in identities]
    keyed.sort()
    return [number for _, number in keyed]


def plan_rows(
    unplanned: Iterable[tuple[int, str, str]], first_shards: Mapping[str, int], *, seed: int, max_clips: int
) -> Iterator[tuple[int, str, int, int]]:
    """Places clips that have no place yet into new shards behind the existing ones.

    Args:
        unplanned: (clip id, split, identity).
        first_shards: number of shards each split has already.
        seed: of the order within a split.
        max_clips: clips a shard, counted before the filter.

    Yields:
        (clip id, split, shard, position) rows.
    """
    by_split: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for clip_id, split, identity in unplanned:
        by_split[split].append((clip_id, identity))
    for split in sorted(by_split):
        first = first_shards.get(split, 0)
        for place, clip_id in enumerate(shuffled(by_split[split], seed)):
            yield clip_id, split, first + place // max_clips, place % max_clips
