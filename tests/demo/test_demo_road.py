"""The road over a small world ends as the world's truth says, clip by clip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from valor_data.demo import World, WorldSettings, make_world, serve

COMMAND = Path(sys.executable).with_name("valor-data")


def valor_data(*arguments: str | Path) -> str:
    answer = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{arguments}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


def rows_of(paths: Sequence[Path], *columns: str) -> list[dict[str, str]]:
    return [row for path in paths for row in pq.read_table(path, columns=list(columns)).to_pylist()]


def check_against_truth(world: World, work: Path, manifest: Path) -> None:
    """Every clip tried has the outcome it should; every clip that was not tried was rejected rightly."""
    tried = {row["key"]: row for row in rows_of(sorted((work / "index").glob("*.parquet")), "key", "status", "reason")}
    num_rejected = sum(t.expect == "rejected:caption" for t in world.truth)
    assert pq.read_metadata(manifest.with_name("rejects.parquet")).num_rows == num_rejected
    wrong = []
    for t in world.truth:
        row = tried.pop(t.key, None)
        outcome = ("rejected", "caption") if row is None else (row["status"], row["reason"])
        if not t.accepts(*outcome):
            wrong.append((t.key, t.kind, t.expect, outcome))
    assert wrong == []
    assert tried == {}


@pytest.mark.parametrize("kind", ["url", "folder"])
def test_the_road_ends_as_the_truth_says(tmp_path: Path, kind: str) -> None:
    world = make_world(tmp_path / "world", WorldSettings.small(), workers=1)
    manifest, work = tmp_path / "manifest.parquet", tmp_path / "work"
    valor_data("manifest", *world.annotations, "-o", manifest)
    with serve(world.media) as server:
        source = server.url_template if kind == "url" else world.media
        valor_data("fetch", manifest, "--source", source, "--work", work)
        asked = [r.video_id for r in server.requests]
    valor_data("filter", "--work", work)
    valor_data("shard", "--work", work, "--partial", "--workers", "1")
    valor_data("verify", "--work", work)
    check_against_truth(world, work, manifest)
    tried = {t.video_id for t in world.truth if not t.expect.startswith("rejected")}
    if kind == "url":  # one request a video, however many clips it has
        assert sorted(asked) == sorted(tried)
    else:
        assert asked == []
