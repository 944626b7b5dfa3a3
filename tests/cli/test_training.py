"""`train` from the small world's shards to a model that is used; every refusal in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import call, program

SMALL = ("--preset", "tiny", "--steps", 2, "--batch-size", 4, "--num-frames", 2, "--workers", 0, "--device", "cpu")


def test_train_evaluate_and_go_on(work: Path) -> None:
    told = call("train", "--work", work, *SMALL, "--json").json
    run = work / "runs" / "first"
    assert (told["run"], told["steps"]) == (str(run), 2)
    assert told["figures"]["loss"] > 0 and told["best"]["metric"] == "loss"
    assert (run / "loss.png").exists() and list((run / "tensorboard").iterdir())
    again = call("train", "--work", work, *SMALL, "--json").json
    assert again["notes"][0] == "goes on behind step 2"
    scores = call("eval", run, "--data", work, "--task", "ret%tva", "--device", "cpu", "--workers", 0, "--json").json
    assert 0 <= scores["scores"]["retrieval/tva/text_to_clip/r1"] <= 100
    changed = call("train", "--work", work, *SMALL, "--lr", 0.1, code=2)
    assert changed.errors[0].startswith("the run first was begun with other settings: train.lr was 0.001 and is 0.1")
    assert changed.errors[-1].endswith("or --restart to begin it anew")


def test_what_a_person_sees(work: Path) -> None:
    told = call("train", "--work", work, *SMALL, "--name", "seen")
    assert "2 steps, loss " in told.out and "best on validation: step 2, loss " in told.out
    assert f"next: valor-data eval {work}/runs/seen --data {work}" in told.out
    assert "train: 2 steps, " in told.err


def test_settings_come_from_toml_and_options_override_them(work: Path) -> None:
    (work / "valor.toml").write_text(
        '[train]\npreset = "tiny"\nsteps = 1\nbatch_size = 4\nnum_frames = 1\nworkers = 0\ndevice = "cpu"\n'
        'tensorboard = false\nname = "toml"\n[[train.data]]\nshards = "shards"\ntask = "ret%tva"\n'
    )
    told = call("train", "--work", work, "--seed", 3, "--json").json
    assert told["run"].endswith("runs/toml") and "contrastive/tva" in told["figures"]
    kept = json.loads((work / "runs" / "toml" / "train.json").read_text())["settings"]
    assert (kept["seed"], kept["data"][0]["shards"]) == (3, str(work / "shards"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "huge"), ["--preset: expected one of tiny, base, base-swin, large; found 'huge'"]),
        (
            ("--batch-size", 0, "--lr", -1),
            ["--batch-size: expected at least 1; found 0", "--lr: expected at least 0; found -1.0"],
        ),
        (("--batch-size", 500), None),
        (("--data", "nowhere"), None),
        (
            ("--config", "nothing.toml"),
            ["nothing.toml: no such file; write one, or pass options to the single commands"],
        ),
    ],
)
def test_refusals(work: Path, options: tuple[object, ...], words: list[str] | None) -> None:
    given = {name: value for name, value in zip(SMALL[::2], SMALL[1::2], strict=True) if name not in options}
    answer = call("train", "--work", work, *[part for pair in given.items() for part in pair], *options,
                  code=1 if "--data" in options else 2)  # fmt: skip
    if words is not None:
        assert answer.errors == words
    elif "--data" in options:
        assert answer.errors == [f"{Path.cwd() / 'nowhere'}: no shards of split 'train' here; expected a tar, a folder "
                                 "of tars or a work folder with shards/"]  # fmt: skip
    else:
        assert "clips are too few for one batch of 500; give it at least 500, or lower batch_size" in answer.errors[0]


def test_without_the_extra(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    there = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "transformers" else there(name, *more))
    for command in (["train", "--work", work], ["convert", "x.pt", "-o", "y"], ["eval", work, "--data", work]):
        assert call(*command, code=2).errors == ["training needs transformers: pip install 'valor-data[train]'"]


def test_only_the_first_process_speaks(work: Path) -> None:
    options = ["--work", work, "--preset", "tiny", "--task", "ret%x"]
    answers = [program("train", *options, code=2, RANK=str(rank)) for rank in (0, 1)]
    assert "ret has no group 'x'" in answers[0].err
    assert (answers[1].out, answers[1].err) == ("", "")
