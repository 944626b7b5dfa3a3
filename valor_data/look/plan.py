"""What a run will take before it is begun: requests, hours at the allowed pace, gigabytes; and whether it fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from valor_data.config import FetchSection, ShardSection
from valor_data.fetch import Source
from valor_data.fetch.folder import FolderSource
from valor_data.ledger import Ledger
from valor_data.look.doctor import existing_parent
from valor_data.manifest import Manifest
from valor_data.road.admission import open_addresses
from valor_data.workdir import WorkDir

CLIP_MEDIA_BYTES = 700_000
"""A ten-second clip of at most 360p, cut: about 0.5 Mbit/s of picture and sound. Replaced by what the ledger knows."""

SAMPLE_FIXED_BYTES = 140_000
"""Mel of ten seconds (1000 x 64 float16), JSON and tar headers."""

FRAME_BYTES = 18_000
"""A JPEG of 256 px short side at quality 90."""

UNLIMITED_SECONDS_A_VIDEO = 1.0
"""A guess for sources without a limit, so that a plan has an answer; the real figure comes from the run."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is to do and what it will take.

    Attributes:
        num_clips: clips of the manifest.
        num_pending: clips that fetch would try.
        num_videos: videos that they are in; a request each.
        num_offered: videos of them that a folder source has; None where only asking tells.
        hours: at the pace of all addresses together.
        media_bytes: what fetch will put on the disk.
        shard_bytes: what the shards will take.
        free_bytes: what the disk has left.
        num_shards: shards in all.
    """

    num_clips: int
    num_pending: int
    num_videos: int
    num_offered: int | None
    requests_per_hour: float
    hours: float
    media_bytes: int
    shard_bytes: int
    free_bytes: int
    num_shards: int

    @property
    def fits(self) -> bool:
        """Whether the disk can hold what the run will write."""
        return self.media_bytes + self.shard_bytes <= self.free_bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {**asdict(self), "fits": self.fits}


def plan_run(
    work: WorkDir, listed: Manifest, source: Source, fetch: FetchSection, shard: ShardSection, now: float
) -> RunPlan:
    """Estimates a run. Nothing is asked of the network.

    Args:
        work: the work folder; it need not exist.
        listed: the manifest.
        source: where the videos are.
        fetch: the `[fetch]` settings.
        shard: the `[shard]` settings.
        now: seconds since 1970.
    """
    pending, clip_bytes = _from_ledger(work, listed, now)
    videos = {str(video) for video in pending.values()}
    addresses, _ = open_addresses(fetch, is_watched=source.is_watched)
    rate = sum(address.state.requests_per_hour for address in addresses.values())
    copies = not isinstance(source, FolderSource) or fetch.copy or source.remote
    sample_bytes = SAMPLE_FIXED_BYTES + FRAME_BYTES * shard.num_frames
    return RunPlan(
        num_clips=len(listed),
        num_pending=len(pending),
        num_videos=len(videos),
        num_offered=len(source.video_ids(videos)) if isinstance(source, FolderSource) else None,
        requests_per_hour=rate,
        hours=len(videos) / rate if rate else len(videos) * UNLIMITED_SECONDS_A_VIDEO / 3600 / fetch.workers,
        media_bytes=len(pending) * clip_bytes if copies else 0,
        shard_bytes=len(listed) * sample_bytes,
        free_bytes=shutil.disk_usage(existing_parent(work.root)).free,
        num_shards=-(-len(listed) // shard.max_clips),
    )


def _from_ledger(work: WorkDir, listed: Manifest, now: float) -> tuple[Mapping[int, str], int]:
    """Pending clips (row to video id) and the mean size of a clip, as far as the ledger knows better."""
    if work.ledger.exists():
        with Ledger(work.ledger, read_only=True) as ledger:
            if ledger.get_meta("manifest") == listed.fingerprint:
                pending = {row.clip_id: row.video_id for row in ledger.due_fetch(now)}
                return pending, ledger.mean_media_bytes() or CLIP_MEDIA_BYTES
    return {row: str(name) for row, name in enumerate(listed.table.column("video_id").to_pylist())}, CLIP_MEDIA_BYTES


def remembered_source(work: WorkDir) -> str | None:
    """The source that a work folder was last fetched from."""
    if not work.ledger.exists():
        return None
    with Ledger(work.ledger, read_only=True) as ledger:
        source = json.loads(ledger.get_meta("settings.fetch") or "{}").get("source")
    return None if source is None else str(source)


def read_listed(work: WorkDir, manifest: Path | None) -> Manifest:
    """The manifest that was given, or the one that the work folder holds.

    Raises:
        ConfigError: there is none.
    """
    from valor_data.errors import ConfigError
    from valor_data.manifest import read_manifest

    if manifest is None and not work.manifest.exists():
        raise ConfigError(f"{work.root}: no manifest here yet; give one: valor-data plan MANIFEST")
    return read_manifest(manifest or work.manifest)
