"""The driver of filter: clips without facts are measured in workers, then all facts are decided here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from valor_data.clip import parse_key
from valor_data.config import FilterSection
from valor_data.errors import Status
from valor_data.execute import Lost, Suspects
from valor_data.filter.decide import decide
from valor_data.filter.measure import Measured, MeasureRequest, MeasureUnit, measure_clips
from valor_data.ledger import ClipRow, MediaRow, Outcome
from valor_data.media.facts import FACTS_VERSION
from valor_data.road.driver import Driver, StageReport

REMEMBERED = ("min_rms_dbfs", "min_peak_dbfs", "min_coverage")

CLIPS_A_UNIT = 8


def run_filter(
    driver: Driver,
    section: FilterSection,
    modalities: str,
    *,
    explicit: Collection[str] = (),
    measure: bool = True,
) -> StageReport:
    """Measures what has no facts yet, then decides about every clip that has.

    Args:
        driver: of the work folder.
        section: the `[filter]` settings.
        modalities: what the run holds.
        explicit: names of the settings that were given for this run.
        measure: False: decide only about clips that are measured; the shard stage measures the others.

    Returns:
        How all measured clips stand now.
    """
    section = driver.remember("filter", section, explicit, REMEMBERED)
    report = StageReport("filter")
    if measure:
        _measure_pending(driver, section, modalities, report)
    if _decide_all(driver, section, modalities) and measure:
        _measure_pending(driver, section, modalities, report)
        _decide_all(driver, section, modalities)
    return filter_report(driver, report)


def filter_report(driver: Driver, report: StageReport | None = None) -> StageReport:
    """How all measured clips stand now."""
    report = report or StageReport("filter")
    for reason, number in driver.ledger.filter_counts():
        report.count(Outcome.refused(reason) if reason else Outcome.kept(), number)
    return report


def _measure_pending(driver: Driver, section: FilterSection, modalities: str, report: StageReport) -> None:
    pending = driver.ledger.pending_measure(FACTS_VERSION)
    if not len(pending):
        return
    driver.progress.start("filter", len(pending), "clips")
    executor = driver.executor(section.workers)
    try:
        requests = (_request(driver.work.root, clip, media) for clip, media in pending)
        todo = _batches(requests, CLIPS_A_UNIT)
        suspects = Suspects()
        while True:
            again: list[MeasureRequest] = []
            limits = (section.clip_deadline_seconds, section.clip_memory_bytes)
            units = (MeasureUnit(batch, modalities, *limits) for batch in todo)
            for unit, result in executor.run(measure_clips, units):
                if isinstance(result, Lost) and suspects.is_first_crash(result, str(unit.clips[0].clip_id)):
                    again += unit.clips
                else:
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


def _batches(requests: Iterable[MeasureRequest], size: int) -> Iterator[tuple[MeasureRequest, ...]]:
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


def _decide_all(driver: Driver, section: FilterSection, modalities: str) -> int:
    """Decides about every clip that has facts.

    A clip that the sound alone refused while its shard was made has no facts of its picture. When a moved
    threshold would keep it, those facts are not enough: they are dropped, and the clip is measured again.

    Returns:
        How many clips must be measured again.
    """
    changed: list[tuple[int, Outcome]] = []
    partial: list[int] = []
    for clip_id, text, status, reason in driver.ledger.all_facts():
        facts = json.loads(text)
        outcome = decide(facts, section, modalities)
        if (outcome.status.value, outcome.reason) == (status, reason):
            continue
        if outcome.status is Status.KEPT and _is_partial(facts, modalities):
            partial.append(clip_id)
        else:
            changed.append((clip_id, outcome))
    for clip_id, outcome in changed:
        driver.ledger.record(clip_id, "filter", outcome)
    for clip_id in partial:
        driver.ledger.forget_facts(clip_id)
    driver.ledger.commit()
    return len(partial)


def _is_partial(facts: dict[str, Any], modalities: str) -> bool:
    return "v" in modalities and facts["has_video"] and facts["decodable"] and not facts["num_pictures_decoded"]
