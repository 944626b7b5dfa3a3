"""Fetching 10 s clips from a local server with 50 ms of latency, against what scripts for AudioSet and its like do.

    python benchmarks/fetch.py [--clips 100] [--workers 4] [--case ours process loop]

A local stand-in for YouTube (the tests' yt-dlp plugin) answers each extraction and each download after 50 ms. Every
case makes the same clips of the same videos at the same number of requests at once:

    ours       `valor-data fetch --source youtube`: outcomes, probing and the lossless cut included
    process    for each clip `python -m yt_dlp` and then an ffmpeg that cuts without re-encoding
    loop       one YoutubeDL object in one thread, and an ffmpeg a clip; `ours` beside it has one worker

CPU is that of every process a case starts, the server's excluded. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS / "fetch"), str(TESTS)]

from hostile import PLUGINS, Origin, name_of, write_list  # noqa: E402 - the tests' local YouTube

from valor_data.demo import Fault  # noqa: E402
from valor_data.media.transcode import ffmpeg_path  # noqa: E402

LATENCY_SECONDS = 0.05
CLIP_SECONDS = 10
START_SECONDS = 20
FORMAT = "bv*[height<=360]+ba/b[height<=360]/w"
PR_SET_CHILD_SUBREAPER = 36
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PLUGINS)}


def make_video(path: Path) -> Path:
    """A minute of a moving picture in 360p with a tone, about 3 MB, with a key picture every two seconds."""
    subprocess.run(
        [str(ffmpeg_path()), "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=60", "-f", "lavfi",
         "-i", "sine=440:d=60", "-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-pix_fmt", "yuv420p",
         "-c:a", "aac", "-movflags", "+faststart", str(path)],
        check=True,
    )  # fmt: skip
    return path


def cut(source: Path, target: Path) -> None:
    subprocess.run(
        [str(ffmpeg_path()), "-v", "error", "-ss", str(START_SECONDS), "-i", str(source), "-t", str(CLIP_SECONDS),
         "-c", "copy", "-y", str(target)],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def ours(origin: Origin, names: list[str], folder: Path, workers: int) -> int:
    """The program, from its start to its end."""
    manifest = write_list(folder / "m.parquet", names)
    annotation = folder / "m.csv"
    annotation.write_text(
        "video_id,start,end,caption\n"
        + "".join(f"{name},{START_SECONDS},{START_SECONDS + CLIP_SECONDS},A tone.\n" for name in names)
    )
    from valor_data.manifest import build_manifest, write_manifest

    write_manifest(build_manifest([annotation]), manifest)
    work = folder / "work"
    work.mkdir()
    (work / "valor.toml").write_text(
        f'[fetch]\nextractor_args = ["{origin.extractor_args[0]}"]\nrequests_per_hour = 1e7\nburst = 1000\n'
    )
    subprocess.run(
        [sys.executable, "-m", "valor_data", "fetch", str(manifest), "--source", "youtube", "--workers", str(workers),
         "--work", str(work), "--json"],
        check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return sum(path.is_file() for path in (work / "media").rglob("*"))


def process(origin: Origin, names: list[str], folder: Path, workers: int) -> int:
    """A yt-dlp process and an ffmpeg process for each clip."""

    def one(name: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "yt_dlp", "-q", "--no-update", "-f", FORMAT,
             "--extractor-args", origin.extractor_args[0],
             "-o", str(folder / "%(id)s.%(ext)s"), f"https://www.youtube.com/watch?v={name}"],
            check=True, env=ENVIRONMENT,
        )  # fmt: skip
        cut(folder / f"{name}.mp4", folder / f"{name}.clip.mp4")
        (folder / f"{name}.mp4").unlink()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, names))
    return len(list(folder.glob("*.clip.mp4")))


def loop(origin: Origin, names: list[str], folder: Path, workers: int) -> int:
    """One YoutubeDL object in a process of its own, and an ffmpeg process for each clip."""
    subprocess.run(
        [sys.executable, __file__, "--loop", origin.extractor_args[0], str(folder), *names],
        check=True, env=ENVIRONMENT,
    )  # fmt: skip
    return len(list(folder.glob("*.clip.mp4")))


def run_loop(extractor_args: str, folder: Path, names: list[str]) -> None:
    import yt_dlp

    where = extractor_args.partition("stand_in=")[2]
    options = {"quiet": True, "noprogress": True, "format": FORMAT, "outtmpl": str(folder / "%(id)s.%(ext)s"),
               "extractor_args": {"youtube": {"stand_in": [where]}}}  # fmt: skip
    with yt_dlp.YoutubeDL(options) as downloader:
        for name in names:
            downloader.download([f"https://www.youtube.com/watch?v={name}"])
            cut(folder / f"{name}.mp4", folder / f"{name}.clip.mp4")
            (folder / f"{name}.mp4").unlink()


def used_by_children() -> float:
    """CPU seconds of every descendant that has ended."""
    while True:
        try:
            os.waitpid(-1, 0)  # orphans come to this process: a fork server outlives its driver for a moment
        except ChildProcessError:
            break
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(case: Callable[..., int], num_clips: int, workers: int, video: Path) -> dict[str, float]:
    names = [name_of(f"c{number:05d}") for number in range(num_clips)]
    with tempfile.TemporaryDirectory() as name, Origin(video) as origin:
        origin.delay_seconds = LATENCY_SECONDS
        origin.media.faults |= dict.fromkeys(names, Fault(delay_seconds=LATENCY_SECONDS))
        before, began = used_by_children(), time.perf_counter()
        made = case(origin, names, Path(name), workers)
        wall = time.perf_counter() - began
        cpu = used_by_children() - before
        requests = len(origin.extractions) + origin.media.count()
    if made != num_clips:
        raise SystemExit(f"{case.__name__}: {made} clips of {num_clips}")
    return {"wall": wall, "cpu": cpu, "requests": requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rows = [("ours", ours, given.workers), ("process", process, given.workers), ("ours", ours, 1), ("loop", loop, 1)]
    with tempfile.TemporaryDirectory() as name:
        video = make_video(Path(name) / "video.mp4")
        print(f"{given.clips} clips of {CLIP_SECONDS} s, each of a video of {video.stat().st_size / 1e6:.1f} MB\n")
        print("| case | at once | clips/s | CPU ms a clip | requests a clip |\n|---|---|---|---|---|")
        for label, case, workers in rows:
            found = measure(case, given.clips, workers, video)
            if given.json:
                print(json.dumps({"case": label, "workers": workers, **found}))
            print(
                f"| {label} | {workers} | {given.clips / found['wall']:.2f} | {found['cpu'] / given.clips * 1000:.0f} "
                f"| {found['requests'] / given.clips:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        run_loop(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        main()
