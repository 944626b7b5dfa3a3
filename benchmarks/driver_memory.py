"""What a driver's memory does while a million clips go by: fetch, filter and shard, workers left out.

    python benchmarks/driver_memory.py [10000 100000 1000000]

The drivers are real, with a real manifest and ledger; in place of workers, something answers each unit at once as a
worker would. Each stage is a process of its own. Resident memory that belongs to the process alone (RssAnon of Linux),
in MB: before the stage begins, at the first unit, at a tenth, at half and at the end of its units, and the most of it
between two of 200 looks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from scale import write_list

STAGES = ("fetch", "filter", "shard")
LOOKS = 200
MAX_CLIPS = 1000
CLIPS_A_UNIT = {"fetch": 1, "filter": 8, "shard": MAX_CLIPS}


def private_megabytes() -> float:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no RssAnon: this needs Linux")


class Answering:
    """An executor without workers, which looks at the memory as units go by."""

    def __init__(self, answer: Callable[[Any], Any], num_units: int) -> None:
        self._answer = answer
        self._every = max(1, num_units // LOOKS)
        self.looks: list[float] = []

    def run(self, function: Callable[[Any], Any], units: Iterable[Any], **_: Any) -> Iterator[tuple[Any, Any]]:
        for number, unit in enumerate(units):
            if number % self._every == 0:
                self.looks.append(private_megabytes())
            yield unit, self._answer(unit)
        self.looks.append(private_megabytes())

    def close(self) -> None:
        """Nothing to stop."""


def answer_fetch(unit: Any) -> Any:
    from valor_data.fetch import FetchedClip, VideoResult
    from valor_data.ledger import MediaRow, Outcome

    return VideoResult(
        tuple(
            FetchedClip(
                clip.clip_id,
                Outcome.kept(),
                clip.identity,
                MediaRow(f"media/ab/{clip.identity}.mp4", 28.0, 500_000, "{}"),
            )
            for clip in unit.clips
        )
    )


def answer_filter(unit: Any) -> Any:
    from valor_data.filter.measure import Measured
    from valor_data.media.facts import Facts

    facts = Facts(has_video=True, has_audio=True, rms_dbfs=-20.0, peak_dbfs=-3.0).to_json()
    return [Measured(clip.clip_id, facts=facts) for clip in unit.clips]


def answer_shard(unit: Any) -> Any:
    from valor_data.shard.writer import ShardResult

    return ShardResult(unit.split, unit.shard, digest="-", num_samples=len(unit.requests), size_bytes=1)


def make_list(folder: Path, size: int) -> None:
    from valor_data.manifest import build_manifest, write_manifest

    write_manifest(build_manifest([write_list(folder, size)]), folder / "manifest.parquet")
    (folder / "videos").mkdir()


def run_stage(stage: str, folder: Path, size: int) -> list[float]:
    """Memory before the stage, and at each look."""
    from valor_data.config import FetchSection, FilterSection, ShardSection
    from valor_data.road import Driver, run_fetch, run_filter, run_shard
    from valor_data.workdir import WorkDir

    answers = {"fetch": answer_fetch, "filter": answer_filter, "shard": answer_shard}
    watching = Answering(answers[stage], size // CLIPS_A_UNIT[stage])
    Driver.executor = lambda self, workers: watching  # type: ignore[assignment,return-value,method-assign]
    with Driver(WorkDir.at(folder / "work"), stages=[stage]) as driver:
        before = private_megabytes()
        match stage:
            case "fetch":
                section = FetchSection(source=str(folder / "videos"))
                run_fetch(driver, section, manifest=folder / "manifest.parquet", explicit={"source"})
            case "filter":
                run_filter(driver, FilterSection(), "av")
            case "shard":
                run_shard(driver, ShardSection(max_clips=MAX_CLIPS), "av")
    return [before, *watching.looks]


def main() -> None:
    """Prints a table, a row for each size and stage."""
    if sys.argv[1:2] == ["--one"]:
        stage, folder, size = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
        if stage == "list":
            make_list(folder, size)
        else:
            print(json.dumps(run_stage(stage, folder, size)))
        return
    print("| clips | stage | before | first unit | a tenth | half | end | most |\n|---|---|---|---|---|---|---|---|")
    for size in [int(text) for text in sys.argv[1:]] or [10_000, 100_000]:
        with tempfile.TemporaryDirectory() as name:
            for step in ("list", *STAGES):
                command = [sys.executable, __file__, "--one", step, name, str(size)]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                if step != "list":
                    before, *looks = json.loads(told)
                    some = (before, looks[0], looks[len(looks) // 10], looks[len(looks) // 2], looks[-1], max(looks))
                    print(f"| {size:,} | {step} | {' | '.join(f'{look:.0f}' for look in some)} |", flush=True)


if __name__ == "__main__":
    main()
