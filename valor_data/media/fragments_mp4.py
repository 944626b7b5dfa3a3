"""The segment index (`sidx`, ISO/IEC 14496-12 §8.16.3) of a fragmented mp4."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from valor_data.media.fragments import (
    Fragment,
    FragmentIndex,
    IndexRefused,
    MoreBytes,
    check_fragments_fit,
    more,
    seconds,
)

_MAX_BOXES = 10_000
_BEFORE_A_FRAGMENT = frozenset({b"styp", b"prft", b"emsg", b"sidx", b"ssix", b"free", b"skip", b"uuid"})
_LEFT_OUT_OF_HEAD = frozenset({b"sidx", b"ssix", b"free", b"skip", b"styp", b"prft", b"emsg"})
_BASE_DATA_OFFSET = 0x000001


@dataclass(frozen=True, slots=True)
class _Box:
    """A box: its type, where it begins, where its content begins, where it ends (perhaps behind the data)."""

    kind: bytes
    start: int
    content: int
    end: int


@dataclass(frozen=True, slots=True)
class _Sidx:
    track_id: int
    fragments: list[Fragment]


def read_mp4_index(head: bytes, size_bytes: int) -> FragmentIndex | MoreBytes:
    """Reads the `sidx` of a fragmented mp4; see `fragment_index.read_index`."""
    kept: list[bytes] = []
    moov = b""
    indices: list[_Sidx] = []
    for box in _boxes(head, 0, size_bytes):
        if box.kind == b"mdat":
            raise IndexRefused("the mp4 is not fragmented: its media come in one piece")
        if box.kind == b"moof" and not moov:
            raise IndexRefused("the mp4 has fragments before its header")
        if box.end > len(head):
            return more(head, box.end, size_bytes)
        if box.kind == b"moof":
            if not indices:
                raise IndexRefused("the mp4 has fragments but no index of them")
            fragments = check_fragments_fit(_chosen(indices, moov).fragments, size_bytes)
            if not box.start - _span_of_prelude(head, box.start) <= fragments[0].start_byte <= box.start:
                raise IndexRefused("the index does not begin with the first fragment")
            return FragmentIndex("mp4", b"".join(kept), fragments)
        if box.kind == b"sidx":
            indices.append(_read_sidx(head, box))
        if box.kind == b"moov":
            moov = head[box.content : box.end]
        if box.kind not in _LEFT_OUT_OF_HEAD:
            kept.append(head[box.start : box.end])
    if len(head) >= size_bytes:
        raise IndexRefused("the mp4 has no fragments")
    return more(head, len(head) + 8, size_bytes)


def check_fragments(body: bytes) -> None:
    """Refuses bytes that are not whole mp4 fragments; see `fragment_index.check_run`."""
    num_moofs = num_mdats = 0
    end = 0
    for box in _boxes(body, 0, len(body)):
        if box.end > len(body):
            raise IndexRefused("the bytes fetched end inside a box")
        end = box.end
        if box.kind == b"moof":
            num_moofs += 1
            _refuse_absolute_offsets(body, box)
        elif box.kind == b"mdat" and num_moofs:
            num_mdats += 1
        elif box.kind not in _BEFORE_A_FRAGMENT:
            raise IndexRefused(f"the index points at something that is no fragment: {box.kind!r}")
    if not num_moofs or not num_mdats or end != len(body):
        raise IndexRefused("the index points at something that is no fragment")


def _span_of_prelude(head: bytes, moof_start: int) -> int:
    """Bytes of the small boxes just before the first `moof`, which may count as part of its fragment."""
    start = moof_start
    for box in _boxes(head[:moof_start], 0, moof_start):
        start = moof_start if box.kind not in (b"styp", b"prft", b"emsg") else min(start, box.start)
    return moof_start - start


def _boxes(data: bytes, start: int, file_end: int) -> Iterator[_Box]:
    """The boxes at one level, as far as their headers are known; each ends behind its header."""
    for _ in range(_MAX_BOXES):
        if start + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            if content + 8 > len(data):
                return
            size = struct.unpack_from(">Q", data, content)[0]
            content += 8
        end = file_end if size == 0 else start + size
        if end < content or end > file_end:
            raise IndexRefused(f"a box {kind!r} of {size} bytes does not fit at byte {start}")
        yield _Box(kind, start, content, end)
        start = end
    raise IndexRefused(f"more than {_MAX_BOXES} boxes")


def _read_sidx(data: bytes, box: _Box) -> _Sidx:
    try:
        version = data[box.content]
        track_id, timescale = struct.unpack_from(">II", data, box.content + 4)
        at = box.content + 12
        earliest, first_offset = struct.unpack_from(">QQ" if version else ">II", data, at)
        at += 16 if version else 8
        count = struct.unpack_from(">H", data, at + 2)[0]
    except (struct.error, IndexError):
        raise IndexRefused("the index is cut off") from None
    at += 4
    if version > 1 or timescale == 0:
        raise IndexRefused(f"an index of version {version} with {timescale} ticks a second")
    if at + 12 * count > box.end:
        raise IndexRefused(f"an index of {count} fragments does not fit in its {box.end - box.start} bytes")
    entries = list(struct.iter_unpack(">III", data[at : at + 12 * count]))
    if any(kind_and_size >> 31 for kind_and_size, _, _ in entries):
        raise IndexRefused("an index of indices")
    is_marked = any(sap >> 31 for _, _, sap in entries)
    fragments = []
    byte, ticks = box.end + first_offset, earliest
    for size, duration, sap in entries:
        fragments.append(
            Fragment(
                byte,
                byte + size,
                seconds(ticks, timescale),
                seconds(ticks + duration, timescale),
                bool(sap >> 31) or not is_marked,
            )
        )
        byte, ticks = byte + size, ticks + duration
    return _Sidx(track_id, fragments)


def _chosen(indices: list[_Sidx], moov: bytes) -> _Sidx:
    """The index of the picture's track; where there is none the first."""
    handlers = _handlers(moov)
    return next((index for index in indices if handlers.get(index.track_id) == b"vide"), indices[0])


def _handlers(moov: bytes) -> dict[int, bytes]:
    """What kind of track (`vide`, `soun`) has which id."""
    found: dict[int, bytes] = {}
    for track in _inside(moov, b"trak"):
        ids = [struct.unpack_from(">I", box, 20 if box[:1] == b"\1" else 12)[0]
               for box in _inside(track, b"tkhd") if len(box) >= 24]  # fmt: skip
        kinds = [box[8:12] for media in _inside(track, b"mdia") for box in _inside(media, b"hdlr")]
        if ids and kinds:
            found[ids[0]] = kinds[0]
    return found


def _inside(data: bytes, kind: bytes) -> list[bytes]:
    """The contents of the boxes of a kind."""
    return [data[box.content : box.end] for box in _boxes(data, 0, len(data)) if box.kind == kind]


def _refuse_absolute_offsets(body: bytes, moof: _Box) -> None:
    for track in _inside(body[moof.content : moof.end], b"traf"):
        for header in _inside(track, b"tfhd"):
            if int.from_bytes(header[1:4], "big") & _BASE_DATA_OFFSET:
                raise IndexRefused("the fragments refer to places in the whole file")
