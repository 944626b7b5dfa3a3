"""How a run begins: its folder, its vocabulary, its model; or where it was left."""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from valor_data.config import TrainSection
from valor_data.errors import ConfigError
from valor_data.manifest.overrides import Overrides
from valor_data.train.checkpoint import SETTINGS, VOCABULARY, Checkpoints, load_model, set_prompts
from valor_data.train.initialise import initialise, sources_for
from valor_data.train.parallel import Ranks
from valor_data.train.settings import LEARN, PUBLISHED, model_config, section_to_dict
from valor_data.train.shards import find_shards, read_shard, removed_from
from valor_data.train.text import Vocabulary
from valor_data.train.valor import Valor
from valor_data.train.weights import load_model as load_weights
from valor_data.workdir import written_aside

log = logging.getLogger("valor_data.train")

MAY_CHANGE = frozenset({
    "workers", "log_every", "save_every", "validate_every", "keep_last", "best_by", "tensorboard", "wandb",
    "compile", "checkpoint_activations", "device", "validation", "max_broken_share",
})  # fmt: skip
"""Settings that do not decide what a run learns: another value goes on with the same run."""

LEARNED_WORDS = 8_000
"""Most tokens of a vocabulary that is learned from captions."""


@contextmanager
def alone(run: Path, ranks: Ranks) -> Iterator[None]:
    """Holds a run's folder: a second command that trains the same run is refused, not let write between.

    Raises:
        ConfigError: another process trains this run.
    """
    if not ranks.is_first:
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run.parent / f".{run.name}.lock").open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process trains the run {run}; wait for it, or give another --name") from None
        except OSError as error:  # a disk without locks: it is the person who must not start twice
            log.info("%s: no locks here (%s)", run, error)
        yield


def open_run(run: Path, section: TrainSection, ranks: Ranks, *, restart: bool) -> None:
    """Makes the run's folder, or sees that it is the same run's; one that has saved no step yet begins anew.

    Args:
        run: its folder.
        section: completed.
        ranks: the first process writes.
        restart: remove what is there.

    Raises:
        ConfigError: the folder is of a run with other settings.
    """
    if ranks.is_first:
        changed = _changed(run, section)
        if changed and not restart and Checkpoints(run, section.keep_last).steps():
            raise ConfigError([
                f"the run {run.name} was begun with other settings: {changed[0]}", *changed[1:],
                "give the same settings to go on, another --name for another run, or --restart to begin it anew",
            ])  # fmt: skip
        if restart or changed:
            shutil.rmtree(run, ignore_errors=True)
        if not (run / SETTINGS).is_file():
            run.mkdir(parents=True, exist_ok=True)
            write_settings(run, section)
    ranks.wait()


def write_settings(folder: Path, section: TrainSection) -> None:
    """Keeps how a model is trained beside it."""
    with written_aside(folder / SETTINGS) as path:
        path.write_text(json.dumps({"settings": section_to_dict(section)}, indent=1) + "\n", encoding="utf-8")


def _changed(run: Path, section: TrainSection) -> list[str]:
    """Settings that decide what a run learns and differ from those it was begun with."""
    if not (run / SETTINGS).is_file():
        return []
    then = json.loads((run / SETTINGS).read_text(encoding="utf-8"))["settings"]
    now = json.loads(json.dumps(section_to_dict(section)))
    return [
        f"train.{name} was {then[name]!r} and is {value!r}"
        for name, value in now.items()
        if name not in MAY_CHANGE and name in then and then[name] != value
    ]


def open_vocabulary(run: Path, section: TrainSection, ranks: Ranks) -> Vocabulary:
    """The run's words: those it has begun with, else those that the settings name, or learned ones.

    Raises:
        ConfigError: there is no such vocabulary.
    """
    if ranks.is_first and not (run / VOCABULARY).is_file():
        found = _new_vocabulary(section)
        with written_aside(run / VOCABULARY) as path:
            found.save(path.with_name(f"{path.name}.txt")).replace(path)
    ranks.wait()
    return Vocabulary.read(run / VOCABULARY)


def _new_vocabulary(section: TrainSection) -> Vocabulary:
    if section.init not in ("", PUBLISHED):
        return load_model(section.init).vocabulary
    if section.vocabulary != LEARN:
        return Vocabulary.of(section.vocabulary)
    return Vocabulary.learn(_captions(section), LEARNED_WORDS)


def _captions(section: TrainSection) -> Iterator[str]:
    """Every caption, question and answer of the training sets."""
    for one in section.data:
        if one.captions:
            overrides = Overrides.read(one.captions)
            yield from (caption.text for texts in overrides.captions.values() for caption in texts)
        shards = find_shards(one.shards, one.split)
        removed = removed_from(shards, one.tombstones)
        for shard in shards:
            for files in read_shard(shard.url):
                if removed and str(files["__key__"]) in removed:
                    continue
                details = json.loads(files["json"])
                yield from (caption["text"] for caption in details["captions"])
                for question in details["questions"]:
                    yield from (question["question"], *question["answers"])


def make_model(section: TrainSection, vocabulary: Vocabulary) -> tuple[Valor, list[str]]:
    """A model for a new run, on the CPU, the same on every process; and what its weights start from.

    Raises:
        ConfigError: weights that are not there, or of another size.
    """
    torch.manual_seed(section.seed)
    config = model_config(section, vocabulary.size)
    model = Valor(config)
    notes: list[str] = []
    if section.init == PUBLISHED:
        notes = initialise(model, sources_for(section.preset))
    elif section.init:
        before = load_model(section.init).model
        if before.config.to_dict()["language"] != config.to_dict()["language"]:
            raise ConfigError(f"train.init: {section.init} is a model of another preset than {section.preset}")
        model.load_state_dict(before.state_dict())
        notes = [f"all weights from {section.init}"]
    else:
        own = {part: getattr(section, f"init_{part}") for part in ("text", "vision", "sound")}
        notes = initialise(model, {part: source for part, source in own.items() if source})
    set_prompts(model, vocabulary)
    return model, notes


def resumed(run: Path, keep_last: int) -> tuple[int, Valor, Path] | None:
    """Where a run was left: its step, its model and the checkpoint's folder; None where it has not come so far."""
    checkpoints = Checkpoints(run, keep_last)
    steps = checkpoints.steps()
    if not steps:
        return None
    folder = checkpoints.at(steps[-1])
    return steps[-1], load_weights(folder), folder


def read_state(folder: Path, name: str) -> Any:
    """A file of a checkpoint that training needs.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        return torch.load(folder / name, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(
            f"{folder / name} cannot be read ({error}): remove the folder of this checkpoint and run the command "
            "again, it goes on from the one before"
        ) from error
