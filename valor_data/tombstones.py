"""Tombstones: clips and videos that were removed, as hashes, so that nobody brings them back.

`WORK/tombstones.parquet` has a row for each: no id, no caption. It goes wherever the set goes, for loaders must know
what to leave out of an old copy of the shards. A hash is

    sha256("<salt> clip <key>")  or  sha256("<salt> video <video id>"),  in hex

(`printf '%s' "SALT clip KEY" | sha256sum`). The salt is drawn once for a list and stands in every row: it keeps tables
made for one list from fitting another, and two lists from being compared. It is no secret, and cannot be: whoever has
to leave a clip out must be able to tell that this is the one. So somebody who holds the key already can see that it
was removed; nobody can read from the list which clips were.

A video's tombstone covers all its clips, whatever their spans.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valor_data.clip import make_key, open_key, parse_key, unescape_id
from valor_data.errors import ConfigError, ManifestError
from valor_data.storage import Store, is_address
from valor_data.workdir import written_aside

FILE_NAME = "tombstones.parquet"

CLIP, VIDEO = "clip", "video"

REASON_CLASSES: dict[str, str] = {
    "request": "asked for by the uploader, or by somebody who is seen or heard",
    "gone": "no longer at its source",
    "legal": "a claim or an order",
    "quality": "not fit for the set",
    "other": "something else; the text beside it says what",
}
"""Why something was removed. Codes are stable."""

COLUMNS: dict[str, str] = {
    "salt": "of this list: part of what is hashed",
    "hash": "sha256, in hex, of the salt, the kind and the key or the video id, with single spaces between them",
    "kind": "clip: one key; video: every clip of a video id",
    "date": "when it was removed, YYYY-MM-DD",
    "reason": "; ".join(f"{code}: {meaning}" for code, meaning in REASON_CLASSES.items()),
    "why": "in words, without ids",
}
"""The columns of a list, all texts, with their meaning."""

TOMBSTONES_VERSION = "1"

MAX_WHY_CHARACTERS = 500

_OPEN_KEY = re.compile(r"(?P<id>[A-Za-z0-9_=-]+)_[0-9]{8}_open", re.ASCII)
_TOKENS = re.compile(r"[^\s\"',;:/?&#<>()\[\]{}|\\]+")
_SPAN_TAIL = re.compile(r"(?P<id>.+?)_(?P<start>\d+(?:\.\d+)?)_(?P<end>\d+(?:\.\d+)?)$", re.ASCII)
_VGGSOUND_TAIL = re.compile(r"(?P<id>.+)_\d{6}$", re.ASCII)


def tombstone_hash(salt: str, kind: str, name: str) -> str:
    """The hash of a key (kind `clip`) or of a video id as the corpus writes it (kind `video`)."""
    return hashlib.sha256(f"{salt} {kind} {name}".encode()).hexdigest()


def video_of_key(key: str) -> str | None:
    """The video id in a key or in an open key; None when the text is neither."""
    found = _OPEN_KEY.fullmatch(key)
    try:
        return unescape_id(found["id"]) if found else parse_key(key)[0]
    except ManifestError:
        return None


@dataclass(frozen=True, slots=True)
class Tombstones:
    """What must not come back. `key in tombstones` asks for a clip, by its key.

    Attributes:
        hashes: for each salt, the hashes under it.
        num_rows: rows of the list.
    """

    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    num_rows: int = 0

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def __len__(self) -> int:
        return self.num_rows

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.covers(key, video_of_key(key))

    def covers(self, key: str | None, video_id: str | None) -> bool:
        """Whether a clip, or the whole video it is of, was removed.

        Args:
            key: the clip's key or open key; None: only the video is asked for.
            video_id: as the corpus writes it; None: only the key is asked for.
        """
        return any(
            (key is not None and tombstone_hash(salt, CLIP, key) in hashes)
            or (video_id is not None and tombstone_hash(salt, VIDEO, video_id) in hashes)
            for salt, hashes in self.hashes.items()
        )

    def joined(self, other: Tombstones) -> Tombstones:
        """What either list removes."""
        salts = {**self.hashes, **other.hashes}
        hashes = {salt: self.hashes.get(salt, frozenset()) | other.hashes.get(salt, frozenset()) for salt in salts}
        return Tombstones(hashes, sum(map(len, hashes.values())))

    def mentioned_in(self, text: str) -> bool:
        """Whether a text names something that was removed: a key, an id, or an id with a span as lists write it."""
        return bool(self.hashes) and any(self.covers(*name) for name in _names_in(text))


def _names_in(text: str) -> Iterator[tuple[str | None, str | None]]:
    """Every (key, video id) that a word of a text may stand for."""
    for word in _words(text):
        yield word, word
        video_id = video_of_key(word)
        if video_id is not None:
            yield None, video_id
            continue
        span = _SPAN_TAIL.match(word)
        if span:
            yield None, span["id"]
            scale = 1 if "." in span["start"] else 1000  # VALOR writes seconds with decimals, AudioSet milliseconds
            for divisor in {1, scale}:
                yield _key_or_none(span["id"], float(span["start"]) / divisor, float(span["end"]) / divisor), None
        short = _VGGSOUND_TAIL.match(word)
        if short:
            yield None, short["id"]


def _words(text: str) -> Iterator[str]:
    for token in _TOKENS.findall(text):
        yield token
        yield from (part for part in token.split("=") if part != token)
        stem = token.rpartition(".")[0]
        if stem:
            yield stem


def _key_or_none(video_id: str, start: float, end: float) -> str | None:
    try:
        return make_key(video_id, start, end)
    except ManifestError:
        return None


NOTHING_REMOVED = Tombstones()


def read_tombstones(place: str | Path) -> Tombstones:
    """Reads a list.

    Args:
        place: a file, or an address.

    Raises:
        ConfigError: no such file, or it is no list of tombstones.
        StoreError: the store there does not answer.
    """
    rows = _read_rows(str(place))
    hashes: dict[str, set[str]] = {}
    for salt, name in zip(rows["salt"], rows["hash"], strict=True):
        hashes.setdefault(sys.intern(salt), set()).add(name)
    return Tombstones({salt: frozenset(names) for salt, names in hashes.items()}, len(rows["hash"]))


def _read_rows(place: str) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(COLUMNS)
    try:
        origin: Any = pa.BufferReader(Store(place).read("")) if is_address(place) else place
        table = pq.read_table(origin, columns=columns, partitioning=None)
    except FileNotFoundError:
        raise ConfigError(f"{place}: no such file; expected the {FILE_NAME} of a data set") from None
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ConfigError(f"{place}: no list of tombstones ({str(error)[:200]}); expected columns {columns}") from None
    if table.column_names != columns or any(column.null_count for column in table.columns):
        raise ConfigError(f"{place}: no list of tombstones; expected texts in every row of the columns {columns}")
    return {name: [str(value) for value in table[name].to_pylist()] for name in columns}


def tombstones_beside(place: str | Path) -> Tombstones:
    """The tombstones that lie beside some files: in their folder, or in the one above it.

    So they are found for a work folder, for its folder of tars, and for a copy of a published set.

    Args:
        place: a folder, a file in it, or an address of either.

    Raises:
        ConfigError: what lies there is no list of tombstones.
        StoreError: the store there does not answer.
    """
    for folder in _folders(str(place)):
        if not is_address(folder):
            if Path(folder, FILE_NAME).is_file():
                return read_tombstones(Path(folder, FILE_NAME))
            continue
        try:
            return read_tombstones(Store(folder).at(FILE_NAME))
        except ConfigError as error:
            if "no such file" not in str(error):
                raise
    return NOTHING_REMOVED


def _folders(place: str) -> list[str]:
    """The folder of a place and the one above it."""
    if is_address(place):
        folder = place.rpartition("/")[0] if place.endswith((".tar", ".parquet")) else place.rstrip("/")
        above = folder.rpartition("/")[0]
        return [folder] if above.endswith(":/") or "://" not in above else [folder, above]
    path = Path(place).absolute()
    path = path if path.is_dir() else path.parent
    return [os.fspath(path), os.fspath(path.parent)]


def local_tombstones(file: Path) -> Tombstones:
    """The list of a work folder; nothing was removed where there is none.

    Raises:
        ConfigError: the file is no list of tombstones.
    """
    return read_tombstones(file) if file.exists() else NOTHING_REMOVED


def add_tombstones(
    file: Path, keys: Iterable[str], videos: Iterable[str], *, reason: str, why: str, date: str = ""
) -> int:
    """Adds tombstones to a list; what it covers by the same hash already stays as it is.

    Args:
        file: the list, made when it is not there.
        keys: keys, and open keys.
        videos: video ids as the corpus writes them.
        reason: one of `REASON_CLASSES`.
        why: in words; the caller has seen to it that it holds no id.
        date: YYYY-MM-DD; empty: today, UTC.

    Returns:
        How many rows are new.

    Raises:
        ConfigError: there is a file of another kind.
    """
    rows = _read_rows(str(file)) if file.exists() else {name: [] for name in COLUMNS}
    salt = rows["salt"][0] if rows["salt"] else secrets.token_hex(16)
    known = set(zip(rows["salt"], rows["hash"], strict=True))
    date = date or datetime.datetime.now(datetime.UTC).date().isoformat()
    new = {(CLIP, tombstone_hash(salt, CLIP, key)) for key in keys}
    new |= {(VIDEO, tombstone_hash(salt, VIDEO, video_id)) for video_id in videos}
    added = [row for row in sorted(new) if (salt, row[1]) not in known]
    for kind, name in added:
        for column, value in zip(COLUMNS, (salt, name, kind, date, reason, why), strict=True):
            rows[column].append(value)
    if added or not file.exists():
        _write_rows(rows, file)
    return len(added)


def merge_tombstones(file: Path, other: str | Path) -> int:
    """Takes over another list, row by row, with its own salts.

    Returns:
        How many rows are new.

    Raises:
        ConfigError: one of the two is no list of tombstones.
    """
    theirs = _read_rows(str(other))
    rows = _read_rows(str(file)) if file.exists() else {name: [] for name in COLUMNS}
    known = set(zip(rows["salt"], rows["hash"], strict=True))
    added = 0
    for row in zip(*(theirs[name] for name in COLUMNS), strict=True):
        if row[:2] not in known:
            known.add(row[:2])
            added += 1
            for column, value in zip(COLUMNS, row, strict=True):
                rows[column].append(value)
    if added or not file.exists():
        _write_rows(rows, file)
    return added


def _write_rows(rows: Mapping[str, list[str]], file: Path) -> None:
    """Sorted by date and hash: the order in which things were asked for tells nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata: dict[bytes | str, bytes | str] = {"valor_data.tombstones_version": TOMBSTONES_VERSION}
    fields: list[Any] = [pa.field(name, pa.string(), nullable=False) for name in COLUMNS]
    table = pa.table({name: rows[name] for name in COLUMNS}, schema=pa.schema(fields, metadata=metadata))
    with written_aside(file) as path:
        pq.write_table(table.sort_by([("date", "ascending"), ("hash", "ascending")]), path, compression="zstd")


