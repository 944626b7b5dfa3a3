"""Which bytes of a video cover a span: what the indices of fragmented mp4 (`sidx`) and WebM (Cues) have in common.

Pure parsing of the first bytes of a file: nothing is opened, nothing is fetched. A file is the bytes before
its first fragment (the head) and fragments, each of which begins with a key picture as a rule. The head
with a run of whole fragments behind it is a media file again, with the times of the whole video.

Bytes come from strangers. Every loop moves forward, every count and offset is bounded by the file's size,
and an index that contradicts itself is refused.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction

from valor_data.errors import ValorDataError

FIRST_REQUEST_BYTES = 8 * 1024
"""What to fetch first: head, index and first fragment's header of most videos of up to an hour."""

MAX_HEAD_BYTES = 4 * 2**20
"""Head and index of ten hours in fragments of a second are 1 MB; more is refused."""

MARGIN_SECONDS = 0.5
"""What is taken on both sides of a span. A cut keeps 0.3 s of sound before it, looks for packets from 0.5 s
before it on, and keeps 0.2 s behind it."""

_TRAILER_SHARE, _TRAILER_BYTES = 0.02, 4096
"""What may follow the last fragment (`mfra`, tags): an index that leaves more uncovered is not the file's."""


class IndexRefused(ValorDataError):  # noqa: N818 - a finding, not a fault
    """A file has no index, or none that can be trusted. The file must be fetched in another way."""


@dataclass(frozen=True, slots=True)
class MoreBytes:
    """The index cannot be read yet: these bytes of the file are needed too (`end` exclusive)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a file that begins where decoding can.

    Attributes:
        start_byte: its first byte in the file.
        end_byte: the byte after its last.
        start_seconds: its earliest moment on the file's own clock.
        end_seconds: where the next one begins; infinity for the last of a WebM.
        is_entry: False where the index says that decoding cannot begin here.
    """

    start_byte: int
    end_byte: int
    start_seconds: float
    end_seconds: float
    is_entry: bool = True


@dataclass(frozen=True, slots=True)
class FragmentIndex:
    """The head of a file and its fragments, in order, without gaps between them.

    Attributes:
        container: `mp4` or `webm`.
        head: what goes before any run of fragments to make a file of it, the index left out.
        fragments: at least one.
    """

    container: str
    head: bytes
    fragments: tuple[Fragment, ...]

    @property
    def end_seconds(self) -> float:
        """Where the last fragment ends; infinity where the index does not say."""
        return self.fragments[-1].end_seconds

    def covering(self, start: float, end: float) -> tuple[int, int]:
        """The fragments that cover `[start, end)` with a margin on both sides.

        Args:
            start: first second wanted, on the file's clock.
            end: the second after the last.

        Returns:
            Positions in `fragments`, the second exclusive; at least one fragment, the last one when the
            span begins behind the end.
        """
        starts = [fragment.start_seconds for fragment in self.fragments]
        first = max(0, bisect_right(starts, start - MARGIN_SECONDS) - 1)
        while first > 0 and not self.fragments[first].is_entry:
            first -= 1
        return first, max(first + 1, bisect_left(starts, end + MARGIN_SECONDS))

    def byte_range(self, first: int, after: int) -> tuple[int, int]:
        """The bytes `[start, end)` of a run of fragments."""
        return self.fragments[first].start_byte, self.fragments[after - 1].end_byte


def check_fragments_fit(fragments: list[Fragment], size_bytes: int) -> tuple[Fragment, ...]:
    """The fragments, when they lie in order inside the file and reach its end.

    Raises:
        IndexRefused: there are none, one is empty, they overlap, go backwards or leave the file, or they
            end long before it.
    """
    if not fragments:
        raise IndexRefused("the index names no fragment")
    for before, fragment in zip([None, *fragments], fragments, strict=False):
        if not 0 < fragment.start_byte < fragment.end_byte <= size_bytes:
            raise IndexRefused(
                f"the index names bytes {fragment.start_byte} to {fragment.end_byte} of a file of {size_bytes}"
            )
        if before is not None and (
            before.end_byte != fragment.start_byte or before.start_seconds > fragment.start_seconds
        ):
            raise IndexRefused("the fragments that the index names overlap or are out of order")
    rest = size_bytes - fragments[-1].end_byte
    if rest > _TRAILER_BYTES + _TRAILER_SHARE * size_bytes:
        raise IndexRefused(f"the index leaves out the last {rest} bytes of {size_bytes}")
    return tuple(fragments)


def more(head: bytes, needed_bytes: int, size_bytes: int) -> MoreBytes:
    """Asks for the head up to a length, with some room behind it.

    Raises:
        IndexRefused: the file ends before, or the head would be longer than any honest one.
    """
    if needed_bytes > size_bytes:
        raise IndexRefused(f"the file's head goes on to byte {needed_bytes}, the file ends at {size_bytes}")
    if needed_bytes > MAX_HEAD_BYTES:
        raise IndexRefused(f"a head of {needed_bytes} bytes is longer than the {MAX_HEAD_BYTES} allowed")
    return MoreBytes(len(head), min(size_bytes, needed_bytes + FIRST_REQUEST_BYTES))


def seconds(ticks: int, per_second: Fraction | int) -> float:
    """Ticks as seconds, rounded once."""
    return float(Fraction(ticks) / per_second)
