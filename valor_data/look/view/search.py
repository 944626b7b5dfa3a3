"""Questions to an index: words, filters, order; and how many clips each further choice would leave."""

from __future__ import annotations

import json
import queue
import re
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.look.view.index import RANGES, spaced

PAGE = 60
"""Clips of a page."""

ORDERS = ("", *RANGES)
"""What can be sorted by; empty: the set's own order."""

FACETS = ("split", "standing", "reason")

_TERM = re.compile(r'(?P<no>-)?(?:(?P<field>caption|label):)?(?:"(?P<phrase>[^"]*)"?|(?P<word>\S+))')
_KEY_START = re.compile(r"[A-Za-z0-9_=-]{3,}", re.ASCII)
_REMEMBERED = 16
_START_CHARACTERS = 3
"""A shorter last word stands for itself: half of all captions have a word that begins with `s`."""

_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for.

    Attributes:
        text: words that must all be there, the last one may be the start of one; `"a phrase"`, `-not`, `label:x`,
            `caption:x`; or the start of a key.
        choices: of `FACETS`, the values to keep; a facet without any keeps all.
        ranges: of `RANGES`, least and largest value, either may be None; what was not measured is in no range.
        order: one of `ORDERS`.
        descending: the largest first.
        first: number of the first clip of the page, from 0.
        limit: clips of the page.
    """

    text: str = ""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    order: str = ""
    descending: bool = False
    first: int = 0
    limit: int = PAGE


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        count: clips that fit.
        clips: those of the page.
        facets: by facet and value, how many would fit if of this facet that value alone were chosen.
    """

    count: int
    clips: list[dict[str, Any]]
    facets: dict[str, dict[str, int]]


