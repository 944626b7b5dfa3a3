"""One pass gives what measuring and extracting give one after the other, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from media_reference import Row

from valor_data.errors import ClipError
from valor_data.media.extract import ClipFeatures, FeatureSettings, extract_clip
from valor_data.media.facts import Facts
from valor_data.media.frames import FrameSettings
from valor_data.media.measure import measure_clip
from valor_data.media.mel import MelSettings
from valor_data.media.open import Limits, choose_streams, open_media
from valor_data.media.take import Taken, take_clip

LIMITS = Limits(max_decoded_pixels=400_000_000)
"""Less than the default, so that the largest files take seconds; both ways are held to the same."""


def keep_all(facts: Facts) -> bool:
    return True


def one_by_one(path: Path, row: Row, settings: FeatureSettings) -> Taken | str:
    try:
        facts = measure_clip(path, 0.0, row.start, row.end, settings.modalities, LIMITS)
    except ClipError as error:
        return str(error)
    try:
        features = extract_clip(
            path, 0.0, row.start, row.end, settings.frames, settings.mel, settings.modalities, LIMITS
        )
    except ClipError as refusal:
        return Taken(facts, refusal=refusal)
    return Taken(facts, features)


def at_once(path: Path, row: Row, settings: FeatureSettings) -> Taken | str:
    try:
        return take_clip(path, 0.0, row.start, row.end, keep_all, settings, LIMITS)
    except ClipError as error:
        return str(error)


def same(a: ClipFeatures | None, b: ClipFeatures | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        all(getattr(a, name) == getattr(b, name) for name in ClipFeatures.__slots__ if name != "mel")
        and a.mel.dtype == b.mel.dtype
        and a.mel.tobytes() == b.mel.tobytes()
    )


@pytest.mark.parametrize(
    "settings",
    [
        FeatureSettings(),
        pytest.param(FeatureSettings("v", FrameSettings(count=4, short_side_px=64)), marks=pytest.mark.slow),
        FeatureSettings("a", mel=MelSettings.ast()),
        pytest.param(FeatureSettings("av", FrameSettings(frame_snap="key")), marks=pytest.mark.slow),
    ],
    ids=["default", "pictures", "sound", "key"],
)
def test_every_real_clip_is_the_same_either_way(media: Path, rows: list[Row], settings: FeatureSettings) -> None:
    different = []
    for row in rows:
        apart, together = (f(media / row.file, row, settings) for f in (one_by_one, at_once))
        if isinstance(apart, str) or isinstance(together, str):
            if apart != together:
                different.append((row.file, apart, together))
        elif apart.facts != together.facts or not same(apart.features, together.features):
            different.append((row.file, apart.facts, together.facts))
        elif (apart.refusal and apart.refusal.reason) != (together.refusal and together.refusal.reason):
            different.append((row.file, apart.refusal, together.refusal))
    assert different == []


def test_a_refusal_by_sound_decodes_no_picture(media: Path) -> None:
    seen: list[Facts] = []

    def judge(facts: Facts) -> bool:
        seen.append(facts)
        return facts.rms_dbfs > -60

    path = media / "silent/silent-black-10s.mp4"
    taken = take_clip(path, 0.0, 0.0, 10.0, judge)
    assert taken == Taken(measure_clip(path, 0.0, 0.0, 10.0, sound_decides=True))
    assert [facts.num_pictures_decoded for facts in seen] == [0]


def test_the_judge_is_asked_again_with_every_fact(media: Path) -> None:
    path, seen = media / "audible/chrome.mp4", list[Facts]()

    def judge(facts: Facts) -> bool:
        seen.append(facts)
        return facts.num_pictures_decoded == 0

    taken = take_clip(path, 0.0, 5.0, 15.0, judge)
    assert taken == Taken(measure_clip(path, 0.0, 5.0, 15.0))
    assert [facts.num_pictures_decoded > 0 for facts in seen] == [False, True]


def test_a_kept_clip_without_what_is_asked_for_says_why(media: Path) -> None:
    for file, modalities, reason in (
        ("no_audio/bikes.mp4", "av", "no_audio"),
        ("no_audio/bikes.mp4", "a", "no_audio"),
        ("audio_only/testMP4AudioOnly.mp4", "v", "no_video"),
        ("hostile/prog_8s_enc_dashinit.mp4", "av", "undecodable"),
    ):
        taken = take_clip(media / file, 0.0, 0.0, 2.0, keep_all, FeatureSettings(modalities))
        assert taken.features is None, file
        assert taken.refusal is not None, file
        assert taken.refusal.reason == reason, file


@pytest.mark.parametrize(
    ("file", "start", "end"),
    [
        ("audible/chrome.mp4", 5.0, 15.0),
        ("audible/big_buck_bunny_0_30.webm", 10.0, 20.0),
        ("audible/100_0306.AVI", 0.0, 2.7),
        ("audible/shaka_hevc_aac.ts", 0.0, 5.0),
    ],
)
def test_moments_snap_to_the_nearest_key_picture_of_the_clip(media: Path, file: str, start: float, end: float) -> None:
    with open_media(media / file) as container:
        source = choose_streams(container)
        keys = [source.seconds(p.pts, p.stream_index) for p in container.demux(source.video) if p.is_keyframe and p.pts]
    keys = [k - start for k in keys if start - 1e-6 <= k < end] or [0.0]
    features = extract_clip(media / file, 0.0, start, end, FrameSettings(frame_snap="key"), modalities="v")
    assert len(features.jpegs) == len(features.frame_times) == 10
    for moment, shown in zip(features.frame_moments, features.frame_times, strict=True):
        nearest = min(abs(key - moment) for key in keys)
        assert abs(shown - moment) == pytest.approx(nearest, abs=2e-3)


def test_a_clip_without_a_key_picture_keeps_its_moments(media: Path) -> None:
    with open_media(media / "audible/chrome.mp4") as container:
        source = choose_streams(container)
        packets = [p for p in container.demux(source.video) if p.is_keyframe and p.pts is not None]
        keys = [source.seconds(p.pts, p.stream_index) for p in packets]
    gap = max(range(1, len(keys)), key=lambda i: keys[i] - keys[i - 1])
    span = (keys[gap - 1] + 0.1, keys[gap] - 0.1)
    exact, snapped = (
        extract_clip(media / "audible/chrome.mp4", 0.0, *span, FrameSettings(frame_snap=how), modalities="v")
        for how in ("exact", "key")
    )
    assert exact.frame_times == snapped.frame_times
    assert exact.jpegs == snapped.jpegs
