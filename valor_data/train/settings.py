"""From the section `[train]` to the parts of a run: the preset's own figures, the model, the sets, the loader.

section = completed(section, "my-set")          # every problem at once
config = model_config(section, vocabulary.size)
data = TrainingData(data_sets(section), loader_settings(section, config), vocabulary)
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from valor_data.config import TrainDataSection, TrainSection, config_from_dict
from valor_data.errors import ConfigError, ShardError
from valor_data.storage import absolute_place
from valor_data.train.captions import TextSettings
from valor_data.train.data import DataSet, LoaderSettings
from valor_data.train.mel_slices import MelSliceSettings
from valor_data.train.pictures import PictureSettings
from valor_data.train.presets import PRESETS, ModelConfig, preset
from valor_data.train.shards import find_shards
from valor_data.train.tasks import parse_tasks

LEARN = "learn"
"""As `train.vocabulary`: words are learned from the captions of the training sets."""

PUBLISHED = "published"
"""As `train.init`: the encoders that the preset starts from, by their names on the Hub."""

NO_VALIDATION = "none"
"""As `train.validation.shards`: nothing is measured on the way."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a preset's runs take where nothing else was asked for.

    Attributes:
        lr: peak learning rate.
        lr_vision: that of the vision encoder.
        max_grad_norm: longest gradient.
        num_frames: pictures of a clip.
        vocabulary: where words come from.
    """

    lr: float = 1e-4
    lr_vision: float = 1e-4
    max_grad_norm: float = 5.0
    num_frames: int = 4
    vocabulary: str = "bert-base-uncased"


RECIPES = {
    "tiny": Recipe(lr=1e-3, lr_vision=1e-3, vocabulary=LEARN),
    "base": Recipe(),
    "base-swin": Recipe(),
    "large": Recipe(lr=5e-5, lr_vision=8e-6, max_grad_norm=2.0, num_frames=2),
}
"""VALOR-B's figures for `base`, VALOR-L's for `large` (its configuration; the paper says 1e-4 once for both)."""


def doubts(section: TrainSection, asked: str) -> tuple[str, ...]:
    """Tasks that a model is asked for and never learned, a line each; what it began from is not known here.

    Args:
        section: how it was trained.
        asked: task string.
    """
    if section.init not in ("", "published"):
        return ()  # it may have learned them before
    learned = [parse_tasks(one.task or section.task) for one in section.data or (TrainDataSection(),)]
    words = {"contrastive": "to compare", "caption": "to write captions", "qa": "to answer questions"}
    return tuple(
        f"the model was trained for {' and '.join(dict.fromkeys(task.text for task in learned))}, never {what}: "
        "these are guesses; train it on, with --init RUN and a --task that has it"
        for name, what in words.items()
        if getattr(parse_tasks(asked), name) and not any(getattr(task, name) for task in learned)
    )


def completed(section: TrainSection, work: str) -> TrainSection:
    """The section with the preset's figures and the work folder where nothing was given.

    Args:
        section: as it was read.
        work: the data of a run that names none.

    Raises:
        ConfigError: settings that do not go together; every problem at once.
    """
    recipe = RECIPES[section.preset]
    given: dict[str, Any] = {
        name: getattr(section, name) or getattr(recipe, name) for name in ("max_grad_norm", "num_frames", "vocabulary")
    }
    given["lr"] = section.lr or recipe.lr
    scale = given["lr"] / recipe.lr  # another rate is another rate for all parts, unless they have their own
    given["lr_vision"] = section.lr_vision or recipe.lr_vision * scale
    given["lr_new"] = section.lr_new or given["lr"]
    given["validate_every"] = section.validate_every or section.save_every
    if section.vocabulary == "" and section.init_text and (Path(section.init_text) / "vocab.txt").is_file():
        given["vocabulary"] = section.init_text
    sets = section.data or (TrainDataSection(),)
    given["data"] = tuple(replace(one, shards=one.shards or work, task=one.task or section.task) for one in sets)
    whole = replace(section, **given)
    problems = list(_problems(whole))
    if problems:
        raise ConfigError(problems)
    return whole


def placed(section: TrainSection, base: Path) -> TrainSection:
    """The section with its places as any folder sees them; addresses and names on the Hub stay as they are.

    Args:
        section: as it was read.
        base: the folder that relative paths start from: that of the TOML file.
    """

    def there(text: str) -> str:
        return absolute_place(text, base) if (base / text).exists() else text

    sets = tuple(
        replace(
            one,
            shards=absolute_place(one.shards, base),
            captions=absolute_place(one.captions, base),
            tombstones=absolute_place(one.tombstones, base),
            extension=_place_of_extension(one.extension, base),
        )
        for one in section.data
    )
    held = section.validation
    shards = held.shards if held.shards == NO_VALIDATION else absolute_place(held.shards, base)
    held = replace(
        held,
        shards=shards,
        captions=absolute_place(held.captions, base),
        tombstones=absolute_place(held.tombstones, base),
        extension=_place_of_extension(held.extension, base),
    )
    names = ("vocabulary", "init", "init_text", "init_vision", "init_sound")
    maybe: dict[str, Any] = {name: there(getattr(section, name)) for name in names if getattr(section, name)}
    return replace(section, data=sets, validation=held, **maybe)


def _place_of_extension(text: str, base: Path) -> str:
    """A name stays one; what has a slash is a place."""
    return absolute_place(text, base) if "/" in text else text


def _problems(section: TrainSection) -> Iterator[str]:
    """What in a completed section cannot be, one line each."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", section.name):
        yield f"train.name is {section.name!r}: expected letters, digits, dots, dashes; it becomes runs/NAME"
    tasks = [one.task for one in section.data] + [section.validation.task or section.task]
    for task in dict.fromkeys(tasks):
        try:
            parse_tasks(task)
        except ConfigError as error:
            yield from error.problems
    positions = PRESETS[section.preset]().language.positions
    if section.max_tokens + 2 > positions:
        yield f"train.max_tokens is {section.max_tokens}: {section.preset} has room for {positions - 2} at most"
    if section.init == PUBLISHED and section.preset == "tiny":
        yield "train.init is published: tiny has sizes of its own and no published weights; base, base-swin, large have"
    own = [name for name in ("init_text", "init_vision", "init_sound") if getattr(section, name)]
    if own and section.preset == "tiny":
        yield f"train.{own[0]}: no published encoder has the sizes of tiny; base, base-swin and large can take one"
    if own and section.init not in ("", PUBLISHED):
        yield f"train.{own[0]} and train.init = {section.init}: give one of them, a whole model or single encoders"
    for name, package in (("wandb", "wandb"), ("tensorboard", "tensorboard")):
        if getattr(section, name) and importlib.util.find_spec(package) is None:
            yield f"train.{name} is on and {package} is not installed: pip install {package}, or turn it off"


