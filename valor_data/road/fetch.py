"""The driver of fetch: a manifest enters the ledger, pending videos go to workers."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from valor_data.clip import open_key
from valor_data.config import FetchSection
from valor_data.errors import ClipError, ConfigError
from valor_data.execute import Lost
from valor_data.fetch import Location, ClipRequest, FetchedClip, Obtained, Source, VideoResult, VideoUnit
from valor_data.fetch.sources import open_source
from valor_data.fetch.video import check_result, fetch_video
from valor_data.ledger import ClipRow, Outcome, SyncReport, content_hash
from valor_data.manifest import Manifest, read_manifest
from valor_data.road.driver import Driver, StageReport
from valor_data.workdir import written_aside

REMEMBERED = ("source", "copy", "max_short_side_px", "max_video_seconds", "max_video_bytes")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the pending clips to try in this run."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def of(self, clips: list[ClipRow]) -> list[ClipRow]:
        """The first `limit` clips, or `sample` clips drawn with a seed, in their order."""
        if self.sample is not None and self.sample < len(clips):
            drawn = sorted(random.Random(self.seed).sample(range(len(clips)), self.sample))  # noqa: S311
            clips = [clips[i] for i in drawn]
        return clips if self.limit is None else clips[: self.limit]


def run_fetch(
    driver: Driver,
    section: FetchSection,
    *,
    manifest: Path | None = None,
    explicit: Collection[str] = (),
    selection: Selection | None = None,
) -> StageReport:
    """Fetches what is pending.

    Args:
        driver: of the work folder.
        section: the `[fetch]` settings.
        manifest: the list of clips; None: the one that the work folder holds.
        explicit: names of the settings that were given for this run.
        selection: which of the pending clips to try.

    Returns:
        What became of the clips tried in this run.

    Raises:
        ConfigError: the source is not there, or the manifest does not fit the work folder.
        ManifestError: the manifest cannot be read.
    """
    report = StageReport("fetch")
    section = driver.remember("fetch", section, explicit, REMEMBERED)
    source = open_source(section.source)
    listed = enter_manifest(driver, manifest, report)
    pending = (selection or Selection()).of(driver.ledger.pending_fetch())
    driver.progress.start("fetch", len(pending), "clips")
    executor = driver.executor(section.workers)
    journals: list[Path] = []
    try:
        units = _units(driver, pending, source, section, listed)
        for unit, result in executor.run(fetch_video, units, deadline_seconds=section.video_deadline_seconds):
            clips = _clips_of(unit, result)
            for clip in clips:
                driver.record_fetched(clip.clip_id, clip.outcome, clip.key, clip.media)
                report.count(clip.outcome)
                driver.progress.advance(clip.outcome.status.value, clip.outcome.reason)
            if isinstance(result, VideoResult) and result.journal is not None:
                journals.append(result.journal)
            if driver.commit_now_and_then():
                _drop(journals)
    finally:
        executor.close()
        driver.ledger.commit()
        _drop(journals)
        driver.progress.finish()
    _note_strangers(source, listed, report)
    return report


def enter_manifest(driver: Driver, manifest: Path | None, report: StageReport) -> Manifest:
    """Puts a manifest into the work folder and its clips into the ledger, if they are not there yet.

    Raises:
        ConfigError: no manifest given and none in the work folder.
    """
    work = driver.work
    if manifest is None and not work.manifest.exists():
        raise ConfigError(f"{work.root}: no manifest here yet; give one: valor-data fetch MANIFEST --work {work.root}")
    listed = read_manifest(manifest or work.manifest)
    if driver.ledger.get_meta("manifest") == listed.fingerprint and work.manifest.exists():
        return listed
    changes = driver.ledger.sync(_ledger_rows(listed))
    if manifest is not None and manifest.absolute() != work.manifest:
        for origin, place in ((manifest, work.manifest), (manifest.parent / "rejects.parquet", work.rejects)):
            if origin.exists() and origin.absolute() != place:
                with written_aside(place) as path:
                    shutil.copyfile(origin, path)
    driver.ledger.set_meta("manifest", listed.fingerprint)
    _note_changes(changes, report)
    return listed


def _note_changes(changes: SyncReport, report: StageReport) -> None:
    if changes.same or changes.changed:
        report.notices.append(
            f"manifest changed: {changes.new} new clips, {changes.changed} with other captions or labels, "
            f"{changes.left_out} no longer listed"
        )


def _ledger_rows(listed: Manifest) -> Iterator[tuple[int, str, str | None, str, str, bytes]]:
    number = itertools.count()
    for clip in listed.clips():
        content = content_hash(
            *itertools.chain.from_iterable(("c", c.role, c.text) for c in clip.captions),
            *itertools.chain(("l",), clip.labels, ("n",), clip.label_names),
            *itertools.chain.from_iterable(("q", q.question_id, q.question, *q.answers) for q in clip.questions),
        )
        identity = clip.key or open_key(clip.video_id, clip.start)
        yield next(number), identity, clip.key, clip.video_id, clip.split, content


def _units(
    driver: Driver, pending: Sequence[ClipRow], source: Source, section: FetchSection, listed: Manifest
) -> Iterator[VideoUnit]:
    """One unit a video, videos in the order of their first pending clip."""
    by_video: dict[str, list[ClipRow]] = {}
    for row in pending:
        by_video.setdefault(row.video_id, []).append(row)
    for video_id, rows in by_video.items():
        clips = list(listed.clips([row.manifest_row for row in rows if row.manifest_row is not None]))
        requests = tuple(
            ClipRequest(row.clip_id, row.identity, clip.start, clip.end) for row, clip in zip(rows, clips, strict=True)
        )
        try:
            location: Location = source.find(video_id, clips[0].url, requests)
        except ClipError as refusal:
            location = _Refusal(refusal.reason, refusal.detail)
        yield VideoUnit(video_id, requests, location, section, driver.work.root, driver.work.own_tmp())


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An address that a source could not make."""

    reason: str
    detail: str

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        raise ClipError(self.reason, self.detail)


def _clips_of(unit: VideoUnit, result: VideoResult | Lost) -> Sequence[FetchedClip]:
    if isinstance(result, Lost):
        # The video may be fine and the network slow: a lost worker is tried again, the reason says why.
        outcome = Outcome.refused("network" if result.reason == "timeout" else result.reason, result.detail)
        return [FetchedClip(clip.clip_id, outcome) for clip in unit.clips]
    check_result(unit, result)
    return result.clips


def _drop(journals: list[Path]) -> None:
    for journal in journals:
        journal.unlink(missing_ok=True)
    journals.clear()


def _note_strangers(source: Source, listed: Manifest, report: StageReport) -> None:
    """Clips without a caption, as a folder has them: files that no clip of the manifest names."""
    from valor_data.fetch.folder import FolderSource

    if not isinstance(source, FolderSource):
        return
    strangers = source.strangers({str(name) for name in listed.table.column("video_id").to_pylist()})
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        report.notices.append(f"{len(strangers)} files in the folder belong to no clip of the manifest: {shown}")
