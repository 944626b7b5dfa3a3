"""The decision: a pure function of a clip's facts and the thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from valor_data.config import FilterSection
from valor_data.errors import PRECEDENCE
from valor_data.ledger import Outcome


def decide(facts: Mapping[str, Any], thresholds: FilterSection, modalities: str) -> Outcome:
    """Keeps a clip or refuses it, for the first reason of `errors.PRECEDENCE` that fits.

    Args:
        facts: what was measured (`media.facts.Facts` as a dictionary).
        thresholds: the `[filter]` settings.
        modalities: `av`, `v` or `a`; what a run does not hold is not asked for.

    Returns:
        Kept, or dropped with the reason and the figure that decided.
    """
    refusals = all_refusals(facts, thresholds, modalities)
    for reason in PRECEDENCE:
        if reason in refusals:
            return Outcome.refused(reason, refusals[reason])
    return Outcome.kept()


def all_refusals(facts: Mapping[str, Any], thresholds: FilterSection, modalities: str) -> dict[str, str]:
    """Every reason that fits, with the figure that decided."""
    sound, picture = "a" in modalities, "v" in modalities
    refusals: dict[str, str] = {}
    if not facts["decodable"]:
        refusals["undecodable"] = str(facts["decode_detail"])
    if picture and not facts["has_video"]:
        refusals["no_video"] = "no picture track, or only a cover picture"
    if sound and not facts["has_audio"]:
        refusals["no_audio"] = "no sound track"
    lacking = [
        f"{name} covers {facts[field]:.0%} of the span"
        for wanted, present, name, field in (
            (picture, facts["has_video"], "the picture", "video_coverage"),
            (sound, facts["has_audio"], "the sound", "audio_coverage"),
        )
        if wanted and present and facts[field] < thresholds.min_coverage
    ]
    if lacking:
        refusals["short"] = ", ".join(lacking) + f"; filter.min_coverage is {thresholds.min_coverage:.0%}"
    if sound and facts["has_audio"]:
        rms, peak = facts["rms_dbfs"], facts["peak_dbfs"]
        if rms < thresholds.min_rms_dbfs or peak < thresholds.min_peak_dbfs:
            refusals["silent"] = (
                f"RMS {rms:.1f} dBFS, peak {peak:.1f} dBFS; "
                f"the thresholds are {thresholds.min_rms_dbfs:g} and {thresholds.min_peak_dbfs:g}"
            )
    return refusals
