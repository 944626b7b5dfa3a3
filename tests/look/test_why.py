"""Why a clip ended as it did, by its key or its video's id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from valor_data.errors import ValorDataError
from valor_data.ledger import Ledger, MediaRow, Outcome
from valor_data.look.why import explain
from valor_data.workdir import WorkDir

KEYS = ("-0BIyqJj9ZU_00030000_00040000", "-0BIyqJj9ZU_00050000_00060000", "_x_00000000_00001000")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.sync([(n, key, key, key.rsplit("_", 2)[0], "train", b"") for n, key in enumerate(KEYS)])
    return ledger


def test_a_clip_that_was_not_tried(ledger: Ledger) -> None:
    (why,) = explain(ledger, KEYS[0])
    assert why.to_dict().items() >= {
        "key": KEYS[0], "video_id": "-0BIyqJj9ZU", "split": "train", "in_manifest": True, "stages": {},
        "media": None, "facts": None, "shard": None,
    }.items()  # fmt: skip


def test_a_refusal_with_its_meaning_and_what_to_do(ledger: Ledger) -> None:
    for detail in ("first", "HTTP Error 503"):
        ledger.record(1, "fetch", Outcome.refused("server_error", detail))
    (why,) = explain(ledger, KEYS[0])
    told = why.to_dict()["stages"]["fetch"]
    assert told.pop("seen") > 1.7e9
    assert told == {
        "status": "waiting",
        "reason": "server_error",
        "meaning": "the server failed (5xx)",
        "action": "run fetch again",
        "detail": "HTTP Error 503",
        "attempts": 2,
    }


def test_all_clips_of_a_video(ledger: Ledger) -> None:
    assert [why.clip.key for why in explain(ledger, "-0BIyqJj9ZU")] == list(KEYS[:2])


def test_media_that_were_discarded_and_a_clip_that_was_taken_out(ledger: Ledger) -> None:
    ledger.record_media(3, MediaRow("media/x.mp4", 0.0, 5, '{"extractor":"url"}'))
    ledger.discard_media(3)
    ledger.sync([])
    told = explain(ledger, KEYS[2])[0].to_dict()
    assert told["in_manifest"] is False
    assert told["media"]["path"] == "(discarded)"
    assert told["media"]["source"] == {"extractor": "url"}


def test_no_such_clip(ledger: Ledger) -> None:
    with pytest.raises(ValorDataError, match=r"no clip '-0BI_00030000_00040000' in .*: expected a key or a video id; "):
        explain(ledger, "-0BI_00030000_00040000")
    with pytest.raises(ValorDataError, match=f"keys like it: {KEYS[0]}"):
        explain(ledger, KEYS[0][:-1] + "1")
    with pytest.raises(ValorDataError, match=r"expected a key or a video id$"):
        explain(ledger, "zzz")


def test_a_clip_of_the_finished_world(finished: WorkDir) -> None:
    with Ledger(finished.ledger, read_only=True) as ledger:
        key = sorted(ledger.keys_in_shards())[0]
        told = explain(ledger, key)[0].to_dict()
    assert list(told["stages"]) == ["fetch", "filter", "shard"]
    assert all(stage["status"] == "kept" and stage["reason"] == "" for stage in told["stages"].values())
    assert Path(told["media"]["path"]).is_file()
    assert told["facts"]["has_audio"] is True
    assert (finished.shards / f"{told['shard']}.tar").is_file()
    json.dumps(told)
