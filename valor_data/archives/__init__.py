"""Data sets that somebody has already: tars, Parquet files with media in them, the published trainer's folders.

What is in them is listed, and the bytes of one clip are read where they lie: nothing is unpacked. The manifest notes
for each clip where it is (`Place`), and fetching reads there.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from valor_data.errors import ValorDataError

_VIDEO_NAMES = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv"
_SOUND_NAMES = "aac flac m4a mp3 ogg opus wav"
VIDEO_SUFFIXES = frozenset(_VIDEO_NAMES.split())
SOUND_SUFFIXES = frozenset(_SOUND_NAMES.split())
PICTURE_SUFFIXES = frozenset({"jpg", "jpeg"})


class ArchiveError(ValorDataError):
    """A tar, a Parquet file or a folder of somebody's cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip is in a set.

    Attributes:
        kind: `tar` or `parquet`.
        file: the file, relative to the set's folder, with `/`.
        start: first byte in the tar of the sample's first header; the row in the Parquet file, from 0.
        end: the byte after the sample; 0 in a Parquet file.
        key: the sample's name in the set: what must be found there.
    """

    kind: str
    file: str
    start: int
    end: int
    key: str

    def __str__(self) -> str:
        where = f"at={self.start}-{self.end}" if self.kind == "tar" else f"row={self.start}"
        return f"{self.kind}:{quote(self.file)}?{where}&key={quote(self.key, safe='')}"

    @classmethod
    def parse(cls, text: str | None) -> Place | None:
        """The inverse of `str`; None for anything else, an address of the web for one."""
        kind, colon, rest = (text or "").partition(":")
        file, mark, query = rest.partition("?")
        if kind not in ("tar", "parquet") or not colon or not mark:
            return None
        told = parse_qs(query, keep_blank_values=True)
        try:
            if kind == "tar":
                start, _, end = told["at"][0].partition("-")
                return cls(kind, unquote(file), int(start), int(end), told["key"][0])
            return cls(kind, unquote(file), int(told["row"][0]), 0, told["key"][0])
        except (KeyError, ValueError):
            return None
