"""Parquet files with media in them: which columns those are, and the media of one row.

A column of media is what `datasets` writes for Video, Audio and Image: a pair of `bytes` and `path`; or plain bytes
under a name that says what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from valor_data.archives import SOUND_SUFFIXES, VIDEO_SUFFIXES, ArchiveError
from valor_data.archives.holdings import Holding

_VIDEO_NAMES = re.compile(r"(^|_)(video|clip|mp4|webm|mkv)($|_)", re.IGNORECASE)
_SOUND_NAMES = re.compile(r"(^|_)(audio|sound|wav|flac|mp3)($|_)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MediaColumns:
    """The columns of media of a file, by name; empty where there is none."""

    video: str = ""
    sound: str = ""

    def __bool__(self) -> bool:
        return bool(self.video or self.sound)


def read_schema(holding: Holding, file: str) -> Any:
    """The columns of a file, a `pyarrow.Schema`.

    Raises:
        ArchiveError: it is no Parquet file, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with holding.open(file) as stream:
        try:
            return pq.read_schema(stream)
        except (pa.ArrowException, OSError) as error:
            raise ArchiveError(f"{file}: no Parquet file, or cut off ({str(error)[:120]}); get it again") from error


def media_columns(schema: Any, member: str = "") -> MediaColumns:
    """Finds the columns of media.

    Args:
        schema: the file's columns.
        member: the column, where somebody named it.

    Raises:
        ArchiveError: the named column is not there or holds no bytes; or several could be it.
    """
    told = _features(schema)
    kinds: dict[str, list[str]] = {"Video": [], "Audio": []}
    for field in schema:
        if _holds_bytes(field.type):
            for kind, pattern in (("Video", _VIDEO_NAMES), ("Audio", _SOUND_NAMES)):
                if told.get(field.name, kind if pattern.search(field.name) else "") == kind:
                    kinds[kind].append(field.name)
    if member:
        if member not in schema.names or not _holds_bytes(schema.field(member).type):
            found = f"its type is {schema.field(member).type}" if member in schema.names else "there is none"
            raise ArchiveError(f"column {member!r}: {found}; expected bytes, or a pair of bytes and path")
        is_sound = member in kinds["Audio"]
        return MediaColumns(sound=member) if is_sound else MediaColumns(member, (kinds["Audio"] or [""])[0])
    for kind, names in kinds.items():
        if len(names) > 1:
            raise ArchiveError(f"several columns of {kind.lower()} ({', '.join(names)}): name one with --member")
    return MediaColumns((kinds["Video"] or [""])[0], (kinds["Audio"] or [""])[0])


def _features(schema: Any) -> dict[str, str]:
    """What `datasets` noted of each column: its class."""
    metadata: dict[bytes, bytes] = schema.metadata or {}
    text = metadata.get(b"huggingface")
    try:
        features = json.loads(text)["info"]["features"] if text else {}
        return {name: told["_type"] for name, told in features.items() if isinstance(told, dict) and "_type" in told}
    except (ValueError, KeyError, TypeError):
        return {}


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)) for f in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_pair(schema: Any, name: str) -> bool:
    """Whether a column of media holds pairs with a path."""
    import pyarrow as pa

    kind = schema.field(name).type
    return bool(pa.types.is_struct(kind)) and any(field.name == "path" for field in kind)


@dataclass(slots=True)
class _Held:
    """The row group that was read last: clips come in the order of the rows."""

    place: tuple[str, str, int, tuple[str, ...]]
    first: int
    columns: dict[str, Any]


_held: _Held | None = None


def media_of_row(holding: Holding, file: str, row: int, columns: MediaColumns) -> Iterator[tuple[str, str, bytes]]:
    """The media of one row.

    Args:
        holding: the set.
        file: one of its files.
        row: counted from 0.
        columns: which columns.

    Yields:
        (column, suffix, bytes) of each that is not null; the suffix from the path, or a usual one.

    Raises:
        ArchiveError: there is no such row, or the file is damaged.
    """
    names = tuple(name for name in (columns.video, columns.sound) if name)
    held = _row_group(holding, file, row, names)
    for name in names:
        found: Any = held.columns[name][row - held.first].as_py()
        told: dict[str, Any] = found if isinstance(found, dict) else {"bytes": found}
        value, path = told.get("bytes"), told.get("path") or ""
        if value:
            suffix = path.rpartition(".")[2].lower()
            known = suffix if suffix in VIDEO_SUFFIXES | SOUND_SUFFIXES else ""
            yield name, known or ("mp4" if name == columns.video else "wav"), value


def _row_group(holding: Holding, file: str, row: int, names: tuple[str, ...]) -> _Held:
    import pyarrow as pa
    import pyarrow.parquet as pq

    global _held
    if _held is not None and _held.place[:2] == (holding.root, file) and _held.place[3] == names:
        first = _held.first
        if first <= row < first + len(_held.columns[names[0]]):
            return _held
    _held = None  # lets go of it before the next one comes
    with holding.open(file) as stream:
        try:
            parquet = pq.ParquetFile(stream)
            first = 0
            for number in range(parquet.num_row_groups):
                after = first + parquet.metadata.row_group(number).num_rows
                if first <= row < after:
                    table = parquet.read_row_group(number, columns=list(names))
                    columns = {name: table[name] for name in names}
                    _held = _Held((holding.root, file, number, names), first, columns)
                    return _held
                first = after
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ArchiveError(f"{file}: cannot be read at row {row} ({str(error)[:120]}); get it again") from error
    raise ArchiveError(f"{file}: has no row {row}; it is not the file that the manifest was made of")
