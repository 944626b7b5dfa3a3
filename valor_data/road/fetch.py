"""The driver of fetch: a manifest enters the ledger, pending videos go to workers at the pace their addresses allow."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from valor_data.clip import Clip
from valor_data.config import FetchSection
from valor_data.errors import REASONS, ClipError, Status
from valor_data.execute import Executor, Idle, Lost
from valor_data.fetch import ClipRequest, FetchedClip, Location, Obtained, Source, VideoResult, VideoUnit
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.sources import absolute_source, open_source
from valor_data.fetch.video import check_result, discard, fetch_video
from valor_data.ledger import Attempt, ClipRow, LazyRows, Outcome
from valor_data.manifest import Manifest
from valor_data.road.admission import Admission, open_addresses
from valor_data.road.deadlinks import apply_deadlinks
from valor_data.road.driver import Driver, StageReport
from valor_data.road.entry import enter_manifest
from valor_data.road.metrics import MetricsFile

REMEMBERED = ("source", "member", "copy", "max_short_side_px", "max_video_seconds", "max_video_bytes")

SIGHTING_SECONDS = 86_400.0
"""YouTube's `gone` is believed after a second sighting this much later."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the pending clips to try in this run."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    retry: tuple[str, ...] = ()

    def of(self, clips: LazyRows[ClipRow]) -> LazyRows[ClipRow]:
        """The first `limit` clips, or `sample` clips drawn with a seed, in their order."""
        if self.sample is not None and self.sample < len(clips):
            drawn = sorted(random.Random(self.seed).sample(range(len(clips)), self.sample))  # noqa: S311
            clips = clips.of(clips.clip_ids[i] for i in drawn)
        return clips if self.limit is None else clips.of(clips.clip_ids[: self.limit])


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
    run = _FetchRun(driver, section, source, listed, report, clock)
    try:
        run.go(pending, driver.executor(section.workers))
    finally:
        driver.progress.finish()
    _note_postponed(driver, clock(), report)
    _note_strangers(source, listed, report)
    if run.admission.stopped is not None:
        raise run.admission.stopped
    return report


