"""The driver of filter: clips without facts are measured in workers, then all facts are decided here."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from valor_data.config import FilterSection
from valor_data.errors import CURATION, PRECEDENCE, ConfigError
from valor_data.filter.leak import OWN_SPLITS
from valor_data.filter.recipe import (
    CURATION_FIELDS,
    Scores,
    check_recipe,
    is_curated,
    is_folder,
    needs_content,
    rules_of,
)
from valor_data.filter.rules import curate, refuse_alone
from valor_data.ledger import Ledger, Outcome
from valor_data.manifest import read_manifest
from valor_data.media.facts import FACTS_VERSION
from valor_data.road.driver import Driver, StageReport
from valor_data.road.measuring import measure_missing_content, measure_pending
from valor_data.road.scores import languages_of, other_sets, signatures_of
from valor_data.road.standing import Standing, read_standing
from valor_data.workdir import WorkDir

REMEMBERED = ("min_rms_dbfs", "min_peak_dbfs", "min_coverage", *CURATION_FIELDS)


def run_filter(
    driver: Driver,
    section: FilterSection,
    modalities: str,
    *,
    explicit: Collection[str] = (),
    measure: bool = True,
) -> StageReport:
    """Measures what has no facts yet, then decides about every clip that has: by its facts, then by the whole set.

    Args:
        driver: of the work folder.
        section: the `[filter]` settings.
        modalities: what the run holds.
        explicit: names of the settings that were given for this run.
        measure: False: decide only about clips that are measured; the shard stage measures the others. Where rules of
            curation are on, everything is measured all the same: they look at the whole set.

    Returns:
        How all measured clips stand now.

    Raises:
        ConfigError: settings that cannot be meant.
    """
    section = driver.recall("filter", section, explicit, REMEMBERED)
    check_recipe(section)
    driver.note_settings("filter", section, REMEMBERED)
    report = StageReport("filter")
    measure, with_content = measure or is_curated(section), needs_content(section)
    if measure:
        measure_pending(driver, section, modalities, report, with_content=with_content)
    standing = _decide_by_facts(driver, section, modalities)
    if standing.partial and measure:
        measure_pending(driver, section, modalities, report, with_content=with_content)
        standing = _decide_by_facts(driver, section, modalities)
    if with_content:
        measure_missing_content(driver, section, modalities, report, standing.kept.clip_ids)
    if driver.work.part is None:
        report.notices += _curate(driver, section, standing)
    elif is_curated(section):
        report.notices.append("curation looks at the whole set: run `filter` without --part after `ledger merge`")
    return filter_report(driver, report)


def filter_report(driver: Driver, report: StageReport | None = None) -> StageReport:
    """How all measured clips stand now."""
    report = report or StageReport("filter")
    for reason, number in driver.ledger.filter_counts():
        report.count(Outcome.refused(reason) if reason else Outcome.kept(), number)
    return report


def require_decided(driver: Driver, section: FilterSection, modalities: str) -> None:
    """Where rules of curation are on, decides about clips that nobody has decided about: before shards are made.

    Raises:
        ConfigError: this is a part, which cannot decide for the whole set.
    """
    if not is_curated(section) or not len(driver.ledger.pending_measure(FACTS_VERSION)):
        return
    if driver.work.part is not None:
        raise ConfigError(
            f"--part {driver.work.part}: curation looks at the whole set, and clips of this part are "
            "not measured: run `filter` (or its parts, `ledger merge`, and `filter`) first, then `shard --part`"
        )
    run_filter(driver, section, modalities, explicit=REMEMBERED)


def _decide_by_facts(driver: Driver, section: FilterSection, modalities: str) -> Standing:
    """Decides about every clip by its facts alone, and writes what is not the business of curation.

    A clip that the sound alone refused while its shard was made has no facts of its picture. When a moved
    threshold would keep it, those facts are not enough: they are dropped, and the clip is measured again.
    """
    listed = read_manifest(driver.work.manifest).table if is_curated(section) else None
    standing = read_standing(driver.ledger, listed, section, modalities)
    for clip_id, outcome, is_new in standing.changed:
        driver.ledger.record(clip_id, "filter", outcome, counts=is_new)
    for clip_id in standing.partial:
        driver.ledger.forget_facts(clip_id)
    if driver.work.part is not None:  # who was refused by the whole set's rules stays refused
        for clip_id, (former, _) in zip(standing.kept.clip_ids.tolist(), standing.former, strict=True):
            if former != "kept" and former not in CURATION:
                driver.ledger.record(clip_id, "filter", Outcome.kept())
    driver.ledger.commit()
    return standing


def _curate(driver: Driver, section: FilterSection, standing: Standing) -> list[str]:
    """Decides about the clips that their facts keep by the rules that are on, and writes what has changed.

    Returns:
        What a person should know.
    """
    scores = _scores(driver.work, driver.ledger, section, standing, writes=True)
    curated = curate(standing.kept, rules_of(section, scores))
    for position, (former, detail) in enumerate(standing.former):
        if curated.rule[position] < 0:
            if former != "kept":
                driver.ledger.record(int(standing.kept.clip_ids[position]), "filter", Outcome.kept())
            continue
        outcome = Outcome.refused(curated.reason(position), curated.detail(position))
        if (outcome.reason, hash(outcome.detail)) != (former, detail):
            is_new = outcome.reason != former
            driver.ledger.record(int(standing.kept.clip_ids[position]), "filter", outcome, counts=is_new)
    driver.ledger.commit()
    return _lacking_content(section, scores)


def _scores(
    work: WorkDir, ledger: Ledger, section: FilterSection, standing: Standing, *, writes: bool = False
) -> Scores:
    return Scores(
        languages=lambda: languages_of(ledger, standing.kept, standing.basis, writes=writes),
        signatures=functools.cache(lambda: signatures_of(ledger, standing.kept)),
        others=functools.cache(lambda: other_sets(work, section)),
    )


def _lacking_content(section: FilterSection, scores: Scores) -> list[str]:
    """Says which clips and sets cannot be compared by what they show."""
    if not needs_content(section):
        return []
    told = []
    unknown = int(np.count_nonzero(~scores.signatures().measured))
    if unknown:
        told.append(f"{unknown} clips are not judged by what they show: it was not measured, or their media are gone")
    bare = [other.name for name, other in zip(section.leak, scores.others(), strict=True)
            if is_folder(name) and name != OWN_SPLITS and not len(other.signatures)]  # fmt: skip
    told += [f"leak: {name} is compared by id only; `valor-data filter --content` there measures it" for name in bare]
    return told


@dataclass(frozen=True, slots=True)
class RulePreview:
    """What one filter would remove.

    Attributes:
        reason: its code.
        setting: the setting that turns it on.
        alone: clips it would remove if it were the only one.
        in_order: clips it removes of those that the filters before it leave.
        left: clips that are left after it.
    """

    reason: str
    setting: str
    alone: int
    in_order: int
    left: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What `filter` would do now.

    Attributes:
        num_clips: clips that are measured.
        num_unmeasured: clips whose media are there and that are not: nothing is known of them yet.
        rules: the filters in their order.
        kept: clips that would be kept.
        kept_now: clips that are kept now.
        notices: what a person should know.
    """

    num_clips: int
    num_unmeasured: int
    rules: tuple[RulePreview, ...]
    kept: int
    kept_now: int
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "measured": self.num_clips,
            "unmeasured": self.num_unmeasured,
            "kept": self.kept,
            "kept_now": self.kept_now,
            "notices": list(self.notices),
            "rules": [
                {"reason": r.reason, "setting": r.setting, "alone": r.alone, "in_order": r.in_order, "left": r.left}
                for r in self.rules
            ],
        }


