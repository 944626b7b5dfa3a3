"""How `shard` goes with the number of workers: one, two, sixty-four.

    python benchmarks/workers.py [--clips 256] [--rounds 3] [--max-clips 2]

The command itself, start to end, over natural video (`../shared/media`, or VALOR_DATA_SHARED): each round runs every
number of workers once, in turn, each in a work folder of its own whose clips are fetched. Seconds of the clock, the
start of the workers included; medians. On two free cores two workers should give 1.8 times the clips of one, and 64
be no more than 15 % slower than two.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKERS = (1, 2, 64)


def make_work(folder: Path, num_clips: int) -> Path:
    """A work folder whose clips are fetched: real files under many ids, used in place."""
    from valor_data.config import FetchSection
    from valor_data.manifest import build_manifest, write_manifest
    from valor_data.road import Driver, run_fetch
    from valor_data.workdir import WorkDir

    shared = Path(os.environ.get("VALOR_DATA_SHARED", "../shared")).absolute()
    with (shared / "media" / "clips.tsv").open() as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["expect"] == "kept"]
    rows = [row for row in rows if float(row["end"]) - float(row["start"]) >= 5]
    videos = folder / "videos"
    videos.mkdir()
    listed = []
    for number in range(num_clips):
        row = rows[number % len(rows)]
        video_id = f"v{number:010d}"
        origin = shared / "media" / row["file"]
        (videos / f"{video_id}{origin.suffix.lower()}").symlink_to(origin)
        listed.append({"video_id": f"{video_id}_{row['start']}_{row['end']}", "desc": row["caption"]})
    (folder / "desc_train.json").write_text(json.dumps(listed))
    manifest = folder / "manifest.parquet"
    write_manifest(build_manifest([folder / "desc_train.json"]), manifest)
    work = WorkDir.at(folder / "work")
    with Driver(work, stages=["fetch"]) as driver:
        run_fetch(driver, FetchSection(source=str(videos)), manifest=manifest, explicit={"source"})
    return work.root


def run_shard(fetched: Path, folder: Path, workers: int, max_clips: int) -> float:
    """Seconds that the command takes in a copy of the work folder."""
    work = folder / f"with-{workers}"
    shutil.copytree(fetched, work)
    command = [sys.executable, "-m", "valor_data", "shard", "--work", str(work), "--workers", str(workers)]
    began = time.perf_counter()
    done = subprocess.run([*command, "--max-clips", str(max_clips), "--json"], capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    shutil.rmtree(work)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-clips", type=int, default=2, help="clips a shard: 64 workers need 64 shards and more")
    options = parser.parse_args()
    found: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fetched = make_work(folder, options.clips)
        for turn in range(options.rounds):
            for workers in WORKERS[turn % 3 :] + WORKERS[: turn % 3]:
                found[workers].append(run_shard(fetched, folder, workers, options.max_clips))
    clock = {workers: statistics.median(runs) for workers, runs in found.items()}
    print(f"{options.clips} clips, {len(os.sched_getaffinity(0))} cores, medians of {options.rounds} rounds")
    print("| workers | seconds | clips a second |\n|---|---|---|")
    for workers in WORKERS:
        print(f"| {workers} | {clock[workers]:.1f} | {options.clips / clock[workers]:.1f} |")
    print(
        f"two workers give {clock[1] / clock[2]:.2f} times one; 64 take {clock[64] / clock[2]:.2f} times as long as two"
    )


if __name__ == "__main__":
    main()
