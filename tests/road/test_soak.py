"""A long run over a web with every fault, killed again and again: it ends complete, and asks nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from small_media import make_video

from valor_data.demo import Fault, MediaServer
from valor_data.manifest import build_manifest, write_manifest

WORKERS = 4
PAGE = b"<!doctype html><html><body>Sorry.</body></html>"

FAULTS: dict[str, tuple[Fault, tuple[str, str]]] = {
    "404": (Fault(status=404), ("dropped", "gone")),
    "403": (Fault(status=403), ("waiting", "forbidden")),
    "503 once": (Fault(status=503, times=1), ("kept", "")),
    "500": (Fault(status=500), ("waiting", "server_error")),
    "cut once": (Fault(cut_after_bytes=1000, times=1), ("kept", "")),
    "cut": (Fault(body=b"x" * 5000, cut_after_bytes=1000), ("waiting", "network")),
    "page": (Fault(body=PAGE), ("dropped", "not_media")),
    "empty": (Fault(body=b""), ("dropped", "empty")),
    "text": (Fault(body=b"x" * 3000, content_type="video/mp4"), ("dropped", "not_media")),
    "elsewhere": (Fault(redirect_to="http://127.0.0.2:9/{video_id}"), ("dropped", "not_media")),
    "circle": (Fault(redirect_to="/v/{video_id}.mp4"), ("waiting", "server_error")),
    "slow": (Fault(delay_seconds=0.3), ("kept", "")),
}
"""What goes wrong for one video in ten, and how its clip ends."""


@dataclass
class Watched:
    """One run of the program, and what its driver process alone used."""

    process: subprocess.Popen[str]
    cpu_seconds: float = 0.0
    rss_bytes: list[int] = field(default_factory=list)

    def watch(self) -> None:
        """Samples the driver until it ends."""
        with contextlib.suppress(psutil.Error):
            driver = psutil.Process(self.process.pid)
            while self.process.poll() is None:
                times = driver.cpu_times()
                self.cpu_seconds = times.user + times.system
                self.rss_bytes.append(driver.memory_info().rss)
                time.sleep(0.1)


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[Watched]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    watched = Watched(process)
    thread = threading.Thread(target=watched.watch)
    thread.start()
    yield watched
    thread.join()


def outcomes(work: Path) -> dict[str, tuple[str, str]]:
    """(status, reason) of each clip that has an outcome, by the id of its video."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{work / 'ledger.sqlite'}?mode=ro", uri=True)) as db,
    ):
        rows = db.execute("SELECT video_id, status, reason FROM outcomes JOIN clips USING (clip_id)").fetchall()
        return {name: (status, reason) for name, status, reason in rows}
    return {}


def kill_at(command: list[str], work: Path, number: int) -> None:
    """Starts the program and kills its whole tree once so many clips have an outcome."""
    with running(command) as run:
        while len(outcomes(work)) < number:
            assert run.process.poll() is None, run.process.communicate()
            time.sleep(0.02)
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.communicate()


def soak(tmp_path: Path, num_videos: int, kills: int) -> tuple[Watched, Watched]:
    """The whole story; gives back the last run and one with nothing left to do."""
    dice = random.Random(0)
    names = [f"v{number:05d}" for number in range(num_videos)]
    video = make_video(tmp_path / "video.mp4")
    kinds = {name: list(FAULTS)[i % len(FAULTS)] for i, name in enumerate(dice.sample(names, num_videos // 10))}
    annotation = tmp_path / "list.csv"
    annotation.write_text("video_id,start,end,caption\n" + "".join(f"{name},0,2,A shape.\n" for name in names))
    write_manifest(build_manifest([annotation]), tmp_path / "m.parquet")
    work = tmp_path / "work"
    work.mkdir()
    options = ["--retries", "1", "--retry-sleep", "http:0"]
    (work / "valor.toml").write_text(f"[fetch]\nyt_dlp_options = {json.dumps(options)}\n")
    with MediaServer(dict.fromkeys(names, video), {name: FAULTS[kind][0] for name, kind in kinds.items()}) as server:
        command = [sys.executable, "-m", "valor_data", "fetch", str(tmp_path / "m.parquet"), "--json",
                   "--source", server.url_template, "--workers", str(WORKERS), "--work", str(work)]  # fmt: skip
        for step in range(1, kills + 1):
            known, before = outcomes(work), len(server.requests)
            kill_at(command, work, step * num_videos // (kills + 1))
            check_requests(server, known, before)
            time.sleep(0.5)  # until what the dead had asked for is answered
        known, before = outcomes(work), len(server.requests)
        with running(command) as last:
            out, err = last.process.communicate()
        assert last.process.returncode == 0, err
        repeats = check_requests(server, known, before)
        counts = json.loads(out)["outcomes"]
        left = num_videos - sum(status != "waiting" for status, _ in known.values())
        adopted = left - sum(row["count"] for row in counts)
        assert 0 <= adopted <= 2 * WORKERS, "finished when the run was killed, and taken over"
        assert len(repeats) <= WORKERS * kills, repeats
        with running(command) as idle:
            idle.process.communicate()
    expected = {name: FAULTS[kinds[name]][1] if name in kinds else ("kept", "") for name in names}
    assert outcomes(work) == expected
    assert not (work / "tmp").exists()
    assert len([path for path in (work / "media").rglob("*") if path.is_file()]) == sum(
        status == "kept" for status, _ in expected.values()
    )
    return last, idle


def check_requests(server: MediaServer, known: dict[str, tuple[str, str]], before: int) -> Counter[str]:
    """Since a moment nothing was asked for that had a final outcome then; gives back what was asked for twice."""
    since = Counter(request.video_id for request in server.requests[before:])
    final = {name for name, (status, _) in known.items() if status != "waiting"}
    assert final & since.keys() == set(), "what has an outcome is not asked for again"
    earlier = Counter(request.video_id for request in server.requests[:before])
    return Counter({name: number for name, number in since.items() if earlier[name] and name not in known})


@pytest.mark.timeout(180)
def test_a_hundred_videos_with_faults_and_a_kill(tmp_path: Path) -> None:
    soak(tmp_path, 120, 1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_thousand_videos_with_faults_and_three_kills(tmp_path: Path) -> None:
    began = time.monotonic()
    last, idle = soak(tmp_path, 5000, 3)
    clips = 1250
    each = (last.cpu_seconds - idle.cpu_seconds) / clips
    rss = last.rss_bytes
    early, late = max(rss[len(rss) // 4 : len(rss) // 2]), max(rss[-len(rss) // 4 :])
    print(
        f"\n{time.monotonic() - began:.0f} s; driver: {each * 1000:.2f} ms of CPU a clip beside "
        f"{idle.cpu_seconds:.1f} s to start; memory {early / 1e6:.0f} MB early, {late / 1e6:.0f} MB late"
    )
    assert each <= 0.010
    assert late - early < 20e6, "memory stays flat"
