"""The driver of shard: the plan is fixed once, then what is missing or stale is built."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from valor_data.config import ShardSection
from valor_data.errors import ConfigError, Status, ValorDataError
from valor_data.execute import Executor, Lost
from valor_data.ledger import Outcome, PlannedClip, ShardRow
from valor_data.manifest import Manifest, read_manifest
from valor_data.road.driver import Driver, StageReport
from valor_data.shard import shard_name
from valor_data.shard.plan import plan_rows
from valor_data.shard.sample import SampleRequest, SampleSettings
from valor_data.shard.writer import ShardResult, ShardUnit, SliceRow, build_shard, sample_size_bytes, shard_digest

SAMPLE_FIELDS = ("include", "num_frames", "frame_short_side_px", "jpeg_quality", "mel")
PLAN_FIELDS = ("max_clips", "max_bytes", "seed")

SIZE_SAMPLES = 16
"""Samples made to estimate how many clips `max_bytes` allows."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """A planned shard: how many of its clips wait, and whether what stands is what should stand."""

    split: str
    shard: int
    num_wanted: int
    num_waiting: int
    digest: str
    state: str  # finished, stale, missing

    @property
    def name(self) -> str:
        """The shard's name."""
        return shard_name(self.split, self.shard)


def run_shard(
    driver: Driver,
    section: ShardSection,
    modalities: str,
    *,
    explicit: Collection[str] = (),
    replan: bool = False,
) -> StageReport:
    """Builds every shard that is missing or stale and whose clips are all decided.

    Args:
        driver: of the work folder.
        section: the `[shard]` settings.
        modalities: what the run holds.
        explicit: names of the settings that were given for this run.
        replan: give up the plan, with every shard made from it.

    Returns:
        What became of the shards, counted as `kept` (finished, old or new) and `waiting`.

    Raises:
        ConfigError: another plan is asked for than the one that is fixed.
        ValorDataError: no clip is measured yet.
    """
    report = StageReport("shard")
    section = driver.remember("shard", section, explicit, SAMPLE_FIELDS)
    settings = SampleSettings.of(section, modalities)
    listed = read_manifest(driver.work.manifest)
    executor = driver.executor(section.workers)
    try:
        fix_plan(driver, section, settings, explicit, listed, executor, replan=replan)
        states = shard_states(driver, settings)
        _build(driver, section, settings, listed, states, executor, report)
        _note_orphans(driver, listed, report)
    finally:
        executor.close()
        driver.ledger.commit()
        driver.progress.finish()
    return report


def shard_states(driver: Driver, settings: SampleSettings) -> list[ShardState]:
    """How every planned shard stands; what a killed run finished without noting it is noted now."""
    finished = driver.ledger.finished_shards()
    states = []
    planned = driver.ledger.planned()
    for (split, shard), clips in itertools.groupby(planned, key=lambda clip: (clip.split, clip.shard)):
        states.append(_state_of(driver, settings, list(clips), finished.get((split, shard))))
    for state, adopted in states:
        if adopted is not None:
            record_shard(driver, settings, state, adopted)
    driver.ledger.commit()
    return [state for state, _ in states]


def _state_of(
    driver: Driver, settings: SampleSettings, clips: list[PlannedClip], known: ShardRow | None
) -> tuple[ShardState, ShardResult | None]:
    split, shard = clips[0].split, clips[0].shard
    wanted = [clip for clip in clips if clip.wanted]
    waiting = sum(clip.standing()[0] == Status.WAITING.value for clip in clips)
    digest = shard_digest(settings, map(clip_digest, wanted))
    state = ShardState(split, shard, len(wanted), waiting, digest, "missing")
    beside = _sidecar(driver, state.name)
    if beside is None:
        return state, None
    if known is not None and known.digest == digest == beside["digest"]:
        return replace(state, state="finished"), None
    # The shard may have been finished by a run that was killed before it could note it.
    names = {clip.key or clip.identity: clip.clip_id for clip in clips}
    dropped = {names[name]: (why[0], why[1]) for name, why in beside["dropped_here"].items() if name in names}
    made_of = [clip for clip in wanted if clip.clip_id not in dropped]
    if shard_digest(settings, map(clip_digest, made_of)) != beside["digest"]:
        return replace(state, state="stale"), None
    adopted = ShardResult(
        split, shard, dropped, (), beside["digest"], beside["num_samples"], beside["tar_bytes"], beside["tar_sha256"]
    )
    return replace(state, state="finished", num_wanted=len(made_of), digest=beside["digest"]), adopted