def model_config(section: TrainSection, vocabulary: int) -> ModelConfig:
    """The model that a section asks for.

    Args:
        section: completed.
        vocabulary: size of the vocabulary.
    """
    config = preset(
        section.preset,
        caption_mask=section.caption_mask,
        contrastive_weight=section.contrastive_weight,
        temperature=section.temperature,
        reference_exact=section.reference_exact,
    )
    return replace(config, language=replace(config.language, vocabulary=vocabulary))


def loader_settings(section: TrainSection, config: ModelConfig, *, pin_memory: bool = False) -> LoaderSettings:
    """How batches of a model are made: its sizes, and the section's choices.

    Args:
        section: completed.
        config: of the model.
        pin_memory: for copying to a GPU.
    """
    return LoaderSettings(
        batch_size=section.batch_size,
        workers=section.workers,
        seed=section.seed,
        buffer=section.buffer,
        resampled=section.resampled,
        pin_memory=pin_memory,
        max_broken_share=section.max_broken_share,
        pictures=PictureSettings(
            count=section.num_frames,
            size_px=config.vision.image_px,
            fit=section.fit,
            augment=section.augment,
            reference_exact=section.reference_exact,
        ),
        mel=MelSliceSettings(
            count=section.num_slices,
            length=config.sound.slice_frames,
            mean=section.mel_mean,
            std=section.mel_std,
            reference_exact=section.reference_exact,
        ),
        text=TextSettings(max_tokens=section.max_tokens, clean_up=section.clean_up),
    )


def data_sets(section: TrainSection) -> list[DataSet]:
    """The sets to train on.

    Args:
        section: completed.
    """
    return [
        DataSet(
            shards=one.shards,
            task=one.task,
            split=one.split,
            weight=one.weight,
            captions=one.captions,
            tombstones=one.tombstones,
            extension=one.extension,
        )
        for one in section.data
    ]


def validation_set(section: TrainSection) -> DataSet | None:
    """The set that the best checkpoint is chosen on, or None.

    Where no shards are named, the first training set's folder is looked at for tars of the split; a set that is
    not a folder has none that training does not see.

    Args:
        section: completed.

    Raises:
        ShardError: shards were named, and there are none.
    """
    wanted, first = section.validation, section.data[0]
    if wanted.shards == NO_VALIDATION:
        return None
    task, shards = wanted.task or first.task, wanted.shards or first.shards
    if not wanted.shards:
        try:
            found = {shard.url for shard in find_shards(first.shards, wanted.split)}
        except ShardError:
            return None
        if found & {shard.url for shard in find_shards(first.shards, first.split)}:
            return None
    return DataSet(
        shards=shards,
        task=task,
        split=wanted.split,
        captions=wanted.captions,
        tombstones=wanted.tombstones,
        extension=wanted.extension or ("" if wanted.shards else first.extension),
        name="validation",
    )


def section_to_dict(section: TrainSection) -> dict[str, Any]:
    """Plain values for JSON; `section_from_dict` reads them back."""
    return asdict(section)


def section_from_dict(tree: Mapping[str, Any], where: str = "settings") -> TrainSection:
    """The section that `section_to_dict` wrote; settings that came later have their defaults.

    Raises:
        ConfigError: a name that no setting has, or a value that cannot be.
    """
    return config_from_dict({"train": dict(tree)}, where=where).train
