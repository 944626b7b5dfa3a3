"""Makes what a sample stores of one clip: JPEG pictures and the log-mel spectrogram, from one open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valor_data.errors import ClipError
from valor_data.media.frames import (
    FrameSettings,
    JpegMaker,
    display_size,
    frame_moments,
    pixel_aspect,
    quarter_turns,
)
from valor_data.media.mel import MelSettings, clip_mel
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, open_media
from valor_data.media.pictures import decode_pictures
from valor_data.media.sound import decode_sound
from valor_data.media.span import SpanPackets, read_span
from valor_data.media.timeline import read_timeline


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """What a sample stores of a clip.

    Attributes:
        jpegs: one JPEG for each frame moment; none when the modalities leave the picture out.
        frame_moments: the moments asked for, clip seconds.
        frame_times: when the picture on screen at each moment had appeared, clip seconds; may be
            negative (a picture from before the clip that is still on screen).
        num_frames_clamped: moments before the first or after the last picture, which took the nearest.
        mel: float16 `[T, F]`, natural log, not normalised; `[0, F]` when the modalities leave sound out.
        audio_spans: where the track has sound, clip seconds; elsewhere the spectrogram is that of zeros.
        width_px: width of the picture as shown, before it was reduced; 0 without one.
        height_px: its height.
    """

    jpegs: tuple[bytes, ...]
    frame_moments: tuple[float, ...]
    frame_times: tuple[float, ...]
    num_frames_clamped: int
    mel: NDArray[np.float16]
    audio_spans: tuple[tuple[float, float], ...]
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class _Pictures:
    jpegs: tuple[bytes, ...] = ()
    moments: tuple[float, ...] = ()
    times: tuple[float, ...] = ()
    num_clamped: int = 0
    width_px: int = 0
    height_px: int = 0


def extract_clip(
    path: Path,
    offset_seconds: float,
    start: float,
    end: float,
    frame_settings: FrameSettings | None = None,
    mel_settings: MelSettings | None = None,
    modalities: str = "av",
    limits: Limits = DEFAULT_LIMITS,
) -> ClipFeatures:
    """Extracts pictures and spectrogram of the span `[start, end)` of a video from a file that holds it.

    Args:
        path: the file.
        offset_seconds: second of the video at which the file's own second 0 lies; 0 for a whole video.
        start: the clip's first second, video seconds.
        end: the second after its last, video seconds.
        frame_settings: number, size and quality of the pictures; the defaults where None.
        mel_settings: the spectrogram's; VALOR's where None.
        modalities: `av`, `v` (no spectrogram) or `a` (no pictures).
        limits: when to give up.

    Raises:
        ClipError: `no_video` or `no_audio` (the stream asked for is not there), `undecodable` (nothing of
            it decodes in the span), `too_large`, and what `open_media` raises.
    """
    frame_settings, mel_settings = frame_settings or FrameSettings(), mel_settings or MelSettings.valor()
    with open_media(path, limits) as container:
        source = _streams_asked_for(choose_streams(container), modalities)
        span = (start - offset_seconds, end - offset_seconds)
        packets = read_span(source, *span, limits)
        if packets.encrypted:
            raise ClipError("undecodable", "encrypted")
        mel, spans = np.zeros((0, mel_settings.num_mel_bins), np.float16), []
        if source.audio is not None:
            sound = decode_sound(source, packets.audio, *span, limits)
            if not sound.spans:
                raise ClipError("undecodable", f"no sound in the span; {sound.num_errors} errors")
            mel, spans = clip_mel(sound, end - start, mel_settings), sound.spans_seconds()
        pictures = _pictures(source, packets, span, frame_settings, limits) if source.video else _Pictures()
    return ClipFeatures(
        jpegs=pictures.jpegs,
        frame_moments=pictures.moments,
        frame_times=pictures.times,
        num_frames_clamped=pictures.num_clamped,
        mel=mel,
        audio_spans=tuple(spans),
        width_px=pictures.width_px,
        height_px=pictures.height_px,
    )


def _streams_asked_for(source: Source, modalities: str) -> Source:
    if "v" in modalities and source.video is None:
        raise ClipError("no_video", "no picture track")
    if "a" in modalities and source.audio is None:
        raise ClipError("no_audio", "no sound track")
    source = replace(
        source,
        video=source.video if "v" in modalities else None,
        audio=source.audio if "a" in modalities else None,
    )
    for stream in (source.video, source.audio):
        if stream is not None and stream.codec_context is None:
            raise ClipError("undecodable", "no decoder for a codec of this file")
    return source


def _pictures(
    source: Source, packets: SpanPackets, span: tuple[float, float], settings: FrameSettings, limits: Limits
) -> _Pictures:
    begin, after = span
    timeline = read_timeline(source, packets.video, packets.video_after)
    if timeline is None or source.video is None:
        raise ClipError("undecodable", "no picture in the span")
    moments = frame_moments(after - begin, settings.count)
    wanted = [begin + moment for moment in moments]
    decoded = decode_pictures(source, timeline, span, wanted, limits)
    maker, aspect = JpegMaker(settings), pixel_aspect(source.video.sample_aspect_ratio)
    jpegs: list[bytes] = []
    times: list[float] = []
    made: dict[int, bytes] = {}
    for picture in decoded.pictures:
        if picture is None:
            raise ClipError("undecodable", f"no picture in the span decodes; {decoded.num_errors} errors")
        if id(picture) not in made:
            made[id(picture)] = maker.jpeg(picture.frame, aspect)
        jpegs.append(made[id(picture)])
        times.append(round(picture.seconds - begin, 6))
    first = decoded.pictures[0]
    size = (0, 0)
    if first is not None:
        size = display_size(first.frame.width, first.frame.height, aspect, quarter_turns(first.frame.rotation))
    clamped = timeline.num_clamped(wanted)
    return _Pictures(tuple(jpegs), moments, tuple(times), clamped, *size)
