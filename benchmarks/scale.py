"""How the ledger, the plan, the status and the resume of a finished run grow with the number of clips.

    python benchmarks/scale.py 10000 100000 1000000

Everything but media is real: a manifest is written and read, entered into a ledger, every clip gets an outcome
of each stage and facts, the plan is made, every shard is recorded as finished, the run is resumed; then the same
shards are recorded by four parts, and their ledgers merged. CPU seconds of this process; peak resident memory of a
process of its own for each size.
"""

from __future__ import annotations

import functools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED_EVERY = 7


def measure(size: int) -> None:
    """Runs every step for one size and prints [[step, CPU seconds], …] and the peak memory as JSON."""
    steps: list[tuple[str, float]] = []

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        steps.append((name, time.process_time() - began))
        return result

    with tempfile.TemporaryDirectory() as name:
        run(size, Path(name), timed)
    print(json.dumps([steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def write_list(folder: Path, size: int) -> Path:
    """A released list of so many clips, each of a video of its own."""
    listing = folder / "desc_train.json"
    with listing.open("w") as stream:
        stream.write("[")
        for i in range(size):
            end = "\n" if i == 0 else ",\n"
            desc = f"A clip of something that is seen and heard, number {i}."
            stream.write(end + json.dumps({"video_id": f"v{i:010d}_30.000_40.000", "desc": desc}))
        stream.write("]")
    return listing


def run(size: int, folder: Path, timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    """The life of a work folder, without its media."""
    from valor_data.config import FetchSection, ShardSection
    from valor_data.errors import Status
    from valor_data.ledger import Ledger
    from valor_data.look.status import read_status
    from valor_data.manifest import build_manifest, write_manifest
    from valor_data.road import Driver, StageReport, run_fetch, run_shard
    from valor_data.road.entry import enter_manifest
    from valor_data.workdir import WorkDir

    work = WorkDir.at(folder / "work")
    videos = folder / "videos"
    videos.mkdir()
    listing = write_list(folder, size)
    manifest = folder / "manifest.parquet"
    timed("manifest", lambda: write_manifest(build_manifest([listing]), manifest))
    with Driver(work, stages=["shard"]) as driver:
        timed("enter", lambda: enter_manifest(driver, manifest, StageReport("fetch")))
        timed("outcomes", lambda: record_all(driver.ledger))
    sharding = ShardSection(workers=1)
    with Driver(work, stages=["shard"]) as driver:
        timed("plan", lambda: plan(driver, sharding))
    shutil.copytree(work.root, folder / "parts")
    with Driver(work, stages=["shard"]) as driver:
        timed("shards", lambda: finish_all(driver, sharding))
    with Ledger(work.ledger, read_only=True) as ledger:
        status = timed("status", lambda: read_status(ledger))
        if status.all.num_clips != size:
            raise SystemExit("the ledger lost clips")
    with Driver(work, stages=["shard"]) as driver:
        source = FetchSection(source=str(videos))
        timed("resume fetch", lambda: run_fetch(driver, source, explicit={"source"}))
        report = timed("resume shard", lambda: run_shard(driver, sharding, "av"))
        if report.total(Status.WAITING) or not report.done:
            raise SystemExit("the resumed run found work to do")
    in_parts(WorkDir.at(folder / "parts"), sharding, timed)


def in_parts(work: Any, sharding: Any, timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    """The same shards, recorded by the drivers of four parts, and the merge of their ledgers."""
    from valor_data.road import Driver
    from valor_data.road.parts import merge_parts

    drivers = timed("cut", lambda: [Driver(work.of_part(f"{number}/4")) for number in range(1, 5)])
    for number, opened in enumerate(drivers, 1):
        with opened as driver:
            timed(f"shards, {number}/4", functools.partial(finish_all, driver, sharding))
    merged = timed("merge", lambda: merge_parts(work))
    if merged.num_shards != -(-merged_clips(work) // sharding.max_clips):
        raise SystemExit("the merge lost shards")


def merged_clips(work: Any) -> int:
    """Clips of the manifest in a work folder's ledger."""
    from valor_data.ledger import Ledger

    with Ledger(work.ledger, read_only=True) as ledger:
        return int(ledger.num_clips())


def record_all(ledger: Any) -> None:
    """Gives every clip media, facts and outcomes, as a run does."""
    from valor_data.ledger import MediaRow, Outcome
    from valor_data.media.facts import FACTS_VERSION, Facts

    facts = Facts(has_video=True, has_audio=True, rms_dbfs=-20.0, peak_dbfs=-3.0).to_json()
    for clip in ledger.find_all():
        ledger.record_media(clip.clip_id, MediaRow(f"media/ab/{clip.key}.mp4", 28.0, 500_000, '{"extractor":"x"}'))
        ledger.record(clip.clip_id, "fetch", Outcome.kept())
        ledger.record_facts(clip.clip_id, FACTS_VERSION, facts)
        refused = clip.clip_id % REFUSED_EVERY == 0
        ledger.record(clip.clip_id, "filter", Outcome.refused("silent", "quiet") if refused else Outcome.kept())
    ledger.commit()


def plan(driver: Any, section: Any) -> None:
    """Fixes the plan of shards."""
    from valor_data.road.shard_plan import fix_plan

    fix_plan(driver, section, (), lambda: section.max_clips)


def finish_all(driver: Any, section: Any) -> None:
    """Records every planned shard as finished, with the sidecar that a worker would have written."""
    from valor_data.road.shard_records import record_shard
    from valor_data.road.shard_states import shard_states
    from valor_data.shard.sample import SampleSettings
    from valor_data.shard.writer import ShardResult

    settings = SampleSettings.of(section, "av")
    driver.work.index.mkdir(parents=True, exist_ok=True)
    driver.work.shards.mkdir(parents=True, exist_ok=True)
    for state in shard_states(driver, settings, driver.output())[0]:
        (driver.work.shards / f"{state.name}.tar").write_bytes(b"x")
        told = {"digest": state.digest, "num_samples": state.num_wanted, "tar_bytes": 1, "tar_sha256": "",
                "dropped_here": {}}  # fmt: skip
        (driver.work.index / f"{state.name}.json").write_text(json.dumps(told))
        record_shard(
            driver,
            settings,
            ShardResult(state.split, state.shard, digest=state.digest, num_samples=state.num_wanted, size_bytes=1),
        )
    driver.ledger.commit()


def main() -> None:
    """Prints a table, a column for each size."""
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
        return
    sizes = [int(text) for text in sys.argv[1:]] or [10_000, 100_000]
    columns = []
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        columns.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    print(f"{'CPU seconds':<14}" + "".join(f"{size:>12,}" for size in sizes))
    for number, (step, _) in enumerate(columns[0][0]):
        print(f"{step:<14}" + "".join(f"{steps[number][1]:>12.2f}" for steps, _ in columns))
    print(f"{'peak MB':<14}" + "".join(f"{peak:>12.0f}" for _, peak in columns))


if __name__ == "__main__":
    main()
