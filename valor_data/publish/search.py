"""Many texts looked for at once in bytes of any kind, and every file of a folder opened for it.

A removed clip is looked for as it may be written anywhere: plain, as JSON writes it, as HTML does, as a URL does. The
cost does not depend on how many texts there are: a table of their middles, eight bytes each, tells of every place in
the data whether one may stand there.
"""

from __future__ import annotations

import bz2
import gzip
import html
import io
import json
import lzma
import mmap
import re
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote

from valor_data.clip import escape_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_BYTES = 8
"""What the table holds of a text: shorter ones are not looked for, in pictures and sound they would stand by chance."""

CHUNK_BYTES = 4 << 20

_TABLE_BITS = 18
_MIX = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: spreads what differs in few bits."""

_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Needle:
    """A text that must not be found.

    Attributes:
        text: what it stands for.
        kind: `key`, `video id` or `caption`.
        pattern: the bytes looked for.
        has_borders: whether it counts only where no longer name goes on around it: ids that are not YouTube's may be
            parts of others.
    """

    text: str
    kind: str
    pattern: bytes
    has_borders: bool = False


def needles_of(keys: Iterable[str], videos: Iterable[str], texts: Iterable[str]) -> list[Needle]:
    """What to look for, in every way it may be written; what is shorter than `WINDOW_BYTES` is left out.

    Args:
        keys: keys and open keys.
        videos: video ids, as the corpus writes them.
        texts: captions and questions.
    """
    found = [Needle(key, "key", key.encode(), not _YOUTUBE_ID.fullmatch(key[:11])) for key in keys]
    for video_id in videos:
        has_borders = _YOUTUBE_ID.fullmatch(video_id) is None
        for form in (*_forms(video_id), escape_id(video_id), quote(video_id, safe="")):
            found.append(Needle(video_id, "video id", form.encode(), has_borders))
    found += [Needle(text, "caption", form.encode()) for text in texts for form in _forms(text)]
    return list({(n.pattern, n.kind): n for n in found if len(n.pattern) >= WINDOW_BYTES}.values())


def _forms(text: str) -> list[str]:
    """A text as it is, as JSON writes it with and without other alphabets, and as HTML does."""
    forms = [text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]]
    return list(dict.fromkeys([*forms, html.escape(text), html.escape(text, quote=False)]))


class ByteSearch:
    """Finds any of many texts in bytes.

    Args:
        needles: what to look for; none: nothing is found.
    """

    def __init__(self, needles: Sequence[Needle]) -> None:
        import numpy as np

        self.needles = tuple(needles)
        self._by_window: dict[bytes, list[Needle]] = {}
        self._table: NDArray[np.bool_] = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self.longest = max((len(needle.pattern) for needle in needles), default=0)
        for needle in needles:
            start = (len(needle.pattern) - WINDOW_BYTES) // 2
            window = needle.pattern[start : start + WINDOW_BYTES]
            self._by_window.setdefault(window, []).append(needle)
        windows = np.frombuffer(b"".join(self._by_window), dtype="<u8")
        self._windows = np.sort(windows)
        self._table[_hashed(windows)] = True

    def find(self, data: bytes | bytearray | memoryview | mmap.mmap) -> set[Needle]:
        """Those that stand in some bytes."""
        import numpy as np

        found: set[Needle] = set()
        size = len(data)
        if not self.needles or size < WINDOW_BYTES:
            return found
        whole = np.frombuffer(data, dtype=np.uint8)
        overlap = self.longest + 64
        for first in range(0, size, CHUNK_BYTES):
            part = whole[first : first + CHUNK_BYTES + overlap]
            if len(part) >= WINDOW_BYTES:
                found |= self._find_in(part.tobytes())
        return found

    def _find_in(self, data: bytes) -> set[Needle]:
        import numpy as np

        found: set[Needle] = set()
        for offset in range(WINDOW_BYTES):
            count = (len(data) - offset) // WINDOW_BYTES
            values = np.frombuffer(data, dtype="<u8", count=count, offset=offset)
            places = np.flatnonzero(self._table[_hashed(values)])
            if not len(places):
                continue
            places = places[np.isin(values[places], self._windows)]
            for place in places.tolist():
                at = offset + place * WINDOW_BYTES
                found.update(n for n in self._by_window[data[at : at + WINDOW_BYTES]] if _stands(n, data, at))
        return found


def _hashed(values: Any) -> Any:
    import numpy as np

    return ((values * np.uint64(_MIX)) >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)


def _stands(needle: Needle, data: bytes, window_at: int) -> bool:
    """Whether a needle stands around a place where its window does."""
    start = window_at - (len(needle.pattern) - WINDOW_BYTES) // 2
    end = start + len(needle.pattern)
    if start < 0 or data[start:end] != needle.pattern:
        return False
    if not needle.has_borders:
        return True
    if re.match(rb"[A-Za-z0-9_-]", data[max(0, start - 1) : start]):
        return False
    return re.match(rb"[A-Za-z0-9=-]|_(?!\d+(?:\.\d+)?(?:_|\b))", data[end : end + 48]) is None


def file_parts(path: Path) -> Iterator[bytes | mmap.mmap]:
    """All bytes of a file; and what is inside, where it is packed: Parquet, SQLite, gzip, bzip2, xz, zstd, zip.

    A tar and a zip without compression need no unpacking: their members' bytes are in the file's own.
    """
    if path.stat().st_size == 0:
        return
    with path.open("rb") as stream:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            yield whole
            head = whole[:16]
        yield from _inside(path, stream, head)


def _inside(path: Path, stream: IO[bytes], head: bytes) -> Iterator[bytes]:
    if head.startswith(b"PAR1"):
        yield from _of_parquet(path)
    elif head.startswith(b"SQLite format 3\0"):
        yield from _of_sqlite(path)
    elif head.startswith(b"\x1f\x8b"):
        yield from _chunks(gzip.GzipFile(fileobj=stream))
    elif head.startswith(b"BZh"):
        yield from _chunks(bz2.BZ2File(stream))
    elif head.startswith(b"\xfd7zXZ"):
        with lzma.open(stream) as unpacked:
            yield from _chunks(unpacked)
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        yield from _chunks(pa.CompressedInputStream(pa.PythonFile(cast("io.IOBase", stream)), "zstd"))
    elif head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                with packed.open(name) as member:
                    yield from _chunks(member)


def _chunks(stream: Any) -> Iterator[bytes]:
    """What a stream gives, each piece with the end of the one before it."""
    end = b""
    while data := stream.read(CHUNK_BYTES):
        yield end + data
        end = data[-64 * 1024 :]


def _of_parquet(path: Path) -> Iterator[bytes]:
    """Every text of every column, a row group at a time, apart from one another."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, use_threads=False)
            for column in table.columns:
                yield from _texts_of(column.combine_chunks())


