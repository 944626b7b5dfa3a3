"""What a clip of 10 s out of a video of 10 minutes costs: whole, as a section, as byte ranges.

    python benchmarks/fetch_bytes.py [--clips 5] [--latency-ms 50]

Real files on a local server, one extraction a clip. Bytes are those the server wrote to its sockets; CPU is
the fetching process's and its children's (ffmpeg), after one clip that is not counted. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent / "tests" / "fetch"
sys.path.insert(0, str(TESTS))

from two_streams import VIDEO_ID, TwoStreams, make_mp4_pair, make_webm_pair, stand_in  # noqa: E402

from valor_data.config import FetchSection  # noqa: E402
from valor_data.demo.serve import CHUNK_BYTES, Fault, _Handler  # noqa: E402
from valor_data.fetch import ClipRequest, Obtained  # noqa: E402
from valor_data.fetch.web import YouTubeLocation  # noqa: E402
from valor_data.media.cut import cut  # noqa: E402

SECONDS = 600
BYTES_PER_SECOND = 20 * CHUNK_BYTES  # of one connection: a chunk of the server each 50 ms
WAYS = ("whole", "section", "ranges")


class Counted:
    """Bytes that the local server has written."""

    def __init__(self) -> None:
        self.num_bytes = 0
        lock = threading.Lock()
        send = _Handler._send_slowly

        def counting(handler: Any, body: bytes, fault: Fault) -> None:
            send(handler, body, fault)
            with lock:
                self.num_bytes += len(body)

        _Handler._send_slowly = counting  # type: ignore[method-assign]


def cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def fetch_clips(pieces: str, num_clips: int) -> None:
    """The fetching process: a clip to warm up, then a word to the parent, then the clips."""
    settings = FetchSection(pieces=pieces, whole_below_bytes=0)
    times: list[tuple[float, float]] = []
    for number in range(num_clips + 1):
        if number == 1:
            print("warm", flush=True)
            sys.stdin.readline()
        start = 7.3 + number * (SECONDS - 20) / (num_clips + 1)
        clip = ClipRequest(number, "clip", start, start + 10)
        with tempfile.TemporaryDirectory() as folder:
            began, used = time.perf_counter(), cpu_seconds()
            item = YouTubeLocation(VIDEO_ID).obtain([clip], Path(folder), settings)[number]
            if not isinstance(item, Obtained) or item.origin["how"] != pieces:
                raise SystemExit(f"{pieces}: {item}")
            cut(item.path, start, start + 10, Path(folder), "clip", offset_seconds=item.offset_seconds)
            times.append((time.perf_counter() - began, cpu_seconds() - used))
    counted = times[1:]
    print(json.dumps([sum(column) / num_clips for column in zip(*counted, strict=True)]), flush=True)


def measure(server: TwoStreams, counted: Counted, pieces: str, num_clips: int) -> tuple[float, float, float, float]:
    """Bytes, requests, seconds and CPU seconds a clip."""
    command = [sys.executable, __file__, "--child", server.watch, pieces, "--clips", str(num_clips)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        if child.stdin is None or child.stdout is None or child.stdout.readline() != "warm\n":
            raise SystemExit(f"{pieces}: the fetching process failed")
        time.sleep(0.5)  # what ffmpeg no longer reads is still being written
        server.media.forget_requests()
        counted.num_bytes = 0
        child.stdin.write("go\n")
        child.stdin.flush()
        wall, cpu = json.loads(child.stdout.readline())
    return counted.num_bytes / num_clips, server.media.count() / num_clips, wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--child", nargs=2, metavar=("WATCH", "WAY"))
    given = parser.parse_args()
    if given.child:
        watch, pieces = given.child
        with stand_in(watch):
            fetch_clips(pieces, given.clips)
        return
    counted = Counted()
    print(
        "| files | way | MB a clip | share of the video | requests | seconds | CPU s |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("mp4", "webm, cues in front", "webm, cues behind"):
            place = Path(folder) / name.replace(" ", "")
            place.mkdir()
            if name == "mp4":
                files = make_mp4_pair(place, SECONDS, fps=25)
            else:
                files = make_webm_pair(place, SECONDS, *(("-cues_to_front", 1) if "front" in name else ()))
            with TwoStreams(files, SECONDS) as server:
                for stream in files:
                    server.fail(stream, delay_seconds=given.latency_ms / 1000, bytes_per_second=BYTES_PER_SECOND)
                for pieces in WAYS:
                    num_bytes, requests, wall, cpu = measure(server, counted, pieces, given.clips)
                    share = num_bytes / server.size_bytes
                    print(f"| {name}, {server.size_bytes / 1e6:.1f} MB | {pieces} | {num_bytes / 1e6:.2f} "
                          f"| {share:.1%} | {requests:.0f} | {wall:.2f} | {cpu:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
