"""The published trainer's layout, read back by a loader that knows only its description."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_loader import ReferenceSet

from valor_data import open_shards
from valor_data.errors import ConfigError, ShardError
from valor_data.ledger import Ledger
from valor_data.media.mel import MelSettings
from valor_data.publish.exports import Exported, ExportOptions, run_export
from valor_data.publish.exports.valor_clips import reference_id
from valor_data.road import NoProgress
from valor_data.shard.reader import Sample
from valor_data.tombstones import add_tombstones
from valor_data.train.choice import choose
from valor_data.workdir import WorkDir

HALF_STEP = 2.0**-8
"""Half a step of float16 between 8 and 16: what a stored log-mel value is rounded by, at most."""


def export(work: WorkDir, target: Path, **options: object) -> Exported:
    return run_export(work, "valor", str(target), ExportOptions(workers=1, **options), NoProgress())  # type: ignore[arg-type]


def samples(work: WorkDir) -> dict[str, Sample]:
    return {reference_id(sample.key): sample for sample in open_shards(work.shards)}


def opened(target: Path) -> dict[str, ReferenceSet]:
    """The splits of an export, from a checkout of the trainer that has it in `datasets/`."""
    checkout = target.parent.parent
    assert target.parent.name == "datasets"
    told = json.loads((target / "data_cfg.json").read_text())
    return {split: ReferenceSet(checkout, paths) for split, paths in told.items()}


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def exported(full: WorkDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world, with the pictures of its shards."""
    target = tmp_path_factory.mktemp("checkout") / "datasets" / "world"
    export(full, target)
    return target


def test_the_reference_sees_what_our_trainer_sees(full: WorkDir, exported: Path) -> None:
    """Every clip: the pictures it would choose, for few and for many, are those that ours would; captions; mel."""
    ours, seen = samples(full), 0
    assert opened(exported).keys() == {"train", "val", "test"}
    for split, theirs in opened(exported).items():
        assert {name for name in theirs.ids if ours[name].clip.split == split} == set(theirs.ids)
        for name in theirs.ids:
            sample = ours[name]
            assert theirs.captions(name) == [caption.text for caption in sample.clip.captions]
            for k in (1, 2, 4, 8):
                assert theirs.frames(name, k) == [sample.jpegs[i] for i in choose(len(sample.jpegs), k, None)]
            assert sample.mel is not None
            found = theirs.fbank(name).numpy()
            assert found.shape == sample.mel.shape
            assert np.abs(found - sample.mel.astype(np.float32)).max() <= HALF_STEP
            assert np.array_equal(found.astype(np.float16), sample.mel)  # no rounding but the stored one
            seen += 1
    assert seen == len(ours) > 20


def test_annotations_are_what_captions_are_measured_against(exported: Path) -> None:
    for theirs in opened(exported).values():
        told: dict[str, list[str]] = {}
        for entry in theirs.annotations:
            assert entry.keys() == {"video_id", "caption"}
            told.setdefault(entry["video_id"], []).append(entry["caption"])
        assert {name: told[name] for name in theirs.ids} == {name: theirs.captions(name) for name in theirs.ids}


def test_real_clips_with_their_own_pictures(real: WorkDir, tmp_path: Path) -> None:
    """At one picture a second, ten seconds are the shard's ten pictures; four seconds are decoded anew."""
    target = tmp_path / "datasets" / "real"
    told = export(real, target, fps=1.0)
    assert told.counts["pictures from the shards"] >= 1
    assert told.counts["pictures from the media"] >= 1
    theirs, ours = opened(target)["train"], samples(real)
    assert set(theirs.ids) == set(ours)
    for name, sample in ours.items():
        seconds = sample.clip.end - sample.clip.start  # type: ignore[operator]
        pictures = [theirs.video / name / file for file in sorted(os.listdir(theirs.video / name))]
        assert len(pictures) == round(seconds)
        assert [path.name for path in pictures] == [f"frame_{i:04d}.jpg" for i in range(1, len(pictures) + 1)]
        if round(seconds) == 10:
            assert [path.read_bytes() for path in pictures] == list(sample.jpegs)
        assert len(theirs.captions(name)) == 2
        assert sample.mel is not None
        assert np.array_equal(theirs.fbank(name).numpy().astype(np.float16), sample.mel)


def test_sound_from_the_shards_differs_by_its_rounding(real: WorkDir, tmp_path: Path) -> None:
    """Without media the wavs come from the shards' 16-bit flac. How far a mel may be off follows from the samples."""
    shutil.copytree(real.root, tmp_path / "work")
    bare = WorkDir.at(tmp_path / "work")
    with Ledger(bare.ledger) as ledger:
        for clip in ledger.find_all():
            ledger.discard_media(clip.clip_id)
    from_media, from_shards = tmp_path / "datasets" / "a", tmp_path / "datasets" / "b"
    export(real, from_media)
    told = export(bare, from_shards)
    assert told.counts["sound from the flac of the shards"] == told.num_clips == 3
    one, other = opened(from_media)["train"], opened(from_shards)["train"]
    for name in one.ids:
        ours, theirs = one.waveform(name), other.waveform(name)
        assert ours is not None and theirs is not None
        step = float((ours - theirs).abs().max())
        assert 0 < step <= 1.01 / 32768  # a step of 16 bit
        found, stored = other.fbank(name), one.fbank(name)
        assert bool(((found - stored).abs() <= mel_bound(stored, step) + 1e-3).all())