def preview_filter(work: WorkDir, ledger: Ledger, section: FilterSection, modalities: str) -> Preview:
    """What each filter would remove, alone and in order; decodes and writes nothing.

    Args:
        work: the work folder.
        ledger: its ledger, open to read.
        section: the `[filter]` settings, former choices in place of defaults.
        modalities: what the run holds.

    Raises:
        ConfigError: settings that cannot be meant.
    """
    check_recipe(section)
    listed = read_manifest(work.manifest).table if is_curated(section) else None
    standing = read_standing(ledger, listed, section, modalities)
    scores = _scores(work, ledger, section, standing)
    rules = rules_of(section, scores)
    curated = curate(standing.kept, rules)
    told = _preview_of_facts(standing, section)
    left = told[-1].left
    for number, rule in enumerate(rules):
        in_order = int(np.count_nonzero(curated.rule == number))
        left -= in_order
        alone = in_order if number == 0 else refuse_alone(standing.kept, rule)
        told.append(RulePreview(rule.reason, rule.setting(), alone, in_order, left))
    kept_now = sum(number for reason, number in ledger.filter_counts() if not reason)
    unmeasured = len(ledger.pending_measure(FACTS_VERSION))
    notices = tuple(_lacking_content(section, scores))
    return Preview(standing.num_clips, unmeasured, tuple(told), left, kept_now, notices)


def _preview_of_facts(standing: Standing, section: FilterSection) -> list[RulePreview]:
    settings = {
        "short": f"min_coverage = {section.min_coverage:g}",
        "silent": f"min_rms_dbfs = {section.min_rms_dbfs:g}, min_peak_dbfs = {section.min_peak_dbfs:g}",
    }
    left = standing.num_clips
    told = []
    for reason in (code for code in PRECEDENCE if code not in CURATION):
        left -= standing.first[reason]
        told.append(RulePreview(reason, settings.get(reason, ""), standing.alone[reason], standing.first[reason], left))
    return told
