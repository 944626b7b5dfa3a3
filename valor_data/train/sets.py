"""A set of shards that is trained on or measured on: named, found, looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from valor_data.manifest.overrides import Overrides
from valor_data.train.captions import TextSettings
from valor_data.train.mel_slices import MelSliceSettings
from valor_data.train.pictures import PictureSettings
from valor_data.train.samples import ClipSettings
from valor_data.train.shards import Places, extended, find_shards, removed_from
from valor_data.train.stream import OpenSet
from valor_data.train.survey import survey
from valor_data.train.tasks import parse_tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A set of shards, and what is learned from it.

    Attributes:
        shards: a work folder, a folder of tars, tars, a pattern with braces or stars, an address (`hf://`, `s3://`).
        task: the task string; it says which modalities are taken, and whether questions are asked.
        split: of a folder, only the tars of this split; empty: all.
        weight: how often it is drawn among several sets.
        captions: an annotation file whose captions and questions take the place of those in the shards.
        tombstones: a list of what was removed from the set since: left out. Empty: the list beside the tars or one
            folder above them, where there is one.
        extension: a second set that `valor-data extend` made, joined by key: its name, or where its tars are.
        name: in messages; the place, if empty.
    """

    shards: Places
    task: str
    split: str = "train"
    weight: float = 1.0
    captions: str | Path = ""
    tombstones: str | Path = ""
    extension: str = ""
    name: str = ""


def open_set(data_set: DataSet, pictures: PictureSettings, mel: MelSliceSettings, text: TextSettings) -> OpenSet:
    """Finds a set's shards and looks at the first sample.

    Raises:
        ConfigError: the task string has no meaning, or asks for what the set does not hold.
        ShardError: no shards, or none that can be read.
        ManifestError: the file of captions cannot be read.
    """
    tasks = parse_tasks(data_set.task)
    modalities = ("a" if tasks.needs_audio else "") + ("v" if tasks.needs_video else "")
    shards = extended(find_shards(data_set.shards, data_set.split), data_set.extension)
    name = data_set.name or str(data_set.shards)
    found = survey(shards, modalities, name)
    clips = ClipSettings(
        modalities=modalities,
        asks=bool(tasks.qa),
        pictures=pictures,
        mel=mel,
        text=text,
        num_mel_bins=found.num_mel_bins,
    )
    overrides = Overrides.read(data_set.captions) if data_set.captions else None
    gone = removed_from(shards, data_set.tombstones)
    return OpenSet(name, data_set.task, data_set.weight, tuple(shards), clips, overrides, gone)