def _sidecar(driver: Driver, name: str) -> dict[str, Any] | None:
    """A shard's JSON, if the shard stands complete beside it."""
    try:
        beside: dict[str, Any] = json.loads((driver.work.index / f"{name}.json").read_text())
        tar = driver.work.shards / f"{name}.tar"
        whole = beside["num_samples"] == 0 or tar.stat().st_size == beside["tar_bytes"]
    except (OSError, ValueError, KeyError):
        return None
    return beside if whole else None


def clip_digest(clip: PlannedClip) -> str:
    """Everything of a clip that its sample shows, besides the media themselves."""
    parts = (clip.key or "", clip.content.hex(), clip.facts or "", clip.source or "")
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def fix_plan(
    driver: Driver,
    section: ShardSection,
    settings: SampleSettings,
    explicit: Collection[str],
    listed: Manifest,
    executor: Executor,
    *,
    replan: bool,
) -> None:
    """Makes the plan on first use, and gives clips that came later places behind it.

    Raises:
        ConfigError: another plan is asked for than the one that is fixed.
        ValorDataError: `max_bytes` needs a measured clip to estimate from, and there is none.
    """
    ledger = driver.ledger
    if replan:
        _remove_shards(driver)
        ledger.drop_plan()
        ledger.set_meta("plan", "{}")
    plan = json.loads(ledger.get_meta("plan") or "{}")
    asked = {name: getattr(section, name) for name in PLAN_FIELDS}
    if plan:
        changed = [name for name in PLAN_FIELDS if name in explicit and asked[name] != plan[name]]
        if changed:
            told = ", ".join(f"{name} is {plan[name]}, not {asked[name]}" for name in changed)
            raise ConfigError(f"the shard plan is fixed: {told}; --replan gives it up with every shard made from it")
    else:
        plan = {**asked, "clips_a_shard": section.max_clips}
        if section.max_bytes:
            plan["clips_a_shard"] = _clips_for_bytes(driver, section, settings, listed, executor)
        ledger.set_meta("plan", json.dumps(plan))
    rows = plan_rows(ledger.unplanned(), ledger.num_shards(), seed=plan["seed"], max_clips=plan["clips_a_shard"])
    ledger.add_to_plan(list(rows))
    ledger.commit()


def _remove_shards(driver: Driver) -> None:
    """Deletes every planned shard's files; the JSON first, for without it a shard is not finished."""
    for split, number in driver.ledger.num_shards().items():
        for name in (shard_name(split, shard) for shard in range(number)):
            (driver.work.index / f"{name}.json").unlink(missing_ok=True)
            (driver.work.index / f"{name}.parquet").unlink(missing_ok=True)
            (driver.work.shards / f"{name}.tar").unlink(missing_ok=True)


