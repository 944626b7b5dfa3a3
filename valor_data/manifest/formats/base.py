"""What an annotation format is: how it is recognised, and how its rows are read."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from valor_data.manifest.rejects import Reject
from valor_data.manifest.row import DEFAULT_ROLE, Row
from valor_data.manifest.source import Source


def plain_name(name: str) -> str:
    """A column's name without case, blanks, `_` and `-`, so that spellings of it compare equal."""
    return re.sub(r"[\W_]+", "", name).lower()


class Head:
    """The first characters of a file, looked at from several sides to recognise its format.

    Args:
        source: the file.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.is_parquet = source.is_parquet
        self.text = "" if source.is_parquet else source.head()

    @cached_property
    def first(self) -> str:
        """The first character that is not blank; empty in Parquet."""
        return self.text.lstrip()[:1]

    @cached_property
    def lines(self) -> list[str]:
        """The first lines that are not blank, without their ends."""
        return [line for line in self.text.splitlines() if line.strip()]

    @cached_property
    def delimiter(self) -> str:
        """What stands between the fields of the first line: comma, tab or semicolon."""
        first_line = self.lines[0] if self.lines else ""
        return max(",\t;", key=first_line.count)

    @cached_property
    def header(self) -> list[str]:
        """The fields of the first line, if it is taken for a header."""
        try:
            fields = next(csv.reader(self.lines[:1], delimiter=self.delimiter, skipinitialspace=True), [])
        except csv.Error:
            return []
        return [name.strip() for name in fields]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the rows of one file are to be read.

    Attributes:
        fields: the column or key for each meaning (`id`, `caption`, `start`, …).
        names: all columns or keys seen, for messages.
        youtube: ids must be YouTube's.
        has_captions: its rows describe clips; otherwise they only label them.
        delimiter: what stands between CSV fields.
        role: the role of captions that name none.
        clip_seconds: the length of every clip, for formats that write no end.
    """

    fields: dict[str, str] = field(default_factory=dict)
    youtube: bool = False
    has_captions: bool = True
    delimiter: str = ","
    role: str = DEFAULT_ROLE
    clip_seconds: float | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format.

    Attributes:
        name: what `--format` calls it.
        about: what its files look like, in a few words.
        recognises: whether a file's head is of this format.
        read: the rows of a file, refused ones among them.
        youtube_ids: ids are YouTube's unless somebody says otherwise.
        has_captions: its rows describe clips. For formats with fields, the fields tell.
        field_names: the names of a file's columns or keys, for formats in which a person may name them.
        role: the role of its captions.
        clip_seconds: the length of every clip, where the format writes no end.
        fixed_fields: the columns, where the format fixes them.
        is_set: its rows are samples with media: each is a clip of its own, and two of one name are a mistake.
    """

    name: str
    about: str
    recognises: Callable[[Head], bool]
    read: Callable[[Source, Plan], Iterator[Row | Reject]]
    youtube_ids: bool = True
    has_captions: bool = True
    field_names: Callable[[Head], list[str]] | None = None
    role: str = DEFAULT_ROLE
    clip_seconds: float | None = None
    fixed_fields: dict[str, str] = field(default_factory=dict)
    is_set: bool = False
