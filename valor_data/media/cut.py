"""Cuts a span out of a file without re-encoding: packets are copied and their times moved together.

The piece begins at the key picture before the span, with a margin of sound before the span, and one base
is subtracted from both streams, so picture and sound keep their distance to the microsecond (in Matroska,
which stores whole milliseconds, to half of one).
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
import av.error
from av.packet import Packet
from av.stream import Stream

from valor_data.errors import ClipError, ValorDataError
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, open_media
from valor_data.media.pictures import begins_with_key_picture
from valor_data.media.span import TIME_TOLERANCE_SECONDS, SpanPackets, packet_seconds, read_span
from valor_data.workdir import written_aside

_MP4_VIDEO = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})

_TAIL_SECONDS = 0.2
_MAX_MOVIE_TIMESCALE = 2**31 - 1
_MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "flv": "flv", "wmv": "asf"}
_EXACT = frozenset({"mp4", "mov"})
_KEPT_CONTAINERS = (("matroska", "mkv"), ("flv", "flv"), ("asf", "wmv"))
"""Formats that store whole milliseconds are cut into themselves, so that nothing is rounded twice."""


class CutImpossible(ValorDataError):  # noqa: N818 - a finding, not a fault
    """The span cannot be copied into a file of its own; the whole file must be kept. No clip is blamed."""


@dataclass(frozen=True, slots=True)
class MediaPiece:
    """A file that holds a span of a video.

    Attributes:
        path: the file.
        container: its extension: `mp4`, `mov`, `mkv`, `flv` or `wmv`.
        offset_seconds: second of the video at which the file's own second 0 (its container's start time)
            lies. Every later call on this file takes it.
        held_start: second of the video of the first packet in the file.
        held_end: second of the video at which the last packet ends.
        size_bytes: of the file.
    """

    path: Path
    container: str
    offset_seconds: float
    held_start: float
    held_end: float
    size_bytes: int


def cut(
    source_path: Path,
    start: float,
    end: float,
    destination_folder: Path,
    stem: str,
    *,
    offset_seconds: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
) -> MediaPiece:
    """Copies `[start, end)` of a video into a file of its own, without re-encoding.

    Pictures and sound in `[start, end)` decode to the same values from the piece as from the source: the
    piece begins at a key picture at or before the start, and its sound at least 0.2 s before it where
    there is any. It becomes an mp4 where mp4 takes both codecs, else a mov; Matroska, FLV and ASF files
    are cut into their own kind, and Matroska takes what nothing else does. The written file is
    read back, packet by packet, before it is believed.

    Args:
        source_path: the file to cut.
        start: first second wanted, video seconds.
        end: second after the last one wanted, video seconds.
        destination_folder: where the piece is put; made when it is not there.
        stem: the piece's name without its extension.
        offset_seconds: second of the video at which the source file's second 0 lies.
        limits: what may be read.

    Raises:
        CutImpossible: a codec or its timestamps cannot be copied, the file is damaged or encrypted, the
            span holds nothing, or what was written does not read back the same.
        ClipError: `missing`, `empty`, `not_media`, `undecodable` (the source cannot be opened).
    """
    with open_media(source_path, limits) as container:
        source = choose_streams(container)
        try:
            packets = read_span(source, start - offset_seconds, end - offset_seconds + _TAIL_SECONDS, limits)
        except ClipError as error:
            raise CutImpossible(str(error)) from error
        copied = _copyable(source, packets, limits)
        problems = []
        for extension in _extensions(source):
            final = destination_folder / f"{stem}.{extension}"
            try:
                with written_aside(final) as temporary:
                    _write(source, copied, temporary, extension)
                    shift = _read_back(temporary, source, copied, extension, limits)
            except (av.error.FFmpegError, ClipError, CutImpossible, ValueError, OSError) as error:
                problems.append(f"{extension}: {error}")
                continue
            first, last = _held(source, copied)
            return MediaPiece(
                path=final,
                container=extension,
                offset_seconds=offset_seconds + shift,
                held_start=offset_seconds + first,
                held_end=offset_seconds + last,
                size_bytes=final.stat().st_size,
            )
    raise CutImpossible(f"{source_path.name} cannot be cut: " + "; ".join(problems))


def _extensions(source: Source) -> Sequence[str]:
    video = source.video.codec_context.codec.canonical_name if source.video else None
    audio = source.audio.codec_context.codec.canonical_name if source.audio else None
    fits = (video is None or video in _MP4_VIDEO) and (audio is None or audio in _MP4_AUDIO)
    name = source.container.format.name
    own = next((extension for part, extension in _KEPT_CONTAINERS if part in name), None)
    if own is not None:
        return (own, "mkv") if own != "mkv" else ("mkv",)
    return ("mp4", "mkv") if fits else ("mov", "mkv")


def _copyable(source: Source, packets: SpanPackets, limits: Limits) -> list[Packet[Any]]:
    """The packets to copy, both streams, in decode order; refuses what has no usable times."""
    if packets.encrypted:
        raise CutImpossible("encrypted")
    if any(s is not None and s.codec_context is None for s in (source.video, source.audio)):
        raise CutImpossible("a codec is not known")
    first_key = next((i for i, p in enumerate(packets.video) if p.is_keyframe), len(packets.video))
    video = packets.video[first_key:]
    if not video and not packets.audio:
        raise CutImpossible("the span holds no packets")
    if video and not begins_with_key_picture(source, video, limits):
        raise CutImpossible("the picture marked as a key picture before the span is none, or does not decode")
    reorders = source.video is not None and bool(source.video.codec_context.has_b_frames)
    _complete_times(video, reorders)
    _complete_times(packets.audio, reorders=False)
    return sorted([*video, *packets.audio], key=_decode_seconds)


def _complete_times(packets: Sequence[Packet[Any]], reorders: bool) -> None:
    """Fills in times and lengths that some formats leave out; refuses packets that cannot be completed."""
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


def _decode_seconds(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * (packet.time_base or Fraction(0))


def _base(copied: Sequence[Packet[Any]]) -> Fraction:
    """What is subtracted from all times: not after the first packet, and whole in every stream's ticks."""
    earliest = min(min(_decode_seconds(p), (p.pts or 0) * (p.time_base or Fraction(0))) for p in copied)
    step = Fraction(1, math.gcd(*(p.time_base.denominator for p in copied if p.time_base)))
    return math.floor(earliest / step) * step


