"""What the report and the statistics of many clips cost: seconds, memory, the size of the page.

    python benchmarks/report.py 10000 100000 1000000

The run is synthetic and the rest is real: captions of a long-tailed vocabulary with AudioSet's class names in them,
labels, facts that differ from clip to clip, a seventh of the clips refused for one of five reasons; a manifest is
built and entered into a ledger as `benchmarks/scale.py` does. The clips of the gallery have media, made as the demo
makes its own, so that pictures, mel and sound are really decoded; from media and not from shards, which costs more.
Wall seconds of the whole; CPU seconds and peak resident memory of the command's process, without its workers.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NUM_WORDS = 60_000
REASONS = ("silent", "no_audio", "short", "no_video", "undecodable")


def captions(size: int) -> Iterator[str]:
    """Sentences of 5 to 60 words, the n-th word about 1/n as frequent as the first, class names among them."""
    import numpy as np

    from valor_data.look.concepts import audioset_classes

    draw = np.random.default_rng(0)
    names = [name.split(",")[0].lower() for name in audioset_classes().values()]
    words = np.array([f"w{n:x}" for n in range(NUM_WORDS)], dtype=object)
    weights = 1.0 / np.arange(1, NUM_WORDS + 1)
    weights /= weights.sum()
    for _ in range(0, size, 1000):
        lengths = np.clip(draw.gamma(5.0, 3.3, 1000), 5, 60).astype(int)
        drawn = words[draw.choice(NUM_WORDS, lengths.sum(), p=weights)]
        ends = np.cumsum(lengths)
        for first, last in zip(ends - lengths, ends, strict=True):
            yield f"{' '.join(drawn[first:last])} with {names[int(draw.integers(len(names)))]}."


def make_run(size: int, folder: Path) -> Any:
    """A work folder with that many clips."""
    from valor_data.look.concepts import audioset_classes
    from valor_data.manifest import build_manifest, write_manifest
    from valor_data.road import Driver, StageReport
    from valor_data.road.entry import enter_manifest
    from valor_data.workdir import WorkDir

    codes, draw = list(audioset_classes()), random.Random(0)
    listing = folder / "train.jsonl"
    with listing.open("w") as stream:
        for number, text in zip(range(size), captions(size), strict=False):
            start = draw.randrange(600)
            end = start + draw.choice((10, 10, 10, 7, 5))
            split = "val" if number % 50 == 0 else "train"
            row: dict[str, Any] = {"id": f"v{number:010d}", "start": start, "end": end, "split": split}
            row["caption"] = text
            row["labels"] = draw.sample(codes, 3)
            stream.write(json.dumps(row) + "\n")
    work = WorkDir.at(folder / "work")
    result = build_manifest([listing])
    write_manifest(result, folder / "manifest.parquet", rejects_path=work.rejects)
    with Driver(work, stages=["shard"]) as driver:
        enter_manifest(driver, folder / "manifest.parquet", StageReport("fetch"))
        record_all(driver.ledger, media_files(folder))
    return work


def media_files(folder: Path) -> list[Path]:
    """Some small videos with sound."""
    from valor_data.demo import WorldSettings, make_world

    world = make_world(folder / "world", WorldSettings.small(), workers=1)
    return [path for path in sorted(world.media.iterdir()) if path.stat().st_size > 20_000][:10]


def record_all(ledger: Any, files: list[Path]) -> None:
    """Gives every clip media, facts and outcomes; facts differ."""
    from valor_data.ledger import MediaRow, Outcome
    from valor_data.media.facts import FACTS_VERSION, Facts

    draw = random.Random(1)
    for clip in ledger.find_all():
        path = str(files[clip.clip_id % len(files)])
        start = int(clip.key.rsplit("_", 2)[1]) / 1000
        refused = clip.clip_id % 7 == 0
        short = draw.choice((144, 240, 360, 360, 480, 720))
        facts = Facts(
            has_video=True, has_audio=True, video_codec="h264", audio_codec="aac", width_px=short * 16 // 9,
            height_px=short, fps=25.0, sample_rate_hz=44_100, num_channels=2, video_coverage=1.0, audio_coverage=1.0,
            audio_spans=((0.0, 10.0),), rms_dbfs=draw.gauss(-70.0 if refused else -24.0, 8.0), peak_dbfs=-3.0,
            silence_share=draw.random() ** 4,
        )  # fmt: skip
        ledger.record_media(clip.clip_id, MediaRow(path, start, 500_000, '{"extractor":"x"}'))
        ledger.record(clip.clip_id, "fetch", Outcome.kept())
        ledger.record_facts(clip.clip_id, FACTS_VERSION, facts.to_json())
        ledger.record(clip.clip_id, "filter", Outcome.refused(draw.choice(REASONS)) if refused else Outcome.kept())
        if not refused:
            ledger.record(clip.clip_id, "shard", Outcome.kept())
    ledger.commit()


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, and CPU seconds and peak MB of the command's own process."""
    code = (
        "import resource, sys; from valor_data.cli import main; main(sys.argv[1:]);"
        "told = resource.getrusage(resource.RUSAGE_SELF);"
        "print(told.ru_utime + told.ru_stime, told.ru_maxrss / 1024, file=sys.stderr)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - began
    cpu, peak = done.stderr.splitlines()[-1].split()
    return seconds, float(cpu), float(peak)


def main() -> None:
    """Prints a line for each size and command."""
    print(f"{'clips':>10} {'command':<8} {'wall s':>8} {'CPU s':>8} {'peak MB':>8} {'page MB':>8}")
    for size in [int(text) for text in sys.argv[1:]] or [10_000, 100_000]:
        with tempfile.TemporaryDirectory() as folder:
            work = make_run(size, Path(folder))
            for name in ("stats", "report"):
                wall, cpu, peak = measure([name, "--work", str(work.root), *(["--json"] if name == "stats" else [])])
                page = (work.report / "index.html").stat().st_size / 1e6 if name == "report" else 0.0
                print(f"{size:>10,} {name:<8} {wall:>8.1f} {cpu:>8.1f} {peak:>8.0f} {page:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
