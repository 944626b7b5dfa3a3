"""Measuring clips in workers: what has no facts gets facts, or a reason why there are none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from valor_data.clip import parse_key
from valor_data.config import FilterSection
from valor_data.execute import Lost, Suspects
from valor_data.filter.measure import Measured, MeasureRequest, MeasureUnit, measure_clips
from valor_data.ledger import ClipRow, MediaRow, Outcome
from valor_data.media.facts import FACTS_VERSION
from valor_data.road.driver import Driver, StageReport

CLIPS_A_UNIT = 8


def measure_pending(driver: Driver, section: FilterSection, modalities: str, report: StageReport) -> None:
    """Measures every clip that has no facts yet."""
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
