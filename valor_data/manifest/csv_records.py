"""Reads CSV record by record, so that one stray quote costs one row and not the rest of the file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

MAX_RECORD_LINES = 1000
"""A quoted field that goes on for more lines than this was never closed."""


class Record(NamedTuple):
    """One record of a CSV file.

    Attributes:
        line: the line it begins on, counted from 1.
        fields: its fields; None when it cannot be read.
        raw: its text.
        problem: why it cannot be read.
    """

    line: int
    fields: list[str] | None
    raw: str
    problem: str = ""


def csv_records(
    lines: Iterator[str], *, delimiter: str = ",", skip_spaces: bool = False, multi_line: bool = True
) -> Iterator[Record]:
    """The records of a CSV file; blank lines are passed over but counted.

    Args:
        lines: the file's lines with their ends.
        delimiter: what stands between fields.
        skip_spaces: blanks after a delimiter are not part of the field (AudioSet's own files).
        multi_line: a quoted field may hold line ends.
    """
    waiting: deque[str] = deque()
    number = 0
    while True:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            return
        number += 1
        if not line.strip():
            continue
        if '"' not in line:
            fields = line.rstrip("\r\n").split(delimiter)
            yield Record(number, [f.lstrip(" ") for f in fields] if skip_spaces else fields, line)
            continue
        if multi_line and line.count('"') % 2:
            taken = _until_balanced(line, waiting, lines)
            whole = _parse("".join(taken), delimiter, skip_spaces, strict=True)
            if len(taken) > 1 and isinstance(whole, list):
                yield Record(number, whole, "".join(taken))
                number += len(taken) - 1
                continue
            waiting.extendleft(reversed(taken[1:]))
        yield _one_line(number, line, delimiter, skip_spaces)


def _until_balanced(line: str, waiting: deque[str], lines: Iterator[str]) -> list[str]:
    """The line and those after it until each quote has its closing one; the line alone if none closes it."""
    taken, quotes = [line], line.count('"')
    while quotes % 2:
        more = waiting.popleft() if waiting else next(lines, None)
        if more is None or len(taken) >= MAX_RECORD_LINES:
            waiting.extendleft(reversed(taken[1:] + ([] if more is None else [more])))
            return [line]
        taken.append(more)
        quotes += more.count('"')
    return taken


def _one_line(number: int, line: str, delimiter: str, skip_spaces: bool) -> Record:
    parsed = _parse(line.rstrip("\r\n"), delimiter, skip_spaces, strict=line.count('"') % 2 == 1)
    if isinstance(parsed, str):
        return Record(number, None, line, parsed)
    return Record(number, parsed, line)


def _parse(text: str, delimiter: str, skip_spaces: bool, *, strict: bool) -> list[str] | str:
    """The fields of one record, or what is wrong with it."""
    reader = csv.reader((text,), delimiter=delimiter, skipinitialspace=skip_spaces, strict=strict)
    try:
        return next(reader)
    except (csv.Error, StopIteration) as error:
        return "a quote that never closes" if "unexpected end" in str(error) else str(error) or "no fields"
