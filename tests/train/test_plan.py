"""Who reads what: every sample once, the same number of batches everywhere, whatever the numbers are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.errors import ConfigError
from valor_data.train.plan import (
    Piece,
    Share,
    Shuffle,
    batches_of_pass,
    evaluation_pieces,
    mixed,
    spans_of,
    training_piece,
)

counts_of_shards = st.lists(st.integers(0, 30), min_size=1, max_size=8)


def samples_of(piece: Piece) -> list[tuple[int, int]]:
    """(shard, number in it) in the order in which they are handed out."""
    line = [(span.shard, number) for span in piece.spans for number in range(span.first, span.stop)]
    assert sorted(piece.order) == list(range(len(line)))
    return [line[place] for place in piece.order]


@settings(max_examples=150, deadline=None)
@given(counts_of_shards, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 40))
def test_an_exact_pass_takes_every_sample_at_most_once(
    counts: list[int], batch_size: int, world: int, workers: int, number: int, buffer: int
) -> None:
    total = sum(counts)
    if total < batch_size * world:
        with pytest.raises(ConfigError, match="too few for one batch"):
            batches_of_pass(total, batch_size, world)
        return
    batches = batches_of_pass(total, batch_size, world)
    workers = min(workers, batches)
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(world):
        of_workers = []
        for worker in range(workers):
            share = Share(rank, world, worker, workers)
            found = samples_of(training_piece(counts, batch_size, share, number, Shuffle(buffer=buffer)))
            of_workers.append(len(found))
            seen.update(found)
        assert sum(of_workers) == batches * batch_size, "the same on every rank"
        dealt = [len(range(worker, batches, workers)) * batch_size for worker in range(workers)]
        assert of_workers == dealt, "a worker's part is what the steps of an epoch ask of it"
    assert set(seen.values()) <= {1}
    assert total - seen.total() < batch_size * world, "less than a batch on every rank is left over"


def test_what_is_left_over_is_not_always_the_same() -> None:
    share = Share()
    left = [
        set(range(10)) - {number for _, number in samples_of(training_piece([1] * 10, 4, share, p, Shuffle()))}
        for p in range(6)
    ]
    dropped = [{s for s, _ in samples_of(training_piece([1] * 10, 4, share, p, Shuffle()))} for p in range(6)]
    assert len({frozenset(d) for d in dropped}) > 2
    assert all(len(d) == 8 for d in dropped) and left


def test_a_pass_that_is_too_small_for_all_workers_is_taken_in_turns() -> None:
    for worker in range(3):
        pieces = [training_piece([5], 2, Share(0, 1, worker, 3), number, Shuffle()) for number in range(2)]
        assert [piece.number for piece in pieces] == [worker, 3 + worker]
        assert all(len(samples_of(piece)) == 4 for piece in pieces)


@settings(max_examples=150, deadline=None)
@given(counts_of_shards, st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_an_evaluation_takes_every_sample(counts: list[int], batch_size: int, world: int, workers: int) -> None:
    total = sum(counts)
    seen: Counter[tuple[int, int]] = Counter()
    batches = set()
    for rank in range(world):
        pieces = [
            p for w in range(workers) for p in evaluation_pieces(counts, batch_size, Share(rank, world, w, workers))
        ]
        batches.add(len(pieces))
        for piece in pieces:
            found = samples_of(piece)
            assert 1 <= len(found) <= batch_size
            seen.update(found)
    assert len(batches) == 1, "the same number of batches on every rank"
    assert seen.keys() == {(shard, n) for shard, count in enumerate(counts) for n in range(count)}
    if total >= world * batch_size * batches.pop():
        assert set(seen.values()) <= {1}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=5), st.integers(2, 6), st.integers(1, 4))
def test_an_evaluation_doubles_nothing_that_it_need_not(counts: list[int], batch_size: int, world: int) -> None:
    if sum(counts) < 2 * world:
        return
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(world):
        for piece in evaluation_pieces(counts, batch_size, Share(rank, world)):
            seen.update(samples_of(piece))
    assert set(seen.values()) == {1}


@given(st.integers(0, 300), st.integers(1, 50), st.integers(0, 5))
def test_mixing_is_a_shuffle_buffer(num: int, buffer: int, seed: int) -> None:
    order = mixed(num, buffer, np.random.default_rng(seed))
    assert sorted(order) == list(range(num))
    assert all(sample - place < buffer for place, sample in enumerate(order))
    if buffer == 1:
        assert order == list(range(num))


def test_another_seed_pass_and_set_give_another_order() -> None:
    def order(seed: int, name: str, number: int) -> tuple[tuple[int, int], ...]:
        return tuple(samples_of(training_piece([9, 9, 9], 3, Share(), number, Shuffle(seed=seed, name=name))))

    assert order(0, "", 0) == order(0, "", 0)
    assert len({order(0, "", 0), order(1, "", 0), order(0, "x", 0), order(0, "", 1)}) == 4


def test_resampled_passes_differ_between_readers() -> None:
    shuffle = Shuffle(resampled=True)
    found = [
        tuple(samples_of(training_piece([20, 0, 20], 4, Share(r, 2, w, 2), 0, shuffle))) for r in (0, 1) for w in (0, 1)
    ]
    assert len(set(found)) == 4
    assert {len(one) for one in found} == {12}, "a worker's share of a pass, rounded up to whole batches"
    assert {shard for one in found for shard, _ in one} == {0, 2}


def test_spans_cut_a_line_of_shards() -> None:
    spans = [(s.shard, s.first, s.stop) for s in spans_of([3, 0, 4, 5], [2, 0, 1, 3], 2, 8)]
    assert spans == [(2, 2, 4), (0, 0, 3), (3, 0, 1)]


def test_too_few_clips_says_how_many_there_must_be() -> None:
    with pytest.raises(
        ConfigError, match=r"^a set: 7 clips are too few for one batch of 4 on each of 2 ranks; give it at"
    ):
        batches_of_pass(7, 4, 2, "a set")
