"""The driver of fetch: a manifest enters the ledger, pending videos go to workers at the pace their addresses allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from valor_data.config import FetchSection
from valor_data.errors import REASONS, Status
from valor_data.execute import Executor, Idle, Lost
from valor_data.fetch import ClipRequest, FetchedClip, Source, VideoResult, VideoUnit
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.sources import absolute_source, open_source
from valor_data.fetch.video import check_result, discard
from valor_data.ledger import Attempt, ClipRow, LazyRows, Outcome
from valor_data.manifest import Manifest
from valor_data.road.asking import Asking, Selection
from valor_data.road.deadlinks import apply_deadlinks
from valor_data.road.driver import Driver, StageReport
from valor_data.road.entry import enter_manifest
from valor_data.road.metrics import MetricsFile

REMEMBERED = ("source", "member", "copy", "max_short_side_px", "max_video_seconds", "max_video_bytes")


def run_fetch(
    driver: Driver,
    section: FetchSection,
    *,
    manifest: Path | None = None,
    explicit: Collection[str] = (),
    selection: Selection | None = None,
    clock: Callable[[], float] = time.time,
) -> StageReport:
    """Fetches what is pending.

    Args:
        driver: of the work folder.
        section: the `[fetch]` settings.
        manifest: the list of clips; None: the one that the work folder holds.
        explicit: names of the settings that were given for this run.
        selection: which of the pending clips to try.
        clock: seconds since 1970.

    Returns:
        What became of the clips tried in this run.

    Raises:
        ConfigError: the source is not there, or the manifest does not fit the work folder.
        ManifestError: the manifest cannot be read.
        ValorDataError: the run had to stop (no network, nearly nothing succeeds); what was done is kept.
    """
    report = StageReport("fetch")
    section = driver.recall("fetch", section, explicit, REMEMBERED)
    section = replace(section, source=absolute_source(section.source))
    source = open_source(section.source, section.member)
    driver.note_settings("fetch", section, REMEMBERED)
    listed = enter_manifest(driver, manifest, report)
    selection = selection or Selection()
    if selection.retry:
        number = driver.ledger.reopen(list(selection.retry))
        report.notices.append(f"{number} clips are tried again ({', '.join(selection.retry)})")
    apply_deadlinks(driver, section, source, clock(), report)
    pending = selection.of(driver.ledger.due_fetch(clock()))
    run = _FetchRun(Asking(driver, section, source, listed, clock), report)
    try:
        run.go(pending, driver.executor(section.workers))
    finally:
        driver.progress.finish()
    _note_postponed(driver, clock(), report)
    _note_strangers(source, listed, report)
    if run.asking.admission.stopped is not None:
        raise run.asking.admission.stopped
    return report


@dataclass(slots=True)
class _FetchRun:
    """One run of fetch: what is asked for, and what is written of the answers."""

    asking: Asking
    report: StageReport
    metrics: MetricsFile = field(init=False)
    _journals: list[Path] = field(default_factory=list)

    def go(self, pending: LazyRows[ClipRow], executor: Executor) -> None:
        """Fetches; whatever ends it, what came back is recorded."""
        driver = self.asking.driver
        self.asking.begin(pending, driver.ledger.doubted_videos)
        self.metrics = MetricsFile(driver.work, self.asking.admission, self.asking.clock)
        driver.progress.start("fetch", len(pending), "clips")
        try:
            for unit, result in self.asking.answers(executor, self._paced_units()):
                self._take(unit, result)
                self._keep()
                if driver.commit_now_and_then():
                    self._settle_books()
        finally:
            executor.close()
            self._settle_books()

    def _paced_units(self) -> Iterator[VideoUnit | Idle]:
        """What admission gives, with a sign of life during long pauses."""
        for unit in self.asking.admission.units():
            if isinstance(unit, Idle):
                self.metrics.write(self.report)
            yield unit

    def _keep(self) -> None:
        """Makes what came durable, and only then forgets the journals that would have told of it.

        After every video: the next answer may be half an hour away, and what a kill costs is asked for again.
        """
        self.asking.driver.ledger.commit()
        for journal in self._journals:
            journal.unlink(missing_ok=True)
        self._journals.clear()

    def _settle_books(self) -> None:
        """Keeps the state of the addresses, and tells how far the run is."""
        self.asking.keep_addresses()
        self._keep()
        self.metrics.write(self.report)

    def _take(self, unit: VideoUnit, result: VideoResult | Lost) -> None:
        """Records what became of a video's clips, unless it was the address that was refused."""
        now = self.asking.clock()
        if isinstance(result, Lost):
            # The video may be fine and the network slow: a lost worker is tried again, the detail says why.
            clips = tuple(FetchedClip(clip.clip_id, self._outcome_of_loss(clip, result)) for clip in unit.clips)
            result = VideoResult(clips, refusal="extractor", detail=result.detail)
            discard(unit)  # its worker cannot any more
        check_result(unit, result)
        if result.journal is not None:
            self._journals.append(result.journal)
        own = self.asking.admission.settle(unit, result.refusal, result.detail, result.retry_after_seconds)
        for clip in result.clips:
            outcome = clip.outcome
            attempt = Attempt(now, unit.address, outcome.status.value, outcome.reason, outcome.detail)
            self.asking.driver.ledger.add_attempt(clip.clip_id, attempt)
            if own:
                self._record(unit, clip, now)
        if not own:
            self._settle_books()  # a pause must outlast a kill
        if any(clip.outcome.status is Status.KEPT for clip in result.clips):
            self.asking.note_there(unit)
        self.metrics.add_bytes(result.size_bytes)

    def _outcome_of_loss(self, clip: ClipRequest, lost: Lost) -> Outcome:
        """A worker that died: only the second time in a row is it the clip's doing."""
        reason = "network" if lost.reason == "timeout" else lost.reason
        if reason == "crashed" and self.asking.driver.ledger.first_seen(clip.clip_id, "fetch", "interrupted") is None:
            reason = "interrupted"
        return Outcome.refused(reason, lost.detail)

    def _record(self, unit: VideoUnit, clip: FetchedClip, now: float) -> None:
        outcome, not_before = self._believe(unit, clip, now)
        counts = outcome.reason not in REASONS or REASONS[outcome.reason].blames_clip
        outcome = self.asking.driver.record_fetched(clip.clip_id, outcome, clip.key, clip.media, counts=counts, now=now)
        if not_before:
            self.asking.driver.ledger.postpone(clip.clip_id, "fetch", not_before)
        self.report.count(outcome)
        self.asking.driver.progress.advance(outcome.status.value, outcome.reason)

    def _believe(self, unit: VideoUnit, clip: FetchedClip, now: float) -> tuple[Outcome, float]:
        """A removal told by YouTube is believed on the second sighting, a day later, on a healthy address."""
        outcome = clip.outcome
        if not (self.asking.source.is_watched and outcome.reason == "gone"):
            return outcome, 0.0
        first_seen = self.asking.driver.ledger.first_seen(clip.clip_id, "fetch", "gone_once")
        due = self.asking.look_again(unit, first_seen, now)
        return (outcome, 0.0) if due is None else (Outcome.refused("gone_once", outcome.detail), due)


def _note_postponed(driver: Driver, now: float, report: StageReport) -> None:
    number, first = driver.ledger.num_postponed(now)
    if number:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(first))
        report.notices.append(f"{number} clips are looked for again later, the first from {when} on: run fetch again")


def _note_strangers(source: Source, listed: Manifest, report: StageReport) -> None:
    """Clips without a caption, as a folder has them: files that no clip of the manifest names."""
    if not isinstance(source, FolderSource):
        return
    strangers = source.strangers({str(name) for name in listed.table.column("video_id").to_pylist()})
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        report.notices.append(f"{len(strangers)} files in the folder belong to no clip of the manifest: {shown}")
