"""Drives the road in this process, and reads what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import MediaServer
from valor_data.ledger import STAGES, Ledger
from valor_data.road import Driver, StageReport, run_fetch, run_filter, run_shard
from valor_data.workdir import WorkDir

CLIPS_A_SHARD = "4"


@dataclass(frozen=True)
class RealClips:
    """The clips of `clips.tsv`, with a folder in which each video lies under its id."""

    folder: Path
    annotation: Path
    rows: list[dict[str, str]]


def go(
    work: Path,
    manifest: Path | None,
    source: str,
    *,
    stages: tuple[str, ...] = STAGES,
    modalities: str = "av",
    fetch: FetchSection | None = None,
    filtering: FilterSection | None = None,
    sharding: ShardSection | None = None,
) -> dict[str, StageReport]:
    """Runs stages in this process (their work in workers); gives back their reports by name."""
    reports: dict[str, StageReport] = {}
    section = fetch or FetchSection(source=source, workers=2)
    with Driver(WorkDir.at(work)) as driver:
        if "fetch" in stages:
            reports["fetch"] = run_fetch(driver, section, manifest=manifest, explicit={"source"})
        if "filter" in stages:
            reports["filter"] = run_filter(driver, filtering or FilterSection(workers=2), modalities)
        if "shard" in stages:
            sharding = sharding or ShardSection(workers=2, max_clips=16, partial=True)
            reports["shard"] = run_shard(driver, sharding, modalities)
    return reports


def standings(work: Path) -> dict[str, tuple[str, str]]:
    """Each clip's final status and reason, by its key."""
    result = {}
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        for clip in ledger.find_all():
            status, reason = "pending", ""
            for stage in STAGES:
                told = ledger.outcomes_of(clip.clip_id).get(stage)
                if told is None:
                    status = status if status == "pending" else f"{status}, no {stage}"
                    break
                status, reason = told[0].status.value, told[0].reason
                if status != "kept":
                    break
            result[clip.key or clip.identity] = (status, reason)
    return result


def tar_bytes(work: Path) -> dict[str, bytes]:
    """Every finished tar, by name."""
    return {path.name: path.read_bytes() for path in sorted((work / "shards").glob("*.tar"))}


def commands(work: Path, manifest: Path, server: MediaServer) -> dict[str, list[str]]:
    run = [sys.executable, "-m", "valor_data"]
    at = ["--work", str(work), "--json"]
    return {
        "fetch": [*run, "fetch", str(manifest), "--source", server.url_template, "--workers", "2", *at],
        "filter": [*run, "filter", "--workers", "2", *at],
        "shard": [*run, "shard", "--workers", "2", "--max-clips", CLIPS_A_SHARD, *at],
    }


def run_to_its_end(command: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def kill_after(command: list[str], seconds: float) -> bool:
    """Starts a command in a process group of its own and kills all of it; tells whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(seconds)
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive
