"""Reads a large JSON list or mapping item by item, and says where a broken one breaks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from valor_data.errors import ManifestError

CHUNK_CHARACTERS = 1 << 20
MAX_ITEM_CHARACTERS = 1 << 24
"""No annotation of one clip is longer than this; more means that the JSON is broken."""

_BLANKS = re.compile(r"[ \t\n\r]*")
_NEAR_END_CHARACTERS = 16  # a broken literal, number or escape this near the buffer's end may just go on


class JsonReader:
    """Walks through one JSON document without holding it.

    Args:
        text: the document.
        file: its path, for messages.
        chunk_characters: how much is read at a time.
    """

    def __init__(self, text: TextIO, file: Path, chunk_characters: int = CHUNK_CHARACTERS) -> None:
        self._text, self._file, self._chunk = text, file, chunk_characters
        self._buffer, self._at, self._ended = "", 0, False
        self._line, self._column = 1, 1  # of the buffer's first character
        self._item = 0
        self._decode = json.JSONDecoder(strict=False).raw_decode

    def items(self) -> Iterator[tuple[int, Any, str]]:
        """The items of a list: number (from 1), value, text.

        Raises:
            ManifestError: the JSON is broken or cut off; the message names the item, line and column.
        """
        self._take("[")
        yield from self._list_items()
        self._finish()

    def pairs(self) -> Iterator[tuple[int, str, Any, str]]:
        """The members of an object, also those whose name comes twice: number (from 1), name, value, text.

        Raises:
            ManifestError: as `items`.
        """
        for name in self._names():
            self._item += 1
            value, raw = self._value()
            yield self._item, name, value, f"{json.dumps(name, ensure_ascii=False)}: {raw}"
        self._finish()

    def member_items(self, wanted: str) -> Iterator[tuple[int, Any, str]]:
        """The items of the list that an object holds under a name; its other members are passed over.

        Raises:
            ManifestError: as `items`.
        """
        for name in self._names():
            if name == wanted:
                self._take("[")
                yield from self._list_items()
            else:
                self._value()
        self._finish()

    def _list_items(self) -> Iterator[tuple[int, Any, str]]:
        self._item = 0
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            self._item += 1
            value, raw = self._value()
            yield self._item, value, raw
            if not self._goes_on("]"):
                return

    def _names(self) -> Iterator[str]:
        self._take("{")
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            if self._peek() != '"':
                raise self._broken("expected a name in double quotes")
            name, _ = self._value()
            self._take(":")
            yield name
            if not self._goes_on("}"):
                return

    def _goes_on(self, closing: str) -> bool:
        character = self._peek()
        if character not in (",", closing):
            raise self._broken(f"expected , or {closing}")
        self._at += 1
        return character == ","

    def _value(self) -> tuple[Any, str]:
        """The value that comes next, and its text. Reads on while it may only be cut by the chunk."""
        self._peek()
        while True:
            problem, error_at = "", len(self._buffer)
            try:
                value, end = self._decode(self._buffer, self._at)
                # a number may go on behind the buffer's end: 0 of 0.5, 1 of 1e-3
                margin = _NEAR_END_CHARACTERS if isinstance(value, int | float) else 0
                if end + margin < len(self._buffer) or self._ended:
                    raw = self._buffer[self._at : end]
                    self._at = end
                    return value, raw
            except json.JSONDecodeError as error:
                problem = error.msg
                if not problem.startswith("Unterminated"):
                    error_at = error.pos
            except (RecursionError, ValueError) as error:  # nested too deep, a number of thousands of digits
                raise self._broken(str(error)) from error
            too_long = len(self._buffer) - self._at > MAX_ITEM_CHARACTERS
            if problem and (too_long or error_at < len(self._buffer) - _NEAR_END_CHARACTERS):
                raise self._broken(problem, error_at - self._at)
            if not self._fill() and problem:
                raise self._broken(problem, error_at - self._at)

    def _peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            self._at = _BLANKS.match(self._buffer, self._at).end()  # type: ignore[union-attr]  # always matches
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._fill():
                return ""

    def _take(self, character: str) -> None:
        if self._peek() != character:
            raise self._broken(f"expected {character}")
        self._at += 1

    def _finish(self) -> None:
        if self._peek():
            raise self._broken("expected the end of the file")

    def _fill(self) -> bool:
        """Drops what was read from the buffer and adds the next chunk; false at the end of the file."""
        chunk = self._text.read(self._chunk)
        if not chunk:
            self._ended = True
            return False
        self._line, self._column = self._place(self._at)
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return True

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of a place in the buffer."""
        lines = self._buffer.count("\n", 0, at)
        if not lines:
            return self._line, self._column + at
        return self._line + lines, at - self._buffer.rfind("\n", 0, at)

    def _broken(self, problem: str, ahead: int = 0) -> ManifestError:
        at = self._at + ahead
        line, column = self._place(at)
        place = f"in item {max(1, self._item)} (line {line}, column {column})"
        rest = self._buffer[at:]
        at_end = len(rest) < _NEAR_END_CHARACTERS and not (self._text.read(1) or {*rest} & {*"]}"})
        if at_end:
            message = f"the JSON is cut off {place}; the file is not whole: get it again"
            return ManifestError(message, file=self._file)
        found = rest[:30]
        return ManifestError(
            f"not valid JSON {place}: {problem}, found {found!r}; mend the file there", file=self._file
        )
