"""Which picture of a clip is on screen when: read from the packets, before anything is decoded.

A picture is on screen from its time until the next one's. Times are media seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from av.packet import Packet

from valor_data.media.open import Source
from valor_data.media.span import TIME_TOLERANCE_SECONDS, packet_seconds

_LONGEST_LAST_PICTURE_SECONDS = 2.0


@dataclass(slots=True)
class Timeline:
    """Which picture is on screen when, as far as the packets tell.

    Attributes:
        packets: the picture packets of the clip in decode order, from a key picture on.
        times: when each is shown, media seconds; the packets' decode times where a file has no others.
        keys: positions of the key pictures in `packets`.
        is_timed: False when a packet has no presentation time: then only decoding tells.
        first: when the first picture comes on screen.
        last_end: when the last one leaves it.
    """

    packets: list[Packet[Any]]
    times: list[float]
    keys: list[int]
    is_timed: bool
    first: float
    last_end: float
    order: list[int] = field(default_factory=list)
    order_times: list[float] = field(default_factory=list)

    def at(self, moment: float) -> int:
        """Position in `packets` of the picture on screen at a moment; the first one before its time."""
        position = bisect_right(self.order_times, moment + TIME_TOLERANCE_SECONDS) - 1
        return self.order[max(0, position)]

    def key_before(self, position: int) -> int:
        """The key picture to decode from to see the picture at a position.

        A picture that follows its key picture in the file but is shown before it may refer to what lies
        before that key picture: then it is the key picture before.
        """
        index = bisect_right(self.keys, position) - 1
        if index > 0 and self.times[position] < self.times[self.keys[index]]:
            index -= 1
        return self.keys[max(0, index)]

    def num_clamped(self, moments: Iterable[float]) -> int:
        """How many moments lie before the first picture or after the last one has left the screen."""
        low, high = self.first - TIME_TOLERANCE_SECONDS, self.last_end + TIME_TOLERANCE_SECONDS
        return sum(not low <= moment <= high for moment in moments)

    def coverage(self, start: float, end: float) -> float:
        """Share of `[start, end)` from the first picture to the end of the last one, 0 to 1."""
        covered = min(end, self.last_end) - max(start, self.first)
        return min(1.0, max(0.0, covered / (end - start)))


def read_timeline(source: Source, packets: Sequence[Packet[Any]], goes_on: bool) -> Timeline | None:
    """Orders the packets of a clip by the time they are shown.

    Args:
        source: the open file.
        packets: picture packets in decode order, as `read_span` gives them.
        goes_on: the file has pictures after these: the last one stays until then.

    Returns:
        The timeline, or None when there is no picture (nothing before the first key picture counts).
    """
    kept, times = _timed(source, _from_key_picture(packets))
    shown = [i for i, packet in enumerate(kept) if not packet.is_discard]
    if not shown:
        return None
    order = sorted(shown, key=times.__getitem__)
    order_times = [times[i] for i in order]
    last_end = float("inf")
    if not goes_on:
        last_end = order_times[-1] + _last_duration(source, kept[order[-1]], order_times)
    return Timeline(
        packets=kept,
        times=times,
        keys=[i for i, packet in enumerate(kept) if packet.is_keyframe] or [0],
        is_timed=all(packet.pts is not None for packet in kept),
        first=order_times[0],
        last_end=last_end,
        order=order,
        order_times=order_times,
    )


def _from_key_picture(packets: Sequence[Packet[Any]]) -> Sequence[Packet[Any]]:
    """The packets from the first key picture on; all of them where none is marked as one."""
    return packets[next((i for i, packet in enumerate(packets) if packet.is_keyframe), 0) :]


def _timed(source: Source, packets: Sequence[Packet[Any]]) -> tuple[list[Packet[Any]], list[float]]:
    """The packets that have a time of any kind, and these times in media seconds."""
    pairs = [(p, seconds) for p in packets if (seconds := packet_seconds(p, source)) is not None]
    return [p for p, _ in pairs], [seconds for _, seconds in pairs]


def _last_duration(source: Source, packet: Packet[Any], times: Sequence[float]) -> float:
    """How long the last picture stays: what its packet says, within reason, else as long as the others."""
    gaps = [b - a for a, b in pairwise(times)]
    usual = median(gaps) if gaps else 0.0
    told = float((packet.duration or 0) * (packet.time_base or 0))
    if not usual and source.video is not None and source.video.average_rate:
        usual = float(1 / source.video.average_rate)
    return min(told or usual, max(_LONGEST_LAST_PICTURE_SECONDS, 2 * usual))
