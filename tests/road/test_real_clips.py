"""Seventy-eight real clips, good and bad, end as their list says: from a web server, and from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driving import RealClips, go, standings

from valor_data.clip import make_key
from valor_data.demo import serve
from valor_data.errors import REASONS
from valor_data.look.verify import verify
from valor_data.workdir import WorkDir


def expected_rows(real_clips: RealClips) -> dict[str, str]:
    """Key to what `clips.tsv` expects, for the rows that enter the manifest."""
    return {
        make_key(row["video_id"], float(row["start"]), float(row["end"])): row["expect"]
        for row in real_clips.rows
        if not row["expect"].startswith("rejected")
    }


def fits(expect: str, status: str, reason: str) -> bool:
    """Whether an outcome is one of those that a row of `clips.tsv` allows."""
    for choice in expect.split("|"):
        wanted, _, why = choice.partition(":")
        if "|" in expect and ":" not in choice:  # "dropped:short|silent": the second is a reason of the first
            wanted, why = expect.split(":")[0], choice
        if wanted == "any" or (wanted == status and why in ("", "any", reason)):
            return True
    return False


def check(work: Path, real_clips: RealClips) -> None:
    found, wanted = standings(work), expected_rows(real_clips)
    assert found.keys() == wanted.keys()
    assert len(found) == 77  # 78 rows, one of them rejected for its caption
    wrong = {key: (*found[key], wanted[key]) for key in wanted if not fits(wanted[key], *found[key])}
    assert wrong == {}
    for status, reason in found.values():
        assert status in ("kept", "dropped", "waiting")
        assert (reason == "") == (status == "kept")
        assert reason == "" or REASONS[reason].status.value == status
    assert verify(WorkDir.at(work)).problems == []


@pytest.mark.timeout(300)
def test_from_a_web_server(tmp_path: Path, real_clips: RealClips, make_manifest: Callable[..., Path]) -> None:
    work = tmp_path / "work"
    with serve(real_clips.folder) as server:
        go(work, make_manifest(real_clips.annotation), server.url_template)
        counts = {row["video_id"]: server.count(row["video_id"], "GET") for row in real_clips.rows}
    check(work, real_clips)
    found = standings(work)
    assert found["Gone____074_00000000_00010000"] == ("dropped", "gone")
    assert counts.pop("JunkCap_076") == 0, "a rejected row is never asked for"
    assert set(counts.values()) == {1}, "one download a video, however many clips it has"


@pytest.mark.timeout(300)
def test_from_a_folder(tmp_path: Path, real_clips: RealClips, make_manifest: Callable[..., Path]) -> None:
    work = tmp_path / "work"
    go(work, make_manifest(real_clips.annotation), str(real_clips.folder))
    check(work, real_clips)
    assert standings(work)["Gone____074_00000000_00010000"] == ("waiting", "missing")
    assert not (work / "media").exists(), "a folder is used in place, nothing is copied"
