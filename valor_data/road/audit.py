"""Are the sources still there? Every video is asked for at fetch's own pace, and nothing is brought.

What blocks us proves nothing: it waits. YouTube's `gone` is believed after a second sighting a day later, as in fetch.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from valor_data.clip import Clip
from valor_data.config import FetchSection
from valor_data.errors import ClipError, Status
from valor_data.execute import Executor, Lost
from valor_data.fetch import ClipRequest, FetchedClip, Location, Source, VideoResult, VideoUnit
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.sources import absolute_source, open_source
from valor_data.fetch.video import discard, fetch_video
from valor_data.ledger import ClipRow, LazyRows, Outcome
from valor_data.manifest import Manifest, read_manifest
from valor_data.road.admission import Admission, open_addresses
from valor_data.road.deadlinks import DAY_SECONDS, SHAREABLE
from valor_data.road.driver import Driver
from valor_data.road.fetch import REMEMBERED, SIGHTING_SECONDS, Refusal, Selection
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
    run = _AuditRun(driver, section, source, read_manifest(driver.work.manifest), clock)
    report = AuditReport()
    try:
        run.go(due, driver.executor(section.workers))
    finally:
        driver.progress.finish()
    report.num_asked = run.num_asked
    report.found = driver.ledger.audit_counts()
    report.num_unaudited = driver.ledger.num_unaudited()
    report.lost = list(_lost(driver))
    if run.admission.stopped is not None:
        raise run.admission.stopped
    return report


@dataclass(slots=True)
class _AuditRun:
    """One run: admission, workers, and what is written of their answers."""

    driver: Driver
    section: FetchSection
    source: Source
    listed: Manifest
    clock: Callable[[], float]
    num_asked: int = 0
    admission: Admission = field(init=False)
    _known_good: str = field(init=False)

    def go(self, due: LazyRows[ClipRow], executor: Executor) -> None:
        """Asks; whatever ends it, what came back is recorded."""
        ledger, watched = self.driver.ledger, self.source.is_watched
        self._known_good = ledger.get_meta("known_good_video") or self.section.probe_video
        addresses, proxies = open_addresses(self.section, is_watched=watched)
        for name, address in addresses.items():
            kept = ledger.get_address(name) if watched else None
            if kept is not None:
                address.load_json(kept)
        self.admission = Admission(
            videos=self._units(due),
            addresses=addresses,
            proxies=proxies,
            settings=self.section,
            folder=self.driver.work.own_tmp(),
            clock=self.clock,
            is_watched=watched,
            probe=self._probe if watched else None,
            tell=self.driver.progress.note,
            doubted=ledger.doubted_in_audits() if watched else frozenset(),
        )
        self.driver.progress.start("audit", len(due), "clips")
        try:
            for unit, result in executor.run(
                fetch_video,
                self.admission.units(),
                deadline_seconds=self.section.video_deadline_seconds,
                in_flight=self.section.workers if watched else None,
            ):
                self._take(unit, result)
                ledger.commit()
        finally:
            executor.close()
            self._keep_addresses()

    def _keep_addresses(self) -> None:
        for address in self.admission.addresses.values():
            self.driver.ledger.set_address(address.name, address.to_json())
        self.driver.ledger.commit()

    def _take(self, unit: VideoUnit, result: VideoResult | Lost) -> None:
        now = self.clock()
        if isinstance(result, Lost):
            clips = tuple(FetchedClip(clip.clip_id, Outcome.refused("network", result.detail)) for clip in unit.clips)
            result = VideoResult(clips, refusal="extractor", detail=result.detail)
            discard(unit)
        own = self.admission.settle(unit, result.refusal, result.detail, result.retry_after_seconds)
        if not own:
            self._keep_addresses()  # a pause must outlast a kill
            return
        for clip in result.clips:
            outcome, not_before = self._judged(unit, clip, now)
            self.driver.ledger.record_audit(clip.clip_id, outcome, now, not_before)
            self.driver.progress.advance(outcome.status.value, outcome.reason)
            self.num_asked += 1
            if outcome.status is Status.KEPT and self.source.is_watched:
                self._known_good = unit.video_id

    def _judged(self, unit: VideoUnit, clip: FetchedClip, now: float) -> tuple[Outcome, float]:
        """What an answer proves: lost only where the video itself is; and when to ask again."""
        outcome = clip.outcome
        if outcome.status is Status.KEPT:
            return outcome, 0.0
        is_lost = outcome.reason in LOST and (outcome.reason != "missing" or isinstance(self.source, FolderSource))
        if not is_lost:
            return Outcome(Status.WAITING, outcome.reason, outcome.detail), 0.0
        if not (self.source.is_watched and outcome.reason == "gone"):
            return Outcome(Status.DROPPED, outcome.reason, outcome.detail), 0.0
        first_seen = self.driver.ledger.audit_first_seen(clip.clip_id, "gone_once")
        day_passed = first_seen is not None and now - first_seen >= SIGHTING_SECONDS
        if day_passed and self.admission.is_healthy(unit.address, now):
            return Outcome(Status.DROPPED, "gone", outcome.detail), 0.0
        due = max(now, (now if first_seen is None else first_seen) + SIGHTING_SECONDS)
        return Outcome(Status.WAITING, "gone_once", outcome.detail), due

    def _probe(self) -> VideoUnit:
        work = self.driver.work
        location = self.source.find(self._known_good, None, ())
        return VideoUnit(self._known_good, (), location, self.section, work.root, work.own_tmp(), is_probe=True)

    def _units(self, due: LazyRows[ClipRow]) -> Iterator[VideoUnit]:
        """One unit a video, for its clips that are due."""
        work = self.driver.work
        # Clips of a video stand together where the ledger lists them by video; a few hundred are read at a time.
        chosen = set(due.clip_ids)
        in_order = due.of(number for number in self.driver.ledger.ids_by_video() if number in chosen)
        for video_id, group in itertools.groupby(self._with_clips(in_order), lambda pair: pair[0].video_id):
            rows, clips = zip(*group, strict=True)
            requests = tuple(
                ClipRequest(row.clip_id, row.key or row.identity, clip.start, clip.end)
                for row, clip in zip(rows, clips, strict=True)
            )
            try:
                location: Location = self.source.find(video_id, clips[0].url, requests)
            except ClipError as refusal:
                location = Refusal(refusal.reason, refusal.detail)
            yield VideoUnit(video_id, requests, location, self.section, work.root, work.own_tmp(), checks_only=True)

    def _with_clips(self, rows: LazyRows[ClipRow]) -> Iterator[tuple[ClipRow, Clip]]:
        source = iter(rows)
        while batch := list(itertools.islice(source, LazyRows.BATCH)):
            numbers = [row.manifest_row for row in batch if row.manifest_row is not None]
            yield from zip(batch, self.listed.clips(numbers), strict=True)


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
