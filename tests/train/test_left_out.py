"""An old copy of the shards and a new list of tombstones: what was removed is never trained on or asked about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from train.small_sets import WORDS, clip_number, make_clip, write_set
from train.test_data import SMALL, TASK

from valor_data.errors import ShardError
from valor_data.tombstones import add_tombstones
from valor_data.train.data import DataSet, EvaluationData, TrainingData

GONE = (2, 5, 9)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return write_set(tmp_path / "copy", [6, 8])


@pytest.fixture
def tombstones(tmp_path: Path) -> Path:
    keys = [make_clip(number).key or "" for number in GONE[:2]]
    file = tmp_path / "new" / "tombstones.parquet"
    add_tombstones(file, keys, [make_clip(GONE[2]).video_id], reason="request", why="asked by mail")
    return file


@pytest.mark.parametrize("workers", [0, 2])
def test_training_skips_and_counts(copy: Path, tombstones: Path, workers: int) -> None:
    settings = replace(SMALL, workers=workers)
    data = TrainingData([DataSet(shards=copy, task=TASK, tombstones=tombstones)], settings, WORDS)
    seen = {clip_number(key) for _ in range(4) for step in data for key in step.batch.keys}
    assert seen == set(range(14)) - set(GONE)
    assert data.num_removed >= len(GONE) and data.num_broken == 0


def test_an_evaluation_skips_and_counts(copy: Path, tombstones: Path) -> None:
    data = EvaluationData(DataSet(shards=copy, task=TASK, tombstones=tombstones), SMALL, WORDS)
    assert {clip_number(key) for step in data for key in step.batch.keys} == set(range(14)) - set(GONE)
    assert data.num_removed == len(GONE)


def test_a_list_beside_the_shards_counts_without_being_named(copy: Path) -> None:
    add_tombstones(copy / "tombstones.parquet", [make_clip(0).key or ""], [], reason="gone", why="not there")
    data = EvaluationData(DataSet(shards=copy, task=TASK), SMALL, WORDS)
    assert 0 not in {clip_number(key) for step in data for key in step.batch.keys}


def test_a_set_of_which_nothing_is_left_is_one_line(copy: Path) -> None:
    videos = [make_clip(number).video_id for number in range(14)]
    add_tombstones(copy / "tombstones.parquet", [], videos, reason="gone", why="not there")
    with pytest.raises(ShardError, match="no sample of 2 shards can be used; they were removed from the set"):
        list(TrainingData([DataSet(shards=copy, task=TASK)], SMALL, WORDS))
    with pytest.raises(ShardError, match="they were removed from the set"):
        list(EvaluationData(DataSet(shards=copy, task=TASK), SMALL, WORDS))
