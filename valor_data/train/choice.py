"""Which members of a sorted list stand for it: frames of a clip, slices of its sound.

The reference's rule: the list is cut into k near-equal groups, and each group sends one member.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def groups(length: int, k: int) -> list[tuple[int, int]]:
    """Cuts a list into k contiguous groups, the first (length mod k) of them one longer.

    A list shorter than k is filled up with its last item first, so groups may hold the same item.

    Args:
        length: items in the list, at least 1.
        k: groups, at least 1.

    Returns:
        First and last item of each group, both included, counted from 0.

    >>> groups(10, 4)
    [(0, 2), (3, 5), (6, 7), (8, 9)]
    """
    if length < 1 or k < 1:
        raise ValueError(f"{length} items in {k} groups: expected at least 1 of each")
    size, longer = divmod(max(length, k), k)
    ends = [(i + 1) * size + min(i + 1, longer) for i in range(k)]
    starts = [0, *ends[:-1]]
    return [(min(a, length - 1), min(b - 1, length - 1)) for a, b in zip(starts, ends, strict=True)]


def choose(length: int, k: int, rng: np.random.Generator | None) -> list[int]:
    """One item of each of the k groups: a random one in training, the lower middle in test.

    Args:
        length: items in the list, at least 1.
        k: how many to choose.
        rng: draws in training; None for test.

    Returns:
        k item numbers, ascending; repeated where the list is shorter than k.

    >>> choose(10, 4, None)
    [1, 4, 6, 8]
    """
    if rng is None:
        return [(first + last) // 2 for first, last in groups(length, k)]
    return [int(rng.integers(first, last + 1)) for first, last in groups(length, k)]


def choose_names(names: Sequence[str], k: int, rng: np.random.Generator | None) -> list[str]:
    """`choose` for things with names, at least one: a clip's pictures, in order."""
    return [names[i] for i in choose(len(names), k, rng)]


def rng_of(*seeds: int | str) -> np.random.Generator:
    """A generator that some numbers and texts determine, the same on every machine.

    Args:
        seeds: whole numbers and texts, such as a run's seed, a pass and a clip's key.
    """
    digest = hashlib.blake2b(repr(seeds).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def draw_weighted(weights: Sequence[float], rng: np.random.Generator) -> int:
    """The number of one of some things, each as likely as its weight says."""
    total = float(sum(weights))
    point, reached = rng.random() * total, 0.0
    for number, weight in enumerate(weights):
        reached += weight
        if point < reached:
            return number
    return len(weights) - 1
