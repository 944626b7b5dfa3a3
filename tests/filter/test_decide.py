"""The decision: the first refusal in the order of precedence, from facts and thresholds alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.config import FilterSection
from valor_data.errors import PRECEDENCE, Status
from valor_data.filter.decide import decide
from valor_data.ledger import Outcome
from valor_data.media.facts import Facts

GOOD = Facts(has_video=True, has_audio=True, video_coverage=1.0, audio_coverage=1.0, rms_dbfs=-20.0, peak_dbfs=-3.0)
DEFAULTS = FilterSection()

FAULTS: dict[str, dict[str, Any]] = {
    "undecodable": {"decodable": False, "decode_detail": "encrypted"},
    "no_video": {"has_video": False, "video_coverage": 0.0},
    "no_audio": {"has_audio": False, "audio_coverage": 0.0, "rms_dbfs": -150.0, "peak_dbfs": -150.0},
    "short": {"video_coverage": 0.4, "audio_coverage": 0.4},
    "silent": {"rms_dbfs": -91.0, "peak_dbfs": -91.0},
}
"""One way to earn each refusal."""


def facts_with(*changes: dict[str, Any]) -> dict[str, Any]:
    facts = GOOD.to_dict()
    for change in changes:
        facts |= change
    return facts


def test_a_good_clip_is_kept() -> None:
    for modalities in ("av", "v", "a"):
        assert decide(facts_with(), DEFAULTS, modalities) == Outcome.kept()


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("undecodable", "encrypted"),
        ("no_video", "no picture track, or only a cover picture"),
        ("no_audio", "no sound track"),
        ("short", "the picture covers 40% of the span, the sound covers 40% of the span; filter.min_coverage is 50%"),
        ("silent", "RMS -91.0 dBFS, peak -91.0 dBFS; the thresholds are -60 and -50"),
    ],
)
def test_each_refusal_alone(reason: str, detail: str) -> None:
    assert decide(facts_with(FAULTS[reason]), DEFAULTS, "av") == Outcome(Status.DROPPED, reason, detail)


@pytest.mark.parametrize("worse", range(len(FAULTS)))
@pytest.mark.parametrize("better", range(len(FAULTS)))
def test_of_two_refusals_the_first_is_the_reason(worse: int, better: int) -> None:
    one, other = PRECEDENCE[worse], PRECEDENCE[better]
    # What is not there is neither short nor silent: the more serious fault goes on top of the other.
    first, second = sorted((one, other), key=PRECEDENCE.index, reverse=True)
    assert decide(facts_with(FAULTS[first], FAULTS[second]), DEFAULTS, "av").reason == PRECEDENCE[min(worse, better)]


@pytest.mark.parametrize(
    ("modalities", "fault", "reason"),
    [
        ("v", {"has_audio": False}, ""),
        ("v", FAULTS["silent"], ""),
        ("v", {"audio_coverage": 0.0}, ""),
        ("v", {"video_coverage": 0.1}, "short"),
        ("v", FAULTS["no_video"], "no_video"),
        ("a", FAULTS["no_video"], ""),
        ("a", {"video_coverage": 0.0}, ""),
        ("a", {"audio_coverage": 0.1}, "short"),
        ("a", FAULTS["no_audio"], "no_audio"),
        ("a", FAULTS["silent"], "silent"),
        ("v", FAULTS["undecodable"], "undecodable"),
    ],
)
def test_what_a_run_does_not_hold_is_not_asked_for(modalities: str, fault: dict[str, Any], reason: str) -> None:
    assert decide(facts_with(fault), DEFAULTS, modalities).reason == reason


@pytest.mark.parametrize(
    ("rms", "peak", "kept"),
    [(-60.0, -50.0, True), (-60.1, -50.0, False), (-60.0, -50.1, False), (-51.0, -30.0, True), (-10.0, -60.0, False)],
)
def test_both_levels_count_and_the_threshold_itself_is_kept(rms: float, peak: float, kept: bool) -> None:
    outcome = decide(facts_with({"rms_dbfs": rms, "peak_dbfs": peak}), DEFAULTS, "av")
    assert outcome.status is (Status.KEPT if kept else Status.DROPPED)


@pytest.mark.parametrize(("coverage", "kept"), [(0.5, True), (0.4999, False)])
def test_half_is_enough(coverage: float, kept: bool) -> None:
    for name in ("video_coverage", "audio_coverage"):
        outcome = decide(facts_with({name: coverage}), DEFAULTS, "av")
        assert (outcome.reason == "") == kept


shares = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
levels = st.sampled_from([-150.0, -91.0, -60.0, -50.0, -20.0, 0.0])
any_facts = st.fixed_dictionaries(
    {
        "decodable": st.booleans(),
        "decode_detail": st.sampled_from(["", "damaged"]),
        "has_video": st.booleans(),
        "has_audio": st.booleans(),
        "video_coverage": shares,
        "audio_coverage": shares,
        "rms_dbfs": levels,
        "peak_dbfs": levels,
    }
)
thresholds = st.builds(FilterSection, min_rms_dbfs=levels, min_peak_dbfs=levels, min_coverage=shares)


def expected(f: dict[str, Any], t: FilterSection, modalities: str) -> str:
    """DESIGN's rules once more, as a plain list of questions."""
    sees, hears = modalities in ("av", "v"), modalities in ("av", "a")
    if not f["decodable"]:
        return "undecodable"
    if sees and not f["has_video"]:
        return "no_video"
    if hears and not f["has_audio"]:
        return "no_audio"
    if (sees and f["video_coverage"] < t.min_coverage) or (hears and f["audio_coverage"] < t.min_coverage):
        return "short"
    if hears and not (f["rms_dbfs"] >= t.min_rms_dbfs and f["peak_dbfs"] >= t.min_peak_dbfs):
        return "silent"
    return ""


@settings(max_examples=500, deadline=None)
@given(any_facts, thresholds, st.sampled_from(["av", "v", "a"]))
def test_any_facts_and_thresholds(facts: dict[str, Any], section: FilterSection, modalities: str) -> None:
    outcome = decide(facts_with(facts), section, modalities)
    assert outcome.reason == expected(facts, section, modalities)
    assert outcome.status is (Status.DROPPED if outcome.reason else Status.KEPT)
    assert outcome == decide(facts_with(facts), section, modalities)


@settings(max_examples=100, deadline=None)
@given(any_facts, thresholds, levels, shares)
def test_a_lower_threshold_never_drops_more(
    facts: dict[str, Any], section: FilterSection, level: float, share: float
) -> None:
    lower = FilterSection(
        min_rms_dbfs=min(level, section.min_rms_dbfs),
        min_peak_dbfs=min(level, section.min_peak_dbfs),
        min_coverage=min(share, section.min_coverage),
    )
    if decide(facts_with(facts), section, "av").status is Status.KEPT:
        assert decide(facts_with(facts), lower, "av").status is Status.KEPT