def _clips_for_bytes(
    driver: Driver, section: ShardSection, settings: SampleSettings, listed: Manifest, executor: Executor
) -> int:
    """Clips a shard so that it stays under `max_bytes`, from the mean size of some samples."""
    kept = driver.ledger.first_kept(SIZE_SAMPLES)
    if not kept:
        raise ValorDataError("--max-bytes is estimated from kept clips, and there are none yet: run `filter` first")
    requests = _requests(driver, kept, listed)
    sizes = [size for _, size in executor.run(sample_size_bytes, ((r, settings, _scratch(driver, r)) for r in requests))
             if isinstance(size, int)]  # fmt: skip
    if not sizes:
        raise ValorDataError("--max-bytes: none of the clips tried gives a sample; use --max-clips")
    return max(1, section.max_bytes * len(sizes) // sum(sizes))


def _scratch(driver: Driver, request: SampleRequest) -> Path:
    folder = driver.work.own_tmp() / f"size-{request.clip_id}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _build(
    driver: Driver,
    section: ShardSection,
    settings: SampleSettings,
    listed: Manifest,
    states: list[ShardState],
    executor: Executor,
    report: StageReport,
) -> None:
    idle = not any(state.num_wanted or state.state != "missing" for state in states)
    if idle and (not states or any(state.num_waiting for state in states)):
        raise ValorDataError("no clip is ready: run `fetch` and then `filter` on this work folder first")
    todo = [s for s in states if s.state != "finished" and (section.partial or not s.num_waiting)]
    _note_states(states, todo, report)
    driver.progress.start("shard", sum(state.num_wanted for state in todo), "clips")
    names = {state.name: state for state in todo}
    units: Iterable[ShardUnit] = (_unit(driver, section, settings, listed, state) for state in todo)
    while names:
        again: list[ShardUnit] = []
        for unit, result in executor.run(build_shard, units):
            state = names[shard_name(unit.split, unit.shard)]
            if isinstance(result, Lost):
                again += _without_culprit(driver, unit, result)
                continue
            if result.lost:
                _media_lost(driver, result, report)
                continue
            record_shard(driver, settings, state, result)
            report.count(Outcome.kept())
            driver.progress.advance("kept", count=result.num_samples)
            driver.commit_now_and_then()
            if section.discard_media:
                _discard(driver, unit)
        if not again:
            return
        units = again


def _note_orphans(driver: Driver, listed: Manifest, report: StageReport) -> None:
    """Captions that got no clip, and clips that have no caption."""
    import pyarrow.compute as pc

    in_shards = driver.ledger.rows_in_shards()
    captions = pc.list_value_length(listed.table.column("captions")).to_pylist()
    lost = sum(number for row, number in enumerate(captions) if number and row not in in_shards)
    bare = sum(1 for row in in_shards if not captions[row])
    if lost:
        report.notices.append(f"{lost} captions have no clip in a shard: `status` tells why")
    if bare:
        report.notices.append(f"{bare} clips in shards have no caption")


def _note_states(states: list[ShardState], todo: list[ShardState], report: StageReport) -> None:
    finished = sum(state.state == "finished" for state in states)
    report.count(Outcome.kept(), finished)
    stale = [state.name for state in states if state.state == "stale"]
    if stale:
        shown = ", ".join(stale[:5]) + (", …" if len(stale) > 5 else "")
        report.notices.append(f"{len(stale)} shards are stale (clips, captions or settings changed): {shown}")
    held = [state for state in states if state.state != "finished" and state not in todo]
    if held:
        report.count(Outcome(Status.WAITING, "interrupted"), len(held))
        waiting = sum(state.num_waiting for state in held)
        report.notices.append(
            f"{len(held)} shards wait for {waiting} clips: fetch and filter them, or build now with --partial"
        )


def _unit(
    driver: Driver, section: ShardSection, settings: SampleSettings, listed: Manifest, state: ShardState
) -> ShardUnit:
    clips = list(driver.ledger.planned(state.split, state.shard))
    return ShardUnit(
        split=state.split,
        shard=state.shard,
        slice_rows=tuple(_slice_row(clip) for clip in clips),
        requests=tuple(_requests(driver, [clip for clip in clips if clip.wanted], listed)),
        settings=settings,
        work=driver.work.root,
        tmp=driver.work.own_tmp(),
        clip_deadline_seconds=section.clip_deadline_seconds,
    )


