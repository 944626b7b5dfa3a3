"""Says what a media file is: container, picture, sound, and how long it really lasts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from valor_data.media.frames import display_size, pixel_aspect, quarter_turns
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, demux, is_attached_picture, open_media
from valor_data.media.span import packet_seconds

_EXTENSIONS = (
    ("matroska", "mkv"),
    ("mov", "mp4"),
    ("mpegts", "ts"),
    ("mpeg", "mpg"),
    ("avi", "avi"),
    ("flv", "flv"),
    ("asf", "wmv"),
    ("ogg", "ogv"),
    ("mp3", "mp3"),
    ("wav", "wav"),
    ("flac", "flac"),
)
_WEBM_CODECS = frozenset({"vp8", "vp9", "av1", "opus", "vorbis"})
_TAIL_SECONDS = 10.0
_FIRST_PACKETS = 100


@dataclass(frozen=True, slots=True)
class VideoProbe:
    """The picture stream a viewer would be shown.

    Attributes:
        codec: FFmpeg's name of the codec, `""` where FFmpeg has no decoder.
        width_px: width as coded.
        height_px: height as coded.
        display_width_px: width as shown, pixel aspect and rotation applied.
        display_height_px: height as shown.
        rotation_degrees: counter-clockwise turn that brings it upright: 0, 90, 180, 270.
        fps: average pictures a second, None where unknown.
        is_attached_picture: a cover or thumbnail; such a file has no video.
    """

    codec: str
    width_px: int
    height_px: int
    display_width_px: int
    display_height_px: int
    rotation_degrees: int
    fps: float | None
    is_attached_picture: bool


@dataclass(frozen=True, slots=True)
class AudioProbe:
    """The sound stream a listener would hear: FFmpeg's name of its codec, its rate and channels."""

    codec: str
    sample_rate_hz: int
    num_channels: int


_UNKNOWN = AudioProbe("", 0, 0)


@dataclass(frozen=True, slots=True)
class Probe:
    """What a media file is.

    Attributes:
        container: the format, by the first of FFmpeg's names for it that fits (`mp4`, `matroska`, …).
        extension: the file extension to store it under, without a dot.
        duration_seconds: from second 0 to the end of the last packet; None where nothing tells.
        header_duration_seconds: what the header claims; None where it claims nothing.
        start_time_seconds: the container's start time, which is second 0 of the video.
        size_bytes: of the file.
        video: the picture, or None; an attached picture is told apart by its flag.
        audio: the sound, or None.
        is_encrypted: the first packets say that they are encrypted.
    """

    container: str
    extension: str
    duration_seconds: float | None
    header_duration_seconds: float | None
    start_time_seconds: float
    size_bytes: int
    video: VideoProbe | None
    audio: AudioProbe | None
    is_encrypted: bool

    @property
    def has_video(self) -> bool:
        """There is a picture that is no cover."""
        return self.video is not None and not self.video.is_attached_picture

    def to_dict(self) -> dict[str, Any]:
        """The probe as JSON types."""
        return asdict(self)


def probe(path: Path, limits: Limits = DEFAULT_LIMITS) -> Probe:
    """Probes a media file; one picture is decoded, for its rotation.

    Headers lie: the duration is taken from the packets at the file's end, found by a seek. Where a seek
    to the claimed end finds nothing, or a format cannot be sought in (MPEG-TS), the file is read through
    once, without decoding, as far as `limits.max_packets` allow.

    Raises:
        ClipError: `missing`, `empty`, `not_media`, `undecodable` (cannot be opened).
    """
    with open_media(path, limits) as container:
        source = choose_streams(container)
        is_encrypted, turns, early_end = _first_packets(source)
        header = container.duration
        ends = [end for end in (early_end, _real_duration(source, limits)) if end is not None]
        best_video, best_audio = container.streams.best("video"), source.audio
        return Probe(
            container=_name(container),
            extension=_extension(container, source),
            duration_seconds=max(ends, default=None),
            header_duration_seconds=header / 1e6 if header and header > 0 else None,
            start_time_seconds=source.zero,
            size_bytes=path.stat().st_size,
            video=_video_probe(best_video, turns) if isinstance(best_video, VideoStream) else None,
            audio=_audio_probe(best_audio) if best_audio is not None else None,
            is_encrypted=is_encrypted,
        )


