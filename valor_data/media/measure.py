"""Measures one clip: sound first, then a few pictures. It finds facts and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from valor_data.media.facts import Facts
from valor_data.media.frames import FrameSettings, display_size, frame_moments, pixel_aspect, quarter_turns
from valor_data.media.levels import measure_levels
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, open_media
from valor_data.media.pictures import Picture, check_cost, decode_pictures
from valor_data.media.sound import decode_sound
from valor_data.media.span import SpanPackets, read_span
from valor_data.media.timeline import Timeline, read_timeline

STILL_CHANGE = 1.0
"""Sampled pictures that differ less than this (mean absolute luma, 0 to 255) make a still picture."""

SURELY_SILENT_DBFS = (-60.0, -50.0)
"""RMS and peak below which `sound_decides` takes a clip for refused: the default thresholds."""

_THUMBNAIL_PX = (64, 36)
_CHEAP_STEP_SECONDS = 0.5


def measure_clip(
    path: Path,
    offset_seconds: float,
    start: float,
    end: float,
    modalities: str = "av",
    limits: Limits = DEFAULT_LIMITS,
    *,
    sound_decides: bool = False,
) -> Facts:
    """Measures the span `[start, end)` of a video on a file that holds it.

    All sound of the span is decoded, and at least three pictures where that is cheap: key pictures, or
    pictures shortly after one. Only where these look alike are three pictures spread over the whole clip
    decoded. A damaged file gives facts too.

    Args:
        path: the file.
        offset_seconds: second of the video at which the file's own second 0 lies; 0 for a whole video.
        start: the clip's first second, video seconds.
        end: the second after its last, video seconds.
        modalities: `av`, `v` or `a`: the sound or the picture left out is not decoded, and its facts
            other than the header's stay at their defaults.
        limits: when to give up.
        sound_decides: decode no picture when there is no sound to speak of (no track, or levels below
            `SURELY_SILENT_DBFS`); the picture's facts then come from header and packets alone.

    Raises:
        ClipError: `missing`, `empty`, `not_media`, `undecodable` (cannot be opened at all), `too_large`.
    """
    with open_media(path, limits) as container:
        source = choose_streams(container)
        facts = _header_facts(source)
        source = _asked_for(source, modalities)
        if source.video is None and source.audio is None:
            return facts
        begin, after = start - offset_seconds, end - offset_seconds
        packets = read_span(source, begin, after, limits)
        facts = replace(facts, num_decode_errors=packets.num_errors, encrypted=packets.encrypted)
        timeline = read_timeline(source, packets.video, packets.video_after) if source.video else None
        if timeline is not None:
            facts = replace(facts, video_coverage=round(timeline.coverage(begin, after), 6))
        if packets.encrypted:
            return replace(facts, decodable=False, decode_detail="encrypted")
        if source.audio is not None:
            facts = _sound_facts(facts, source, packets, (begin, after), limits)
        if sound_decides and _surely_refused(facts):
            return facts
        if source.video is not None:
            facts = _picture_facts(facts, source, timeline, (begin, after), limits)
        return facts


def _asked_for(source: Source, modalities: str) -> Source:
    return replace(
        source,
        video=source.video if "v" in modalities else None,
        audio=source.audio if "a" in modalities else None,
    )


def _header_facts(source: Source) -> Facts:
    video, audio = source.video, source.audio
    duration = source.container.duration
    facts = Facts(
        has_video=video is not None,
        has_audio=audio is not None,
        file_duration_seconds=duration / 1e6 if duration and duration > 0 else 0.0,
    )
    if video is not None and video.codec_context is not None:
        width, height = display_size(video.width, video.height, pixel_aspect(video.sample_aspect_ratio))
        facts = replace(
            facts,
            video_codec=video.codec_context.codec.canonical_name,
            width_px=width,
            height_px=height,
            fps=round(float(video.average_rate or video.guessed_rate or 0.0), 6),
        )
    if audio is not None and audio.codec_context is not None:
        facts = replace(
            facts,
            audio_codec=audio.codec_context.codec.canonical_name,
            sample_rate_hz=audio.rate or 0,
            num_channels=audio.channels,
        )
    return facts


def _sound_facts(
    facts: Facts, source: Source, packets: SpanPackets, span: tuple[float, float], limits: Limits
) -> Facts:
    if source.audio is None or source.audio.codec_context is None:
        return replace(facts, decodable=False, decode_detail="no decoder for the sound")
    sound = decode_sound(source, packets.audio, *span, limits)
    levels = measure_levels(sound)
    facts = replace(
        facts,
        num_decode_errors=facts.num_decode_errors + sound.num_errors,
        audio_coverage=round(sound.coverage, 6),
        audio_spans=tuple(sound.spans_seconds()),
        rms_dbfs=levels.rms_dbfs,
        peak_dbfs=levels.peak_dbfs,
        silence_share=round(levels.silence_share, 6),
        clipping_share=round(levels.clipping_share, 9),
    )
    if sound.num_frames:
        return replace(facts, sample_rate_hz=sound.rate_hz, num_channels=sound.samples.shape[0])
    if sound.num_packets:
        return replace(facts, decodable=False, decode_detail="no packet of the sound decodes")
    return facts


def _surely_refused(facts: Facts) -> bool:
    rms_dbfs, peak_dbfs = SURELY_SILENT_DBFS
    return not facts.has_audio or facts.rms_dbfs < rms_dbfs or facts.peak_dbfs < peak_dbfs


def _picture_facts(
    facts: Facts, source: Source, timeline: Timeline | None, span: tuple[float, float], limits: Limits
) -> Facts:
    if source.video is None or source.video.codec_context is None:
        return replace(facts, decodable=False, decode_detail="no decoder for the picture")
    if timeline is None:
        return facts
    begin, after = span
    check_cost(source, timeline, [begin + m for m in frame_moments(after - begin, FrameSettings().count)], limits)
    decoded = decode_pictures(source, timeline, span, _cheap_moments(timeline, begin, after), limits)
    whole = [p for p in decoded.pictures if p is not None]
    errors, change = decoded.num_errors, _largest_change(whole)
    if whole and change < STILL_CHANGE:
        spread = decode_pictures(source, timeline, span, [begin + m for m in frame_moments(after - begin, 3)], limits)
        whole += [p for p in spread.pictures if p is not None]
        errors, change = errors + spread.num_errors, _largest_change(whole)
    facts = replace(facts, num_decode_errors=facts.num_decode_errors + errors, num_pictures_decoded=len(whole))
    if not whole:
        detail = facts.decode_detail or "no picture of the clip decodes"
        return replace(facts, decodable=False, decode_detail=detail)
    turns = quarter_turns(whole[0].frame.rotation)
    aspect = pixel_aspect(source.video.sample_aspect_ratio)
    width, height = display_size(whole[0].frame.width, whole[0].frame.height, aspect, turns)
    return replace(
        facts,
        width_px=width,
        height_px=height,
        rotation_degrees=90 * turns,
        picture_change=round(change, 3),
        still=change < STILL_CHANGE,
    )


def _cheap_moments(timeline: Timeline, begin: float, after: float) -> list[float]:
    """Three moments whose pictures cost little to decode: at key pictures, or shortly after one."""
    keys = sorted(timeline.times[k] for k in timeline.keys if begin <= timeline.times[k] < after)
    if len(keys) >= 3:
        return [keys[0], keys[len(keys) // 2], keys[-1]]
    anchor = keys or [begin]
    extra = (anchor[0] + step * _CHEAP_STEP_SECONDS for step in (1, 2))
    return [*anchor, *(moment for moment in extra if moment < after)]


def _largest_change(pictures: Sequence[Picture]) -> float:
    """Mean absolute difference of luma between the two most different pictures; 0.0 for fewer than two."""
    scaler = VideoReformatter()
    thumbnails = [t for p in pictures if (t := _thumbnail(scaler, p)) is not None]
    return max((float(np.abs(a - b).mean()) for a, b in combinations(thumbnails, 2)), default=0.0)


def _thumbnail(scaler: VideoReformatter, picture: Picture) -> NDArray[np.int16] | None:
    """Luma of a picture at 64×36, `[36, 64]`."""
    width, height = _THUMBNAIL_PX
    try:
        small = scaler.reformat(
            picture.frame, width=width, height=height, format="gray", interpolation=Interpolation.AREA, threads=1
        )
    except (av.error.FFmpegError, ValueError):
        return None
    return small.to_ndarray().astype(np.int16)
