"""A clip, its span and its key: the row that travels down the road.

This is the only place where seconds become milliseconds. Everywhere else a time is a float in seconds,
measured from second 0 of its video.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from valor_data.errors import ManifestError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Seconds = float
"""A time or a length in seconds; second 0 of a video is its container's start time."""

MAX_MS = 99_999_999
"""The last millisecond that fits a key: eight digits, 27.7 hours."""

MAX_ID_CHARACTERS = 160
"""Longest escaped video id: with span and extension it stays under a file name's 255 bytes."""

ROLES: tuple[str, ...] = ("audiovisual", "visual", "audio")
"""What a caption describes: what is seen and heard, what is seen, what is heard."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")
_KEY = re.compile(r"(?P<id>[A-Za-z0-9_=-]+)_(?P<start>[0-9]{8})_(?P<end>[0-9]{8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about a clip, and what it describes (one of `ROLES`)."""

    text: str
    role: str = "audiovisual"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a clip, with one or several right answers."""

    question_id: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A span `[start, end)` of a video, with everything an annotation says of it.

    Attributes:
        video_id: the id as the corpus writes it (YouTube: 11 characters).
        start: first second, from the start of the video.
        end: second after the last; None while the length of a whole video is unknown.
        split: `train`, `val`, `test` or a name of the user's.
        captions: sentences about the clip.
        labels: class labels as the annotation writes them (AudioSet: `/m/…`).
        label_names: the same labels in words, where a class list names them.
        questions: questions with their answers.
        url: where to fetch the video, where the annotation says so.
    """

    video_id: str
    start: Seconds
    end: Seconds | None
    split: str = "train"
    captions: tuple[Caption, ...] = ()
    labels: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    url: str | None = None

    @property
    def key(self) -> str | None:
        """The clip's name everywhere; None while its end is unknown."""
        return None if self.end is None else make_key(self.video_id, self.start, self.end)


def to_ms(seconds: Seconds) -> int:
    """Rounds a time to whole milliseconds, the nearest one.

    >>> to_ms(23.7)
    23700
    """
    return round(seconds * 1000)


def from_ms(milliseconds: int) -> Seconds:
    """The time in seconds of a whole number of milliseconds."""
    return milliseconds / 1000


def escape_id(video_id: str) -> str:
    """Writes each byte outside `A-Z a-z 0-9 _ -` as `=XX`, so that any id can be part of a file name.

    >>> escape_id("a.b")
    'a=2Eb'
    """
    return "".join(c if _PLAIN.fullmatch(c) else "".join(f"={b:02X}" for b in c.encode()) for c in video_id)


def unescape_id(escaped: str) -> str:
    """The inverse of `escape_id`.

    Raises:
        ManifestError: the text is not the escaped form of anything.
    """
    try:
        video_id = _ESCAPED.sub(lambda m: chr(int(m[1], 16)), escaped).encode("latin-1").decode()
    except UnicodeError:
        video_id = ""
    if escape_id(video_id) != escaped:
        raise ManifestError(f"{escaped!r} is not an escaped id: expected A-Z a-z 0-9 _ - and =XX (two hex digits)")
    return video_id


def make_key(video_id: str, start: Seconds, end: Seconds) -> str:
    """Builds a clip's key, `<video_id>_<start ms>_<end ms>` with eight digits each.

    The id is escaped, never re-cased, and may begin with `-`. The key holds no dot, because WebDataset
    cuts a member's name at the first one.

    Raises:
        ManifestError: an empty or too long id, a negative start, an end not after the start, or a span
            beyond 27.7 hours (eight digits of milliseconds).

    >>> make_key("-0BIyqJj9ZU", 30, 40)
    '-0BIyqJj9ZU_00030000_00040000'
    """
    escaped = escape_id(video_id)
    if not 0 < len(escaped) <= MAX_ID_CHARACTERS:
        raise ManifestError(f"video id {video_id!r}: expected 1 to {MAX_ID_CHARACTERS} characters once escaped")
    start_ms, end_ms = to_ms(start), to_ms(end)
    if not 0 <= start_ms < end_ms:
        raise ManifestError(f"span [{start}, {end}) of {video_id!r}: expected 0 <= start < end, a millisecond apart")
    if end_ms > MAX_MS:
        raise ManifestError(
            f"span [{start}, {end}) of {video_id!r}: a key holds at most {MAX_MS / 1000:.3f} s (27.7 h)"
        )
    return f"{escaped}_{start_ms:08d}_{end_ms:08d}"


def parse_key(key: str) -> tuple[str, Seconds, Seconds]:
    """Takes a key apart into video id, start and end in seconds.

    Raises:
        ManifestError: the text is not a key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise ManifestError(f"{key!r} is not a key: expected <video_id>_<start ms, 8 digits>_<end ms, 8 digits>")
    return unescape_id(match["id"]), from_ms(int(match["start"])), from_ms(int(match["end"]))


def open_key(video_id: str, start: Seconds) -> str:
    """Names a clip whose end is not known yet: `<video_id>_<start ms>_open`; replaced by its key at fetch."""
    return f"{escape_id(video_id)}_{to_ms(start):08d}_open"


def certificate(keys: Iterable[str]) -> str:
    """A hash of a set of clips, so that two labs can tell whether theirs is the same: 64 hex digits.

    It is the SHA-256 of the keys, each once, sorted by their bytes, each with a newline behind it: what
    `LC_ALL=C sort -u keys.txt | sha256sum` prints for a file of keys.

    >>> certificate(["b_00000000_00001000", "a_00000000_00001000"])[:16]
    '5a677576c69db42e'
    """
    hasher = hashlib.sha256()
    for key in sorted({key.encode() for key in keys}):
        hasher.update(key + b"\n")
    return hasher.hexdigest()


def to_ms_array(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`to_ms` for an array of times; the same rounding."""
    import numpy as np

    return np.rint(seconds * 1000).astype(np.int64)


def from_ms_array(milliseconds: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """`from_ms` for an array of whole milliseconds."""
    return milliseconds / 1000
