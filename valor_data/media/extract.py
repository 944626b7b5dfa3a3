"""Makes what a sample stores of one clip: JPEG pictures and the log-mel spectrogram, from one open."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, has_decoder, open_media
from valor_data.media.passage import Passage, PicturePool, asked_for
from valor_data.media.sound import Sound
from valor_data.media.timeline import Timeline


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
class FeatureSettings:
    """What a sample stores of a clip.

    Attributes:
        modalities: `av`, `v` (no spectrogram) or `a` (no pictures).
        frames: number, size and quality of the pictures.
        mel: the spectrogram's settings; VALOR's by default.
    """

    modalities: str = "av"
    frames: FrameSettings = field(default_factory=FrameSettings)
    mel: MelSettings = field(default_factory=MelSettings)


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
    with open_media(path, limits) as container:
        source = choose_streams(container)
        require_streams(source, modalities)
        passage = Passage.read(asked_for(source, modalities), start - offset_seconds, end - offset_seconds, limits)
        if passage.packets.encrypted:
            raise ClipError("undecodable", "encrypted")
        sound = passage.decode_sound() if passage.source.audio is not None else None
        pool = PicturePool(passage, passage.timeline) if passage.timeline is not None else None
        settings = FeatureSettings(modalities, frame_settings or FrameSettings(), mel_settings or MelSettings.valor())
        return make_features(passage, sound, pool, end - start, settings)


def require_streams(source: Source, modalities: str) -> None:
    """Refuses a file that lacks a stream the modalities ask for, or a decoder for one.

    Raises:
        ClipError: `no_video`, `no_audio`, `undecodable`.
    """
    if "v" in modalities and source.video is None:
        raise ClipError("no_video", "no picture track")
    if "a" in modalities and source.audio is None:
        raise ClipError("no_audio", "no sound track")
    wanted = asked_for(source, modalities)
    if any(stream is not None and not has_decoder(stream) for stream in (wanted.video, wanted.audio)):
        raise ClipError("undecodable", "no decoder for a codec of this file")


def make_features(
    passage: Passage,
    sound: Sound | None,
    pool: PicturePool | None,
    duration_seconds: float,
    settings: FeatureSettings,
) -> ClipFeatures:
    """Makes a sample's features of a clip that was read, and whose sound was decoded.

    Args:
        passage: the clip; its source's streams are those asked for.
        sound: its sound; None where no sound is asked for.
        pool: its pictures; None where there are none.
        duration_seconds: the clip's length.
        settings: what is stored.

    Raises:
        ClipError: `undecodable`, `too_large`.
    """
    if sound is None:
        mel, spans = np.zeros((0, settings.mel.num_mel_bins), np.float16), []
    elif not sound.spans:
        raise ClipError("undecodable", f"no sound in the span; {sound.num_errors} errors")
    else:
        mel, spans = clip_mel(sound, duration_seconds, settings.mel), sound.spans_seconds()
    pictures = _Pictures() if passage.source.video is None else _pictures(passage, pool, settings.frames)
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


def _pictures(passage: Passage, pool: PicturePool | None, settings: FrameSettings) -> _Pictures:
    begin, video, timeline = passage.begin, passage.source.video, passage.timeline
    if pool is None or timeline is None or video is None:
        raise ClipError("undecodable", "no picture in the span")
    moments = frame_moments(passage.after - begin, settings.count)
    decoded = pool.at(shown_moments(passage, timeline, settings))
    maker, aspect = JpegMaker(settings), pixel_aspect(video.sample_aspect_ratio)
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
    clamped = timeline.num_clamped(begin + moment for moment in moments)
    return _Pictures(tuple(jpegs), moments, tuple(times), clamped, *size)


def shown_moments(passage: Passage, timeline: Timeline, settings: FrameSettings) -> list[float]:
    """The moments, media seconds, whose pictures stand for the clip's frame moments.

    They are the frame moments themselves, or with `frame_snap="key"` the times of the key pictures of the
    clip that are nearest to each (of two equally near the earlier). A clip without a key picture of its
    own keeps its moments: the nearest one would show what is not in the clip.
    """
    begin, after = passage.span
    moments = [begin + moment for moment in frame_moments(after - begin, settings.count)]
    if settings.frame_snap != "key":
        return moments
    keys = sorted(timeline.times[k] for k in timeline.keys if begin <= timeline.times[k] < after)
    return [min(keys, key=lambda t: abs(t - moment)) for moment in moments] if keys else moments
