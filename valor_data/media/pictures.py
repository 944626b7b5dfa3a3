"""Finds and decodes the pictures on screen at given moments, and as little else as is right.

A picture is on screen from its time until the next one's. Which picture that is, is read from the
packets; then only the packets it depends on are decoded: from the key picture before it, leaving out
pictures nobody refers to. Times are media seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame

from valor_data.errors import ClipError
from valor_data.media.open import Limits, Source
from valor_data.media.span import TIME_TOLERANCE_SECONDS, packet_seconds, ticks_to_seconds

_SKIPPABLE = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "vp8"})
"""Codecs whose decoder may leave out pictures that no other refers to (HEVC's layers may refer to them)."""

_LONGEST_LAST_PICTURE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and when it came on screen."""

    frame: VideoFrame
    seconds: float


@dataclass(slots=True)
class Decoded:
    """What came of decoding for some moments.

    Attributes:
        pictures: one for each moment, None where nothing decodes.
        num_errors: packets that failed and pictures marked as damaged.
        num_frames: pictures that came out of the decoder.
    """

    pictures: list[Picture | None]
    num_errors: int = 0
    num_frames: int = 0


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
    first_key = next((i for i, packet in enumerate(packets) if packet.is_keyframe), 0)
    kept = [p for p in packets[first_key:] if packet_seconds(p, source) is not None]
    times = [seconds for p in kept if (seconds := packet_seconds(p, source)) is not None]
    shown = [i for i, packet in enumerate(kept) if not packet.is_discard]
    if not shown:
        return None
    order = sorted(shown, key=lambda i: times[i])
    order_times = [times[i] for i in order]
    last_end = float("inf") if goes_on else order_times[-1] + _last_duration(source, kept[order[-1]], order_times)
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


def _last_duration(source: Source, packet: Packet[Any], times: Sequence[float]) -> float:
    """How long the last picture stays: what its packet says, within reason, else as long as the others."""
    gaps = [b - a for a, b in pairwise(times)]
    usual = median(gaps) if gaps else 0.0
    told = float((packet.duration or 0) * (packet.time_base or 0))
    if not usual and source.video is not None and source.video.average_rate:
        usual = float(1 / source.video.average_rate)
    return min(told or usual, max(_LONGEST_LAST_PICTURE_SECONDS, 2 * usual))


def decode_pictures(source: Source, timeline: Timeline, moments: Sequence[float], limits: Limits) -> Decoded:
    """Decodes the picture on screen at each moment.

    Where the planned picture does not come out (a damaged packet, a stream without true key pictures,
    packets without times) everything from the first packet on is decoded, and each moment gets the last
    whole picture before it, or else the first after.

    Args:
        source: the open file.
        timeline: its clip's packets.
        moments: media seconds, in any order.
        limits: pictures and pixels decoded.

    Raises:
        ClipError: `too_large`, before anything is decoded, when more pictures or pixels would have to be
            decoded than `limits` allow.
    """
    decoder = _Decoder(source, limits)
    if timeline.is_timed:
        targets = [timeline.at(moment) for moment in moments]
        found = decoder.run_planned(timeline, sorted(set(targets)))
        pictures = [found.get(timeline.packets[t].pts) for t in targets]
    else:
        pictures = [None] * len(moments)
    missing = [i for i, picture in enumerate(pictures) if picture is None]
    if missing:
        everything = decoder.run_whole(timeline, [moments[i] for i in missing])
        for i, picture in zip(missing, everything, strict=True):
            pictures[i] = picture
    return Decoded(pictures, decoder.num_errors, decoder.num_frames)


def decode_all(source: Source, timeline: Timeline, limits: Limits) -> Iterator[Picture]:
    """Decodes every packet of a timeline and gives every whole picture, in the order shown.

    Raises:
        ClipError: `too_large`, before anything is decoded.
    """
    return _Decoder(source, limits).all_pictures(timeline)


def check_cost(source: Source, timeline: Timeline, moments: Sequence[float], limits: Limits) -> None:
    """Refuses a clip whose pictures at these moments would cost more than `limits` allow; decodes nothing.

    Raises:
        ClipError: `too_large`.
    """
    targets = sorted({timeline.at(moment) for moment in moments})
    _Decoder(source, limits).admit(_runs(timeline, targets))


def _runs(timeline: Timeline, targets: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Groups positions of wanted pictures by the key picture to decode from."""
    runs: list[tuple[int, list[int]]] = []
    for target in targets:
        key = timeline.key_before(target)
        if runs and runs[-1][0] == key:
            runs[-1][1].append(target)
        else:
            runs.append((key, [target]))
    return runs


class _Decoder:
    """One clip's decoding: counts what it did and holds it to the limits."""

    def __init__(self, source: Source, limits: Limits) -> None:
        if source.video is None or source.video.codec_context is None:
            raise ClipError("undecodable", "no decoder for the picture")
        self.source, self.limits = source, limits
        self.context = source.video.codec_context
        self.can_skip = self.context.codec.name in _SKIPPABLE
        self.area = max(1, self.context.width * self.context.height)
        self.num_planned = self.num_errors = self.num_frames = 0

    def run_planned(self, timeline: Timeline, targets: Sequence[int]) -> dict[int | None, Picture]:
        """Decodes the pictures at some positions, each from its key picture; those that came, by pts."""
        runs = _runs(timeline, targets)
        self.admit(runs)
        found: dict[int | None, Picture] = {}
        for key, wanted in runs:
            pts = {timeline.packets[t].pts for t in wanted}
            self._restart()
            for position in range(key, wanted[-1] + 1):
                packet = timeline.packets[position]
                if self.can_skip:
                    self.context.skip_frame = "DEFAULT" if packet.pts in pts else "NONREF"
                self._take(self._decode(packet), pts, found)
            self._take(self._decode(None), pts, found)
        if self.can_skip:
            self.context.skip_frame = "DEFAULT"
        return found

    def run_whole(self, timeline: Timeline, moments: Sequence[float]) -> list[Picture | None]:
        """Decodes every packet; for each moment the last whole picture before it, else the first after."""
        best: list[Picture | None] = [None] * len(moments)
        for picture in self.all_pictures(timeline):
            best = [_nearer(moment, old, picture) for moment, old in zip(moments, best, strict=True)]
        return best

    def all_pictures(self, timeline: Timeline) -> Iterator[Picture]:
        """Decodes every packet, leaving nothing out; the whole pictures with a time, in the order shown."""
        self.admit([(0, [len(timeline.packets) - 1])])
        self._restart()
        for packet in [*timeline.packets, None]:
            for frame in self._decode(packet):
                if not frame.is_corrupt and frame.pts is not None:
                    yield Picture(frame, ticks_to_seconds(frame.pts, self.source.video, self.source))

    def admit(self, runs: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Adds the pictures of these runs to the plan, or refuses the clip (`too_large`)."""
        self.num_planned += sum(wanted[-1] - key + 1 for key, wanted in runs)
        pixels = self.num_planned * self.area
        if self.num_planned > self.limits.max_decoded_frames or pixels > self.limits.max_decoded_pixels:
            raise ClipError(
                "too_large",
                f"{self.num_planned} pictures of {self.context.width}x{self.context.height} px to decode; the "
                f"limits are {self.limits.max_decoded_frames} pictures and {self.limits.max_decoded_pixels} px",
            )

    def _restart(self) -> None:
        self.context.flush_buffers()

    def _decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = self.context.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError):
            self.num_errors += 1
            return []
        self.num_frames += len(frames)
        self.num_errors += sum(frame.is_corrupt for frame in frames)
        return frames

    def _take(self, frames: Sequence[VideoFrame], pts: set[int | None], found: dict[int | None, Picture]) -> None:
        for frame in frames:
            if frame.pts in pts and frame.pts is not None and not frame.is_corrupt:
                found.setdefault(frame.pts, Picture(frame, ticks_to_seconds(frame.pts, self.source.video, self.source)))


def _nearer(moment: float, old: Picture | None, new: Picture) -> Picture:
    """Of two pictures the one to show at a moment: the later of those before it, else the earlier."""
    if old is None:
        return new
    limit = moment + TIME_TOLERANCE_SECONDS
    if (old.seconds <= limit) != (new.seconds <= limit):
        return new if new.seconds <= limit else old
    return max(old, new, key=lambda p: p.seconds) if new.seconds <= limit else min(old, new, key=lambda p: p.seconds)
