"""The driver of filter: clips without facts are measured in workers, then all facts are decided here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from valor_data.clip import parse_key
from valor_data.config import FilterSection
from valor_data.execute import Lost
from valor_data.filter.decide import decide
from valor_data.filter.measure import Measured, MeasureRequest, MeasureUnit, measure_clips
from valor_data.ledger import ClipRow, MediaRow, Outcome
from valor_data.media.facts import FACTS_VERSION
from valor_data.road.driver import Driver, StageReport

REMEMBERED = ("min_rms_dbfs", "min_peak_dbfs", "min_coverage")

CLIPS_A_UNIT = 8


def run_filter(
    driver: Driver, section: FilterSection, modalities: str, *, explicit: Collection[str] = ()
) -> StageReport:
    """Measures what has no facts yet, then decides about every clip that has.

    Args:
        driver: of the work folder.
        section: the `[filter]` settings.
        modalities: what the run holds.
        explicit: names of the settings that were given for this run.

    Returns:
        How all measured clips stand now.
    """
    section = driver.remember("filter", section, explicit, REMEMBERED)
    report = StageReport("filter")
    _measure_pending(driver, section, modalities, report)
    _decide_all(driver, section, modalities, report)
    return report


def _measure_pending(driver: Driver, section: FilterSection, modalities: str, report: StageReport) -> None:
    pending = driver.ledger.pending_measure(FACTS_VERSION)
    if not pending:
        return
    driver.progress.start("filter", len(pending), "clips")
    executor = driver.executor(section.workers)
    try:
        requests = [_request(driver.work.root, clip, media) for clip, media in pending]
        todo = _batches(requests, CLIPS_A_UNIT)
        while True:
            again: list[MeasureRequest] = []
            units = (MeasureUnit(batch, modalities, section.clip_deadline_seconds) for batch in todo)
            for unit, result in executor.run(measure_clips, units):
                again += _record(driver, unit, result, report)
                driver.commit_now_and_then()
            if not again:
                return
            # What a lost worker had not reached is measured again, clip by clip.
            todo = iter([(request,) for request in again])
    finally:
        executor.close()
        driver.ledger.commit()
        driver.progress.finish()


def _batches(requests: list[MeasureRequest], size: int) -> Iterator[tuple[MeasureRequest, ...]]:
    source = iter(requests)
    while batch := tuple(itertools.islice(source, size)):
        yield batch


def _request(root: Path, clip: ClipRow, media: MediaRow) -> MeasureRequest:
    _, start, end = parse_key(clip.key or clip.identity)
    return MeasureRequest(clip.clip_id, clip.key or clip.identity, root / media.path, media.offset_seconds, start, end)


def _record(
    driver: Driver, unit: MeasureUnit, result: list[Measured] | Lost, report: StageReport
) -> list[MeasureRequest]:
    """Writes what came back; gives back the clips that must be measured again."""
    if isinstance(result, Lost):
        blamed = [clip for clip in unit.clips if str(clip.clip_id) == result.item] or list(unit.clips[:1])
        driver.ledger.record(blamed[0].clip_id, "filter", Outcome.refused(result.reason, result.detail))
        driver.progress.advance("dropped", result.reason)
        return [clip for clip in unit.clips if clip is not blamed[0]]
    for clip in result:
        if clip.lost:
            driver.ledger.record(clip.clip_id, "fetch", Outcome.refused("missing", clip.detail), counts=False)
            report.count(Outcome.refused("missing", clip.detail))
            driver.progress.advance("waiting", "missing")
        elif clip.facts is not None:
            driver.ledger.record_facts(clip.clip_id, FACTS_VERSION, clip.facts)
            driver.progress.advance("measured")
        else:
            driver.ledger.record(clip.clip_id, "filter", Outcome.refused(clip.reason, clip.detail))
            driver.progress.advance("dropped", clip.reason)
    return []


def _decide_all(driver: Driver, section: FilterSection, modalities: str, report: StageReport) -> None:
    changed: list[tuple[int, Outcome]] = []
    for clip_id, facts, status, reason in driver.ledger.all_facts():
        outcome = decide(json.loads(facts), section, modalities)
        report.count(outcome)
        if (outcome.status.value, outcome.reason) != (status, reason):
            changed.append((clip_id, outcome))
    for clip_id, outcome in changed:
        driver.ledger.record(clip_id, "filter", outcome)
    driver.ledger.commit()
    for reason, number in driver.ledger.refused_without_facts():
        report.count(Outcome.refused(reason), number)