def _texts_of(array: Any) -> Iterator[bytes]:
    import pyarrow as pa

    kind = array.type
    if isinstance(array, pa.ChunkedArray):
        for chunk in array.chunks:
            yield from _texts_of(chunk)
    elif pa.types.is_struct(kind):
        for one in array.flatten():
            yield from _texts_of(one)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts_of(array.flatten())
    elif pa.types.is_dictionary(kind):
        yield from _texts_of(array.dictionary)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield "\0".join(text for text in array.to_pylist() if text).encode("utf-8", "replace")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield b"\0".join(data for data in array.to_pylist() if data)


def _of_sqlite(path: Path) -> Iterator[bytes]:
    """Every text and blob of every table: in the file a long one is cut over pages that do not lie together."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            quoted = table.replace('"', '""')
            try:
                rows = db.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - a name that SQLite gave
                while some := rows.fetchmany(20_000):
                    yield b"\0".join(_as_bytes(value) for row in some for value in row)
            except sqlite3.DatabaseError:
                continue  # a virtual table without its module; its own tables are read
    finally:
        db.close()


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "replace") if isinstance(value, str) else b""


def search_file(search: ByteSearch, path: Path) -> set[Needle]:
    """What stands in a file, in its bytes or packed inside them.

    Raises:
        OSError: it cannot be read.
    """
    found: set[Needle] = set()
    if not search.needles:
        return found
    try:
        for part in file_parts(path):
            found |= search.find(part)
    except (EOFError, lzma.LZMAError, zipfile.BadZipFile, sqlite3.DatabaseError, gzip.BadGzipFile, ValueError):
        pass  # not what its first bytes say: the bytes themselves have been looked at
    return found


def search_bytes(search: ByteSearch, data: bytes) -> set[Needle]:
    """What stands in the bytes of a file that is elsewhere, packed or not."""
    found = search.find(data)
    if data.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        for column in pq.read_table(io.BytesIO(data)).columns:
            for texts in _texts_of(column):
                found |= search.find(texts)
    return found


def texts_of_table(table: Any) -> Iterator[bytes]:
    """Every text of an Arrow table, apart from one another, some megabytes at a time."""
    for batch in table.to_batches(max_chunksize=50_000):
        for column in batch.columns:
            yield from _texts_of(column)
