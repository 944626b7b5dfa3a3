"""The folders of a run's checkpoints: written whole or not at all, the last few and the best kept.

runs/first/                     of a run: settings, metrics, loss.png, vocab.txt
    checkpoints/step-000100/    model.safetensors  model.json  vocab.txt  train.json   all that use needs
                                optimiser.pt  ranks.pt                                 and what training needs
    best.json                   which of them was best on the validation set

model, vocabulary, settings = load_model("my-set/runs/first")
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from valor_data.config import TrainSection
from valor_data.errors import ConfigError, ValorDataError
from valor_data.train.convert import Converted
from valor_data.train.settings import section_from_dict
from valor_data.train.text import Vocabulary
from valor_data.train.valor import Valor
from valor_data.train.weights import DESCRIPTION, save_converted
from valor_data.train.weights import load_model as load_weights
from valor_data.workdir import flush_to_disk, written_aside

SETTINGS, VOCABULARY, BEST, CHECKPOINTS = "train.json", "vocab.txt", "best.json", "checkpoints"

_STEP = re.compile(r"step-(\d{6,})")


class Trained(NamedTuple):
    """A model that can be used.

    Attributes:
        model: in evaluation mode.
        vocabulary: its words.
        settings: how it was trained; the defaults where that is not known.
    """

    model: Valor
    vocabulary: Vocabulary
    settings: TrainSection


def load_model(place: str | Path) -> Trained:
    """The model of a checkpoint, of a run (its best checkpoint, else its last), or of a converted checkpoint.

    Args:
        place: `runs/NAME/checkpoints/step-…`, `runs/NAME`, or what `valor-data convert` wrote.

    Raises:
        ConfigError: there is no model, or a file of it is missing or damaged.
    """
    folder = checkpoint_folder(place)
    model = load_weights(folder)
    if not (folder / VOCABULARY).is_file():
        raise ConfigError(f"{folder} has no {VOCABULARY}: copy the vocabulary that the model was trained with there")
    vocabulary = Vocabulary.read(folder / VOCABULARY)
    if vocabulary.size != model.config.language.vocabulary:
        raise ConfigError(
            f"{folder}: {VOCABULARY} has {vocabulary.size} tokens and the model {model.config.language.vocabulary}; "
            "it is another model's"
        )
    if not model.prompt_ids:
        set_prompts(model, vocabulary)
    return Trained(model, vocabulary, read_settings(folder))


def write_converted(converted: Converted, vocabulary: Vocabulary, folder: Path) -> None:
    """A converted checkpoint as a folder that `load_model` takes; whole or not at all.

    Raises:
        ConfigError: the folder is there already, or the vocabulary is not the model's.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name another folder with -o, or remove it")
    if vocabulary.size != converted.config.language.vocabulary:
        raise ConfigError(
            f"the checkpoint has {converted.config.language.vocabulary} tokens and the vocabulary {vocabulary.size}: "
            "give its own with --vocabulary"
        )
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        save_converted(converted, aside)
        vocabulary.save(aside / VOCABULARY)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def set_prompts(model: Valor, vocabulary: Vocabulary) -> None:
    """Gives a model its prompts in its own words."""
    model.set_prompts(lambda text: [vocabulary.start, *vocabulary.ids(text), vocabulary.end])


def read_settings(folder: Path) -> TrainSection:
    """How the model of a checkpoint was trained; the defaults where the folder does not say.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        tree = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return TrainSection()
    except json.JSONDecodeError as error:
        raise ConfigError(f"{folder / SETTINGS}: not JSON: {error}") from None
    return section_from_dict(tree["settings"], where=str(folder / SETTINGS))


def checkpoint_folder(place: str | Path) -> Path:
    """The folder with the model: the place itself, or the best, else the last, checkpoint of a run.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(place)
    if (folder / DESCRIPTION).is_file():
        return folder
    checkpoints = Checkpoints(folder)
    found = checkpoints.best() or checkpoints.last()
    if found is None:
        raise ConfigError(
            f"{place}: no model here; expected a run's folder (my-set/runs/NAME), one of its checkpoints, or a folder "
            "that valor-data convert wrote"
        )
    return found


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a run.

    Args:
        run: the run's folder.
        keep_last: how many to keep besides the best.
    """

    run: Path
    keep_last: int = 3

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.run / CHECKPOINTS

    def steps(self) -> list[int]:
        """The steps that have one, in order."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def at(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step-{step:06d}"

    def last(self) -> Path | None:
        """The newest checkpoint."""
        steps = self.steps()
        return self.at(steps[-1]) if steps else None

    def best(self) -> Path | None:
        """The checkpoint that was best on the validation set."""
        found = self.best_score()
        return self.at(int(found["step"])) if found and self.at(int(found["step"])).is_dir() else None

    def best_score(self) -> dict[str, Any] | None:
        """`step`, `metric` and `value` of the best checkpoint, where something was measured."""
        try:
            found: dict[str, Any] = json.loads((self.run / BEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found

    def write(self, step: int, fill: Callable[[Path], None], best: Mapping[str, Any] | None = None) -> Path:
        """Writes a checkpoint beside its place, flushes and renames it, then removes those that are not kept.

        Args:
            step: steps done.
            fill: writes the files into a folder.
            best: what `best_score` is to give from now on, where this one is the best so far.

        Raises:
            ValorDataError: the disk does not take it; nothing is left of it.
        """
        final, aside = self.at(step), self.folder / f".{self.at(step).name}.part"
        self.clear()
        aside.mkdir(parents=True)
        try:
            fill(aside)
            for path in aside.iterdir():
                flush_to_disk(path)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
            shutil.rmtree(aside, ignore_errors=True)
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise ValorDataError(
                f"the checkpoint of step {step} could not be written to {self.folder} ({why}): see whether the "
                "disk is full, and run the command again; the checkpoints before it are untouched"
            ) from error
        if best is not None:  # before the name: a kill between the two makes this step, and so its name, again
            with written_aside(self.run / BEST) as path:
                path.write_text(json.dumps(dict(best)) + "\n", encoding="utf-8")
        flush_to_disk(aside)
        _remove(final)  # of this step there can only be one that was taken up behind it
        aside.rename(final)
        flush_to_disk(self.folder)
        self._prune()
        return final

    def clear(self) -> None:
        """Removes what a killed run left half written or half removed."""
        if self.folder.is_dir():
            for path in self.folder.glob(".step-*"):
                shutil.rmtree(path, ignore_errors=True)

    def _prune(self) -> None:
        best = self.best()
        for step in self.steps()[: -self.keep_last]:
            if self.at(step) != best:
                _remove(self.at(step))


def _remove(folder: Path) -> None:
    """Takes a folder's name away first, so that nobody finds half of it."""
    if folder.is_dir():
        aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
