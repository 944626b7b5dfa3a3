"""The Cues (RFC 9559 §5.1.5) of a WebM or Matroska file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from valor_data.media.fragments import (
    MAX_HEAD_BYTES,
    Fragment,
    FragmentIndex,
    IndexRefused,
    MoreBytes,
    check_fragments_fit,
    more,
    seconds,
)

_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_INFO, _TIMESTAMP_SCALE, _TRACKS, _CLUSTER = 0x1549A966, 0x2AD7B1, 0x1654AE6B, 0x1F43B675
_CUES, _CUE_POINT, _CUE_TIME, _CUE_POSITIONS, _CUE_TRACK, _CUE_CLUSTER = 0x1C53BB6B, 0xBB, 0xB3, 0xB7, 0xF7, 0xF1
_TRACK, _TRACK_NUMBER, _TRACK_TYPE, _VIDEO = 0xAE, 0xD7, 0x83, 1
_VOID = 0xEC

_DEFAULT_TIMESTAMP_SCALE_NS = 1_000_000
_FIRST_CLUSTER_BYTES = 4096
"""What must be known of the first cluster, so that its first block's time is: of 4 KiB that is certain."""
_MAX_ELEMENTS = 200_000
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7


@dataclass(frozen=True, slots=True)
class _Element:
    """An element: its id, where it begins, where its content begins, where it ends; None when it is open."""

    ident: int
    start: int
    content: int
    end: int | None


@dataclass(slots=True)
class _Layout:
    """What stands before the first cluster."""

    ebml: bytes
    segment: int  # where the Segment's content begins, from which the index counts
    end: int
    info: bytes = b""
    tracks: bytes = b""
    cues: bytes | None = None
    cues_at: int | None = None
    first_cluster: int | None = None
    unread: int = 0  # where the first element lies that is not wholly known


def read_webm_index(head: bytes, size_bytes: int, tail: tuple[int, bytes] | None) -> FragmentIndex | MoreBytes:
    """Reads the Cues of a WebM, in front of its clusters or behind them; see `fragment_index.read_index`."""
    layout = _read_layout(head, size_bytes)
    if layout.first_cluster is None:
        return more(head, max(layout.unread, len(head) + 12), size_bytes)
    if not layout.tracks or not layout.info:
        raise IndexRefused("no tracks before the first cluster")
    known = min(size_bytes, layout.first_cluster + _FIRST_CLUSTER_BYTES)
    if len(head) < known:
        return more(head, known, size_bytes)
    if layout.cues is None:
        found = _cues_behind(layout, size_bytes, tail)
        if isinstance(found, MoreBytes):
            return found
        layout.cues = found
    fragments = check_fragments_fit(_fragments(layout, size_bytes), size_bytes)
    kept = layout.ebml + _SEGMENT.to_bytes(4, "big") + _UNKNOWN_SIZE + layout.info + layout.tracks
    return FragmentIndex("webm", kept, fragments)


def check_clusters(body: bytes) -> None:
    """Refuses bytes that are not whole clusters; see `fragment_index.check_run`."""
    end = num_clusters = 0
    for element in _elements(body, 0, len(body)):
        if element.end is None or element.end > len(body):
            raise IndexRefused("the bytes fetched end inside a cluster, or its size is not known")
        if element.ident != _CLUSTER and not (num_clusters and element.ident == _VOID):
            raise IndexRefused(f"the index points at something that is no cluster: {element.ident:x}")
        num_clusters += element.ident == _CLUSTER
        end = element.end
    if not num_clusters or end != len(body):
        raise IndexRefused("the index points at something that is no cluster")


def _read_layout(head: bytes, size_bytes: int) -> _Layout:
    top = list(_elements(head, 0, size_bytes, num_at_most=2))
    if len(top) < 2 or top[0].end is None or top[1].ident != _SEGMENT:
        raise IndexRefused("no Segment behind the EBML header")
    segment = top[1]
    layout = _Layout(head[: top[0].end], segment.content, min(size_bytes, segment.end or size_bytes))
    for element in _elements(head, segment.content, layout.end):
        layout.unread = element.content
        if element.ident == _CLUSTER:
            layout.first_cluster = element.start
            return layout
        if element.end is None:
            raise IndexRefused(f"an element of unknown size: {element.ident:x}")
        layout.unread = element.end
        if element.end > len(head):
            return layout
        content = head[element.content : element.end]
        if element.ident == _SEEK_HEAD:
            layout.cues_at = _cues_position(content, layout)
        elif element.ident == _INFO:
            layout.info = head[element.start : element.end]
        elif element.ident == _TRACKS:
            layout.tracks = head[element.start : element.end]
        elif element.ident == _CUES:
            layout.cues, layout.cues_at = content, element.start
    return layout


def _cues_position(seek_head: bytes, layout: _Layout) -> int | None:
    for element in _elements(seek_head, 0, len(seek_head)):
        if element.ident == _SEEK:
            values = _values(seek_head, element)
            if values.get(_SEEK_ID) == _CUES and _SEEK_POSITION in values:
                return layout.segment + values[_SEEK_POSITION]
    return layout.cues_at


