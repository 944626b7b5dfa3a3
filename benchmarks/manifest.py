"""A million annotation rows: CPU and memory of `build_manifest` and `write_manifest`.

    python benchmarks/manifest.py [--rows 1000000] [--case valor jsonl csv joined bare]

Each case runs in a process of its own, so that its peak memory is its own. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = ("valor", "jsonl", "csv", "joined", "bare")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_WORDS = re.findall(
    r"\w+",
    "a man plays the piano while birds sing in quiet rain near an old road and people laugh loudly "
    "with music the dog barks on grass under blue sky as trucks pass by and water splashes",
)


def video_id(draw: random.Random) -> str:
    return "".join(draw.choices(_ALPHABET, k=11))


def write_case(case: str, folder: Path, num_rows: int) -> list[Path]:
    """Synthetic files: captions of VALOR's mean length (about 110 characters), ten-second clips."""
    draw = random.Random(0)
    rows = [
        (video_id(draw), draw.randrange(0, 600), " ".join(draw.choices(_WORDS, k=21)).capitalize() + ".")
        for _ in range(num_rows)
    ]
    files = []
    if case in ("valor", "joined", "bare"):
        files.append(folder / "desc_train.json")
        with files[0].open("w") as out:
            for number, (video, start, text) in enumerate(rows):
                name = video if case == "bare" else f"{video}_{start}.000_{start + 10}.000"
                out.write(("[" if not number else ", ") + json.dumps({"video_id": name, "desc": text}))
            out.write("]")
    if case in ("joined", "bare"):
        files.append(folder / "unbalanced_train_segments.csv")
        with files[1].open("w") as out:
            out.write("# YTID, start_seconds, end_seconds, positive_labels\n")
            others = [(video_id(draw), draw.randrange(0, 600), "") for _ in range(num_rows)]
            for video, start, _ in rows + others:
                labels = ",".join(f"/m/0{draw.randrange(527):03d}x" for _ in range(draw.choice((1, 2, 2, 3))))
                out.write(f'{video}, {start}.000, {start + 10}.000, "{labels}"\n')
    if case == "jsonl":
        files.append(folder / "train.jsonl")
        with files[0].open("w") as out:
            for video, start, text in rows:
                out.write(json.dumps({"youtube_id": video, "start": start, "end": start + 10, "caption": text}) + "\n")
    if case == "csv":
        files.append(folder / "train.csv")
        with files[0].open("w") as out:
            out.write("video_id,start,end,caption\n")
            out.writelines(f'{video},{start},{start + 10},"{text}"\n' for video, start, text in rows)
    return files


def measure(files: list[Path], output: Path) -> dict[str, float]:
    """Builds and writes in this process; CPU seconds and peak MB, imports included."""
    from valor_data.manifest import build_manifest, write_manifest

    begun = time.perf_counter()
    result = build_manifest(files)
    write_manifest(result, output)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "clips": len(result.manifest),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": time.perf_counter() - begun,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def measure_reading(path: Path) -> dict[str, float]:
    """Reads and checks a manifest in this process."""
    from valor_data.manifest import read_manifest

    begun = time.perf_counter()
    clips = len(read_manifest(path))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "clips": clips,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": time.perf_counter() - begun,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def in_own_process(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def show(case: str, figures: dict[str, float]) -> None:
    print(
        f"| {case} | {figures['clips']:,.0f} | {figures['cpu_seconds']:.1f} | {figures['wall_seconds']:.1f} "
        f"| {figures['peak_mb']:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--measure", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        print(json.dumps(measure_reading(Path(given.read))))
        return
    if given.measure:
        *files, output = map(Path, given.measure)
        print(json.dumps(measure(files, output)))
        return
    print("| case | clips | CPU s | wall s | peak MB |\n|---|---|---|---|---|")
    for case in given.case:
        with tempfile.TemporaryDirectory() as name:
            files = write_case(case, Path(name), given.rows)
            output = Path(name) / "manifest.parquet"
            show(case, in_own_process("--measure", *map(str, files), str(output)))
            if case == "valor":
                show("read_manifest", in_own_process("--read", str(output)))


if __name__ == "__main__":
    main()
