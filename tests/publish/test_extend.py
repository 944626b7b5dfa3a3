"""A second set of tars beside a finished one: aligned by key and number, the first set untouched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import webdataset
from cli.commands import call
from publish.test_removal import hashes

import valor_data
from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import WorldSettings, make_world
from valor_data.errors import ShardError
from valor_data.look.verify import verify
from valor_data.manifest import build_manifest, write_manifest
from valor_data.publish.removal import plan_removal, remove
from valor_data.road import Driver, run_fetch, run_filter, run_shard
from valor_data.shard.output import FolderOutput
from valor_data.shard.reader import joined
from valor_data.train.data import DataSet, EvaluationData, LoaderSettings
from valor_data.train.mel_slices import MelSliceSettings
from valor_data.train.pictures import PictureSettings
from valor_data.train.text import Vocabulary
from valor_data.workdir import WorkDir


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    root = tmp_path_factory.mktemp("extend")
    world = make_world(root / "world", WorldSettings.small(), workers=1)
    write_manifest(build_manifest(list(world.annotations)), root / "manifest.parquet")
    work = WorkDir.at(root / "work")
    with Driver(work) as driver:
        source = FetchSection(source=str(world.media), workers=1, copy=True)
        run_fetch(driver, source, manifest=root / "manifest.parquet", explicit={"source"})
        run_filter(driver, FilterSection(workers=1), "av")
        run_shard(driver, ShardSection(workers=1, max_clips=8, num_frames=3, partial=True), "av")
    return work


@pytest.fixture
def work(finished: WorkDir, tmp_path: Path) -> WorkDir:
    shutil.copytree(finished.root, tmp_path / "work")
    return WorkDir.at(tmp_path / "work")


def keys_of(folder: Path) -> dict[str, list[str]]:
    tars = sorted(folder.glob("*.tar"))
    return {tar.name: [s["__key__"] for s in webdataset.WebDataset(str(tar), shardshuffle=False)] for tar in tars}


def extend(work: WorkDir, *options: object, code: int = 0) -> str:
    return call("extend", *options, "--workers", 1, "--work", work.root, code=code).out


def test_another_mel(work: WorkDir) -> None:
    before = hashes(work)
    out = extend(work, "--mel", "ast")
    place = work.root / "extensions" / "mel-ast"
    assert f"samples in {place}" in out.replace("\n", "") and 'extension = "mel-ast"' in out
    assert hashes(work) == before, "the first set is untouched"
    assert keys_of(place / "shards") == keys_of(work.shards)
    assert verify(work, output=FolderOutput(place)).problems == []
    assert verify(work).problems == []
    samples = {s.key: s for s in valor_data.open_shards(work.shards, extension="mel-ast")}
    for own in valor_data.open_shards(work.shards):
        both = samples.pop(own.key)
        assert both.jpegs == own.jpegs and own.mel is not None and both.mel is not None
        assert (own.mel.shape[1], both.mel.shape[1], both.details["mel"]["num_mel_bins"]) == (64, 128, 128)
        assert both.details["frame_moments"] == own.details["frame_moments"]
    assert not samples
    members = next(
        iter(webdataset.WebDataset(str(next(iter(sorted((place / "shards").glob("*.tar"))))), shardshuffle=False))
    )
    assert {name for name in members if not name.startswith("__")} == {"json", "txt", "mel.npy"}
    stamps = {path: path.stat().st_mtime_ns for path in place.rglob("*.tar")}
    assert "(0 built now)" in extend(work, "--name", "mel-ast"), "the same again has nothing to do"
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_bytes_are_those_of_a_set_made_so_at_once(work: WorkDir, finished: WorkDir, tmp_path: Path) -> None:
    extend(work, "--mel", "ast", "--num-frames", 5)
    shutil.copytree(finished.root, tmp_path / "other")
    with Driver(WorkDir.at(tmp_path / "other")) as driver:
        section = ShardSection(workers=1, max_clips=8, num_frames=5, mel="ast", partial=True)
        run_shard(driver, section, "av", explicit={"num_frames", "mel"})
    own = work.root / "extensions" / "mel-ast-frames-5" / "shards"
    for tar in sorted((tmp_path / "other" / "shards").glob("*.tar")):
        assert tar.read_bytes() == (own / tar.name).read_bytes()


def test_more_pictures_and_the_sound(work: WorkDir) -> None:
    extend(work, "--num-frames", 5, "--frame-short-side-px", 32)
    extend(work, "--include", "audio")
    samples = list(valor_data.open_shards(work.shards, extension="frames-5-32px"))
    own = list(valor_data.open_shards(work.shards))
    assert {len(s.jpegs) for s in samples} == {5} and {len(s.jpegs) for s in own} == {3}
    assert all(len(s.details["frame_moments"]) == 5 for s in samples)
    assert all((a.mel == b.mel).all() for a, b in zip(samples, own, strict=True))  # type: ignore[union-attr]
    loud = list(valor_data.open_shards(work.shards, extension="audio"))
    assert all(s.media["flac"][:4] == b"fLaC" and len(s.jpegs) == 3 and s.mel is not None for s in loud)
    assert verify(work, output=FolderOutput(work.root / "extensions" / "audio")).problems == []


def test_removal_and_new_captions_reach_it(work: WorkDir, tmp_path: Path) -> None:
    extend(work, "--mel", "ast")
    place = work.root / "extensions" / "mel-ast"
    keys = [key for names in keys_of(work.shards).values() for key in names]
    rows = [{"key": key, "caption": "Ganz anders."} for key in keys[1:3]]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("recaption", "--captions", tmp_path / "new.jsonl", "--work", work.root)
    texts = {s["__key__"]: s["txt"] for tar in (place / "shards").glob("*.tar")
             for s in webdataset.WebDataset(str(tar), shardshuffle=False)}  # fmt: skip
    assert texts[keys[1]] == b"Ganz anders."
    with Driver(work, stages=[], removing=True) as driver:
        done = remove(driver, plan_removal(driver, [keys[0]], reason="request", why="asked by mail"))
    assert any(name.startswith("extensions/mel-ast/") for name in done.shards)
    assert keys_of(place / "shards") == keys_of(work.shards)
    assert keys[0] not in str(keys_of(place / "shards"))
    assert "(0 built now)" in extend(work, "--name", "mel-ast"), "nothing of it is stale"


def test_a_moved_threshold_makes_its_own_shards_stale(work: WorkDir) -> None:
    extend(work, "--mel", "ast")
    place = work.root / "extensions" / "mel-ast"
    with Driver(work) as driver:
        run_filter(driver, FilterSection(workers=1, min_rms_dbfs=-21.0), "av", explicit={"min_rms_dbfs"})
        run_shard(driver, ShardSection(workers=1, partial=True), "av")
    assert keys_of(place / "shards") != keys_of(work.shards)
    extend(work, "--name", "mel-ast")
    assert keys_of(place / "shards") == keys_of(work.shards)


def test_media_that_are_gone_wait_and_the_first_set_is_not_blamed(work: WorkDir) -> None:
    key = next(iter(keys_of(work.shards).values()))[0]
    next(path for path in work.media.rglob("*") if path.stem == key).unlink()
    before = hashes(work)
    out = extend(work, "--mel", "ast", code=1)
    assert "the media of 1 clips are no longer here" in out
    assert hashes(work) == before and verify(work).problems == []


def test_what_is_wrong_is_one_line(work: WorkDir) -> None:
    at = ("--work", work.root)
    assert "nothing to extend by: give --mel" in call("extend", *at, code=2).errors[0]
    extend(work, "--mel", "ast", "--name", "x")
    errors = call("extend", "--num-frames", 4, "--name", "x", *at, code=2).errors
    assert errors == ["the extension x was begun with mel ast; give the same, or another --name"]
    assert "expected up to 64 letters" in call("extend", "--mel", "ast", "--name", "../x", *at, code=2).errors[0]
    assert "mel" in call("extend", "--mel", "best", *at, code=2).errors[0]


def test_training_reads_both(work: WorkDir) -> None:
    extend(work, "--mel", "ast", "--num-frames", 4)
    words = Vocabulary.learn(["a shape moves and sounds ."], 200)
    settings = LoaderSettings(batch_size=4, workers=0, pictures=PictureSettings(count=4, size_px=16),
                              mel=MelSliceSettings(count=1, length=128))  # fmt: skip
    task = "pt_contra%tva%tv%ta_caption%tva%tv%ta"
    data = EvaluationData(DataSet(shards=work.root, task=task, extension="mel-ast-frames-4"), settings, words)
    batch = next(iter(data)).batch
    assert batch.mel is not None and batch.mel.shape[2] == 128 and data.broken == []
    with pytest.raises(ShardError, match="tars are not there, such as"):
        EvaluationData(DataSet(shards=work.root, task=task, extension="other"), settings, words)


def test_joined_by_key() -> None:
    def sample(key: str, **members: bytes) -> dict[str, object]:
        return {"__key__": key, "json": b'{"mel": 1}', **{k.replace("_", "."): v for k, v in members.items()}}

    first = [sample(f"k{n}", mel_npy=b"old") for n in range(200)]
    more = [
        {"__key__": f"k{n}", "json": b'{"mel": 2}', "mel.npy": f"new {n}".encode()} for n in range(-90, 260) if n % 7
    ]
    found = list(joined(first, more, {str(one["__key__"]) for one in more}))
    assert [files["__key__"] for files in found] == [f"k{n}" for n in range(200)]
    for number, files in enumerate(found):
        if number % 7:
            assert files["mel.npy"] == f"new {number}".encode() and json.loads(files["json"])["mel"] == 2
        assert files.get("mel.npy") != b"old", "never a mel of another making"


def test_killed_and_gone_on(work: WorkDir, tmp_path: Path) -> None:
    """A real kill in the middle; what was complete is put in its own place, never in the first set's."""
    before = hashes(work)
    program = [sys.executable, "-m", "valor_data", "extend", "--mel", "ast", "--workers", "1", "--work", str(work.root)]
    place = work.root / "extensions" / "mel-ast" / "index"
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not any(place.glob("*.json")):
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    extend(work, "--mel", "ast")
    assert hashes(work) == before
    assert keys_of(work.root / "extensions" / "mel-ast" / "shards") == keys_of(work.shards)
    assert not (work.root / "tmp").exists()
