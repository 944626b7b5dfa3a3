"""What changes late rebuilds only its own shard; every other one keeps its bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from driving import go, standings, tar_bytes

from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import World, WorldSettings, make_world
from valor_data.look.verify import verify
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, run_filter, run_shard
from valor_data.workdir import WorkDir

SHARDING = ShardSection(workers=2, max_clips=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


@pytest.fixture
def begun(world: World, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run over a folder, all links dead or alive in place; gives its work folder and its videos."""
    videos = tmp_path / "videos"
    shutil.copytree(world.media, videos)
    manifest = tmp_path / "manifest.parquet"
    write_manifest(build_manifest(list(world.annotations)), manifest)
    for clip in world.truth:  # with a folder source a dead link waits; give it something, so that nothing does
        if "gone" in clip.expect:
            shutil.copy(next(videos.glob("*.mp4")), videos / f"{clip.video_id}.mp4")
    return tmp_path / "work", videos


def manifest_of(begun: tuple[Path, Path]) -> Path:
    return begun[0].parent / "manifest.parquet"


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def planned_shard(work: Path, video_id: str) -> str:
    from valor_data.ledger import Ledger

    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        clip_ids = {clip.clip_id for clip in ledger.find_clips(video_id)}
        return next(f"{c.split}-{c.shard:06d}.tar" for c in ledger.planned() if c.clip_id in clip_ids)


def a_kept_video(work: Path) -> str:
    return next(key.rsplit("_", 2)[0] for key, (status, _) in standings(work).items() if status == "kept")


def test_a_clip_that_comes_late(begun: tuple[Path, Path]) -> None:
    work, videos = begun
    late = sorted(path for path in videos.iterdir() if path.stat().st_size > 1000)[3]
    aside = late.rename(begun[0].parent / "late.mp4")
    manifest = manifest_of(begun)
    report = go(work, manifest, str(videos), sharding=SHARDING)["shard"]
    before = tar_bytes(work)
    assert any("shards wait for" in notice for notice in report.notices)
    missing = planned_shard(work, late.stem)
    assert missing not in before, "a shard is not built while a clip of it waits"
    assert len(before) > 2
    aside.rename(late)
    go(work, manifest, str(videos), sharding=SHARDING)
    assert changed(before, tar_bytes(work)) == {missing}
    assert verify(WorkDir.at(work)).problems == []


def test_a_clip_that_comes_after_a_partial_build(begun: tuple[Path, Path]) -> None:
    work, videos = begun
    late = sorted(path for path in videos.iterdir() if path.stat().st_size > 1000)[5]
    aside = late.rename(begun[0].parent / "late.mp4")
    manifest = manifest_of(begun)
    partial = ShardSection(workers=2, max_clips=4, partial=True)
    go(work, manifest, str(videos), sharding=partial)
    before = tar_bytes(work)
    aside.rename(late)
    report = go(work, manifest, str(videos), sharding=SHARDING)["shard"]
    touched = {planned_shard(work, late.stem)}
    assert changed(before, tar_bytes(work)) == touched
    assert any("stale" in notice for notice in report.notices)


def test_a_threshold_that_moves(begun: tuple[Path, Path]) -> None:
    work, videos = begun
    go(work, manifest_of(begun), str(videos), sharding=SHARDING)
    before = tar_bytes(work)
    stamps = {path.name: path.stat().st_mtime_ns for path in (work / "shards").iterdir()}
    with Driver(WorkDir.at(work)) as driver:
        run_filter(driver, FilterSection(min_rms_dbfs=-45.0), "av", explicit={"min_rms_dbfs"})
        run_shard(driver, SHARDING, "av")
    quiet = [key for key, outcome in standings(work).items() if outcome == ("dropped", "silent")]
    after = tar_bytes(work)
    moved = changed(before, after)
    assert moved and len(moved) < len(before)
    assert moved <= {planned_shard(work, key.rsplit("_", 2)[0]) for key in quiet}
    for name in set(before) - moved:
        assert (work / "shards" / name).stat().st_mtime_ns == stamps[name], "an unchanged shard is not even rewritten"
    # And back: the same bytes as at first.
    with Driver(WorkDir.at(work)) as driver:
        run_filter(driver, FilterSection(min_rms_dbfs=-60.0), "av", explicit={"min_rms_dbfs"})
        run_shard(driver, SHARDING, "av")
    assert tar_bytes(work) == before


def test_a_caption_that_changes(begun: tuple[Path, Path], world: World) -> None:
    work, videos = begun
    go(work, manifest_of(begun), str(videos), sharding=SHARDING)
    before = tar_bytes(work)
    video = a_kept_video(work)
    files = []
    for annotation in world.annotations:
        rows = json.loads(annotation.read_text())
        for row in rows:
            if row["video_id"].startswith(video):
                row["desc"] = "Something else is seen and heard."
        files.append(begun[0].parent / annotation.name)
        files[-1].write_text(json.dumps(rows))
    manifest = begun[0].parent / "changed.parquet"
    write_manifest(build_manifest(files), manifest)
    reports = go(work, manifest, str(videos), sharding=SHARDING)
    assert any("with other captions or labels" in notice for notice in reports["fetch"].notices)
    assert changed(before, tar_bytes(work)) == {planned_shard(work, video)}
    assert verify(WorkDir.at(work)).problems == []


def test_a_caption_that_changes_after_the_media_were_discarded(begun: tuple[Path, Path], world: World) -> None:
    """Pictures and sound come from the former tar, so that a million clips of media need not be kept."""
    work, videos = begun
    discarding = ShardSection(workers=2, max_clips=4, discard_media=True)
    fetch = FetchSection(source=str(videos), workers=2, copy=True)
    go(work, manifest_of(begun), str(videos), fetch=fetch, sharding=discarding)
    kept = {key for key, (status, _) in standings(work).items() if status == "kept"}
    assert not kept & {path.stem for path in (work / "media").rglob("*.*")}, "media of kept clips are gone"
    before = tar_bytes(work)
    video = a_kept_video(work)
    files = []
    for annotation in world.annotations:
        rows = json.loads(annotation.read_text())
        for row in rows:
            if row["video_id"].startswith(video):
                row["desc"] = "Something else is seen and heard."
        files.append(begun[0].parent / annotation.name)
        files[-1].write_text(json.dumps(rows))
    manifest = begun[0].parent / "changed.parquet"
    write_manifest(build_manifest(files), manifest)
    go(work, manifest, str(videos), fetch=fetch, sharding=discarding)
    after = tar_bytes(work)
    name = planned_shard(work, video)
    assert changed(before, after) == {name}
    assert b"Something else is seen and heard." in after[name]
    assert verify(WorkDir.at(work)).problems == []


def test_one_worker_or_four_make_the_same_bytes(begun: tuple[Path, Path]) -> None:
    work, videos = begun
    go(work, manifest_of(begun), str(videos), sharding=ShardSection(workers=1, max_clips=4))
    other = work.with_name("other")
    go(other, manifest_of(begun), str(videos), sharding=ShardSection(workers=4, max_clips=4))
    assert tar_bytes(work) == tar_bytes(other)
    for path in sorted((work / "index").glob("*.json")):
        assert path.read_text() == (other / "index" / path.name).read_text()