def check_why(why: str, names: Iterable[str]) -> None:
    """Refuses a text that would tell what was removed: it is published with the list.

    Args:
        why: the text.
        names: keys, ids and captions that are removed with it.

    Raises:
        ConfigError: it is empty, too long, or holds one of them, or what looks like a key or an address.
    """
    if not why.strip() or len(why) > MAX_WHY_CHARACTERS or "\n" in why:
        raise ConfigError(f"--why {why[:60]!r}: expected a line of 1 to {MAX_WHY_CHARACTERS} characters")
    told = why.casefold()
    held = next((name for name in names if name and name.casefold() in told), None)
    looks = re.search(r"https?://|www\.|youtu\.be|watch\?v=|_\d{8}_(?:\d{8}|open)", why)
    if held is not None or looks is not None:
        raise ConfigError(
            "--why: the text stays in the list of tombstones, which is published: it must not say which clip is "
            f"meant, and this one holds {'an id or a caption' if held else f'{looks[0]!r}' if looks else ''}; "
            "say why, not which"
        )


def tombstones_schema() -> dict[str, Any]:
    """The JSON Schema of a row of tombstones.parquet."""
    rules: dict[str, dict[str, Any]] = {
        "salt": {"minLength": 1},
        "hash": {"pattern": "^[0-9a-f]{64}$"},
        "kind": {"enum": [CLIP, VIDEO]},
        "date": {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "reason": {"enum": list(REASON_CLASSES)},
        "why": {"maxLength": MAX_WHY_CHARACTERS},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "tombstones.schema.json",
        "title": "A clip or a video that was removed from a valor-data set",
        "version": TOMBSTONES_VERSION,
        "type": "object",
        "properties": {name: {"type": "string", "description": told, **rules[name]} for name, told in COLUMNS.items()},
        "required": list(COLUMNS),
        "additionalProperties": False,
    }


def schema_files() -> dict[str, str]:
    """File name and text of the schema of this room."""
    return {"tombstones.schema.json": json.dumps(tombstones_schema(), indent=2, ensure_ascii=False) + "\n"}


def no_longer_listed(table: Any, tombstones: Tombstones) -> Any:
    """Which rows of a manifest were removed, as a NumPy array of truth values.

    Args:
        table: has the manifest's columns key, video_id and start_seconds.
        tombstones: what was removed.
    """
    import numpy as np

    removed = np.zeros(table.num_rows, dtype=bool)
    if not tombstones:
        return removed
    videos: dict[str, bool] = {}
    names = (table[name].to_pylist() for name in ("key", "video_id", "start_seconds"))
    for number, (key, video_id, start) in enumerate(zip(*names, strict=True)):
        gone = videos.get(video_id)
        if gone is None:
            gone = videos[video_id] = tombstones.covers(None, video_id)
        removed[number] = gone or tombstones.covers(key or open_key(video_id, start), None)
    return removed


if __name__ == "__main__":
    for _name, _text in schema_files().items():
        (Path(sys.argv[1] if len(sys.argv) > 1 else "schemas") / _name).write_text(_text, "utf-8")
