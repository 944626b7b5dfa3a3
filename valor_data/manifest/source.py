"""One annotation file: its text, line by line or in pieces, and how much of it has been read."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from valor_data.errors import ManifestError

HEAD_CHARACTERS = 1 << 16
"""How much of a file is looked at to recognise its format."""

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Source:
    """An annotation file, gzipped or not.

    Text is read as UTF-8, with or without a byte order mark. Bytes that are not UTF-8 become lone
    surrogates, so that the rows that hold them can be refused one by one.

    Args:
        path: the file.
        name: what the file is called in messages, rejects and metadata.

    Raises:
        ManifestError: no such file, a folder, an empty file, or UTF-16.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        if path.is_dir():
            raise ManifestError("is a folder; name the annotation files in it", file=path)
        try:
            with path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise ManifestError(f"cannot be read: {error.strerror}", file=path) from error
        if not magic:
            raise ManifestError("the file is empty; download it again", file=path)
        if magic[:2] in _UTF16:
            raise ManifestError("the file is UTF-16; save it as UTF-8", file=path)
        self.size_bytes = path.stat().st_size
        self.is_gzip = magic[:2] == _GZIP
        self.is_parquet = magic == _PARQUET
        self.position_bytes = 0
        self._raw: BinaryIO | None = None

    @contextmanager
    def open_text(self) -> Iterator[TextIO]:
        """The file's text, from its beginning, with line ends as they are."""
        with self.path.open("rb") as raw:
            self._raw = raw
            data = cast("BinaryIO", gzip.GzipFile(fileobj=raw) if self.is_gzip else raw)
            try:
                text = io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline="")
                with text:
                    yield text
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise ManifestError(
                    f"the gzip file is damaged or cut off ({error}); get it again", file=self.path
                ) from error
            finally:
                self._raw = None
                self.position_bytes = self.size_bytes

    def lines(self) -> Iterator[str]:
        r"""The file's lines with their ends (`\n`, `\r\n` or `\r`)."""
        with self.open_text() as text:
            yield from text

    def head(self) -> str:
        """The file's first characters."""
        with self.open_text() as text:
            start = text.read(HEAD_CHARACTERS)
        self.position_bytes = 0
        if not start.strip():
            raise ManifestError("the file holds nothing but blanks; download it again", file=self.path)
        return start

    def tell_bytes(self) -> int:
        """How many of the file's bytes have been read."""
        return self.position_bytes if self._raw is None else self._raw.tell()

    def sha256(self) -> str:
        """The hash of the file's bytes, as hex digits."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
