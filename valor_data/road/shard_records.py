"""What is written of a shard: its requests out of the ledger, its outcomes into it."""

from __future__ import annotations

from dataclasses import replace

from valor_data.clip import parse_key
from valor_data.errors import Status
from valor_data.ledger import Outcome, PlannedClip, ShardRow
from valor_data.manifest import Manifest
from valor_data.media.facts import FACTS_VERSION
from valor_data.road.driver import Driver
from valor_data.road.shard_states import settings_hash
from valor_data.shard.sample import SampleRequest, SampleSettings
from valor_data.shard.writer import ShardResult, ShardUnit, SliceRow


def slice_row(clip: PlannedClip) -> SliceRow:
    """How a clip of the slice stands before its shard is made."""
    status, reason = clip.standing()
    if status == Status.KEPT.value and clip.shard_status == Status.DROPPED.value:
        status, reason = Status.DROPPED.value, clip.shard_reason or ""
    return SliceRow(clip.clip_id, clip.key or clip.identity, clip.video_id, status, reason)


def sample_requests(driver: Driver, clips: list[PlannedClip], listed: Manifest) -> list[SampleRequest]:
    """What is needed to make the samples of some clips."""
    annotations = listed.clips([clip.manifest_row for clip in clips if clip.manifest_row is not None])
    requests = []
    for clip, annotation in zip(clips, annotations, strict=True):
        if annotation.end is None:
            annotation = replace(annotation, end=parse_key(clip.key or "")[2])
        requests.append(
            SampleRequest(
                clip_id=clip.clip_id,
                clip=annotation,
                path=driver.work.root / clip.path if clip.path else None,
                offset_seconds=clip.offset_seconds or 0.0,
                facts=None if clip.unmeasured else clip.facts or "{}",
                source=clip.source or "{}",
                content=clip.content.hex(),
            )
        )
    return requests


def record_shard(driver: Driver, settings: SampleSettings, result: ShardResult) -> None:
    """Writes a finished shard: facts that were measured on the way, and the outcome of each of its clips."""
    ledger = driver.ledger
    for clip in list(ledger.planned(result.split, result.shard)):
        judged = result.judged.get(clip.clip_id)
        if judged is not None:
            _record_judged(driver, clip.clip_id, result.measured.get(clip.clip_id), judged)
        if clip.clip_id in result.dropped:
            ledger.record(clip.clip_id, "shard", Outcome.refused(*result.dropped[clip.clip_id]))
        elif (clip.wanted and clip.shard_status is None) or (judged is not None and judged.status is Status.KEPT):
            ledger.record(clip.clip_id, "shard", Outcome.kept())
    row = ShardRow(
        result.split, result.shard, result.digest, result.num_samples, result.size_bytes, result.tar_sha256,
        settings_hash(settings),
    )  # fmt: skip
    ledger.record_shard(row)


def _record_judged(driver: Driver, clip_id: int, facts: str | None, judged: Outcome) -> None:
    if facts is not None:
        driver.ledger.record_facts(clip_id, FACTS_VERSION, facts)
    driver.ledger.record(clip_id, "filter", judged)


def discard_media(driver: Driver, unit: ShardUnit) -> None:
    """Deletes the media of a finished shard's clips; files outside the work folder are never touched."""
    driver.ledger.commit()
    for request in unit.requests:
        if request.path is not None and request.path.is_relative_to(driver.work.media):
            request.path.unlink(missing_ok=True)
            driver.ledger.discard_media(request.clip_id)
    driver.ledger.commit()