def _cues_behind(layout: _Layout, size_bytes: int, tail: tuple[int, bytes] | None) -> bytes | MoreBytes:
    """The content of Cues that stand behind the clusters."""
    at = layout.cues_at
    if at is None or layout.first_cluster is None:
        raise IndexRefused("no Cues")
    if not layout.first_cluster < at < size_bytes - 2:
        raise IndexRefused(f"the Cues are said to be at byte {at} of {size_bytes}")
    wanted = MoreBytes(at, min(size_bytes, at + MAX_HEAD_BYTES))
    if tail is None:
        return wanted
    start, data = tail
    if start != at:
        raise IndexRefused("the Cues are not where they were")
    element = next(_elements(data, 0, size_bytes - at), None)
    if element is None or element.ident != _CUES or element.end is None or element.end > len(data):
        raise IndexRefused(f"no Cues at byte {at}, where they are said to be")
    return data[element.content : element.end]


def _fragments(layout: _Layout, size_bytes: int) -> list[Fragment]:
    per_second = Fraction(1_000_000_000, _timestamp_scale_ns(layout.info))
    first_times: dict[int, int] = {}
    tracks = _tracks_that_count(layout.tracks)
    for track, time, cluster in _cue_points(layout.cues or b""):
        if track in tracks:
            position = layout.segment + cluster
            first_times[position] = min(time, first_times.get(position, time))
    behind = layout.cues_at is not None and layout.first_cluster is not None and layout.cues_at > layout.first_cluster
    stop = min(layout.end, layout.cues_at or layout.end) if behind else layout.end
    order = sorted(first_times)
    if not order or order[0] != layout.first_cluster:
        raise IndexRefused("the Cues do not begin with the first cluster")
    if order[-1] >= stop:
        raise IndexRefused(f"the Cues name a cluster at byte {order[-1]}, the clusters end at {stop}")
    found = [
        Fragment(a, b, seconds(first_times[a], per_second), seconds(first_times[b], per_second))
        for a, b in pairwise(order)
    ]
    last = order[-1]
    return [*found, Fragment(last, stop, seconds(first_times[last], per_second), float("inf"))]


def _timestamp_scale_ns(info: bytes) -> int:
    outer = next(_elements(info, 0, len(info)))
    scale = _values(info, outer).get(_TIMESTAMP_SCALE, _DEFAULT_TIMESTAMP_SCALE_NS)
    if not scale:
        raise IndexRefused("a tick of no length")
    return scale


def _tracks_that_count(tracks: bytes) -> set[int]:
    """The number of the picture's track; of every track where there is no picture."""
    outer = next(_elements(tracks, 0, len(tracks)))
    entries = [
        _values(tracks, element)
        for element in _elements(tracks, outer.content, outer.end or len(tracks))
        if element.ident == _TRACK
    ]
    videos = {entry.get(_TRACK_NUMBER, 0) for entry in entries if entry.get(_TRACK_TYPE) == _VIDEO}
    return videos or {entry.get(_TRACK_NUMBER, 0) for entry in entries}


def _cue_points(cues: bytes) -> Iterator[tuple[int, int, int]]:
    """Track, time in ticks, and cluster relative to the Segment's content, of every cue."""
    for point in _elements(cues, 0, len(cues)):
        if point.ident != _CUE_POINT:
            continue
        time = _values(cues, point).get(_CUE_TIME)
        for element in _elements(cues, point.content, point.end or len(cues)):
            if element.ident == _CUE_POSITIONS:
                values = _values(cues, element)
                if time is None or _CUE_CLUSTER not in values:
                    raise IndexRefused("a cue without a time or a place")
                yield values.get(_CUE_TRACK, 1), time, values[_CUE_CLUSTER]


def _values(data: bytes, parent: _Element) -> dict[int, int]:
    """The whole numbers inside an element, by id; the first of each. What is longer than a number is left out."""
    found: dict[int, int] = {}
    end = len(data) if parent.end is None else min(parent.end, len(data))
    for element in _elements(data, parent.content, end):
        if element.end is not None and 0 < element.end - element.content <= 8:
            found.setdefault(element.ident, int.from_bytes(data[element.content : element.end], "big"))
    return found


def _elements(data: bytes, start: int, limit: int, num_at_most: int = _MAX_ELEMENTS) -> Iterator[_Element]:
    """The elements at one level, as far as their headers are known; each ends behind its header.

    Raises:
        IndexRefused: an id or a size that is none, or an element that reaches beyond `limit`.
    """
    for _ in range(num_at_most):
        ident = _number(data, start, keep_marker=True)
        if ident is None or start >= limit:
            return
        size = _number(data, start + ident[1], keep_marker=False)
        if size is None:
            return
        content = start + ident[1] + size[1]
        is_open = size[0] == (1 << 7 * size[1]) - 1
        end = None if is_open else content + size[0]
        if ident[1] > 4 or (end is not None and end > limit):
            raise IndexRefused(f"an element {ident[0]:x} of {size[0]} bytes does not fit at byte {start}")
        yield _Element(ident[0], start, content, end)
        start = content if end is None else end  # an open Segment goes on inside
    if num_at_most == _MAX_ELEMENTS:
        raise IndexRefused(f"more than {_MAX_ELEMENTS} elements")


def _number(data: bytes, at: int, keep_marker: bool) -> tuple[int, int] | None:
    """A variable-length number and its length in bytes; None where the data end."""
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > 8:
        raise IndexRefused(f"no number at byte {at}")
    if at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value & ((1 << 7 * length) - 1)), length