def _slice_row(clip: PlannedClip) -> SliceRow:
    status, reason = clip.standing()
    if status == Status.KEPT.value and clip.shard_status == Status.DROPPED.value:
        status, reason = Status.DROPPED.value, clip.shard_reason or ""
    return SliceRow(clip.clip_id, clip.key or clip.identity, clip.video_id, status, reason)


def _requests(driver: Driver, clips: list[PlannedClip], listed: Manifest) -> list[SampleRequest]:
    annotations = listed.clips([clip.manifest_row for clip in clips if clip.manifest_row is not None])
    requests = []
    for clip, annotation in zip(clips, annotations, strict=True):
        if annotation.end is None:
            from valor_data.clip import parse_key

            annotation = replace(annotation, end=parse_key(clip.key or "")[2])
        requests.append(
            SampleRequest(
                clip_id=clip.clip_id,
                clip=annotation,
                path=driver.work.root / clip.path if clip.path else None,
                offset_seconds=clip.offset_seconds or 0.0,
                facts=clip.facts or "{}",
                source=clip.source or "{}",
                digest=clip_digest(clip),
            )
        )
    return requests


def _without_culprit(driver: Driver, unit: ShardUnit, lost: Lost) -> list[ShardUnit]:
    """The unit without the clip that killed its worker; that clip is dropped."""
    blamed = [request for request in unit.requests if str(request.clip_id) == lost.item]
    if not blamed:
        raise ValorDataError(f"{shard_name(unit.split, unit.shard)}: {lost.detail}, with no clip in hand; run it again")
    culprit = blamed[0]
    driver.ledger.record(culprit.clip_id, "shard", Outcome.refused(lost.reason, lost.detail))
    driver.ledger.commit()
    driver.progress.advance("dropped", lost.reason)
    rows = tuple(
        replace(row, status=Status.DROPPED.value, reason=lost.reason) if row.clip_id == culprit.clip_id else row
        for row in unit.slice_rows
    )
    return [replace(unit, slice_rows=rows, requests=tuple(r for r in unit.requests if r is not culprit))]


def _media_lost(driver: Driver, result: ShardResult, report: StageReport) -> None:
    for clip_id in result.lost:
        outcome = Outcome.refused("missing", "the media file is no longer there")
        driver.ledger.record(clip_id, "fetch", outcome, counts=False)
    report.count(Outcome.refused("missing"))
    report.notices.append(
        f"{shard_name(result.split, result.shard)}: {len(result.lost)} media files are gone; run `fetch` again"
    )


def record_shard(driver: Driver, settings: SampleSettings, state: ShardState, result: ShardResult) -> None:
    """Writes a finished shard and the outcome of each of its clips."""
    ledger = driver.ledger
    for clip in list(ledger.planned(state.split, state.shard)):
        if clip.clip_id in result.dropped:
            ledger.record(clip.clip_id, "shard", Outcome.refused(*result.dropped[clip.clip_id]))
        elif clip.wanted and clip.shard_status is None:
            ledger.record(clip.clip_id, "shard", Outcome.kept())
    row = ShardRow(result.split, result.shard, result.digest, result.num_samples, result.size_bytes, result.tar_sha256)
    ledger.record_shard(row)


def _discard(driver: Driver, unit: ShardUnit) -> None:
    """Deletes the media of a finished shard's clips; files outside the work folder are never touched."""
    driver.ledger.commit()
    for request in unit.requests:
        if request.path is not None and request.path.is_relative_to(driver.work.media):
            request.path.unlink(missing_ok=True)
            driver.ledger.discard_media(request.clip_id)
    driver.ledger.commit()


def count_by_state(states: Iterable[ShardState]) -> Iterator[tuple[str, int]]:
    """Number of shards by state, in a fixed order."""
    counts = Counter(state.state for state in states)
    yield from ((name, counts[name]) for name in ("finished", "stale", "missing") if counts[name])
