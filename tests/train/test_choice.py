"""Which frames and slices stand for a clip: exactly the reference's, and draws that anything can repeat."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from valor_data.train.choice import choose, choose_names, draw_weighted, groups, rng_of


def test_the_reference_chooses_the_same(shared: Path) -> None:
    golden = json.loads((shared / "golden/sampling.json").read_text())
    for k, by_length in golden["test"].items():
        for length, expected in by_length.items():
            assert choose(int(length), int(k), None) == expected
    for k, by_length in golden["train_groups"].items():
        for length, expected in by_length.items():
            assert [list(group) for group in groups(int(length), int(k))] == expected


def test_training_draws_every_member_of_each_group_and_no_other() -> None:
    rng = np.random.default_rng(0)
    seen: list[set[int]] = [set(), set(), set()]
    for _ in range(300):
        for place, item in enumerate(choose(8, 3, rng)):
            seen[place].add(item)
    assert seen == [{0, 1, 2}, {3, 4, 5}, {6, 7}]


def test_names_are_repeated_where_there_are_few() -> None:
    assert choose_names(["a", "b"], 4, None) == ["a", "b", "b", "b"]


@pytest.mark.parametrize(("length", "k"), [(0, 1), (1, 0)])
def test_nothing_cannot_be_chosen(length: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        groups(length, k)


def test_a_generator_depends_on_each_of_its_seeds() -> None:
    numbers = {rng_of(*seeds).integers(1 << 60) for seeds in [(0, "a"), (1, "a"), (0, "b"), ("a", 0), (0, "a", 0)]}
    assert len(numbers) == 5
    assert rng_of(7, "key").integers(1000) == rng_of(7, "key").integers(1000)


def test_weights_are_kept() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_weighted([1.0, 3.0], rng) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.75, abs=0.02)
