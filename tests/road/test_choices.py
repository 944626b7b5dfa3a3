"""What a run can hold besides the default: one modality, whole videos, media members, sizes, columns of URLs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from driving import go, standings

from valor_data.config import FetchSection, ShardSection
from valor_data.demo import World, WorldSettings, make_world, serve
from valor_data.errors import ConfigError
from valor_data.look.verify import verify
from valor_data.manifest import ManifestOptions, build_manifest, write_manifest
from valor_data.shard.reader import read_samples
from valor_data.workdir import WorkDir


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


@pytest.fixture(scope="module")
def manifest(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "manifest.parquet"
    write_manifest(build_manifest(list(world.annotations)), path)
    return path


def tars(work: Path) -> list[Path]:
    return sorted((work / "shards").glob("*.tar"))


@pytest.mark.parametrize(("modalities", "absent"), [("v", "no_audio"), ("a", "no_video")])
def test_one_modality(world: World, manifest: Path, tmp_path: Path, modalities: str, absent: str) -> None:
    sharding = ShardSection(workers=2, partial=True)
    go(tmp_path, manifest, str(world.media), modalities=modalities, sharding=sharding)
    found = standings(tmp_path)
    for clip in world.truth:
        if clip.expect == f"dropped:{absent}":
            # What the run does not hold is no reason to refuse.
            assert found[clip.key] == ("kept", ""), clip
        if clip.expect == "dropped:silent":
            assert found[clip.key][0] == ("kept" if modalities == "v" else "dropped")
    samples = list(read_samples(tars(tmp_path)))
    assert len(samples) > 10
    for sample in samples:
        assert (sample.mel is None) == (modalities == "v")
        assert (len(sample.jpegs) == 0) == (modalities == "a")
        assert sample.details["modalities"] == modalities
    assert verify(WorkDir.at(tmp_path)).problems == []


def test_media_members_hold_exactly_the_span(world: World, manifest: Path, tmp_path: Path) -> None:
    sharding = ShardSection(workers=2, partial=True, include=("audio", "video"), num_frames=2, max_clips=7)
    go(tmp_path, manifest, str(world.media), sharding=sharding)
    samples = list(read_samples(tars(tmp_path)))
    assert len(samples) > 10
    for sample in samples:
        clip = sample.clip
        assert clip.end is not None
        with av.open(io.BytesIO(sample.media["flac"])) as sound:
            stream = sound.streams.audio[0]
            heard = sum(frame.samples for frame in sound.decode(stream))
            assert heard == pytest.approx((clip.end - clip.start) * stream.rate, abs=0.5)
        with av.open(io.BytesIO(sample.media["mp4"])) as film:
            assert {stream.codec_context.name for stream in film.streams} == {"h264", "aac"}
            shown = len(list(film.decode(video=0)))
            assert shown == pytest.approx((clip.end - clip.start) * 10, abs=1)
    assert verify(WorkDir.at(tmp_path)).problems == []


def test_whole_videos_get_their_end_and_key(world: World, tmp_path: Path) -> None:
    ids = sorted({clip.video_id for clip in world.truth if clip.expect == "kept"})[:6]
    listing = tmp_path / "whole.csv"
    listing.write_text("video_id,caption\n" + "".join(f"{video_id},A shape moves.\n" for video_id in ids))
    result = build_manifest([listing])
    write_manifest(result, tmp_path / "manifest.parquet")
    work = tmp_path / "work"
    with serve(world.media) as server:
        go(work, tmp_path / "manifest.parquet", server.url_template)
        assert server.count(method="GET") == len(ids)
        go(work, None, server.url_template)
        assert server.count(method="GET") == len(ids), "nothing is asked for again"
    found = standings(work)
    assert len(found) == len(ids) and set(found.values()) == {("kept", "")}
    for sample in read_samples(tars(work)):
        assert sample.clip.start == 0.0 and sample.clip.end is not None and sample.clip.end > 1.0
        assert sample.mel is not None and len(sample.mel) == pytest.approx(sample.clip.end * 100, abs=5)


def test_a_column_of_urls(world: World, tmp_path: Path) -> None:
    ids = sorted({clip.video_id for clip in world.truth if clip.expect == "kept"})[:4]
    with serve(world.media) as server:
        rows = [{"name": f"own/{i}", "text": "A shape.", "link": server.url(name)} for i, name in enumerate(ids)]
        rows.append({"name": "no url", "text": "A shape.", "link": ""})
        rows.append({"name": "not web", "text": "A shape.", "link": "file:///etc/passwd"})
        listing = tmp_path / "rows.jsonl"
        listing.write_text("\n".join(json.dumps(row) for row in rows))
        options = ManifestOptions(id_field="name", caption_field="text", url_field="link")
        write_manifest(build_manifest([listing], options=options), tmp_path / "manifest.parquet")
        work = tmp_path / "work"
        go(work, tmp_path / "manifest.parquet", "column", sharding=ShardSection(workers=1, partial=True))
    found = standings(work)
    by_id = {key.rsplit("_", 2)[0]: outcome for key, outcome in found.items()}
    assert [by_id[f"own=2F{i}"] for i in range(4)] == [("kept", "")] * 4
    assert by_id["no=20url"] == ("waiting", "configuration")
    assert by_id["not=20web"] == ("dropped", "not_media")
    assert {sample.clip.video_id for sample in read_samples(tars(work))} == {f"own/{i}" for i in range(4)}


def test_shards_bounded_in_bytes(world: World, manifest: Path, tmp_path: Path) -> None:
    bound = 150_000
    sharding = ShardSection(workers=2, partial=True, max_bytes=bound)
    go(tmp_path, manifest, str(world.media), sharding=sharding)
    sizes = [tar.stat().st_size for tar in tars(tmp_path)]
    assert len(sizes) > 3
    assert max(sizes) <= bound * 1.5, "the bound becomes a count, from the mean of some samples"
    assert verify(WorkDir.at(tmp_path)).problems == []


def test_the_plan_is_fixed(world: World, manifest: Path, tmp_path: Path) -> None:
    go(tmp_path, manifest, str(world.media), sharding=ShardSection(workers=1, partial=True, max_clips=8))
    from valor_data.road import Driver, run_shard

    with Driver(WorkDir.at(tmp_path)) as driver:
        other = ShardSection(workers=1, partial=True, max_clips=5)
        with pytest.raises(ConfigError, match="the shard plan is fixed: max_clips is 8, not 5; --replan gives it up"):
            run_shard(driver, other, "av", explicit={"max_clips"})
        run_shard(driver, other, "av", explicit={"max_clips"}, replan=True)
    assert verify(WorkDir.at(tmp_path)).problems == []
    assert max(len(list(read_samples([tar]))) for tar in tars(tmp_path)) <= 5
    before = len(tars(tmp_path))
    with Driver(WorkDir.at(tmp_path)) as driver:
        large = ShardSection(workers=1, partial=True, max_clips=100)
        run_shard(driver, large, "av", explicit={"max_clips"}, replan=True)
    assert len(tars(tmp_path)) < before, "tars of the former plan are gone"
    assert verify(WorkDir.at(tmp_path)).problems == []


def test_copies_of_a_folder_are_cut(world: World, manifest: Path, tmp_path: Path) -> None:
    fetch = FetchSection(source=str(world.media), workers=2, copy=True)
    go(tmp_path / "copied", manifest, str(world.media), fetch=fetch)
    go(tmp_path / "in-place", manifest, str(world.media))
    copied, in_place = ({s.key: s for s in read_samples(tars(tmp_path / name))} for name in ("copied", "in-place"))
    assert copied.keys() == in_place.keys()
    for key, sample in copied.items():
        assert sample.jpegs == in_place[key].jpegs, "a cut piece shows the same pictures as the whole video"
        assert sample.mel is not None and in_place[key].mel is not None
        assert np.abs(sample.mel.astype(np.float32) - in_place[key].mel.astype(np.float32)).mean() < 1e-2
