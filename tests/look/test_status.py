"""The funnel: what is counted, and what a person is told to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from valor_data.errors import REASONS
from valor_data.ledger import Ledger, Outcome, ShardRow
from valor_data.look.status import action, next_step, read_status
from valor_data.workdir import WorkDir

KEPT = Outcome.kept()


def ledger_with(path: Path, *splits: str) -> Ledger:
    ledger = Ledger(path / "ledger.sqlite")
    ledger.sync([(n, f"v{n}", f"v{n}", f"v{n}", split, b"") for n, split in enumerate(splits)])
    return ledger


def test_the_funnel_of_each_split_and_of_all(tmp_path: Path) -> None:
    with ledger_with(tmp_path, "train", "train", "train", "val") as ledger:
        for clip_id in (1, 2, 4):
            ledger.record(clip_id, "fetch", KEPT)
        ledger.record(3, "fetch", Outcome.refused("gone"))
        ledger.record(1, "filter", KEPT)
        ledger.record(2, "filter", Outcome.refused("silent"))
        ledger.record(1, "shard", KEPT)
        ledger.record_shard(ShardRow("train", 0, "d", 1, 1000, "s"))
        status = read_status(ledger)
    train, val = status.splits
    assert (train.split, train.num_clips, train.kept) == ("train", 3, {"fetch": 2, "filter": 1, "shard": 1})
    assert (val.split, val.num_clips, val.kept) == ("val", 1, {"fetch": 1, "filter": 0, "shard": 0})
    assert dict(train.losses) == {("fetch", "dropped", "gone"): 1, ("filter", "dropped", "silent"): 1}
    assert [train.not_tried(stage) for stage in ("fetch", "filter", "shard")] == [0, 0, 0]
    assert [val.not_tried(stage) for stage in ("fetch", "filter", "shard")] == [0, 1, 0]
    assert (status.all.num_clips, status.all.kept["fetch"]) == (4, 3)
    assert (status.num_shards, status.num_samples, status.shard_bytes) == (1, 1, 1000)
    tree = status.to_dict()
    assert tree["all"]["losses"] == [
        {"stage": "fetch", "status": "dropped", "reason": "gone", "count": 1},
        {"stage": "filter", "status": "dropped", "reason": "silent", "count": 1},
    ]
    assert tree["splits"][1] == {
        "split": "val", "manifest": 1, "yield": 0.0, "fetch_kept": 1, "filter_kept": 0, "shard_kept": 0,
        "fetch_pending": 0, "filter_pending": 1, "shard_pending": 0, "losses": [],
    }  # fmt: skip


def test_the_finished_world_adds_up(finished: WorkDir) -> None:
    with Ledger(finished.ledger, read_only=True) as ledger:
        status = read_status(ledger)
    for funnel in (*status.splits, status.all):
        lost = sum(funnel.losses.values())
        assert funnel.num_clips == funnel.kept["shard"] + lost
        assert funnel.num_clips >= funnel.kept["fetch"] >= funnel.kept["filter"] >= funnel.kept["shard"] > 0
    assert sum(funnel.num_clips for funnel in status.splits) == status.all.num_clips
    assert status.num_samples == status.all.kept["shard"]
    assert status.shard_bytes == sum(path.stat().st_size for path in finished.shards.glob("*.tar"))


def test_what_to_do_next(tmp_path: Path) -> None:
    def step() -> str:
        return next_step(read_status(ledger))

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert step() == "run `valor-data fetch MANIFEST`: there are no clips here yet"
    with ledger_with(tmp_path, "train", "train") as ledger:
        assert step() == "run `valor-data fetch` to go on with the clips that were not tried yet"
        ledger.record(1, "fetch", KEPT)
        ledger.record(2, "fetch", Outcome.refused("missing"))
        assert step() == "run `valor-data filter` to measure what was fetched"
        ledger.record(1, "filter", KEPT)
        assert step() == "run `valor-data fetch` again for 1 waiting clips, or `valor-data shard --partial`"
        ledger.record(1, "shard", KEPT)
        assert step() == "run `valor-data fetch` again for the waiting clips; everything else is in shards"
        ledger.record(2, "fetch", KEPT)
        ledger.record(2, "filter", KEPT)
        assert step() == "run `valor-data shard`"
        ledger.record(2, "shard", KEPT)
        assert step() == "run `valor-data verify` to read every shard as a stranger would"


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_has_an_action(reason: str) -> None:
    assert action(reason) == REASONS[reason].action != ""


def test_an_unknown_reason_has_none() -> None:
    assert action("of a later version") == ""