def _write(source: Source, copied: Sequence[Packet[Any]], path: Path, extension: str) -> None:
    options = {"fflags": "+bitexact"}
    if extension in _EXACT:
        ticks = math.lcm(*(p.time_base.denominator for p in copied if p.time_base))
        if ticks <= _MAX_MOVIE_TIMESCALE:
            options["movie_timescale"] = str(ticks)
    base = _base(copied)
    with av.open(f"file:{path.absolute()}", "w", format=_MUXERS[extension], container_options=options) as out:
        streams: dict[int, Stream] = {}
        for stream in (source.video, source.audio):
            if stream is not None and any(p.stream_index == stream.index for p in copied):
                streams[stream.index] = out.add_stream_from_template(stream, opaque=True)
        out.start_encoding()
        for packet in copied:
            moved = _moved(packet, base)
            moved.stream = streams[packet.stream_index]
            out.mux_one(moved)


def _moved(packet: Packet[Any], base: Fraction) -> Packet[Any]:
    """A copy of a packet with its times less the base, in whole ticks; the original stays as it was."""
    ticks, per_second = packet.time_base.numerator, packet.time_base.denominator
    shift = int(base * per_second)
    moved: Packet[Any] = Packet(bytes(packet))
    moved.time_base = Fraction(1, per_second)
    moved.pts = (packet.pts or 0) * ticks - shift
    moved.dts = (packet.dts or 0) * ticks - shift
    moved.duration = (packet.duration or 0) * ticks
    moved.is_keyframe = packet.is_keyframe
    for data in packet.iter_sidedata():
        moved.set_sidedata(data)
    return moved


def _read_back(path: Path, source: Source, copied: Sequence[Packet[Any]], extension: str, limits: Limits) -> float:
    """Compares the written file with what was copied; gives the shift from its times to the source's.

    Raises:
        CutImpossible: a packet is missing or no longer what it was, or a stream moved against the other.
    """
    tolerance = 5e-5 if extension in _EXACT else TIME_TOLERANCE_SECONDS
    shifts: list[float] = []
    with open_media(path, limits) as container:
        piece = choose_streams(container)
        written: dict[str, list[Packet[Any]]] = {"video": [], "audio": []}
        for packet in container.demux([s for s in (piece.video, piece.audio) if s is not None]):
            if packet.size:
                written[packet.stream.type].append(packet)
        for stream in (source.video, source.audio):
            if stream is None:
                continue
            originals = [p for p in copied if p.stream_index == stream.index]
            pairs = _same_packets(originals, written[stream.type], stream)
            shifts += [(packet_seconds(a, source) or 0.0) - (packet_seconds(b, piece) or 0.0) for a, b in pairs]
    spread = max(shifts, default=math.inf) - min(shifts, default=0.0)
    if spread > 2 * tolerance:
        raise CutImpossible(f"times moved against each other by {spread:.6f} s")
    return shifts[0]


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


def _held(source: Source, copied: Sequence[Packet[Any]]) -> tuple[float, float]:
    """Media seconds of the first packet and of the end of the last."""
    times = [(packet_seconds(p, source) or 0.0, float((p.duration or 0) * (p.time_base or 0))) for p in copied]
    return min(t for t, _ in times), max(t + length for t, length in times)
