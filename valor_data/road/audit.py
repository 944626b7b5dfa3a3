"""Are the sources still there? Every video is asked for at fetch's own pace, and nothing is brought.

What blocks us proves nothing: it waits. YouTube's `gone` is believed after a second sighting a day later, as in fetch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from valor_data.config import FetchSection
from valor_data.errors import Status
from valor_data.execute import Executor, Lost
from valor_data.fetch import FetchedClip, VideoResult, VideoUnit
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.sources import absolute_source, open_source
from valor_data.fetch.video import discard
from valor_data.ledger import ClipRow, LazyRows, Outcome
from valor_data.manifest import read_manifest
from valor_data.road.asking import Asking, Selection
from valor_data.road.deadlinks import DAY_SECONDS, SHAREABLE
from valor_data.road.driver import Driver
from valor_data.road.fetch import REMEMBERED
from valor_data.workdir import written_aside

LOST = SHAREABLE | {"missing", "not_media", "empty"}
"""Reasons for which a clip is listed as lost; `missing` only where the source is a folder that could be listed."""


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    Attributes:
        num_asked: clips looked for in this run.
        found: clips by (status, reason) of their last audit: kept, dropped (lost) or waiting (nobody could tell).
        num_unaudited: clips that were never looked for.
        lost: keys and video ids to remove, with the reason.
        notices: what a person should know besides.
    """

    num_asked: int = 0
    found: dict[tuple[str, str], int] = field(default_factory=dict)
    num_unaudited: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "asked": self.num_asked,
            "outcomes": [
                {"status": status, "reason": reason, "count": number}
                for (status, reason), number in sorted(self.found.items())
            ],
            "never_asked": self.num_unaudited,
            "lost": [{"name": name, "reason": reason} for name, reason in self.lost],
            "notices": self.notices,
        }


def run_audit(
    driver: Driver,
    section: FetchSection,
    *,
    max_age_days: float,
    explicit: Collection[str] = (),
    selection: Selection | None = None,
    clock: Callable[[], float] = time.time,
) -> AuditReport:
    """Looks for the sources of clips that were fetched once and not looked for lately.

    Args:
        driver: of the work folder.
        section: the `[fetch]` settings: source, pace, addresses.
        max_age_days: what was found younger than this is not asked for again.
        explicit: names of the settings that were given for this run.
        selection: which of them to try.
        clock: seconds since 1970.

    Raises:
        ConfigError: the source is not there.
        ValorDataError: the run had to stop (no network, nearly nothing succeeds); what was found is kept.
    """
    section = driver.recall("fetch", section, explicit, REMEMBERED)
    # Nothing is brought: a full disk is no reason to wait.
    section = replace(section, source=absolute_source(section.source), min_free_bytes=0)
    source, now = open_source(section.source), clock()
    due = (selection or Selection()).of(driver.ledger.due_audit(now - max_age_days * DAY_SECONDS, now))
    listed = read_manifest(driver.work.manifest)
    run = _AuditRun(Asking(driver, section, source, listed, clock, checks_only=True))
    report = AuditReport()
    try:
        run.go(due, driver.executor(section.workers))
    finally:
        driver.progress.finish()
    report.num_asked = run.num_asked
    report.found = driver.ledger.audit_counts()
    report.num_unaudited = driver.ledger.num_unaudited()
    report.lost = list(_lost(driver))
    if run.asking.admission.stopped is not None:
        raise run.asking.admission.stopped
    return report


@dataclass(slots=True)
class _AuditRun:
    """One run: what is asked for, and what is written of the answers."""

    asking: Asking
    num_asked: int = 0

    def go(self, due: LazyRows[ClipRow], executor: Executor) -> None:
        """Asks; whatever ends it, what came back is recorded."""
        driver = self.asking.driver
        self.asking.begin(due, driver.ledger.doubted_in_audits)
        driver.progress.start("audit", len(due), "clips")
        try:
            for unit, result in self.asking.answers(executor, self.asking.admission.units()):
                self._take(unit, result)
                driver.ledger.commit()
        finally:
            executor.close()
            self.asking.keep_addresses()

    def _take(self, unit: VideoUnit, result: VideoResult | Lost) -> None:
        now = self.asking.clock()
        if isinstance(result, Lost):
            clips = tuple(FetchedClip(clip.clip_id, Outcome.refused("network", result.detail)) for clip in unit.clips)
            result = VideoResult(clips, refusal="extractor", detail=result.detail)
            discard(unit)
        own = self.asking.admission.settle(unit, result.refusal, result.detail, result.retry_after_seconds)
        if not own:
            self.asking.keep_addresses()  # a pause must outlast a kill
            return
        for clip in result.clips:
            outcome, not_before = self._judged(unit, clip, now)
            self.asking.driver.ledger.record_audit(clip.clip_id, outcome, now, not_before)
            self.asking.driver.progress.advance(outcome.status.value, outcome.reason)
            self.num_asked += 1
            if outcome.status is Status.KEPT:
                self.asking.note_there(unit)

    def _judged(self, unit: VideoUnit, clip: FetchedClip, now: float) -> tuple[Outcome, float]:
        """What an answer proves: lost only where the video itself is; and when to ask again."""
        outcome = clip.outcome
        if outcome.status is Status.KEPT:
            return outcome, 0.0
        is_lost = outcome.reason in LOST and (
            outcome.reason != "missing" or isinstance(self.asking.source, FolderSource)
        )
        if not is_lost:
            return Outcome(Status.WAITING, outcome.reason, outcome.detail), 0.0
        if not (self.asking.source.is_watched and outcome.reason == "gone"):
            return Outcome(Status.DROPPED, outcome.reason, outcome.detail), 0.0
        first_seen = self.asking.driver.ledger.audit_first_seen(clip.clip_id, "gone_once")
        again = self.asking.look_again(unit, first_seen, now)
        if again is None:
            return Outcome(Status.DROPPED, "gone", outcome.detail), 0.0
        return Outcome(Status.WAITING, "gone_once", outcome.detail), again


def _lost(driver: Driver) -> Iterator[tuple[str, str]]:
    """What to remove: a video's id where nothing of it is left, else keys; each once, with the reason."""
    told: Counter[str] = Counter()
    for key, video_id, reason, whole in driver.ledger.lost_in_audits():
        name = video_id if whole else key
        if not told[name]:
            yield name, reason
        told[name] += 1


def write_lost(report: AuditReport, target: Path) -> None:
    """Writes what is lost, a name and its reason a line, as `remove --ids` takes it."""
    with written_aside(target) as path:
        lines = ["# no longer at the source: valor-data remove --reason gone --ids …"]
        lines += [f"{name}\t{reason}" for name, reason in report.lost]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