def _name(container: InputContainer) -> str:
    names = container.format.name.split(",")
    return "mp4" if "mp4" in names else names[0]


def _extension(container: InputContainer, source: Source) -> str:
    name = container.format.name
    extension = next((e for part, e in _EXTENSIONS if part in name.split(",")), "bin")
    codecs = {s.codec_context.codec.canonical_name for s in (source.video, source.audio) if s and s.codec_context}
    if extension == "mkv" and codecs <= _WEBM_CODECS:
        return "webm"
    if extension == "mp4" and container.metadata.get("major_brand", "").strip() == "qt":
        return "mov"
    return extension


def _video_probe(stream: VideoStream, turns: int) -> VideoProbe:
    context = stream.codec_context
    width, height = (stream.width, stream.height) if context is not None else (0, 0)
    shown = display_size(width, height, pixel_aspect(stream.sample_aspect_ratio), turns) if context else (0, 0)
    rate = stream.average_rate or stream.guessed_rate
    return VideoProbe(
        codec=context.codec.canonical_name if context is not None else "",
        width_px=width,
        height_px=height,
        display_width_px=shown[0],
        display_height_px=shown[1],
        rotation_degrees=90 * turns,
        fps=float(rate) if rate else None,
        is_attached_picture=is_attached_picture(stream),
    )


def _audio_probe(stream: AudioStream) -> AudioProbe:
    context = stream.codec_context
    return AudioProbe(context.codec.canonical_name, stream.rate or 0, stream.channels) if context else _UNKNOWN


def _streams(source: Source) -> list[VideoStream | AudioStream]:
    return [stream for stream in (source.video, source.audio) if stream is not None]


def _first_packets(source: Source) -> tuple[bool, int, float | None]:
    """Whether the first packets are encrypted, the first picture's quarter turns, and where they end."""
    packets: list[Packet[Any]] = []
    with suppress(av.error.FFmpegError):
        for packet in demux(source.container, _streams(source)):
            if packet.has_sidedata("encryption_info"):
                return True, 0, None
            packets.append(packet)
            if len(packets) >= _FIRST_PACKETS:
                break
    end = max((e for p in packets if (e := _packet_end(p, source)) is not None), default=None)
    if source.video is None or source.video.codec_context is None:
        return False, 0, end
    for packet in packets:
        if packet.stream_index == source.video.index:
            with suppress(av.error.FFmpegError, ValueError):
                frames = source.video.codec_context.decode(packet if packet.size else None)
                if frames:
                    return False, quarter_turns(frames[0].rotation), end
    return False, 0, end


def _packet_end(packet: Packet[Any], source: Source) -> float | None:
    seconds = packet_seconds(packet, source) if packet.size else None
    return None if seconds is None else seconds + float((packet.duration or 0) * (packet.time_base or 0))


def _real_duration(source: Source, limits: Limits) -> float | None:
    """Seconds from second 0 to the end of the last packet; see `probe`."""
    streams, claimed = _streams(source), source.container.duration
    if not streams:
        return None
    if claimed and claimed > 0 and not source.needs_reading_from_start:
        target = claimed / 1e6 - _TAIL_SECONDS
        if target > 0:
            last = _last_end(source, target, limits)
            if last is not None and last >= target:
                return last
    return _last_end(source, None, limits)


def _last_end(source: Source, seek_seconds: float | None, limits: Limits) -> float | None:
    """End of the last packet from a seek on (None: from the start); None when no packet comes."""
    stream = source.video or source.audio
    last: float | None = None
    if stream is not None and stream.time_base and not source.needs_reading_from_start:
        seconds = source.zero + (seek_seconds or 0.0)
        with suppress(av.error.FFmpegError):
            source.container.seek(int(seconds / stream.time_base), stream=stream)
    with suppress(av.error.FFmpegError):
        for number, packet in enumerate(demux(source.container, _streams(source))):
            end = _packet_end(packet, source)
            if end is not None:
                last = end if last is None else max(last, end)
            if number >= limits.max_packets:
                break
    return last
