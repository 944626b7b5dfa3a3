"""Pictures and a wav become one Matroska file, without coding anything anew: MJPEG of the very JPEGs, and the samples.

So a set that holds pictures and sound instead of videos goes the road that videos go.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import simplejpeg
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from valor_data.errors import ClipError
from valor_data.media.open import DEFAULT_LIMITS, Limits, choose_streams, demux, open_media
from valor_data.workdir import written_aside

MAX_PICTURES = 20_000

_TICK = Fraction(1, 1000)
"""What Matroska stores."""


def sound_seconds(path: Path, limits: Limits = DEFAULT_LIMITS) -> float | None:
    """How long a sound file lasts, by its packets; None without any.

    Raises:
        ClipError: what `open_media` raises.
    """
    last = None
    with open_media(path, limits) as container:
        source = choose_streams(container)
        if source.audio is None:
            return None
        for packet in demux(container, [source.audio]):
            if packet.pts is not None and packet.time_base is not None:
                last = float((packet.pts + (packet.duration or 0)) * packet.time_base) - source.zero
    return last


def join_slides(
    jpegs: Sequence[bytes], seconds: float, sound: Path | None, path: Path, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Writes a file in which each of n pictures is on screen for an n-th of the time, with the sound beside it.

    The picture on screen in the middle of the i-th of n equal parts is the i-th one. Its pixels are those of the
    JPEG; what the video showed between two pictures, and in full size, is not to be had any more.

    Args:
        jpegs: pictures of one size, in order.
        seconds: how long the whole lasts.
        sound: a file whose sound is copied; None: no sound.
        path: where to write; its suffix is `.mkv`.
        limits: what may be read of the sound.

    Raises:
        ClipError: `undecodable` (no JPEG, several sizes, sound that Matroska does not take), `too_large`, and what
            `open_media` raises.
    """
    if len(jpegs) > MAX_PICTURES:
        raise ClipError("too_large", f"{len(jpegs)} pictures, the limit is {MAX_PICTURES}")
    size = _common_size(jpegs)
    try:
        with (
            written_aside(path) as aside,
            av.open(
                f"file:{aside.absolute()}", "w", format="matroska", container_options={"fflags": "+bitexact"}
            ) as out,
        ):
            _write(out, jpegs, size, seconds, sound, limits)
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("undecodable", f"pictures and sound cannot be put together: {error}") from error


def _common_size(jpegs: Sequence[bytes]) -> tuple[int, int]:
    """Width and height of all pictures."""
    sizes = set()
    for number, data in enumerate(jpegs, 1):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise ClipError("undecodable", f"picture {number} of {len(jpegs)} is no JPEG: {error}") from error
        sizes.add((width, height))
    if len(sizes) != 1:
        raise ClipError("undecodable", f"pictures of different sizes: {sorted(sizes)[:3]}" if sizes else "no picture")
    return sizes.pop()


def _write(
    out: OutputContainer, jpegs: Sequence[bytes], size: tuple[int, int], seconds: float, sound: Path | None,
    limits: Limits,
) -> None:  # fmt: skip
    video = out.add_stream("mjpeg", rate=Fraction(len(jpegs)) / Fraction(seconds).limit_denominator(1000))
    video.width, video.height, video.pix_fmt = *size, "yuvj420p"
    packets: list[tuple[float, Packet[Any]]] = []
    moments = [round(1000 * seconds * i / len(jpegs)) for i in range(len(jpegs) + 1)]
    if sound is None:
        out.start_encoding()
    else:
        with open_media(sound, limits) as container:
            source = choose_streams(container)
            if source.audio is None:
                raise ClipError("undecodable", f"{sound.name}: no sound in it")
            copied = out.add_stream_from_template(source.audio, opaque=True)
            out.start_encoding()
            packets = _sound_packets(container, source.audio, source.zero, copied, limits)
    for number, data in enumerate(jpegs):
        packet: Packet[Any] = Packet(data)
        packet.stream, packet.time_base = video, _TICK
        packet.pts = packet.dts = moments[number]
        packet.duration, packet.is_keyframe = moments[number + 1] - moments[number], True
        packets.append((moments[number] / 1000, packet))
    for _, packet in sorted(packets, key=lambda pair: pair[0]):
        out.mux_one(packet)


def _sound_packets(
    container: InputContainer, stream: AudioStream, zero: float, copied: AudioStream, limits: Limits
) -> list[tuple[float, Packet[Any]]]:
    found: list[tuple[float, Packet[Any]]] = []
    held = 0
    for packet in demux(container, [stream]):
        if not packet.size or packet.pts is None or packet.time_base is None:
            continue
        held += packet.size
        if held > limits.max_packet_bytes:
            raise ClipError("too_large", f"more than {limits.max_packet_bytes} bytes of sound")
        moved: Packet[Any] = Packet(bytes(packet))
        moved.time_base, moved.duration, moved.is_keyframe = packet.time_base, packet.duration, True
        moved.pts = moved.dts = packet.pts - round(zero / packet.time_base)
        moved.stream = copied
        found.append((float(moved.pts * packet.time_base), moved))
    return found
