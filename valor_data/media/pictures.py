"""Finds and decodes the pictures on screen at given moments, and as little else as is right.

A picture is on screen from its time until the next one's. Which picture that is, is read from the
packets; then only the packets it depends on are decoded: from the key picture before it, leaving out
pictures nobody refers to. Times are media seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame

from valor_data.errors import ClipError
from valor_data.guard import memory_left_bytes
from valor_data.media.open import Limits, Source
from valor_data.media.span import TIME_TOLERANCE_SECONDS, SpanPackets, read_span
from valor_data.media.timeline import Timeline, read_timeline

_SKIPPABLE = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "vp8"})
"""Codecs whose decoder may leave out pictures that no other refers to (HEVC's layers may refer to them)."""

_ENTRY_PICTURES = frozenset({0, 1, 5, 7})
"""FFmpeg's numbers of picture types that need no other picture: unknown, I, SI, BI."""

_PIXEL_BYTES = 6
"""A decoded pixel takes at most so much (4:4:4 of 16 bits)."""


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


def decode_pictures(
    source: Source, timeline: Timeline, span: tuple[float, float], moments: Sequence[float], limits: Limits
) -> Decoded:
    """Decodes the picture on screen at each moment.

    Where the planned picture does not come out (a damaged packet, packets without times) everything from
    the first packet on is decoded, and each moment gets the last whole picture before it, or else the
    first after. Where a picture marked as a key picture turns out not to be one, the file is read and
    decoded from its start.

    Args:
        source: the open file.
        timeline: its clip's packets.
        span: the clip's start and end, media seconds.
        moments: media seconds, in any order.
        limits: pictures and pixels decoded.

    Raises:
        ClipError: `too_large`, before anything is decoded, when more pictures or pixels would have to be
            decoded than `limits` allow.
    """
    decoder = _Decoder(source, limits)
    pictures: list[Picture | None] = [None] * len(moments)
    if timeline.is_timed:
        targets = [timeline.at(moment) for moment in moments]
        found = decoder.run_planned(timeline, sorted(set(targets)))
        pictures = [found.get(timeline.packets[t].pts) for t in targets]
    if decoder.keys_lie:
        timeline = _read_from_start(source, span, limits) or timeline
        pictures = decoder.run_whole(timeline, moments)
    missing = [i for i, picture in enumerate(pictures) if picture is None]
    if missing and not decoder.keys_lie:
        everything = decoder.run_whole(timeline, [moments[i] for i in missing])
        for i, picture in zip(missing, everything, strict=True):
            pictures[i] = picture
    return Decoded(pictures, decoder.num_errors, decoder.num_frames)


def decode_planned(
    source: Source, timeline: Timeline, targets: Sequence[int], limits: Limits
) -> dict[int, Picture] | None:
    """Decodes the pictures at some positions of a timeline, or says that all is not well.

    Args:
        source: the open file.
        timeline: its clip's packets; they have presentation times, each another.
        targets: positions in `timeline.packets`, ascending.
        limits: pictures and pixels decoded.

    Returns:
        The picture at each position; None where anything at all failed on the way to them.

    Raises:
        ClipError: `too_large`, before anything is decoded.
    """
    decoder = _Decoder(source, limits)
    found = decoder.run_planned(timeline, targets)
    pictures = {t: found[timeline.packets[t].pts] for t in targets if timeline.packets[t].pts in found}
    if decoder.keys_lie or decoder.num_errors or len(pictures) < len(targets):
        return None
    return pictures


def decode_all(source: Source, packets: SpanPackets, span: tuple[float, float], limits: Limits) -> Iterator[Picture]:
    """Decodes every packet of a clip and gives every whole picture, in the order shown.

    Raises:
        ClipError: `too_large`, before anything is decoded.
    """
    timeline = read_timeline(source, packets.video, packets.video_after)
    if timeline is None:
        return iter(())
    decoder = _Decoder(source, limits)
    pictures = decoder.all_pictures(timeline)
    first = next(pictures, None)
    if decoder.keys_lie:
        timeline = _read_from_start(source, span, limits) or timeline
        return _Decoder(source, limits).all_pictures(timeline)
    return iter(()) if first is None else chain([first], pictures)


def begins_with_key_picture(source: Source, packets: Sequence[Packet[Any]], limits: Limits) -> bool:
    """Whether the first picture packet, which is marked as a key picture, decodes as one; decodes only it."""
    decoder = _Decoder(source, limits)
    decoder.look(packets[0])
    return not decoder.keys_lie and decoder.num_frames > 0


def _read_from_start(source: Source, span: tuple[float, float], limits: Limits) -> Timeline | None:
    packets = read_span(replace(source, audio=None), *span, limits, trust_keys=False)
    return read_timeline(source, packets.video, packets.video_after)


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
        self.context, self.index = source.video.codec_context, source.video.index
        self.can_skip = self.context.codec.name in _SKIPPABLE
        self.area = max(1, self.context.width * self.context.height)
        self.num_planned = self.num_errors = self.num_frames = 0
        self.keys_lie = False  # a picture marked as a key picture was none
        self._at_entry = False
        self._skipped: str = ""

    def run_planned(self, timeline: Timeline, targets: Sequence[int]) -> dict[int | None, Picture]:
        """Decodes the pictures at some positions, each from its key picture; those that came, by pts."""
        runs = _runs(timeline, targets)
        self.admit(runs)
        found: dict[int | None, Picture] = {}
        for key, wanted in runs:
            if self.keys_lie:
                break
            pts = {timeline.packets[t].pts for t in wanted}
            self._restart()
            for packet in timeline.packets[key : wanted[-1] + 1]:
                self._skip("DEFAULT" if packet.pts in pts else "NONREF")
                if frames := self._decode(packet):
                    self._take(frames, pts, found)
            self._take(self._decode(None), pts, found)
        self._skip("DEFAULT")
        return found

    def _skip(self, what: Literal["DEFAULT", "NONREF"]) -> None:
        """Tells the decoder which pictures to leave out; it is told only when that changes."""
        if self.can_skip and what != self._skipped:
            self.context.skip_frame = what
            self._skipped = what

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
                    yield Picture(frame, self.source.seconds(frame.pts, self.index))

    def look(self, packet: Packet[Any]) -> None:
        """Decodes one packet on its own, for what the decoder then knows of it."""
        self._restart()
        for given in (packet, None):
            self._decode(given)
        self._restart()

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
        self._at_entry = True

    def _decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = self.context.decode(packet)
        except av.error.EOFError:
            return []
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            if memory_left_bytes() < _PIXEL_BYTES * self.context.width * self.context.height:
                raise MemoryError("no room for a picture") from error  # decoders call that damage
            self.num_errors += 1
            return []
        for frame in frames:
            if self._at_entry:
                self.keys_lie = not (frame.key_frame or frame.pict_type in _ENTRY_PICTURES)
                self._at_entry = False
            self.num_frames += 1
            self.num_errors += frame.is_corrupt
        return frames

    def _take(self, frames: Sequence[VideoFrame], pts: set[int | None], found: dict[int | None, Picture]) -> None:
        for frame in frames:
            if frame.pts in pts and frame.pts is not None and not frame.is_corrupt:
                found.setdefault(frame.pts, Picture(frame, self.source.seconds(frame.pts, self.index)))


def _nearer(moment: float, old: Picture | None, new: Picture) -> Picture:
    """Of two pictures the one to show at a moment: the later of those before it, else the earlier."""
    if old is None:
        return new
    limit = moment + TIME_TOLERANCE_SECONDS
    if (old.seconds <= limit) != (new.seconds <= limit):
        return new if new.seconds <= limit else old
    return max(old, new, key=lambda p: p.seconds) if new.seconds <= limit else min(old, new, key=lambda p: p.seconds)
