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

from valor_data.media.content import Content, content_moments, content_of
from valor_data.media.facts import Facts
from valor_data.media.frames import FrameSettings, display_size, frame_moments, pixel_aspect, quarter_turns
from valor_data.media.levels import measure_levels
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, has_decoder, open_media
from valor_data.media.passage import Passage, PicturePool, asked_for
from valor_data.media.pictures import Picture, check_cost
from valor_data.media.sound import Sound
from valor_data.media.timeline import Timeline

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
        facts = header_facts(source)
        source = asked_for(source, modalities)
        if source.video is None and source.audio is None:
            return facts
        passage = Passage.read(source, start - offset_seconds, end - offset_seconds, limits)
        facts = packet_facts(facts, passage)
        if facts.encrypted:
            return facts
        facts, _ = sound_facts(facts, passage)
        if sound_decides and _surely_refused(facts):
            return facts
        pool = PicturePool(passage, passage.timeline) if passage.timeline is not None else None
        return picture_facts(facts, passage, pool)


def measure_clip_and_content(
    path: Path,
    offset_seconds: float,
    start: float,
    end: float,
    modalities: str = "av",
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Facts, Content | None]:
    """What `measure_clip` and `media.content.measure_content` give, from one pass that decodes nothing twice.

    Returns:
        The facts, and the content; None where the clip cannot be decoded, or has no sound to speak of though sound is
        asked for: nobody will ask for its content.

    Raises:
        ClipError: what `measure_clip` raises.
    """
    with open_media(path, limits) as container:
        whole = choose_streams(container)
        facts = header_facts(whole)
        source = asked_for(whole, modalities)
        if source.video is None and source.audio is None:
            return facts, None
        passage = Passage.read(source, start - offset_seconds, end - offset_seconds, limits)
        facts = packet_facts(facts, passage)
        if facts.encrypted:
            return facts, None
        facts, sound = sound_facts(facts, passage)
        pool = PicturePool(passage, passage.timeline) if passage.timeline is not None else None
        is_wanted = facts.decodable and not ("a" in modalities and _surely_refused(facts))
        if pool and passage.timeline and is_wanted and source.video is not None and has_decoder(source.video):
            pool.gather([*cheap_moments(passage, passage.timeline), *content_moments(passage)])
        facts = picture_facts(facts, passage, pool)
        if not facts.decodable or not is_wanted:
            return facts, None
        return facts, content_of(passage, sound, pool, end - start)


def header_facts(source: Source) -> Facts:
    """What the file's header says, read from a source with all its streams."""
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


def packet_facts(facts: Facts, passage: Passage) -> Facts:
    """Adds what a clip's packets tell before anything is decoded."""
    facts = replace(facts, num_decode_errors=passage.packets.num_errors, encrypted=passage.packets.encrypted)
    if passage.timeline is not None:
        facts = replace(facts, video_coverage=round(passage.timeline.coverage(*passage.span), 6))
    if facts.encrypted:
        return replace(facts, decodable=False, decode_detail="encrypted")
    return facts


def sound_facts(facts: Facts, passage: Passage) -> tuple[Facts, Sound | None]:
    """Decodes the sound, where it is asked for and there, and adds its facts.

    Returns:
        The facts, and the sound for whoever needs it next.

    Raises:
        ClipError: `too_large`.
    """
    audio = passage.source.audio
    if audio is None:
        return facts, None
    if not has_decoder(audio):
        return replace(facts, decodable=False, decode_detail="no decoder for the sound"), None
    sound = passage.decode_sound()
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
        facts = replace(facts, sample_rate_hz=sound.rate_hz, num_channels=sound.samples.shape[0])
    elif sound.num_packets:
        facts = replace(facts, decodable=False, decode_detail="no packet of the sound decodes")
    return facts, sound


def _surely_refused(facts: Facts) -> bool:
    rms_dbfs, peak_dbfs = SURELY_SILENT_DBFS
    return not facts.has_audio or facts.rms_dbfs < rms_dbfs or facts.peak_dbfs < peak_dbfs


def picture_facts(facts: Facts, passage: Passage, pool: PicturePool | None) -> Facts:
    """Decodes a few pictures, where they are asked for and there, and adds their facts.

    Args:
        facts: what is known so far.
        passage: the clip.
        pool: its pictures; None where it has none.

    Raises:
        ClipError: `too_large`.
    """
    source, timeline = passage.source, passage.timeline
    if source.video is None:
        return facts
    if not has_decoder(source.video):
        return replace(facts, decodable=False, decode_detail="no decoder for the picture")
    if timeline is None or pool is None:
        return facts
    check_cost(source, timeline, _default_moments(passage), passage.limits)
    decoded = pool.at(cheap_moments(passage, timeline))
    whole = [p for p in decoded.pictures if p is not None]
    errors, change = decoded.num_errors, _largest_change(whole)
    if whole and change < STILL_CHANGE:
        spread = pool.at(_default_moments(passage)[1::3])
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


def cheap_moments(passage: Passage, timeline: Timeline) -> list[float]:
    """Three moments whose pictures cost little to decode: at key pictures, or shortly after one."""
    begin, after = passage.span
    keys = sorted(timeline.times[k] for k in timeline.keys if begin <= timeline.times[k] < after)
    if len(keys) >= 3:
        return [keys[0], keys[len(keys) // 2], keys[-1]]
    anchor = keys or [begin]
    extra = (anchor[0] + step * _CHEAP_STEP_SECONDS for step in (1, 2))
    return [*anchor, *(moment for moment in extra if moment < after)]


def _default_moments(passage: Passage) -> list[float]:
    """The moments of a sample with default settings: what was decoded for it need not be decoded again."""
    return [passage.begin + m for m in frame_moments(passage.after - passage.begin, FrameSettings().count)]


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
