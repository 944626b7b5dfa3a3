"""Measuring clips in workers: what has no facts gets facts, or a reason why there are none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valor_data.clip import parse_key
from valor_data.config import FilterSection
from valor_data.execute import Lost, Suspects
from valor_data.filter.measure import Measured, MeasureRequest, MeasureUnit, measure_clips
from valor_data.ledger import ClipRow, LazyRows, MediaRow, Outcome
from valor_data.media.content import CONTENT_VERSION, Content
from valor_data.media.facts import FACTS_VERSION
from valor_data.road.driver import Driver, StageReport

CLIPS_A_UNIT = 8

CONTENT = "content"
"""The kind of score that `media.content` measures, in the ledger."""


def measure_pending(
    driver: Driver, section: FilterSection, modalities: str, report: StageReport, *, with_content: bool = False
) -> None:
    """Measures every clip that has no facts yet, and what curation asks for in the same pass."""
    pending = driver.ledger.pending_measure(FACTS_VERSION)
    _measure(driver, section, pending, _Pass(modalities, "both" if with_content else "facts", report))


def measure_missing_content(
    driver: Driver, section: FilterSection, modalities: str, report: StageReport, clip_ids: NDArray[np.int64]
) -> None:
    """Measures, for curation, those of some clips that have facts but no content figures yet."""
    pending = driver.ledger.without_score(CONTENT, CONTENT_VERSION, clip_ids)
    _measure(driver, section, pending, _Pass(modalities, "content", report))


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over media: what the run holds, what is measured, and where the outcomes are counted."""

    modalities: str
    what: str
    report: StageReport


def _measure(driver: Driver, section: FilterSection, pending: LazyRows[tuple[ClipRow, MediaRow]], work: _Pass) -> None:
    if not len(pending):
        return
    driver.progress.start("filter" if work.what != "content" else "filter: content", len(pending), "clips")
    executor = driver.executor(section.workers)
    try:
        requests = (_request(driver.work.root, clip, media) for clip, media in pending)
        todo = _batches(requests, CLIPS_A_UNIT)
        suspects = Suspects()
        while True:
            again: list[MeasureRequest] = []
            limits = (section.clip_deadline_seconds, section.clip_memory_bytes)
            units = (MeasureUnit(batch, work.modalities, *limits, work.what) for batch in todo)
            for unit, result in executor.run(measure_clips, units):
                if isinstance(result, Lost) and suspects.is_first_crash(result, str(unit.clips[0].clip_id)):
                    again += unit.clips
                else:
                    again += _record(driver, unit, result, work.report)
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
        if unit.what == "content":
            _record_nothing(driver, blamed[0].clip_id)
            return [clip for clip in unit.clips if clip is not blamed[0]]
        driver.ledger.record(blamed[0].clip_id, "filter", Outcome.refused(result.reason, result.detail))
        driver.progress.advance("dropped", result.reason)
        return [clip for clip in unit.clips if clip is not blamed[0]]
    for clip in result:
        if clip.lost:
            driver.ledger.record(clip.clip_id, "fetch", Outcome.refused("missing", clip.detail), counts=False)
            report.count(Outcome.refused("missing", clip.detail))
            driver.progress.advance("waiting", "missing")
        elif clip.facts is not None or clip.content is not None:
            if clip.facts is not None:
                driver.ledger.record_facts(clip.clip_id, FACTS_VERSION, clip.facts)
            if clip.content is not None:
                driver.ledger.record_scores(CONTENT, CONTENT_VERSION, [(clip.clip_id, 0, clip.content)])
            driver.progress.advance("measured")
        elif unit.what == "content":
            _record_nothing(driver, clip.clip_id)
        else:
            driver.ledger.record(clip.clip_id, "filter", Outcome.refused(clip.reason, clip.detail))
            driver.progress.advance("dropped", clip.reason)
    return []


def _record_nothing(driver: Driver, clip_id: int) -> None:
    """Notes that a clip has nothing to compare: its facts stand, and it is not tried again and again."""
    driver.ledger.record_scores(CONTENT, CONTENT_VERSION, [(clip_id, 0, Content().to_bytes())])
    driver.progress.advance("measured")