@dataclass(slots=True)
class _FetchRun:
    """One run of fetch: admission, workers, and what is written of their answers."""

    driver: Driver
    section: FetchSection
    source: Source
    listed: Manifest
    report: StageReport
    clock: Callable[[], float]
    admission: Admission = field(init=False)
    metrics: MetricsFile = field(init=False)
    _journals: list[Path] = field(default_factory=list)
    _known_good: str = field(init=False)

    def go(self, pending: LazyRows[ClipRow], executor: Executor) -> None:
        """Fetches; whatever ends it, what came back is recorded."""
        ledger = self.driver.ledger
        self._known_good = ledger.get_meta("known_good_video") or self.section.probe_video
        watched = self.source.is_watched
        addresses, proxies = open_addresses(self.section, is_watched=watched)
        for name, address in addresses.items():
            kept = ledger.get_address(name) if watched else None
            if kept is not None:
                address.load_json(kept)
        self.admission = Admission(
            videos=self._units(pending),
            addresses=addresses,
            proxies=proxies,
            settings=self.section,
            folder=self.driver.work.own_tmp(),
            clock=self.clock,
            is_watched=watched,
            probe=self._probe if watched else None,
            tell=self.driver.progress.note,
            doubted=ledger.doubted_videos() if watched else frozenset(),
        )
        self.metrics = MetricsFile(self.driver.work, self.admission, self.clock)
        self.driver.progress.start("fetch", len(pending), "clips")
        # Where requests are counted, a unit is given out when it may start, not a moment before.
        in_flight = self.section.workers if watched else None
        try:
            answers = executor.run(
                fetch_video,
                self._paced_units(),
                deadline_seconds=self.section.video_deadline_seconds,
                in_flight=in_flight,
            )
            for unit, result in answers:
                self._take(unit, result)
                self._keep()
                if self.driver.commit_now_and_then():
                    self._settle_books()
        finally:
            executor.close()
            self._settle_books()

    def _paced_units(self) -> Iterator[VideoUnit | Idle]:
        """What admission gives, with a sign of life during long pauses."""
        for unit in self.admission.units():
            if isinstance(unit, Idle):
                self.metrics.write(self.report)
            yield unit

    def _keep(self) -> None:
        """Makes what came durable, and only then forgets the journals that would have told of it.

        After every video: the next answer may be half an hour away, and what a kill costs is asked for again.
        """
        self.driver.ledger.commit()
        for journal in self._journals:
            journal.unlink(missing_ok=True)
        self._journals.clear()

    def _settle_books(self) -> None:
        """Keeps the state of the addresses, and tells how far the run is."""
        for address in self.admission.addresses.values():
            self.driver.ledger.set_address(address.name, address.to_json())
        self.driver.ledger.set_meta("known_good_video", self._known_good)
        self._keep()
        self.metrics.write(self.report)

    def _take(self, unit: VideoUnit, result: VideoResult | Lost) -> None:
        """Records what became of a video's clips, unless it was the address that was refused."""
        now = self.clock()
        if isinstance(result, Lost):
            # The video may be fine and the network slow: a lost worker is tried again, the detail says why.
            clips = tuple(FetchedClip(clip.clip_id, self._outcome_of_loss(clip, result)) for clip in unit.clips)
            result = VideoResult(clips, refusal="extractor", detail=result.detail)
            discard(unit)  # its worker cannot any more
        check_result(unit, result)
        if result.journal is not None:
            self._journals.append(result.journal)
        own = self.admission.settle(unit, result.refusal, result.detail, result.retry_after_seconds)
        for clip in result.clips:
            outcome = clip.outcome
            attempt = Attempt(now, unit.address, outcome.status.value, outcome.reason, outcome.detail)
            self.driver.ledger.add_attempt(clip.clip_id, attempt)
            if own:
                self._record(unit, clip, now)
        if not own:
            self._settle_books()  # a pause must outlast a kill
        if any(clip.outcome.status is Status.KEPT for clip in result.clips):
            self._known_good = unit.video_id
        self.metrics.add_bytes(result.size_bytes)

    def _outcome_of_loss(self, clip: ClipRequest, lost: Lost) -> Outcome:
        """A worker that died: only the second time in a row is it the clip's doing."""
        reason = "network" if lost.reason == "timeout" else lost.reason
        if reason == "crashed" and self.driver.ledger.first_seen(clip.clip_id, "fetch", "interrupted") is None:
            reason = "interrupted"
        return Outcome.refused(reason, lost.detail)

    def _record(self, unit: VideoUnit, clip: FetchedClip, now: float) -> None:
        outcome, not_before = self._believe(unit, clip, now)
        counts = outcome.reason not in REASONS or REASONS[outcome.reason].blames_clip
        outcome = self.driver.record_fetched(clip.clip_id, outcome, clip.key, clip.media, counts=counts, now=now)
        if not_before:
            self.driver.ledger.postpone(clip.clip_id, "fetch", not_before)
        self.report.count(outcome)
        self.driver.progress.advance(outcome.status.value, outcome.reason)

    def _believe(self, unit: VideoUnit, clip: FetchedClip, now: float) -> tuple[Outcome, float]:
        """A removal told by YouTube is believed on the second sighting, a day later, on a healthy address."""
        outcome = clip.outcome
        if not (self.source.is_watched and outcome.reason == "gone"):
            return outcome, 0.0
        first_seen = self.driver.ledger.first_seen(clip.clip_id, "fetch", "gone_once")
        if first_seen is not None and first_seen > now:
            first_seen = None  # the clock was set back
        day_passed = first_seen is not None and now - first_seen >= SIGHTING_SECONDS
        if day_passed and self.admission.is_healthy(unit.address, now):
            return outcome, 0.0
        due = max(now, (now if first_seen is None else first_seen) + SIGHTING_SECONDS)
        return Outcome.refused("gone_once", outcome.detail), due

    def _probe(self) -> VideoUnit:
        work = self.driver.work
        location = self.source.find(self._known_good, None, ())
        return VideoUnit(self._known_good, (), location, self.section, work.root, work.own_tmp(), is_probe=True)

    def _with_clips(self, rows: LazyRows[ClipRow]) -> Iterator[tuple[ClipRow, Clip]]:
        """Rows of the ledger with those of the manifest, some hundred at a time: a single one costs 2 ms."""
        source = iter(rows)
        while batch := list(itertools.islice(source, LazyRows.BATCH)):
            numbers = [row.manifest_row for row in batch if row.manifest_row is not None]
            yield from zip(batch, self.listed.clips(numbers), strict=True)

    def _units(self, pending: LazyRows[ClipRow]) -> Iterator[VideoUnit]:
        """One unit a video, videos in the order of their first clip in the manifest."""
        order = np.fromiter(self.driver.ledger.ids_by_video(), np.int64)
        in_order = pending.of(order[np.isin(order, np.array(pending.clip_ids))].tolist())
        work = self.driver.work
        for video_id, group in itertools.groupby(self._with_clips(in_order), lambda pair: pair[0].video_id):
            rows, clips = zip(*group, strict=True)
            requests = tuple(
                ClipRequest(row.clip_id, row.identity, clip.start, clip.end, clip.url)
                for row, clip in zip(rows, clips, strict=True)
            )
            try:
                location: Location = self.source.find(video_id, clips[0].url, requests)
            except ClipError as refusal:
                location = Refusal(refusal.reason, refusal.detail)
            yield VideoUnit(video_id, requests, location, self.section, work.root, work.own_tmp())


@dataclass(frozen=True, slots=True)
class Refusal:
    """The location of a video that its source could not give one."""

    reason: str
    detail: str

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """Refuses."""
        raise ClipError(self.reason, self.detail)

    def probe(self, into: Path, settings: FetchSection) -> None:
        """Refuses."""
        raise ClipError(self.reason, self.detail)


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