class Index:
    """An open index. May be asked from several threads.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._pool: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        for _ in range(_CONNECTIONS):
            self._pool.put(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False))
        self._lock = Lock()
        self._found: OrderedDict[str, NDArray[np.int64] | None] = OrderedDict()
        with self._db() as db:
            rows = db.execute("SELECT name, type, data FROM numbers")
            self._numbers: dict[str, NDArray[Any]] = {n: np.frombuffer(data, kind) for n, kind, data in rows}
            meta = dict(db.execute("SELECT name, value FROM meta"))
        self.values: dict[str, list[str]] = {name: json.loads(meta[name]) for name in FACETS}
        self.num_clips = len(self._numbers["split"])
        self.stamp: str = meta["stamp"]

    def close(self) -> None:
        """Closes the file."""
        for _ in range(_CONNECTIONS):
            self._pool.get().close()

    @contextmanager
    def _db(self) -> Iterator[sqlite3.Connection]:
        connection = self._pool.get()
        try:
            yield connection
        finally:
            self._pool.put(connection)

    def spans(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each of `RANGES` that was measured on any clip."""
        found = {}
        for name in RANGES:
            values = self._numbers[name][~np.isnan(self._numbers[name])]
            if len(values):
                found[name] = (float(values.min()), float(values.max()))
        return found

    def shard_of(self, key: str) -> str | None:
        """Name of the shard a clip is in, empty when it is in none; None when there is no such clip."""
        with self._db() as db:
            row = db.execute("SELECT shard FROM clips WHERE key = ? ORDER BY shard = '' LIMIT 1", (key,)).fetchone()
        return None if row is None else str(row[0])

    def row_of(self, key: str) -> dict[str, Any] | None:
        """What the index holds of a clip."""
        with self._db() as db:
            row = db.execute("SELECT id FROM clips WHERE key = ? ORDER BY shard = '' LIMIT 1", (key,)).fetchone()
        return None if row is None else self._page(np.array([row[0] - 1]))[0]

    def ask(self, question: Question) -> Answer:
        """Answers a question; a million clips take some milliseconds, a frequent new word some hundred."""
        rows = self._with_words(question.text)
        rows = np.arange(self.num_clips) if rows is None else rows
        for name, (least, largest) in question.ranges.items():
            values = self._numbers[name][rows]
            fits = ~np.isnan(values)
            fits &= values >= least if least is not None else True
            fits &= values <= largest if largest is not None else True
            rows = rows[fits]
        facets, rows = self._chosen(rows, question.choices)
        wanted = self._sorted(rows, question)
        return Answer(len(rows), self._page(wanted), facets)

    def _chosen(
        self, rows: NDArray[np.int64], choices: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, dict[str, int]], NDArray[np.int64]]:
        """Counts of every facet's values among what the other facets leave, and the rows that all leave."""
        fits = {}
        for name in FACETS:
            wanted = [n for n, value in enumerate(self.values[name]) if value in choices.get(name, ())]
            is_free = not choices.get(name)
            fits[name] = np.ones(len(rows), bool) if is_free else np.isin(self._numbers[name][rows], wanted)
        facets = {}
        for name in FACETS:
            others = np.logical_and.reduce([fits[other] for other in FACETS if other != name])
            counts = np.bincount(self._numbers[name][rows[others]], minlength=len(self.values[name])).tolist()
            facets[name] = dict(zip(self.values[name], counts, strict=True))
        return facets, rows[np.logical_and.reduce(list(fits.values()))]

    def _sorted(self, rows: NDArray[np.int64], question: Question) -> NDArray[np.int64]:
        """The page of the rows in their order; what was not measured comes last."""
        last = question.first + question.limit
        if not question.order:
            ordered = rows[::-1] if question.descending else rows
            return ordered[question.first : last]
        values = self._numbers[question.order][rows].astype(np.float64)
        values = np.where(np.isnan(values), np.inf, -values if question.descending else values)
        if last < len(values) // 4:  # the page's values alone are sorted
            edge = np.partition(values, last)[last]
            near = np.flatnonzero(values <= edge)
        else:
            near = np.arange(len(values))
        order = near[np.argsort(values[near], kind="stable")]
        return rows[order][question.first : last]

    def _page(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        ids = (rows + 1).tolist()
        marks = ", ".join("?" * len(ids))
        query = (
            f"SELECT id, key, split, standing, stage, reason, shard, caption, labels FROM clips WHERE id IN ({marks})"  # noqa: S608
        )
        with self._db() as db:
            found = {row[0]: row for row in db.execute(query, ids)}
        return [self._clip(found[number]) for number in ids]

    def _clip(self, row: tuple[Any, ...]) -> dict[str, Any]:
        number, key, split, standing, stage, reason, shard, captions, labels = row
        values = {name: float(self._numbers[name][number - 1]) for name in RANGES}
        return {
            "key": key,
            "split": split,
            "standing": standing,
            "stage": stage,
            "reason": reason,
            "shard": shard,
            "captions": captions.split("\n") if captions else [],
            "labels": labels.split("\n") if labels else [],
            **{name: None if np.isnan(value) else round(value, 3) for name, value in values.items()},
        }

    def _with_words(self, text: str) -> NDArray[np.int64] | None:
        """Rows with the words of a text, in order; None: all. The last few answers are remembered."""
        text = " ".join(text.split())
        with self._lock:
            if text in self._found:
                self._found.move_to_end(text)
                return self._found[text]
        found = self._look_up(text)
        with self._lock:
            self._found[text] = found
            while len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)
        return found

    def _look_up(self, text: str) -> NDArray[np.int64] | None:
        if not text:
            return None
        by_key = self._with_key(text) if _KEY_START.fullmatch(text) else np.empty(0, np.int64)
        if len(by_key) and text.startswith("-"):
            return by_key
        wanted, unwanted = expressions(text)
        if not wanted and not unwanted:  # no word yet, as while one is typed
            return by_key if len(by_key) else None
        rows = np.union1d(self._match(wanted), by_key) if wanted else np.arange(self.num_clips)
        return np.setdiff1d(rows, self._match(unwanted), assume_unique=True) if unwanted else rows

    def _with_key(self, start: str) -> NDArray[np.int64]:
        return self._rows("SELECT id FROM clips WHERE key >= ? AND key < ?", (start, start + "~"))

    def _match(self, expression: str) -> NDArray[np.int64]:
        return self._rows("SELECT rowid AS id FROM words WHERE words MATCH ?", (expression,))

    def _rows(self, query: str, values: tuple[str, ...]) -> NDArray[np.int64]:
        """Row numbers, from 0, in order. One text comes out of SQLite, not a million Python numbers."""
        with self._db() as db:
            text = db.execute(f"SELECT group_concat(id) FROM ({query})", values).fetchone()[0]  # noqa: S608
        if text is None:
            return np.empty(0, np.int64)
        return np.sort(np.fromstring(text, np.int64, sep=",")) - 1


def expressions(text: str) -> tuple[str, str]:
    """A text as a person types it, as FTS5 expressions: what must be there, and what must not; empty for nothing.

    Every word is quoted, so that none of it is syntax. The last word, unless quoted, may be the start of one, once it
    has three characters.
    """
    wanted: list[str] = []
    unwanted: list[str] = []
    found = [match for match in _TERM.finditer(text) if re.search(r"\w", match["phrase"] or match["word"] or "")]
    for match in found:
        quoted = '"' + spaced(match["phrase"] or match["word"] or "").replace('"', '""').replace("\0", " ") + '"'
        is_last = match is found[-1] and not match["no"] and match.end() == len(text)
        is_start = is_last and len(match["word"] or "") >= _START_CHARACTERS
        column = f"{match['field']} : " if match["field"] else ""
        (unwanted if match["no"] else wanted).append(f"{column}{quoted}{' *' if is_start else ''}")
    return " AND ".join(wanted), " OR ".join(unwanted)
