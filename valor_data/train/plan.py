"""Who reads which samples, and in what order: whole numbers only, nothing is opened here.

The samples of a set stand in a line, shard after shard. A pass goes over the line once, with the shards in a
new order. The line is cut into equal pieces, one for each rank, and these into one for each worker; so shards
may be fewer than workers, and every sample belongs to exactly one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from valor_data.errors import ConfigError
from valor_data.train.choice import rng_of


@dataclass(frozen=True, slots=True)
class Share:
    """One of several that read the same data.

    Attributes:
        rank: number of the process that trains, from 0.
        world: processes that train.
        worker: number of the loader's worker in it, from 0.
        workers: workers of a process.
    """

    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Span:
    """Samples `[first, stop)` of a shard, counted from 0 in the order of the tar."""

    shard: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Piece:
    """What one reader reads in one pass.

    Attributes:
        number: of the pass, from 0; part of the seed of everything that is drawn in it.
        spans: what to read, one after another.
        order: in which order its samples are handed out; positions in the spans taken together.
    """

    number: int
    spans: tuple[Span, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """How samples are mixed in training.

    Attributes:
        seed: another seed gives another order.
        name: tells sets apart that are mixed; part of the seed.
        buffer: a sample is handed out at most so many places early (1: in the order of the shards).
        resampled: each reader draws whole shards at random, again and again, instead of sharing exact passes.
    """

    seed: int = 0
    name: str = ""
    buffer: int = 1000
    resampled: bool = False


def batches_of_pass(num_samples: int, batch_size: int, world: int, name: str = "the set") -> int:
    """Batches of each rank in one exact pass; what does not fill a batch on every rank is left for another pass.

    Raises:
        ConfigError: there are too few samples for a single batch.
    """
    batches = num_samples // (batch_size * world)
    if not batches:
        on_ranks = f" on each of {world} ranks" if world > 1 else ""
        raise ConfigError(
            f"{name}: {num_samples} clips are too few for one batch of {batch_size}{on_ranks}; "
            f"give it at least {batch_size * world}, or lower batch_size"
        )
    return batches


def training_piece(counts: Sequence[int], batch_size: int, share: Share, number: int, shuffle: Shuffle) -> Piece:
    """What a reader reads in its pass of this number.

    Args:
        counts: samples of each shard.
        batch_size: clips of a batch on one rank.
        share: who reads.
        number: the reader's own count of passes, from 0.
        shuffle: how samples are mixed.
    """
    batches = batches_of_pass(sum(counts), batch_size, share.world)
    if shuffle.resampled:
        num = -(-batches // share.workers) * batch_size
        seeds = (shuffle.seed, shuffle.name, "drawn", number, share.rank, share.worker)
        spans = _drawn(counts, num, rng_of(*seeds))
    else:
        first, stop = share.rank * batches * batch_size, (share.rank + 1) * batches * batch_size
        if batches >= share.workers:
            size, larger = divmod(batches, share.workers)  # the first have one more, as steps are dealt out in turn
            ends = [w * size + min(w, larger) for w in (share.worker, share.worker + 1)]
            first, stop = (first + batch_size * end for end in ends)
        else:  # fewer batches than workers: they take turns, each a whole pass of the rank's
            number = number * share.workers + share.worker
        seeds = (shuffle.seed, shuffle.name, "line", number, 0, 0)
        spans = spans_of(counts, rng_of(*seeds).permutation(len(counts)).tolist(), first, stop)
    order = mixed(sum(map(len, spans)), shuffle.buffer, rng_of(*seeds, "order", share.rank, share.worker))
    return Piece(number, tuple(spans), tuple(order))


def evaluation_pieces(counts: Sequence[int], batch_size: int, share: Share) -> list[Piece]:
    """The batches of a reader in an evaluation: every sample once, in the order of the shards.

    The number of batches is the same on all ranks, and a rank's samples are spread evenly over them. Where
    samples are so few that a batch would be empty, it gets one that another batch has, too: count by key.

    Returns:
        A piece for each batch.
    """
    total = sum(counts)
    if not total:
        return []
    begin, end = (total * rank // share.world for rank in (share.rank, share.rank + 1))
    most = math.ceil(total / share.world)
    batches = math.ceil(most / batch_size)
    pieces = []
    for batch in range(batches * share.worker // share.workers, batches * (share.worker + 1) // share.workers):
        first, stop = (begin + (end - begin) * i // batches for i in (batch, batch + 1))
        if first == stop:
            first = min(first, total - 1)
            stop = first + 1
        pieces.append(Piece(0, tuple(spans_of(counts, range(len(counts)), first, stop)), tuple(range(stop - first))))
    return pieces


def spans_of(counts: Sequence[int], shard_order: Sequence[int], first: int, stop: int) -> list[Span]:
    """The samples `[first, stop)` of a line of shards, as spans of single shards."""
    spans, reached = [], 0
    for shard in shard_order:
        a, b = max(first - reached, 0), min(stop - reached, counts[shard])
        if a < b:
            spans.append(Span(shard, a, b))
        reached += counts[shard]
        if reached >= stop:
            break
    return spans


def _drawn(counts: Sequence[int], num_samples: int, rng: np.random.Generator) -> list[Span]:
    """Shards drawn at random, each again and again, until they hold so many samples; the last one is cut."""
    full = [shard for shard, count in enumerate(counts) if count]
    spans: list[Span] = []
    while num_samples > 0:
        shard = full[int(rng.integers(len(full)))]
        spans.append(Span(shard, 0, min(counts[shard], num_samples)))
        num_samples -= counts[shard]
    return spans


def mixed(num: int, buffer: int, rng: np.random.Generator) -> list[int]:
    """The numbers 0 to `num` − 1 in a random order in which none comes more than `buffer` − 1 places early.

    That is the order in which a shuffle buffer of this size gives out a stream; known before anything is
    read, so that reading can go on from the middle.
    """
    waiting = list(range(min(max(buffer, 1), num)))
    draws = rng.random(num).tolist()
    order = []
    for following, draw in enumerate(draws, start=len(waiting)):
        place = int(draw * len(waiting))
        order.append(waiting[place])
        if following < num:
            waiting[place] = following
        else:
            waiting[place] = waiting[-1]
            waiting.pop()
    return order