def mel_bound(fbank: torch.Tensor, step: float) -> torch.Tensor:
    """How far a log-mel value can move when no sample moves by more than `step`.

    Removing the mean at most doubles a change, once for the clip and once for the window; pre-emphasis adds 0.97 of
    the neighbour's. So a bin of the spectrum moves by e = 4 x 1.97 x step x sum(window) at most, the root of a band's
    energy E by e x sqrt(sum of its weights) (Minkowski), and the log of E by 2 log(1 + that / sqrt(E)).
    """
    settings = MelSettings.valor()
    window = torch.hann_window(settings.window_samples, periodic=False)
    moved = 4 * 1.97 * step * float(window.sum())
    bank, _ = torch_bank(settings)
    weights = bank.sum(dim=1)
    roots = torch.exp(fbank / 2)
    return 2 * torch.log1p(moved * weights.sqrt() / roots)


def torch_bank(settings: MelSettings) -> tuple[torch.Tensor, torch.Tensor]:
    from torchaudio.compliance import kaldi

    return kaldi.get_mel_banks(settings.num_mel_bins, 1024, float(settings.sample_rate_hz), 20.0, 0.0, 100, -500, 1.0)


def test_twice_the_same_bytes_however_many_workers(full: WorkDir, exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "world"
    run_export(full, "valor", str(again), ExportOptions(workers=2), NoProgress())
    assert hashes(again) == hashes(exported)


def test_given_again_it_writes_no_clip_anew(full: WorkDir, tmp_path: Path) -> None:
    target = tmp_path / "world"
    export(full, target)
    before = {path: path.stat().st_mtime_ns for path in target.glob("*/*/*.jpg")}
    export(full, target)
    assert {path: path.stat().st_mtime_ns for path in target.glob("*/*/*.jpg")} == before
    assert before


def test_a_kill_costs_a_shard_at_most(full: WorkDir, exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "world"
    command = [Path(sys.executable).with_name("valor-data"), "export", target, "--layout", "valor", "--work", full.root]
    for num_marks in (1, 3):
        with subprocess.Popen([*map(str, command), "--workers", "1"], stderr=subprocess.DEVNULL) as running:
            while len(list(target.glob(".valor-data/*.json"))) < num_marks and running.poll() is None:
                time.sleep(0.002)
            running.send_signal(signal.SIGKILL)
        assert json.loads((target / "export.json").read_text())["finished"] is False
    marks = {path: path.stat().st_mtime_ns for path in target.glob(".valor-data/*.json")}
    export(full, target)
    assert {path: path.stat().st_mtime_ns for path in marks} == marks  # what was written was not written again
    assert hashes(target) == hashes(exported)


def test_part_of_a_set(full: WorkDir, tmp_path: Path) -> None:
    told = export(full, tmp_path / "datasets" / "few", split="train", limit=3, sound=False)
    assert told.num_clips == 3
    theirs = opened(tmp_path / "datasets" / "few")
    assert theirs.keys() == {"train"}
    assert len(theirs["train"].ids) == 3
    assert theirs["train"].waveform(theirs["train"].ids[0]) is None
    assert not (tmp_path / "datasets" / "few" / "audio_22050hz").exists()


def test_a_clip_that_left_the_set_leaves_the_export(work: WorkDir, tmp_path: Path) -> None:
    from valor_data.config import ShardSection
    from valor_data.manifest import Manifest, read_manifest
    from valor_data.road import Driver, run_shard
    from valor_data.road.driver import StageReport
    from valor_data.road.entry import enter_manifest

    target = tmp_path / "datasets" / "world"
    export(work, target)
    gone = sorted(samples(work))[0]
    listed = read_manifest(work.manifest)
    keep = [i for i, key in enumerate(listed.table["key"].to_pylist()) if not key or reference_id(key) != gone]
    Manifest.of(listed.table.take(keep), listed.sources).save(tmp_path / "less.parquet")
    with Driver(work) as driver:
        enter_manifest(driver, tmp_path / "less.parquet", StageReport("fetch"))
    with pytest.raises(ShardError, match=r"1 of 6 shards are stale \((train|val|test)-00000\d\): clips, captions or"):
        export(work, target)
    with Driver(work) as driver:
        section = ShardSection(workers=1, max_clips=8, num_frames=4, partial=True, include=("audio", "video"))
        run_shard(driver, section, "av")
    export(work, target)
    assert not list(target.rglob(f"*{gone}*"))
    assert gone not in (target / "txt_mapper.json").read_text()
    assert {path.name for path in (target / "frames_4").iterdir()} == set(samples(work))


def test_a_tombstone_is_honoured(work: WorkDir, tmp_path: Path) -> None:
    """An old copy of the shards with a new list: the clip is left out, its shard alone is written anew."""
    target = tmp_path / "datasets" / "world"
    before = export(work, target)
    gone = next(iter(open_shards(work.shards, split="train")))
    marks = {path.name: path.stat().st_mtime_ns for path in (target / ".valor-data").iterdir()}
    add_tombstones(work.tombstones, [gone.key], [], reason="request", why="asked for")
    after = export(work, target)
    assert after.num_clips == before.num_clips - 1
    assert not list(target.rglob(f"*{reference_id(gone.key)}*"))
    told = [path.read_text() for path in target.rglob("*.json")]
    assert not any(reference_id(gone.key) in text or gone.key in text for text in told)
    written = {p.name for p in (target / ".valor-data").iterdir() if marks[p.name] != p.stat().st_mtime_ns}
    assert written == {"train-000000.json"}


def test_what_is_missing_is_said_before_anything_is_written(real: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(real.root, tmp_path / "work")
    bare = WorkDir.at(tmp_path / "work")
    with Ledger(bare.ledger) as ledger:
        for clip in ledger.find_all():
            ledger.discard_media(clip.clip_id)
    with pytest.raises(
        ShardError, match="the media of 3 of 3 clips are not in the work folder, and the shards hold no pic"
    ):
        export(bare, tmp_path / "out", fps=2.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": ("mel",)}, "--include: the valor layout has no such option"),
        ({"spreadsheet": True}, "--spreadsheet: the valor layout has no such option"),
        ({"limit": 0}, "--limit 0: expected at least 1"),
        ({"fps": -1.0}, "--fps -1: expected more than 0, at most 1000"),
    ],
)
def test_wrong_options(full: WorkDir, tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        export(full, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_places_that_hold_something_else(full: WorkDir, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"is not empty, and holds no export\.json of an export to go on with"):
        export(full, tmp_path / "papers")
    export(full, tmp_path / "one", limit=1)
    with pytest.raises(ConfigError, match=r"holds another export \(limit is 1, not 2\)"):
        export(full, tmp_path / "one", limit=2)
    with pytest.raises(ConfigError, match="--layout lmdb: no such layout; expected one of valor, parquet, csv"):
        run_export(full, "lmdb", str(tmp_path / "x"), ExportOptions(), NoProgress())


def test_a_half_built_set_is_refused(work: WorkDir, tmp_path: Path) -> None:
    beside = sorted(work.index.glob("*.json"))[1]
    beside.unlink()
    with pytest.raises(ShardError, match=r"1 of 6 shards are not built \(test-000001\): run `valor-data shard`"):
        export(work, tmp_path / "out")
    work.ledger.unlink()
    with pytest.raises(ShardError, match="test-000001 is not complete; run `valor-data shard` first"):
        export(work, tmp_path / "out")
    with pytest.raises(ShardError, match="no finished shards"):
        export(WorkDir.at(tmp_path / "nothing"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_alone_are_enough_when_they_hold_sound(work: WorkDir, tmp_path: Path, exported: Path) -> None:
    """A set that came from elsewhere: no ledger, no media."""
    bare = tmp_path / "bare"
    for name in ("shards", "index"):
        shutil.copytree(work.root / name, bare / name)
    told = export(WorkDir.at(bare), tmp_path / "out" / "world")
    assert told.counts == {
        "pictures from the shards": told.num_clips,
        "sound from the flac of the shards": told.num_clips,
    }
    frames = {name: value for name, value in hashes(tmp_path / "out" / "world").items() if name.startswith("frames")}
    assert frames == {name: value for name, value in hashes(exported).items() if name.startswith("frames")}


def test_wavs_are_plain(exported: Path) -> None:
    for path in sorted((exported / "audio_22050hz").iterdir())[:3]:
        with wave.open(str(path)) as file:
            assert path.stat().st_size == 44 + 2 * file.getnframes()


def test_the_command(full: WorkDir, tmp_path: Path) -> None:
    from cli.commands import call

    said = call("export", tmp_path / "out", "--layout", "valor", "--work", full.root, "--limit", "2", "--workers", "1")
    assert "2 clips, 2 captions in" in said.out
    assert "2 pictures from the shards" in said.out
    told = call("export", tmp_path / "out", "--layout", "valor", "--work", full.root, "--limit", "2", "--json").json
    assert told == {k: v for k, v in json.loads((tmp_path / "out" / "export.json").read_text()).items() if k in told}
    refused = call("export", tmp_path / "out", "--layout", "valor", "--work", full.root, code=2)
    assert refused.errors == [
        f"{tmp_path / 'out'}: holds another export (limit is 2, not None); name a new folder, or remove that one"
    ]


def test_to_an_address(full: WorkDir, exported: Path, tmp_path: Path) -> None:
    """Through fsspec: the same files, and a second run that writes none of the clips."""
    place = f"local://{tmp_path}/world"
    run_export(full, "valor", place, ExportOptions(workers=1), NoProgress())
    assert hashes(tmp_path / "world") == hashes(exported)
    run_export(full, "valor", place, ExportOptions(workers=1), NoProgress())
    assert hashes(tmp_path / "world") == hashes(exported)
