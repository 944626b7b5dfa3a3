"""Writes packets of one or two files into a new file without re-encoding, and reads back what was written.

One base is subtracted from all times, so picture and sound keep their distance to the microsecond (in
Matroska, which stores whole milliseconds, to half of one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
from av.packet import Packet
from av.stream import Stream

from valor_data.errors import ValorDataError
from valor_data.media.open import Limits, choose_streams, demux, open_media
from valor_data.media.span import TIME_TOLERANCE_SECONDS, packet_seconds

_MP4_VIDEO = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})

_MAX_MOVIE_TIMESCALE = 2**31 - 1
_MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "flv": "flv", "wmv": "asf"}
_EXACT = frozenset({"mp4", "mov"})
_KEPT_CONTAINERS = (("matroska", "mkv"), ("flv", "flv"), ("asf", "wmv"))
"""Formats that store whole milliseconds are cut into themselves, so that nothing is rounded twice."""


class CutImpossible(ValorDataError):  # noqa: N818 - a finding, not a fault
    """The span cannot be copied into a file of its own; the whole file must be kept. No clip is blamed."""


@dataclass(frozen=True, slots=True)
class Track:
    """Packets to copy, in decode order, and their stream.

    Attributes:
        stream: where they come from; its file is open.
        packets: complete: with both times (`complete_times`).
        zero_seconds: subtracted from every time, so that the tracks of two files share a clock; a whole
            number of the stream's ticks.
    """

    stream: Stream
    packets: Sequence[Packet[Any]]
    zero_seconds: Fraction = Fraction(0)

    @property
    def tick(self) -> Fraction:
        """Seconds of one unit of the packets' times; all packets of a stream have the same."""
        return (self.packets[0].time_base if self.packets else None) or Fraction(0)

    def seconds(self, ticks: int) -> Fraction:
        """A packet's time in seconds of the shared clock."""
        return ticks * self.tick - self.zero_seconds

    @property
    def whole_numbers(self) -> tuple[int, int, int]:
        """Three whole numbers: a time is (ticks * first - second) / third seconds. A Fraction a packet is slow."""
        tick, zero = self.tick, self.zero_seconds
        return tick.numerator * zero.denominator, zero.numerator * tick.denominator, tick.denominator * zero.denominator

    @property
    def held(self) -> tuple[float, float]:
        """Seconds of the shared clock at which the first packet begins and the last one ends."""
        return (
            float(self.seconds(min(p.pts or 0 for p in self.packets))),
            float(self.seconds(max((p.pts or 0) + (p.duration or 0) for p in self.packets))),
        )


def extensions(container_name: str, video: Stream | None, audio: Stream | None) -> Sequence[str]:
    """The kinds of file to try for two streams, best first; FFmpeg's name of their container decides too."""
    video_codec = video.codec_context.codec.canonical_name if video else None
    audio_codec = audio.codec_context.codec.canonical_name if audio else None
    fits = (video is None or video_codec in _MP4_VIDEO) and (audio is None or audio_codec in _MP4_AUDIO)
    own = next((extension for part, extension in _KEPT_CONTAINERS if part in container_name), None)
    if own is not None:
        return (own, "mkv") if own != "mkv" else ("mkv",)
    return ("mp4", "mkv") if fits else ("mov", "mkv")


def complete_times(packets: Sequence[Packet[Any]], reorders: bool) -> None:
    """Fills in times and lengths that some formats leave out, in place.

    Raises:
        CutImpossible: packets that cannot be completed.
    """
    for packet in packets:
        if packet.pts is None and not reorders:
            packet.pts = packet.dts
    shown = [packet.pts for packet in packets if packet.pts is not None]
    if len(shown) < len(packets):
        raise CutImpossible("packets without times")
    if any(packet.dts is None for packet in packets):
        ordered = sorted(shown)
        delay = max(early - pts for early, pts in zip(ordered, shown, strict=True))
        for packet, early in zip(packets, ordered, strict=True):
            packet.dts = early - delay
    steps = [b - a for a, b in pairwise(sorted(shown)) if b > a]
    for packet in packets:
        if not packet.duration and steps:  # an mp4 would end before a last picture without a length
            packet.duration = int(median(steps))


