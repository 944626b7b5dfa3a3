"""Opens a media file as nothing but a local file, and finds its picture and its sound.

Media come from strangers. A file is opened by its absolute path, and the library may use the `file`
protocol and the formats listed here only: the protocol alone would let a concat script named `.mp4` read
the files beside it. Whatever cannot be opened becomes a `ClipError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from valor_data.errors import ClipError

FORMATS = "mov,matroska,webm,avi,flv,mpegts,mpeg,ogg,mp3,asf,wav,flac"
"""Demuxers that may be used: single files that carry their own packets. No playlist, no script, no image."""

ACCESS_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
"""What a file may reach: itself. The same two options go before `-i` on ffmpeg's command line."""

_SNIFFED_BYTES = 4096
_MAGIC_AT_START = (
    b"\x1aE\xdf\xa3",
    b"FLV\x01",
    b"OggS",
    b"ID3",
    b"fLaC",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"\0\0\1\xba",
)
_MP4_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"pnot"})
_TS_PACKET_BYTES = 188


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a file is looked at before it is given up as `too_large`.

    Attributes:
        max_frame_pixels: pixels of one decoded picture; 40 million holds 7680×4320 and little more.
        max_decoded_pixels: pixels decoded for one clip, all pictures together. 3 × 10⁹ are 360 pictures
            of 3840×2160 or 1 450 of 1920×1080, about a quarter of a minute of CPU.
        max_decoded_frames: pictures decoded for one clip.
        max_clip_seconds: length of a clip whose sound is decoded: five minutes of six channels at 48 kHz
            are 350 MB as float32.
        max_packets: packets read to reach and to cross a clip; 4 million are ten hours of 60 pictures and
            50 sound packets a second.
        max_packet_bytes: compressed bytes kept in memory for one clip.
    """

    max_frame_pixels: int = 40_000_000
    max_decoded_pixels: int = 3_000_000_000
    max_decoded_frames: int = 20_000
    max_clip_seconds: float = 300.0
    max_packets: int = 4_000_000
    max_packet_bytes: int = 512 * 2**20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Source:
    """An open file with the streams a viewer would be shown.

    Attributes:
        container: the open file.
        video: the best picture stream, or None; an attached picture (a cover) is none.
        audio: the best sound stream, or None.
        zero: the container's start time in seconds: what is subtracted from every timestamp.
        ticks: numerator and denominator of a tick in seconds, by the stream's index.
    """

    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    zero: float
    ticks: dict[int, tuple[int, int]]

    @property
    def needs_reading_from_start(self) -> bool:
        """True for MPEG-TS and FLV, where a seek lands behind the moment asked for, or nowhere."""
        return self.container.format.name in ("mpegts", "flv")

    def seconds(self, ticks: int, stream_index: int) -> float:
        """Turns a timestamp of a stream into media seconds (the same subtraction for every stream)."""
        numerator, denominator = self.ticks[stream_index]
        return ticks * numerator / denominator - self.zero


@contextmanager
def open_media(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[InputContainer]:
    """Opens a local media file; its decoders run in one thread and refuse oversized pictures.

    Args:
        path: the file; a relative path is taken from the current folder.
        limits: `max_frame_pixels` is handed to the decoders.

    Raises:
        ClipError: `missing` (no such file), `empty` (no bytes), `not_media` (nothing that looks like a
            media file: a page, a text, a playlist), `undecodable` (looks like media, cannot be opened).
    """
    path = path.absolute()
    _refuse_what_is_no_file(path)
    options = {**ACCESS_OPTIONS, "max_pixels": str(limits.max_frame_pixels), "threads": "1"}
    try:
        container = av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        with suppress(OSError):
            if not _looks_like_media(path):
                raise ClipError("not_media", f"not a media file of a known format: {error}") from error
        raise ClipError("undecodable", f"cannot be opened: {error}") from error
    with container:
        for stream in container.streams:
            context = stream.codec_context
            if isinstance(stream, VideoStream | AudioStream) and context is not None:
                context.thread_count = 1
                context.thread_type = "NONE"
                context.options = {"max_pixels": str(limits.max_frame_pixels)}
        yield container


def choose_streams(container: InputContainer) -> Source:
    """Finds the picture and the sound that ffmpeg would show; covers and streams without decoder are none."""
    video, audio = container.streams.best("video"), container.streams.best("audio")
    start = container.start_time
    return Source(
        container=container,
        video=video if isinstance(video, VideoStream) and not is_attached_picture(video) else None,
        audio=audio if isinstance(audio, AudioStream) else None,
        zero=start / 1_000_000 if start is not None else 0.0,
        ticks={s.index: (s.time_base or Fraction(1, 1_000_000)).as_integer_ratio() for s in container.streams},
    )


def demux(container: InputContainer, streams: Sequence[VideoStream | AudioStream]) -> Iterator[Packet[Any]]:
    """Reads the packets of some streams, the empty ones that end a stream too; may be left half way.

    PyAV's own iterator leaks a packet when it is left and not closed, and such packets, few as they are, keep
    the memory around them from being used again.
    """
    packets: Any = container.demux(list(streams))
    try:
        yield from packets
    finally:
        packets.close()


def has_decoder(stream: VideoStream | AudioStream) -> bool:
    """False for a stream whose codec the library knows no decoder for."""
    return stream.codec_context is not None


def is_attached_picture(stream: VideoStream) -> bool:
    """True for a cover or thumbnail, which is stored as a picture stream of one frame."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise ClipError("missing", f"no file {path}") from error
    if not path.is_file():
        raise ClipError("not_media", f"{path} is not a regular file")
    if size_bytes == 0:
        raise ClipError("empty", f"{path.name} has no bytes")


def _looks_like_media(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if head.startswith(_MAGIC_AT_START) or head[4:8] in _MP4_BOXES:
        return True
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        return True
    return len(head) > 2 * _TS_PACKET_BYTES and head[0] == head[_TS_PACKET_BYTES] == head[2 * _TS_PACKET_BYTES] == 0x47
