"""The writer: tars that say nothing of when and where, offsets that are true, moves that a kill cannot break."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import socket
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_media import SECONDS, make_video

from valor_data.clip import Caption, Clip
from valor_data.config import ShardSection
from valor_data.errors import ShardError
from valor_data.ledger import Outcome
from valor_data.media.facts import Facts
from valor_data.shard import output as output_module
from valor_data.shard import writer as writer_module
from valor_data.shard.output import FolderOutput
from valor_data.shard.sample import Made, SampleRequest, SampleSettings
from valor_data.shard.tar import FormerShard, TarFile, member_header
from valor_data.shard.writer import (
    ShardResult,
    ShardUnit,
    SliceRow,
    build_shard,
    clip_digest,
    finish_moves,
    sample_size_bytes,
    shard_digest,
)
from valor_data.workdir import WorkDir

SETTINGS = SampleSettings.of(ShardSection(num_frames=2), "av")
FACTS = json.dumps(Facts(has_video=True, has_audio=True).to_dict())

# -- the tar

keys = st.text("abcXYZ019_=-", min_size=1, max_size=150)
extensions = st.sampled_from(["json", "txt", "mel.npy", "frame_00.jpg", "frame_10.jpg", "flac", "mp4"])
bodies = st.binary(max_size=40) | st.sampled_from([b"x" * n for n in (511, 512, 513, 10_240, 70_000)])
samples = st.dictionaries(keys, st.dictionaries(extensions, bodies, min_size=1), max_size=5)


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> tuple[TarFile, list[Any]]:
    with TarFile(path) as tar:
        members = [member for key, files in samples.items() for member in tar.add_sample(key, files)]
    return tar, members


@settings(max_examples=60, deadline=None)
@given(samples)
def test_offsets_are_those_that_tarfile_finds(
    tmp_path_factory: pytest.TempPathFactory, samples: dict[str, dict[str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    tar, members = write_tar(path, samples)
    data = path.read_bytes()
    assert (tar.size, tar.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with tarfile.open(path) as opened:
        infos = opened.getmembers()
    assert [(m.name, m.offset, m.size) for m in members] == [(i.name, i.offset_data, i.size) for i in infos]
    expected = {f"{key}.{extension}": body for key, files in samples.items() for extension, body in files.items()}
    assert {m.name: data[m.offset : m.offset + m.size] for m in members} == expected
    assert all(m.sha256 == hashlib.sha256(expected[m.name]).hexdigest() for m in members)
    assert all((i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) == (0, 0, 0, "", "", 0o644) for i in infos)


def test_members_stand_sorted_whatever_order_they_are_given_in(tmp_path: Path) -> None:
    files = {"txt": b"1", "json": b"2", "mel.npy": b"3", "frame_10.jpg": b"4", "frame_02.jpg": b"5"}
    write_tar(tmp_path / "a.tar", {"k": files})
    write_tar(tmp_path / "b.tar", {"k": dict(reversed(files.items()))})
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["k.frame_02.jpg", "k.frame_10.jpg", "k.json", "k.mel.npy", "k.txt"]


def test_the_longest_key_is_read_by_webdataset(tmp_path: Path) -> None:
    import webdataset

    key = "=E2" * 53 + "_00000000_00001000"
    write_tar(tmp_path / "a.tar", {key: {"txt": b"words", "mel.npy": b"x"}, "short": {"txt": b"t", "mel.npy": b"y"}})
    found = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False))
    assert [(sample["__key__"], sample["txt"]) for sample in found] == [(key, b"words"), ("short", b"t")]


def test_an_error_leaves_no_end_mark(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TarFile(tmp_path / "a.tar") as tar:
        tar.add_sample("k", {"txt": b"1"})
        raise RuntimeError
    assert (tmp_path / "a.tar").stat().st_size <= 1024


# -- a shard


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    return WorkDir.at(tmp_path / "work")


def request(number: int, path: Path | None, caption: str = "A bell.") -> SampleRequest:
    clip = Clip(f"v{number}", 0.0, SECONDS, captions=(Caption(caption),))
    return SampleRequest(number, clip, path, 0.0, FACTS, '{"extractor":"test"}', f"digest {number} {caption}")


def digest_of(request: SampleRequest) -> str:
    return clip_digest(request.key, request.content, request.facts or "", request.source)


def keep(facts: Mapping[str, Any]) -> Outcome:
    return Outcome.kept()


def unit_of(work: WorkDir, *requests: SampleRequest, others: tuple[SliceRow, ...] = (), **changes: Any) -> ShardUnit:
    rows = (*(SliceRow(r.clip_id, r.key, r.clip.video_id, "kept", "") for r in requests), *others)
    unit = ShardUnit("train", 3, rows, requests, SETTINGS, keep, work.root, work.own_tmp(), 60.0)
    return dataclasses.replace(unit, **changes)


def files_of(work: WorkDir) -> dict[str, bytes]:
    return {
        str(path.relative_to(work.root)): path.read_bytes()
        for folder in (work.shards, work.index)
        for path in sorted(folder.rglob("*"))
    }


NAMES = ["index/train-000003.json", "index/train-000003.parquet", "shards/train-000003.tar"]


def test_a_shard_and_its_sidecars(work: WorkDir, video: Path) -> None:
    others = (
        SliceRow(8, "w_00000000_00001000", "w", "dropped", "silent"),
        SliceRow(9, "x_open", "x", "waiting", "missing"),
    )
    result = build_shard(unit_of(work, request(1, video), request(2, video), others=others))
    assert sorted(files_of(work)) == NAMES
    tar = work.shards / "train-000003.tar"
    assert (result.num_samples, result.size_bytes, result.lost, result.dropped) == (2, tar.stat().st_size, (), {})
    assert result.tar_sha256 == hashlib.sha256(tar.read_bytes()).hexdigest()
    assert result.digest == shard_digest(SETTINGS, [digest_of(request(1, video)), digest_of(request(2, video))])
    beside = json.loads((work.index / "train-000003.json").read_text())
    assert beside["counts"] == {"kept": 2, "dropped:silent": 1, "waiting:missing": 1}
    assert (beside["num_clips"], beside["num_samples"], beside["tar_sha256"]) == (4, 2, result.tar_sha256)
    assert set(beside["versions"]) == set(writer_module.VERSIONED_PACKAGES)
    rows = pq.read_table(work.index / "train-000003.parquet").to_pylist()
    assert [(r["key"], r["status"], r["reason"]) for r in rows] == [
        ("v1_00000000_00002000", "kept", ""),
        ("v2_00000000_00002000", "kept", ""),
        ("w_00000000_00001000", "dropped", "silent"),
        ("x_open", "waiting", "missing"),
    ]
    assert [len(r["members"]) for r in rows] == [5, 5, 0, 0]
    assert all(r["size_bytes"] == sum(m["size"] for m in r["members"]) for r in rows)
    with tarfile.open(tar) as opened:
        assert [m["name"] for r in rows for m in r["members"]] == opened.getnames()
    assert list(work.own_tmp().iterdir()) == []


def test_the_same_bytes_from_another_place_and_time(work: WorkDir, video: Path, tmp_path: Path) -> None:
    build_shard(unit_of(work, request(1, video)))
    elsewhere = tmp_path / "a secret place" / "v.mp4"
    elsewhere.parent.mkdir()
    shutil.copyfile(video, elsewhere)
    other = WorkDir.at(tmp_path / "a secret place" / "work")
    build_shard(unit_of(other, request(1, elsewhere)))
    assert files_of(work) == files_of(other)
    tar = (work.shards / "train-000003.tar").read_bytes()
    assert b"secret" not in tar and str(tmp_path).encode() not in tar and str(video).encode() not in tar


def test_building_again_replaces(work: WorkDir, video: Path) -> None:
    build_shard(unit_of(work, request(1, video)))
    before = files_of(work)
    build_shard(unit_of(work, request(1, video)))
    assert files_of(work) == before
    build_shard(unit_of(work, request(1, video, "Another.")))
    after = files_of(work)
    assert sorted(after) == NAMES
    assert all(before[name] != after[name] for name in NAMES)


def test_an_empty_shard_has_no_tar(work: WorkDir, video: Path) -> None:
    build_shard(unit_of(work, request(1, video)))
    others = (SliceRow(1, "v1_00000000_00002000", "v1", "dropped", "silent"),)
    result = build_shard(unit_of(work, others=others))
    assert (result.num_samples, result.size_bytes, result.tar_sha256) == (0, 0, "")
    assert sorted(files_of(work)) == NAMES[:2]
    assert json.loads(files_of(work)[NAMES[0]])["counts"] == {"dropped:silent": 1}


def test_a_clip_that_cannot_be_decoded_after_all(work: WorkDir, video: Path, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<html>")
    result = build_shard(unit_of(work, request(1, tmp_path / "page.mp4"), request(2, video)))
    assert {number: why[0] for number, why in result.dropped.items()} == {1: "not_media"}
    assert (result.num_samples, result.digest) == (1, shard_digest(SETTINGS, [digest_of(request(2, video))]))
    beside = json.loads(files_of(work)[NAMES[0]])
    assert beside["counts"] == {"kept": 1, "dropped:not_media": 1}
    assert list(beside["dropped_here"]) == ["v1_00000000_00002000"]
    rows = pq.read_table(work.index / "train-000003.parquet").to_pylist()
    assert [(r["status"], r["reason"], len(r["members"])) for r in rows] == [
        ("dropped", "not_media", 0),
        ("kept", "", 5),
    ]


def test_media_that_are_gone_stop_the_shard_before_anything_is_replaced(work: WorkDir, video: Path) -> None:
    build_shard(unit_of(work, request(1, video), request(2, video)))
    before = files_of(work)
    result = build_shard(unit_of(work, request(1, video, "New."), request(2, video.with_name("gone.mp4"))))
    assert result == ShardResult("train", 3, dropped={}, lost=(2,))
    assert files_of(work) == before


# -- media that were discarded


def test_discarded_media_come_from_the_former_shard(work: WorkDir, video: Path, tmp_path: Path) -> None:
    build_shard(unit_of(work, request(1, video), request(2, video)))
    build_shard(unit_of(work, request(1, None, "New words."), request(2, None)))
    fresh = WorkDir.at(tmp_path / "fresh")
    build_shard(unit_of(fresh, request(1, video, "New words."), request(2, video)))
    assert files_of(work) == files_of(fresh)


def test_discarded_media_cannot_give_other_settings(work: WorkDir, video: Path) -> None:
    build_shard(unit_of(work, request(1, video)))
    before = files_of(work)
    other = SampleSettings.of(ShardSection(num_frames=3), "av")
    assert build_shard(unit_of(work, request(1, None), settings=other)).lost == (1,)
    assert build_shard(unit_of(work, request(7, None))).lost == (7,)
    assert files_of(work) == before


@pytest.mark.parametrize("name", NAMES)
def test_discarded_media_without_a_former_shard(work: WorkDir, video: Path, name: str) -> None:
    build_shard(unit_of(work, request(1, video)))
    (work.root / name).unlink()
    assert build_shard(unit_of(work, request(1, None))).lost == (1,)


def test_a_damaged_former_shard_is_not_copied(work: WorkDir, video: Path) -> None:
    build_shard(unit_of(work, request(1, video)))
    tar = work.shards / "train-000003.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with pytest.raises(FileNotFoundError, match=r"v1_.*frame_00\.jpg in train-000003\.tar is damaged"):
        FormerShard(FolderOutput(work.root), "train-000003").members("v1_00000000_00002000", SETTINGS)


# -- kills


class Killed(BaseException):
    pass


def kill_before(step: int) -> Callable[[Path, Path], None]:
    """`publish`, which ends everything in place of its call number `step`."""
    calls = 0

    def publish_or_die(temporary: Path, final: Path) -> None:
        nonlocal calls
        if calls == step:
            raise Killed
        calls += 1
        real_publish(temporary, final)

    return publish_or_die


real_publish = output_module.publish


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("before", ["nothing", "another"])
@pytest.mark.parametrize("again", [False, True])
def test_a_kill_between_two_moves_is_mended(
    work: WorkDir, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, before: str, again: bool
) -> None:
    undisturbed = WorkDir.at(tmp_path / "undisturbed")
    build_shard(unit_of(undisturbed, request(1, video)))
    if before == "another":
        build_shard(unit_of(work, request(1, video, "Old.")))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(output_module, "publish", kill_before(step))
        build_shard(unit_of(work, request(1, video)))
    assert not (work.index / "train-000003.json").exists(), "a shard on the move is not finished"
    if again:  # the mending is killed too
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(output_module, "publish", kill_before(0))
            finish_moves(work)
    assert finish_moves(work) == ["train-000003"]
    assert files_of(work) == files_of(undisturbed)
    assert finish_moves(work) == []


@pytest.mark.parametrize("moment", ["sample", "sidecar"])
def test_a_machine_thought_dead_that_goes_on_writing_spoils_nothing(
    work: WorkDir, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moment: str
) -> None:
    """Its shard is made again on another machine, and both come to an end."""
    undisturbed = WorkDir.at(tmp_path / "undisturbed")
    build_shard(unit_of(undisturbed, request(1, video), request(2, video)))
    unit = unit_of(work, request(1, video), request(2, video))
    name = {"sample": "make_members", "sidecar": "sidecar"}[moment]
    real, calls = getattr(writer_module, name), 0

    def on_two_machines(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 if moment == "sample" else calls == 1:
            with monkeypatch.context() as patch:
                patch.setattr(socket, "gethostname", lambda: "another")
                assert build_shard(unit).num_samples == 2
            assert files_of(work) == files_of(undisturbed)
        return real(*arguments)

    monkeypatch.setattr(writer_module, name, on_two_machines)
    build_shard(unit)
    assert files_of(work) == files_of(undisturbed)
    assert list(work.own_tmp().iterdir()) == []


def test_a_kill_before_the_mark_leaves_the_former_shard(
    work: WorkDir, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_shard(unit_of(work, request(1, video)))
    before = files_of(work)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(writer_module, "sidecar", killed)
        build_shard(unit_of(work, request(1, video, "New.")))
    assert finish_moves(work) == []
    assert files_of(work) == before


def test_a_kill_while_an_emptied_shard_moves(work: WorkDir, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_shard(unit_of(work, request(1, video)))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(output_module, "publish", kill_before(0))
        build_shard(unit_of(work))
    assert finish_moves(work) == ["train-000003"]
    assert sorted(files_of(work)) == NAMES[:2]


# -- digests and sizes


@given(st.lists(st.text("0123456789abcdef", min_size=1, max_size=4), max_size=5))
def test_the_digest_is_of_the_clips_in_order_and_the_settings(digests: list[str]) -> None:
    digest = shard_digest(SETTINGS, digests)
    assert digest == shard_digest(SETTINGS, list(digests))
    assert digest != shard_digest(SETTINGS, [*digests, "x"])
    assert digest != shard_digest(SampleSettings.of(ShardSection(num_frames=3), "av"), digests)
    if digests[::-1] != digests:
        assert digest != shard_digest(SETTINGS, digests[::-1])


def test_the_size_of_a_sample_is_what_it_adds_to_a_tar(work: WorkDir, video: Path, tmp_path: Path) -> None:
    sizes = []
    for number in (1, 2):
        result = build_shard(unit_of(work, *(request(n, video) for n in range(number))))
        with tarfile.open(work.shards / "train-000003.tar") as tar:
            last = tar.getmembers()[-1]
        sizes.append(last.offset_data + -(-last.size // 512) * 512)
        assert result.size_bytes >= sizes[-1]
    assert sample_size_bytes((request(1, video), SETTINGS, keep, tmp_path)) == sizes[1] - sizes[0]
    assert sample_size_bytes((request(1, None), SETTINGS, keep, tmp_path)) is None
    (tmp_path / "page.mp4").write_text("<html>")
    assert sample_size_bytes((request(1, tmp_path / "page.mp4"), SETTINGS, keep, tmp_path)) is None


def test_members_that_are_not_those_promised(work: WorkDir, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "make_members", lambda *_: Made({"txt": b""}, FACTS))
    with pytest.raises(ShardError, match=r"v1_.*: made \['txt'\], expected \('frame_00.jpg'"):
        build_shard(unit_of(work, request(1, video)))


@given(st.text("abcdefghijk_-é0123456789.", min_size=1, max_size=150), st.integers(0, 2**40))
def test_a_header_is_what_tarfile_writes(name: str, num_bytes: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = num_bytes, 0o644, 0
    assert member_header(name, num_bytes) == info.tobuf(tarfile.GNU_FORMAT)
