"""What a person may ask for when a manifest is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from valor_data.errors import ConfigError

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""A split's name is part of a shard's file name: letters, digits, `_` and `-`."""


@dataclass(frozen=True, slots=True)
class ManifestOptions:
    """How annotation files become a manifest.

    Attributes:
        format: the format of every file, instead of recognising it from the content.
        file_formats: the format of single files, by file name; wins over `format`.
        id_field: the column or key that holds the video id, where it is not one of the usual names.
        caption_field: the column or key that holds the caption or captions.
        start_field: the column or key that holds the first second.
        end_field: the column or key that holds the second after the last; empty means: to the video's end.
        url_field: the column or key that holds the video's address.
        member: of a set's samples, the member or column that is the video (or the sound), where several could be.
        split: the split of every row, whatever files and columns say.
        file_splits: the split of single files, by file name; wins over `split`.
        join: `left`: files with captions define the clips and label files only add labels;
            `outer`: label files define clips too.
        on_leak: what to do with a video that is in two splits: `error`, or `drop` its clips from all
            splits but the one it is kept in (test before val before train).
        ids: `youtube`: ids must be 11 characters of A-Z a-z 0-9 _ -; `any`: every text is an id;
            `auto`: as the format says (plain tables take any id, the others YouTube's).
        whole_videos: an id without a span is the whole video, in every format.
        limit: keep the first so many clips.
        sample: keep so many clips, drawn at random; their order stays.
        seed: seed of `sample`.
        tombstones: a list of what was removed: none of it comes in; empty: none.

    Raises:
        ConfigError: a value that cannot be; all of them at once.
    """

    format: str | None = None
    file_formats: Mapping[str, str] = field(default_factory=dict)
    id_field: str | None = None
    caption_field: str | None = None
    start_field: str | None = None
    end_field: str | None = None
    url_field: str | None = None
    member: str = ""
    split: str | None = None
    file_splits: Mapping[str, str] = field(default_factory=dict)
    join: Literal["left", "outer"] = "left"
    on_leak: Literal["error", "drop"] = "error"
    ids: Literal["auto", "youtube", "any"] = "auto"
    whole_videos: bool = False
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    tombstones: str = ""

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value!r}: expected one of {', '.join(allowed)}"
            for name, value, allowed in (
                ("join", self.join, ("left", "outer")),
                ("on_leak", self.on_leak, ("error", "drop")),
                ("ids", self.ids, ("auto", "youtube", "any")),
            )
            if value not in allowed
        ]
        splits = ([] if self.split is None else [self.split]) + list(self.file_splits.values())
        problems += [
            f"split = {name!r}: expected up to 32 letters, digits, _ or -, such as train, val or test"
            for name in splits
            if not SPLIT_NAME.fullmatch(name)
        ]
        if self.limit is not None and self.sample is not None:
            problems.append("limit and sample exclude each other: give one of them")
        for name, count in (("limit", self.limit), ("sample", self.sample)):
            if count is not None and count < 1:
                problems.append(f"{name} = {count}: expected at least 1")
        if problems:
            raise ConfigError(problems)

    @property
    def fields(self) -> dict[str, str]:
        """The fields that were named, by what they hold: `id`, `caption`, `start`, `end`, `url`."""
        named = {
            "id": self.id_field,
            "caption": self.caption_field,
            "start": self.start_field,
            "end": self.end_field,
            "url": self.url_field,
        }
        return {meaning: name for meaning, name in named.items() if name is not None}


class Progress(NamedTuple):
    """How far reading has come.

    Attributes:
        file: name of the file being read.
        num_rows: annotation rows read so far, of all files.
        num_clips: clips found so far.
        num_rejects: rows or captions refused so far.
        bytes_done: bytes read so far, of all files.
        bytes_total: bytes of all files.
    """

    file: str
    num_rows: int
    num_clips: int
    num_rejects: int
    bytes_done: int
    bytes_total: int