def write(tracks: Sequence[Track], path: Path, extension: str) -> None:
    """Writes tracks into a new file, their packets in the order in which they are decoded.

    Args:
        tracks: at least one packet in all; a track without packets is left out.
        path: the file.
        extension: its kind, one of `extensions`.

    Raises:
        av.error.FFmpegError: the kind of file does not take them.
    """
    tracks = [track for track in tracks if track.packets]
    options = {"fflags": "+bitexact"}
    if extension in _EXACT:
        ticks = math.lcm(*(track.tick.denominator for track in tracks))
        if ticks <= _MAX_MOVIE_TIMESCALE:
            options["movie_timescale"] = str(ticks)
    base = _base(tracks)
    with av.open(f"file:{path.absolute()}", "w", format=_MUXERS[extension], container_options=options) as out:
        streams = [out.add_stream_from_template(track.stream, opaque=True) for track in tracks]
        out.start_encoding()
        shifts = [int((base + track.zero_seconds) * track.tick.denominator) for track in tracks]
        bases = [Fraction(1, track.tick.denominator) for track in tracks]
        for number, packet in _in_order(tracks):
            moved = _moved(packet, tracks[number].tick.numerator, shifts[number], bases[number])
            moved.stream = streams[number]
            out.mux_one(moved)


def read_back(path: Path, tracks: Sequence[Track], extension: str, limits: Limits) -> float:
    """Compares a written file with what was copied.

    Returns:
        Second of the tracks' clock at which the file's own second 0 lies.

    Raises:
        CutImpossible: a packet is missing or no longer what it was, or a stream moved against the other.
    """
    tolerance = 5e-5 if extension in _EXACT else TIME_TOLERANCE_SECONDS
    shifts: list[float] = []
    with open_media(path, limits) as container:
        piece = choose_streams(container)
        written: dict[str, list[Packet[Any]]] = {"video": [], "audio": []}
        for packet in demux(container, [s for s in (piece.video, piece.audio) if s is not None]):
            if packet.size:
                written[packet.stream.type].append(packet)
        for track in tracks:
            pairs = _same_packets(track.packets, written[track.stream.type], track.stream)
            scale, zero, divisor = track.whole_numbers
            shifts += [((a.pts or 0) * scale - zero) / divisor - (packet_seconds(b, piece) or 0.0) for a, b in pairs]
    spread = max(shifts, default=math.inf) - min(shifts, default=0.0)
    if spread > 2 * tolerance:
        raise CutImpossible(f"times moved against each other by {spread:.6f} s")
    return shifts[0]


def _in_order(tracks: Sequence[Track]) -> list[tuple[int, Packet[Any]]]:
    """(number of its track, packet), in the order in which they are decoded."""
    common = math.lcm(*(track.whole_numbers[2] for track in tracks))
    order = []
    for number, track in enumerate(tracks):
        scale, zero, divisor = track.whole_numbers
        scale, zero = scale * (common // divisor), zero * (common // divisor)
        order += [((p.dts or 0) * scale - zero, number, p) for p in track.packets]
    order.sort(key=lambda item: item[0])
    return [(number, packet) for _, number, packet in order]


def _base(tracks: Sequence[Track]) -> Fraction:
    """What is subtracted from all times: not after the first packet, and whole in every stream's ticks."""
    earliest = min(track.seconds(min(min(p.dts or 0, p.pts or 0) for p in track.packets)) for track in tracks)
    step = Fraction(1, math.gcd(*(track.tick.denominator for track in tracks if track.tick)))
    return math.floor(earliest / step) * step


def _moved(packet: Packet[Any], ticks: int, shift: int, time_base: Fraction) -> Packet[Any]:
    """A copy of a packet with its times less a shift, in whole ticks; the original stays as it was."""
    moved: Packet[Any] = Packet(bytes(packet))
    moved.time_base = time_base
    moved.pts = (packet.pts or 0) * ticks - shift
    moved.dts = (packet.dts or 0) * ticks - shift
    moved.duration = (packet.duration or 0) * ticks
    moved.is_keyframe = packet.is_keyframe
    for data in packet.iter_sidedata():
        moved.set_sidedata(data)
    return moved


def _same_packets(
    originals: Sequence[Packet[Any]], copies: Sequence[Packet[Any]], stream: Stream
) -> list[tuple[Packet[Any], Packet[Any]]]:
    """Pairs of packets that must lie at the same time; raw sound is regrouped, so only its first one must."""
    if stream.codec_context.codec.name.startswith("pcm_") and originals and copies:
        if sum(p.size for p in originals) != sum(p.size for p in copies):
            raise CutImpossible("raw sound changed its length")
        return [(originals[0], copies[0])]
    if len(copies) != len(originals):
        raise CutImpossible(f"{len(originals)} {stream.type} packets became {len(copies)}")
    pairs = list(zip(originals, copies, strict=True))
    lost = bool(pairs) and pairs[0][0].is_keyframe and not pairs[0][1].is_keyframe
    if lost or any(b.is_keyframe > a.is_keyframe or b.is_discard > a.is_discard for a, b in pairs):
        raise CutImpossible(f"{stream.type} packets lost their marks")
    return pairs
