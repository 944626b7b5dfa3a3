"""Reads the compressed packets that one clip needs, in one pass over the file, without decoding any.

Times in this file are media seconds: seconds from second 0 of the opened file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import av.error
from av.packet import Packet

from valor_data.errors import ClipError
from valor_data.media.open import Limits, Source, demux

TIME_TOLERANCE_SECONDS = 0.0006
"""Two times this near are the same moment: Matroska, FLV and ASF round to whole milliseconds.

Not a whole number of milliseconds itself, so that no time of such a file lies just on its edge.
"""

SOUND_PREROLL_SECONDS = 0.3
"""Sound packets kept from before a clip, so that a decoder has settled when the clip begins.

Opus asks for 80 ms, AAC for one frame, MP3's bit reservoir for up to ten frames of 26 ms.
"""

_SEEK_MARGINS_SECONDS = (0.5, 10.0)
_SLACK_SECONDS = 10.0


@dataclass(slots=True)
class SpanPackets:
    """The packets of a clip, in the order of the file (decode order within a stream).

    Attributes:
        video: from the last key picture at or before the clip's start (or from the first key picture of
            the file) to the clip's end, a picture's reordering included.
        audio: from `SOUND_PREROLL_SECONDS` before the clip to its end.
        video_after: True when the file has pictures after the clip's end too.
        num_errors: times the file could not be read on.
        encrypted: a packet says that it is encrypted.
    """

    video: list[Packet[Any]] = field(default_factory=list)
    audio: list[Packet[Any]] = field(default_factory=list)
    video_after: bool = False
    num_errors: int = 0
    encrypted: bool = False


def packet_seconds(packet: Packet[Any], source: Source) -> float | None:
    """When a packet is shown or heard, in media seconds; its decode time where it has no other; or None."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else source.seconds(ticks, packet.stream_index)


def read_span(source: Source, start: float, end: float, limits: Limits, *, trust_keys: bool = True) -> SpanPackets:
    """Reads the packets that `[start, end)` needs.

    Seeks to half a second before the start (a key picture before it, and sound to settle the decoder),
    and looks whether what arrives reaches back far enough; if not it tries ten seconds before, then the
    start of the file. MPEG-TS and FLV are always read from their start.

    Args:
        source: the open file; a stream that is None there is not read.
        start: first second, media seconds.
        end: second after the last, media seconds.
        limits: packets and bytes.
        trust_keys: False reads from the start of the file and keeps every picture packet on the way, for
            files whose marks of key pictures are wrong.

    Raises:
        ClipError: `too_large` when the clip's packets pass `limits`.
    """
    fresh = trust_keys
    margins = () if source.needs_reading_from_start or not trust_keys else _SEEK_MARGINS_SECONDS
    for margin in margins:
        if start - margin <= 0:
            break
        if not _seek(source, start - margin):
            fresh = False
            continue
        packets = _collect(source, start, end, limits)
        if _reaches_back(packets, source, start):
            return packets
        fresh = False
    if not fresh:
        _rewind(source)
    return _collect(source, start, end, limits, trust_keys=trust_keys)


def _seek(source: Source, seconds: float) -> bool:
    """Goes to a key picture at or before a moment, by the file's main stream: not all can be sought by sound."""
    try:
        source.container.seek(math.floor((seconds + source.zero) * 1e6))
    except av.error.FFmpegError:
        return False
    return True


def _rewind(source: Source) -> None:
    """Goes back to the start of the file: by bytes where a seek by time lands late."""
    if not source.needs_reading_from_start:
        _seek(source, 0.0)
        return
    with suppress(av.error.FFmpegError):
        source.container.seek(0, unsupported_byte_offset=True)


def _reaches_back(packets: SpanPackets, source: Source, start: float) -> bool:
    if source.video is not None:
        first = packet_seconds(packets.video[0], source) if packets.video else None
        if first is None or not packets.video[0].is_keyframe or first > start + TIME_TOLERANCE_SECONDS:
            return False
    if source.audio is not None:
        first = packet_seconds(packets.audio[0], source) if packets.audio else None
        return first is not None and first < start - SOUND_PREROLL_SECONDS / 3
    return True


def _collect(source: Source, start: float, end: float, limits: Limits, *, trust_keys: bool = True) -> SpanPackets:
    """Demuxes from where the file stands until both streams have passed the end."""
    found = SpanPackets()
    open_ended = {s.index for s in (source.video, source.audio) if s is not None}
    num_bytes = 0
    video_index = source.video.index if source.video is not None else -1
    keep_from, passed = start if trust_keys else -math.inf, end + TIME_TOLERANCE_SECONDS
    for num_packets, packet in enumerate(_demux(source, found), start=1):
        if num_packets > limits.max_packets:
            raise ClipError("too_large", f"more than {limits.max_packets} packets to reach the clip's end")
        index = packet.stream_index
        shown_seconds, decode_seconds = _packet_times(packet, source, index)
        if index == video_index:
            num_bytes += _keep_picture(found, packet, shown_seconds, keep_from)
        elif _is_heard(packet, shown_seconds, start, end):
            found.audio.append(packet)
            num_bytes += packet.size
        if num_bytes > limits.max_packet_bytes:
            raise ClipError("too_large", f"more than {limits.max_packet_bytes} compressed bytes in the clip")
        if decode_seconds is not None and decode_seconds >= passed:
            open_ended.discard(index)
            found.video_after = found.video_after or index == video_index
            if not open_ended or decode_seconds >= end + _SLACK_SECONDS:
                break
    found.encrypted = any(packet.has_sidedata("encryption_info") for packet in _telling(found))
    return found


def _packet_times(packet: Packet[Any], source: Source, index: int) -> tuple[float | None, float | None]:
    """When a packet is shown or heard, and when it is decoded, media seconds; one stands in for the other."""
    numerator, denominator = source.ticks[index]
    pts, dts = packet.pts, packet.dts
    if pts is None or pts == dts:
        seconds = None if dts is None else dts * numerator / denominator - source.zero
        return seconds, seconds
    shown = pts * numerator / denominator - source.zero
    return shown, shown if dts is None else dts * numerator / denominator - source.zero


def _telling(found: SpanPackets) -> Iterator[Packet[Any]]:
    """Packets that tell whether a clip is encrypted: that begins with a key picture or a file's fragment."""
    yield from (packet for packet in found.video if packet.is_keyframe)
    for packets in (found.video, found.audio):
        yield from (*packets[:1], *packets[len(packets) // 2 :][:1], *packets[-1:])


def _demux(source: Source, found: SpanPackets) -> Iterator[Packet[Any]]:
    streams = [s for s in (source.video, source.audio) if s is not None]
    try:
        for packet in demux(source.container, streams):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        found.num_errors += 1


def _is_heard(packet: Packet[Any], seconds: float | None, start: float, end: float) -> bool:
    """Whether a sound packet reaches into the clip or its pre-roll; raw sound may come in long packets."""
    if seconds is None or start - SOUND_PREROLL_SECONDS <= seconds < end:
        return True
    length = float((packet.duration or 0) * (packet.time_base or 0))
    return seconds < end and seconds + length >= start - SOUND_PREROLL_SECONDS


def _keep_picture(found: SpanPackets, packet: Packet[Any], seconds: float | None, start: float) -> int:
    """Adds a picture packet; a key picture at or before the start makes all earlier ones superfluous."""
    if packet.is_keyframe and seconds is not None and seconds <= start + TIME_TOLERANCE_SECONDS:
        dropped = sum(p.size for p in found.video)
        found.video.clear()
        found.video.append(packet)
        return packet.size - dropped
    found.video.append(packet)
    return packet.size
