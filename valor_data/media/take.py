"""Measures a clip and makes its sample's features from one open file, decoding nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from valor_data.errors import ClipError
from valor_data.media.extract import ClipFeatures, FeatureSettings, make_features, require_streams, shown_moments
from valor_data.media.facts import Facts
from valor_data.media.frames import FrameSettings
from valor_data.media.measure import cheap_moments, header_facts, packet_facts, picture_facts, sound_facts
from valor_data.media.open import DEFAULT_LIMITS, Limits, choose_streams, has_decoder, open_media
from valor_data.media.passage import Passage, PicturePool, asked_for


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a clip.

    Attributes:
        facts: what was measured: equal to what `measure_clip` gives, unless the sound's facts alone made
            the judge refuse. Then the picture's are those of header and packets, as `measure_clip` gives
            them with `sound_decides`.
        features: what a sample stores, equal to what `extract_clip` gives; None for a refused clip.
        refusal: why a clip that the judge kept has no features after all; else None.
    """

    facts: Facts
    features: ClipFeatures | None = None
    refusal: ClipError | None = None


def take_clip(
    path: Path,
    offset_seconds: float,
    start: float,
    end: float,
    judge: Callable[[Facts], bool],
    settings: FeatureSettings | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Taken:
    """Measures the span `[start, end)` of a video and, if the judge keeps it, extracts its features.

    Args:
        path: the file.
        offset_seconds: second of the video at which the file's own second 0 lies; 0 for a whole video.
        start: the clip's first second, video seconds.
        end: the second after its last, video seconds.
        judge: whether to keep a clip with these facts. Asked once the sound is measured (a refusal then
            decodes no picture), and again with all facts.
        settings: modalities, pictures, spectrogram; the defaults where None.
        limits: when to give up.

    Raises:
        ClipError: what `measure_clip` raises; what `extract_clip` raises is in `Taken.refusal`.
    """
    settings = settings or FeatureSettings()
    with open_media(path, limits) as container:
        whole = choose_streams(container)
        facts = header_facts(whole)
        source = asked_for(whole, settings.modalities)
        if source.video is None and source.audio is None:
            return _without_streams(facts, judge, settings.modalities)
        passage = Passage.read(source, start - offset_seconds, end - offset_seconds, limits)
        facts, sound = packet_facts(facts, passage), None
        if not facts.encrypted:
            facts, sound = sound_facts(facts, passage)
        if not judge(facts):
            return Taken(facts)
        if facts.encrypted:
            return Taken(facts, refusal=ClipError("undecodable", "encrypted"))
        pool = _pool(passage, settings.frames)
        facts = picture_facts(facts, passage, pool)
        if not judge(facts):
            return Taken(facts)
        try:
            require_streams(whole, settings.modalities)
            features = make_features(passage, sound, pool, end - start, settings)
        except ClipError as refusal:
            return Taken(facts, refusal=refusal)
        return Taken(facts, features)


def _without_streams(facts: Facts, judge: Callable[[Facts], bool], modalities: str) -> Taken:
    if not judge(facts):
        return Taken(facts)
    reason = "no_video" if "v" in modalities else "no_audio"
    return Taken(facts, refusal=ClipError(reason, "no track of what is asked for"))


def _pool(passage: Passage, settings: FrameSettings) -> PicturePool | None:
    """The clip's pictures, those for its facts and those for its sample decoded together."""
    timeline, video = passage.timeline, passage.source.video
    if timeline is None or video is None:
        return None
    pool = PicturePool(passage, timeline)
    if has_decoder(video):
        pool.gather([*cheap_moments(passage, timeline), *shown_moments(passage, timeline, settings)])
    return pool
