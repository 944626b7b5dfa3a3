"""The loop: resumed bit for bit after a kill, the same on two processes as on one, every refusal in one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sets import write_set

from valor_data.config import TrainDataSection, TrainSection, TrainValidationSection
from valor_data.errors import ConfigError, ShardError, ValorDataError
from valor_data.train.checkpoint import Checkpoints, load_model
from valor_data.train.loop import train
from valor_data.train.optimiser import parameter_groups, share_of_peak
from valor_data.train.parallel import Ranks
from valor_data.train.presets import preset
from valor_data.train.report import read_metrics
from valor_data.train.settings import completed, placed
from valor_data.train.start import alone
from valor_data.train.valor import Valor

QUICK = TrainSection(
    preset="tiny", steps=6, batch_size=8, workers=0, save_every=2, log_every=1, num_frames=2, vocabulary="learn",
    max_tokens=12, tensorboard=False, device="cpu",
)  # fmt: skip
OUTCOMES = ("loss", "grad_norm", "temperature", "lr", "caption/tva", "contrastive/tva")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(write_set(tmp_path_factory.mktemp("set"), [20, 20]), [9], split="val", first=100)


def outcomes(run: Path) -> list[tuple[float, ...]]:
    return [tuple(line[name] for name in ("step", *OUTCOMES)) for line in read_metrics(run) if "loss" in line]


def program(shards: Path, work: Path, *options: str, validation: str = "none") -> list[str]:
    (work / "valor.toml").write_text(
        '[train]\npreset = "tiny"\nbatch_size = 8\nlog_every = 1\nmax_tokens = 12\nsave_every = 2\nnum_frames = 2\n'
        'vocabulary = "learn"\ntensorboard = false\ndevice = "cpu"\nsteps = 12\n'
        f'[[train.data]]\nshards = "{shards}"\n[train.validation]\nshards = "{validation}"\n'
    )
    return [sys.executable, "-m", "valor_data", "train", "--work", str(work), "--json", *options]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_goes_on_bit_for_bit(shards: Path, tmp_path: Path) -> None:
    calm, work = tmp_path / "calm", tmp_path / "work"
    for folder in (calm, work):
        folder.mkdir()
    subprocess.run(program(shards, calm, "--workers", "1"), check=True, capture_output=True, env=environment())
    command = program(shards, work, "--workers", "1")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True
    )
    checkpoints = Checkpoints(work / "runs" / "first")
    end = time.monotonic() + 120
    while not checkpoints.steps() or len(outcomes(checkpoints.run)) <= checkpoints.steps()[-1]:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoints.steps()[-1] < 12, "it was to be killed in the middle"
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert any("goes on behind step" in note for note in json.loads(done.stdout)["notes"])
    assert outcomes(work / "runs" / "first") == outcomes(calm / "runs" / "first")
    ours, theirs = (load_model(folder / "runs" / "first").model.state_dict() for folder in (work, calm))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list((work / "runs" / "first" / "checkpoints").glob(".*"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_and_one(shards: Path, tmp_path: Path, parallel: str) -> None:
    """Under torchrun; nine clips to validate on are no even number; what is saved is loaded without the others."""
    options = ("--parallel", parallel, "--steps", "2", "--workers", "0")
    command = program(shards, tmp_path, *options, validation="")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    done = subprocess.run([*launch, *command[1:]], capture_output=True, text=True, env=environment(), timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2, "the first process alone prints"
    run = tmp_path / "runs" / "first"
    assert len(outcomes(run)) == 2
    (measured,) = [line for line in read_metrics(run) if "validation/loss" in line]
    assert ("validation/retrieval/tva/text_to_clip/r1" in measured) == (parallel == "ddp")
    model = load_model(run).model
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_go_on_as_if_undisturbed(shards: Path, tmp_path: Path, parallel: str) -> None:
    command = program(shards, tmp_path, "--parallel", parallel, "--steps", "3", "--save-every", "1", "--workers", "1")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
              "--rdzv-endpoint", "127.0.0.1:0"]  # fmt: skip
    run = tmp_path / "runs" / "first"
    done = subprocess.run([*launch, *command[1:]], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    before, last = outcomes(run), Checkpoints(run).at(3)
    weights = load_model(last).model.state_dict()
    shutil.move(last, tmp_path / "last")
    again = subprocess.run([*launch, *command[1:]], capture_output=True, text=True, env=environment(), check=False)
    assert "goes on behind step 2" in again.stdout, again.stderr
    assert outcomes(run) == before
    found = load_model(last).model.state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.slow
def test_compiled_and_in_bfloat16_it_learns_much_the_same(shards: Path, tmp_path: Path) -> None:
    plain = train(on(shards, name="plain", steps=2), tmp_path).figures
    low = train(on(shards, name="low", steps=2, precision="bf16"), tmp_path).figures
    compiled = train(on(shards, name="compiled", steps=2, compile=True), tmp_path).figures
    assert low["loss"] == pytest.approx(plain["loss"], rel=0.02) and low["loss"] != plain["loss"]
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-4)


def test_a_disk_that_does_not_take_a_checkpoint(shards: Path, tmp_path: Path) -> None:
    """No file may be longer than a megabyte: one line, what was there is untouched, and nothing half is left."""
    section = on(shards, steps=4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(ValorDataError, match=r"^the checkpoint of step 2 could not be written to .*checkpoints "):
            train(section, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "runs" / "first" / "checkpoints").iterdir())
    assert train(section, tmp_path).steps == 4


def test_what_a_checkpoint_holds_and_which_are_kept(shards: Path, tmp_path: Path) -> None:
    section = on(shards, keep_last=2, validation=TrainValidationSection(shards=str(shards), split=""))
    report = train(section, tmp_path)
    run = tmp_path / "runs" / "first"
    best = Checkpoints(run).best_score()
    assert best is not None and best["metric"] == "loss" and report.best == best
    assert set(Checkpoints(run).steps()) == {4, 6} | {best["step"]}
    names = {path.name for path in Checkpoints(run).at(6).iterdir()}
    assert names == {"model.safetensors", "model.json", "vocab.txt", "train.json", "optimiser.pt", "ranks.pt"}
    assert (run / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    measured = [line for line in read_metrics(run) if "validation/loss" in line]
    assert [line["step"] for line in measured] == [2, 4, 6]
    assert "validation/retrieval/tva/r1" in measured[0]
    assert train(section, tmp_path).steps == 6, "a finished run has nothing to do"


def on(shards: Path, **changes: Any) -> TrainSection:
    data = completed(replace(QUICK, **changes), str(shards)).data
    return replace(QUICK, data=tuple(replace(one, split="") for one in data), **changes)


def test_a_run_is_trained_by_one_command_at_a_time(shards: Path, tmp_path: Path) -> None:
    words = r"another process trains the run .*first; wait for it, or give another"
    with alone(tmp_path / "runs" / "first", Ranks()), pytest.raises(ConfigError, match=words):
        train(on(shards), tmp_path)
    assert train(on(shards, steps=1), tmp_path).steps == 1


def test_places_in_a_file_start_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    section = TrainSection(
        data=(TrainDataSection(shards="set"), TrainDataSection(shards="s3://bucket/set")), init="published",
        vocabulary="words", init_text="google-bert/bert-base-uncased",
        validation=TrainValidationSection(shards="none"),
    )  # fmt: skip
    found = placed(section, tmp_path)
    assert [one.shards for one in found.data] == [str(tmp_path / "set"), "s3://bucket/set"]
    assert (found.vocabulary, found.validation.shards) == (str(tmp_path / "words"), "none")
    assert (found.init, found.init_text) == (section.init, section.init_text)


def test_settings_that_changed_are_named(shards: Path, tmp_path: Path) -> None:
    train(on(shards, steps=1), tmp_path)
    with pytest.raises(ConfigError, match=r"begun with other settings: train.steps was 1 and is 2") as caught:
        train(on(shards, steps=2), tmp_path)
    assert "--restart" in str(caught.value)
    assert train(on(shards, steps=2), tmp_path, restart=True).steps == 2


def test_a_run_that_came_to_nothing_stands_in_nobodys_way(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        train(replace(on(shards, steps=1), batch_size=10_000), tmp_path)
    assert train(on(shards, steps=1), tmp_path).steps == 1


def test_too_few_clips(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="49 clips are too few for one batch of 64; give it at least 64, or lower"):
        train(on(shards, batch_size=64), tmp_path)


def test_shards_without_sound(tmp_path: Path) -> None:
    silent = write_set(tmp_path / "silent", [20], modalities="v")
    with pytest.raises((ConfigError, ShardError), match="mel"):
        train(on(silent), tmp_path)


def test_a_loss_that_is_no_number(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValorDataError, match=r"step \d+: .*is no number, over the clips clip") as caught:
        train(on(shards, lr=1e30, warmup=0.0), tmp_path)
    assert "lower lr" in str(caught.value)
    assert not (tmp_path / "runs" / "first" / "checkpoints" / "step-000006").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "ret%x"}, "ret has no group 'x'"),
        ({"name": "../up"}, "train.name is '../up'"),
        ({"init": "published"}, "tiny has sizes of its own"),
        ({"init_text": "bert"}, "no published encoder has the sizes of tiny"),
        ({"max_tokens": 400}, "tiny has room for"),
        ({"parallel": "fsdp"}, "there is one process; start several by torchrun"),
        ({"device": "cuda"}, "torch finds no GPU here"),
    ],
)
def test_settings_that_cannot_be(shards: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        train(on(shards, **changes), tmp_path)


def test_the_rate_rises_and_falls_in_straight_lines() -> None:
    shares = [share_of_peak(done, 100, 0.1) for done in range(100)]
    assert shares[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert shares[10:] == pytest.approx([(100 - n) / 90 for n in range(10, 100)])


def test_what_decays() -> None:
    model = Valor(preset("tiny"))
    section = completed(replace(QUICK, weight_decay=0.1, lr=1e-3, lr_vision=1e-4), "x")
    groups = {group.name: group for group in parameter_groups(model, section)}
    kept = [name for group in groups.values() if not group.weight_decay for name in group.names]
    assert "contrast.temperature" in kept
    parameters = dict(model.named_parameters())
    assert all(name in kept for name in parameters if parameters[name].ndim < 2)
    assert sum(len(group.names) for group in groups.values()) == len(parameters)
    assert groups["vision"].lr == 1e-4
