"""The index of a set: SQLite with full-text search, made once and kept in the user's cache.

Tables:
    clips    a row a clip, in the set's order; id from 1
    words    FTS5 over captions and labels; it holds no text of its own
    numbers  the columns that are filtered and sorted by, as arrays: a million rows are scanned in milliseconds
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from valor_data.errors import ValorDataError
from valor_data.look.shard_set import ShardSet, find_set
from valor_data.look.view.rows import ClipRow, num_rows, rows_of
from valor_data.storage import StoreError, is_address
from valor_data.workdir import publish

INDEX_VERSION = 1

RANGES = {
    "duration": ("s", "length"),
    "rms": ("dBFS", "loudness"),
    "silence": ("%", "silence"),
    "height": ("px", "short side"),
    "words": ("words", "caption"),
}
"""Columns that can be asked for between two values: unit and name."""

_CODES = {"split": "split", "standing": "standing", "reason": "reason"}
_CHUNK = 5000
_WIDE = re.compile("([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f])")
"""Letters of languages that put no space between words: each is indexed as a word."""

_TABLES = """
    CREATE TABLE clips (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, split TEXT NOT NULL, standing TEXT NOT NULL, stage TEXT NOT NULL,
        reason TEXT NOT NULL, shard TEXT NOT NULL, caption TEXT NOT NULL, labels TEXT NOT NULL);
    CREATE VIRTUAL TABLE words USING fts5(
        caption, label, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2', prefix = '3');
    CREATE TABLE numbers (name TEXT PRIMARY KEY, type TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def spaced(text: str) -> str:
    """A text as it is indexed and searched: letters of languages without spaces stand alone."""
    return text if text.isascii() else _WIDE.sub(r" \1 ", text)


def default_cache(shards: ShardSet) -> Path:
    """Where a set's index is kept: in its work folder, where `remove` finds it; else in the user's cache."""
    if shards.work is not None and os.access(shards.work.root, os.W_OK):
        return shards.work.root / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "valor-data" / "view"


def stamp_of(shards: ShardSet) -> str:
    """Changes when the set does: its files' sizes and times, and the ledger's and the manifest's."""
    hasher = hashlib.sha256(f"{INDEX_VERSION} {shards.places} {len(shards.tombstones)}".encode())
    for shard in shards.shards:
        hasher.update(f"\n{shard.tar} {shard.stamp}".encode())
    if shards.work is not None:
        ledger = shards.work.ledger
        for path in (ledger, ledger.with_name(ledger.name + "-wal"), shards.work.manifest):
            stat = path.stat() if path.exists() else None
            if stat is not None and stat.st_size:
                hasher.update(f"\n{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return hasher.hexdigest()


class SetWatch:
    """Tells whether a set has changed since it was indexed; looks now and then, however often it is asked.

    Args:
        shards: the set, as it was found.
        stamp: of the set that was indexed.
        clock: seconds.
    """

    def __init__(self, shards: ShardSet, stamp: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._shards, self._stamp, self._clock = shards, stamp, clock
        self._every = 60.0 if any(map(is_address, shards.places)) else 5.0
        self._next, self._changed = clock() + self._every, False
        self._lock = Lock()

    def changed(self) -> bool:
        """Whether it has; once it has, it has. A set that cannot be found any more has changed."""
        with self._lock:
            if not self._changed and self._clock() >= self._next:
                self._next = self._clock() + self._every
                try:
                    self._changed = stamp_of(find_set(self._shards.places)) != self._stamp
                except StoreError:  # a store that is away says nothing of what is there
                    return False
                except (ValorDataError, OSError):
                    self._changed = True
            return self._changed


def index_path(shards: ShardSet, cache: Path) -> Path:
    """The file of a set's index; one place has one, whatever became of its shards since."""
    named = [place if "://" in place else str(Path(place).absolute()) for place in shards.places]
    return cache / f"{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:24]}.sqlite"


def is_fresh(path: Path, stamp: str) -> bool:
    """Whether an index is there and of the set as it is now."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM meta WHERE name = 'stamp'").fetchone()
            return row is not None and bool(row[0] == stamp)
    except sqlite3.DatabaseError:
        return False


def ready_index(
    shards: ShardSet,
    cache: Path,
    *,
    on_start: Callable[[int, str], None] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> Path:
    """The index of a set, built if there is none or the set has changed since.

    Args:
        shards: the set.
        cache: the folder for indexes.
        on_start: is told, before it is built, how many units it will take, and which.
        on_rows: is told now and then how many units were done.

    Raises:
        ShardError, ManifestError: the set cannot be read.
        ValorDataError: this Python's SQLite has no full-text search, or the cache cannot be written.
    """
    path, stamp = index_path(shards, cache), stamp_of(shards)
    if is_fresh(path, stamp):
        return path
    if on_start is not None:
        on_start(num_rows(shards), "clips" if shards.work is not None else "shards")
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = cache / f"{path.stem}-{os.getpid()}.part"
        try:
            build_index(temporary, rows_of(shards), stamp, on_rows or (lambda number: None))
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, sqlite3.OperationalError) as error:
        raise ValorDataError(
            f"{cache}: the index cannot be written ({error}); name another folder with --cache"
        ) from error
    return path


def build_index(path: Path, rows: Iterable[tuple[ClipRow, int]], stamp: str, on_rows: Callable[[int], None]) -> None:
    """Writes an index.

    Args:
        path: of a file that is not there.
        rows: every clip in the set's order, each with the units of work it ends.
        stamp: of the set, see `stamp_of`.
        on_rows: is told the units that were done, some thousand rows at a time.
    """
    numbers = _Numbers()
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # captions may be for one person alone
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")  # a build that is cut short is thrown away
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -131072")
        db.executescript(_TABLES)
        db.execute("BEGIN")
        source, first = iter(rows), 1
        while chunk := list(islice(source, _CHUNK)):
            clips = [row for row, _ in chunk]
            db.executemany("INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _stored(clips, first))
            db.executemany("INSERT INTO words (rowid, caption, label) VALUES (?, ?, ?)", _indexed(clips, first))
            for clip in clips:
                numbers.add(clip)
            first += len(clips)
            on_rows(sum(step for _, step in chunk))
        db.execute("INSERT INTO words (words) VALUES ('optimize')")
        db.execute("CREATE INDEX clips_by_key ON clips (key)")
        db.executemany("INSERT INTO numbers VALUES (?, ?, ?)", numbers.blobs())
        for name, codes in numbers.codes.items():
            db.execute("INSERT INTO meta VALUES (?, ?)", (name, json.dumps(list(codes))))
        db.execute("INSERT INTO meta VALUES ('stamp', ?)", (stamp,))
        db.execute("COMMIT")


def _stored(clips: list[ClipRow], first: int) -> Iterator[tuple[Any, ...]]:
    for number, clip in enumerate(clips, first):
        texts = "\n".join(clip.captions), "\n".join(clip.labels)
        yield number, clip.key, clip.split, clip.standing, clip.stage, clip.reason, clip.shard, *texts


def _indexed(clips: list[ClipRow], first: int) -> Iterator[tuple[Any, ...]]:
    for number, clip in enumerate(clips, first):
        yield number, spaced("\n".join(clip.captions)), spaced("\n".join(clip.labels))


class _Numbers:
    """The columns that grow while an index is built: four bytes a clip and column."""

    def __init__(self) -> None:
        self.columns = {name: array("f") for name in RANGES}
        self.coded = {name: array("H") for name in _CODES}
        self.codes: dict[str, dict[str, int]] = {name: {} for name in _CODES}

    def add(self, clip: ClipRow) -> None:
        """Adds a clip; what was not measured is NaN."""
        facts, unknown = clip.facts, float("nan")
        is_seen, is_heard = facts.get("has_video"), facts.get("has_audio")
        sides = facts.get("width_px", 0), facts.get("height_px", 0)
        values = {
            "duration": clip.duration_seconds,
            "rms": facts["rms_dbfs"] if is_heard else unknown,
            "silence": 100 * facts["silence_share"] if is_heard else unknown,
            "height": min(sides) if is_seen and min(sides) else unknown,
            "words": len(clip.captions[0].split()) if clip.captions else unknown,
        }
        for name, value in values.items():
            self.columns[name].append(value)
        for name, attribute in _CODES.items():
            codes = self.codes[name]
            self.coded[name].append(codes.setdefault(getattr(clip, attribute), len(codes)))

    def blobs(self) -> Iterator[tuple[str, str, bytes]]:
        """Name, NumPy's type and bytes of each column."""
        yield from ((name, "f4", column.tobytes()) for name, column in self.columns.items())
        yield from ((name, "u2", column.tobytes()) for name, column in self.coded.items())
