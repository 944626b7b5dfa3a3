"""The driver of shard: the plan is fixed once; what is missing or stale is built, measured on the way if need be."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from valor_data.config import FilterSection, ShardSection
from valor_data.errors import ConfigError, Status, ValorDataError
from valor_data.execute import Executor, Lost, Suspects
from valor_data.filter.decide import decide
from valor_data.ledger import Outcome
from valor_data.manifest import Manifest, read_manifest
from valor_data.road.driver import Driver, StageReport
from valor_data.road.filter import REMEMBERED as FILTER_FIELDS
from valor_data.road.filter import require_decided
from valor_data.road.shard_plan import fix_plan
from valor_data.road.shard_records import discard_media, record_shard, sample_requests, slice_row
from valor_data.road.shard_states import ShardState, shard_states
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, open_output
from valor_data.shard.sample import Judge, SampleSettings
from valor_data.shard.writer import ShardResult, ShardUnit, build_shard, sample_size_bytes
from valor_data.storage import absolute_place, check_address

SAMPLE_FIELDS = ("include", "num_frames", "frame_short_side_px", "jpeg_quality", "frame_snap", "mel")

REMEMBERED = (*SAMPLE_FIELDS, "output")

SIZE_SAMPLES = 16
"""Samples made to estimate how many clips `max_bytes` allows."""


def run_shard(
    driver: Driver,
    section: ShardSection,
    modalities: str,
    *,
    thresholds: FilterSection | None = None,
    explicit: Collection[str] = (),
    replan: bool = False,
    plan_only: bool = False,
) -> StageReport:
    """Builds every shard that is missing or stale and whose clips have all arrived or are lost.

    Clips that `filter` has not measured are measured while their shard is made: one open, one decoding of the
    sound, and the pictures of a clip that its sound refuses are never decoded. Its reason is then the sound's, even
    where a look at the picture would have found an earlier one of `errors.PRECEDENCE`.

    Args:
        driver: of the work folder.
        section: the `[shard]` settings.
        modalities: what the run holds.
        thresholds: the `[filter]` settings for clips that were not measured; None: as last chosen here.
        explicit: names of the settings that were given for this run.
        replan: give up the plan, with every shard made from it.
        plan_only: fix the plan and the settings, and build nothing: what parts of the run begin with.

    Returns:
        What became of the shards, counted as `kept` (finished, old or new) and `waiting`.

    Raises:
        ConfigError: another plan is asked for than the one that is fixed, or the output cannot be used.
        StoreError: the store that the shards go to does not answer; the same call goes on.
        ValorDataError: no clip is there yet.
    """
    _check_planning(driver, replan or plan_only)
    section = _choose_output(driver, section, explicit, replan=replan)
    former = driver.output()
    driver.note_settings("shard", section, REMEMBERED)
    if thresholds is None:
        thresholds = driver.remember("filter", FilterSection(), (), FILTER_FIELDS)
    if not plan_only:
        require_decided(driver, thresholds, modalities)
    run = _ShardRun(
        driver=driver,
        section=section,
        settings=SampleSettings.of(section, modalities),
        judge=functools.partial(decide, thresholds=thresholds, modalities=modalities),
        listed=read_manifest(driver.work.manifest),
        executor=driver.executor(section.workers),
        report=StageReport("shard"),
        output=driver.output(),
    )
    try:
        fix_plan(driver, section, explicit, run.clips_for_bytes, replan_at=former if replan else None)
        if plan_only:
            number = len(driver.ledger.planned_shards())
            run.report.notices.append(f"the plan is fixed: {number} shards; each part of a run does its own")
        else:
            run.build()
    finally:
        run.executor.close()
        driver.ledger.commit()
        driver.progress.finish()
    return run.report


def _check_planning(driver: Driver, is_planning: bool) -> None:
    if is_planning and driver.work.part is not None:
        raise ConfigError(f"--part {driver.work.part}: the plan is everybody's; make it without --part")


def _choose_output(driver: Driver, section: ShardSection, explicit: Collection[str], *, replan: bool) -> ShardSection:
    """The settings of this run, with an output that finished shards may stay at.

    Raises:
        ConfigError: the address holds a secret, or finished shards stand elsewhere.
    """
    section = driver.recall("shard", section, explicit, REMEMBERED)
    section = replace(section, output=absolute_place(section.output))
    check_address(section.output, "shard.output")
    former, new = driver.output(), open_output(driver.work.root, section.output)
    finished = driver.ledger.finished_shards()
    if replan or former == new or not finished:
        return section
    standing = new.sizes()
    missing = sum(json_of(shard_name(split, shard)) not in standing for split, shard in finished)
    if missing:
        raise ConfigError(
            f"shard.output: {missing} finished shards stand at {former.place}, not at {new.place}: copy the folders "
            "shards/ and index/ there first, or give them up with --replan"
        )
    return section


@dataclass(slots=True)
class _ShardRun:
    """One run of shard: what stands, what is built, what is written of it."""

    driver: Driver
    section: ShardSection
    settings: SampleSettings
    judge: Judge
    listed: Manifest
    executor: Executor
    report: StageReport
    output: Output
    suspects: Suspects = field(default_factory=Suspects)

    def clips_for_bytes(self) -> int:
        """Clips a shard so that it stays under `max_bytes`, from the mean size of some samples."""
        some = self.driver.ledger.first_ready(SIZE_SAMPLES)
        if not some:
            raise ValorDataError(
                "--max-bytes is estimated from clips that are there, and none is yet: run `fetch` first"
            )
        requests = sample_requests(self.driver, some, self.listed)
        work = ((request, self.settings, self.judge, self._scratch(request.clip_id)) for request in requests)
        sizes = [size for _, size in self.executor.run(sample_size_bytes, work) if isinstance(size, int)]
        if not sizes:
            raise ValorDataError("--max-bytes: none of the clips tried gives a sample; use --max-clips")
        return max(1, self.section.max_bytes * len(sizes) // sum(sizes))

    def _scratch(self, clip_id: int) -> Path:
        folder = self.driver.work.own_tmp() / f"size-{clip_id}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def build(self) -> None:
        """Brings every shard that can be to what it should be."""
        states, adopted = shard_states(self.driver, self.settings, self.output)
        for result in adopted:
            record_shard(self.driver, self.settings, result)
        self.driver.ledger.commit()
        idle = not any(state.num_wanted or state.state != "missing" for state in states)
        if self.driver.work.part is not None and not states:
            self.report.notices.append(f"no shard of the plan falls to part {self.driver.work.part}")
            return
        if idle and (not states or any(state.num_waiting for state in states)):
            raise ValorDataError("no clip is ready: run `fetch` on this work folder first")
        todo = [s for s in states if s.state != "finished" and (self.section.partial or not s.num_waiting)]
        self._note_states(states, todo)
        self._build_all(todo)
        if self.driver.work.part is None:
            self._note_orphans()

    def _build_all(self, todo: list[ShardState]) -> None:
        self.driver.progress.start("shard", sum(state.num_wanted for state in todo), "clips")
        units: Iterable[ShardUnit] = (self._unit(state) for state in todo)
        while True:
            again: list[ShardUnit] = []
            for unit, result in self.executor.run(build_shard, units):
                name = shard_name(unit.split, unit.shard)
                if isinstance(result, Lost) and self.suspects.is_first_crash(result, name):
                    again.append(unit)
                elif isinstance(result, Lost):
                    again.append(self._without_culprit(unit, result))
                elif result.lost:
                    self._media_lost(result)
                else:
                    self._finished(unit, result)
            if not again:
                return
            units = again

    def _unit(self, state: ShardState) -> ShardUnit:
        clips = list(self.driver.ledger.planned(state.split, state.shard))
        ready = [clip for clip in clips if clip.wanted or clip.unmeasured]
        return ShardUnit(
            split=state.split,
            shard=state.shard,
            slice_rows=tuple(slice_row(clip) for clip in clips),
            requests=tuple(sample_requests(self.driver, ready, self.listed)),
            settings=self.settings,
            judge=self.judge,
            work=self.driver.work.root,
            tmp=self.driver.work.own_tmp(),
            clip_deadline_seconds=self.section.clip_deadline_seconds,
            clip_memory_bytes=self.section.clip_memory_bytes,
            output=self.section.output,
        )

    def _finished(self, unit: ShardUnit, result: ShardResult) -> None:
        record_shard(self.driver, self.settings, result)
        self.report.count(Outcome.kept())
        self.driver.progress.advance("kept", count=result.num_samples)
        if len(unit.requests) > result.num_samples:
            self.driver.progress.advance("dropped", count=len(unit.requests) - result.num_samples)
        self.driver.commit_now_and_then()
        if self.section.discard_media:
            discard_media(self.driver, unit)

    def _without_culprit(self, unit: ShardUnit, lost: Lost) -> ShardUnit:
        """The unit without the clip that killed its worker; that clip is dropped."""
        blamed = [request for request in unit.requests if str(request.clip_id) == lost.item]
        if not blamed:
            name = shard_name(unit.split, unit.shard)
            raise ValorDataError(f"{name}: {lost.detail}, with no clip in hand; run the same command again")
        culprit = blamed[0]
        stage = "filter" if culprit.facts is None else "shard"
        self.driver.ledger.record(culprit.clip_id, stage, Outcome.refused(lost.reason, lost.detail))
        self.driver.ledger.commit()
        self.driver.progress.advance("dropped", lost.reason)
        rows = tuple(
            replace(row, status=Status.DROPPED.value, reason=lost.reason) if row.clip_id == culprit.clip_id else row
            for row in unit.slice_rows
        )
        return replace(unit, slice_rows=rows, requests=tuple(r for r in unit.requests if r is not culprit))

    def _media_lost(self, result: ShardResult) -> None:
        for clip_id in result.lost:
            outcome = Outcome.refused("missing", "the media file is no longer there")
            self.driver.ledger.record(clip_id, "fetch", outcome, counts=False)
        self.report.count(Outcome.refused("missing"))
        self.report.notices.append(
            f"{shard_name(result.split, result.shard)}: {len(result.lost)} media files are gone; run `fetch` again"
        )

    def _note_states(self, states: list[ShardState], todo: list[ShardState]) -> None:
        self.report.count(Outcome.kept(), sum(state.state == "finished" for state in states))
        stale = [state.name for state in states if state.state == "stale"]
        if stale:
            shown = ", ".join(stale[:5]) + (", …" if len(stale) > 5 else "")
            self.report.notices.append(f"{len(stale)} shards are stale (clips, captions or settings changed): {shown}")
        held = [state for state in states if state.state != "finished" and state not in todo]
        if held:
            self.report.count(Outcome(Status.WAITING), len(held))
            waiting = sum(state.num_waiting for state in held)
            self.report.notices.append(
                f"{len(held)} shards wait for {waiting} clips: fetch and filter them, or build now with --partial"
            )

    def _note_orphans(self) -> None:
        """Captions that got no clip, and clips that have no caption."""
        import numpy as np
        import pyarrow.compute as pc

        captions = np.asarray(pc.list_value_length(self.listed.table.column("captions")).fill_null(0))
        inside = np.zeros(len(captions), bool)
        inside[self.driver.ledger.rows_in_shards()] = True
        lost, bare = int(captions[~inside].sum()), int((captions[inside] == 0).sum())
        if lost:
            self.report.notices.append(f"{lost} captions have no clip in a shard: `status` tells why")
        if bare:
            self.report.notices.append(f"{bare} clips in shards have no caption")
