"""Chaos: workers and driver killed at random, a disk that fills up. Hours of bad luck in a few minutes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from driving import commands, run_to_its_end, standings, tar_bytes

from valor_data.demo import World, WorldSettings, make_world, serve
from valor_data.look.verify import verify
from valor_data.manifest import build_manifest, write_manifest
from valor_data.workdir import WorkDir

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


@pytest.fixture(scope="module")
def manifest(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "manifest.parquet"
    write_manifest(build_manifest(list(world.annotations)), path)
    return path


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """What the driver's fork server has forked."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [worker for server in driver.children() for worker in server.children()]
    return []


@pytest.mark.timeout(3600)
def test_twenty_kills_and_the_same_bytes(world: World, manifest: Path, tmp_path: Path) -> None:
    """A worker that dies once blames nobody: whoever is killed, every run ends as one that nobody disturbed."""
    dice, kills = random.Random(1), Counter[str]()
    calm = tmp_path / "calm"
    with serve(world.media) as server:
        took = {stage: run_to_its_end(command) for stage, command in commands(calm, manifest, server).items()}
        for number in range(3 * KILLS):
            work = tmp_path / f"disturbed-{number}"
            for stage, command in commands(work, manifest, server).items():
                kills += disturb(command, took[stage], dice)
                run_to_its_end(command)
                run_to_its_end(command)  # what was interrupted has been tried again by now
            assert tar_bytes(work) == tar_bytes(calm)
            assert standings(work) == standings(calm)
            assert verify(WorkDir.at(work)).problems == []
            assert not (work / "tmp").exists()
            if kills["worker"] + kills["driver"] >= KILLS:
                break
    print(kills)
    assert kills["worker"] >= 5 and kills["driver"] >= 5, kills


def disturb(command: list[str], took: float, dice: random.Random) -> Counter[str]:
    """Runs a command twice and kills something of it each time; a run that lost a worker goes on to its end."""
    kills = Counter[str]()
    for _ in range(2):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        kills[kill_something(process, took, dice)] += 1
        process.wait(timeout=120)
    return kills


def kill_something(process: subprocess.Popen[bytes], took: float, dice: random.Random) -> str:
    """Kills one worker, some moments after there are any, or the driver with all that is its; tells what."""
    if dice.random() < 0.5:
        while process.poll() is None and not workers_of(psutil.Process(process.pid)):
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.3))
        workers = workers_of(psutil.Process(process.pid)) if process.poll() is None else []
        if not workers:
            return ""
        with contextlib.suppress(psutil.NoSuchProcess):
            dice.choice(workers).kill()
        return "worker"
    time.sleep(took * dice.uniform(0.3, 0.8))
    if process.poll() is not None:
        return ""
    os.killpg(process.pid, signal.SIGKILL)
    return "driver"


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.fail(f"mounting a small tmpfs needs root: {mounted.stderr.decode().strip()}")
    yield folder  # type: ignore[misc]
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(600)
def test_a_disk_that_fills_up(world: World, manifest: Path, small_disk: Path, tmp_path: Path) -> None:
    """Each stage ends in a line that says so; with room again, the same command ends the same."""
    calm, work = tmp_path / "calm", small_disk / "work"
    work.mkdir()
    (work / "valor.toml").write_text("[fetch]\nmin_free_bytes = 0\n")  # else fetch would wait for room
    ballast = small_disk / "ballast"
    room = {"fetch": 100_000, "filter": 0, "shard": 100_000}
    with serve(world.media) as server:
        for command in commands(calm, manifest, server).values():
            run_to_its_end(command)
        for stage, command in commands(work, manifest, server).items():
            free = os.statvfs(small_disk)
            ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - room[stage]))
            full = subprocess.run(command, capture_output=True, text=True, timeout=200)
            told = full.stdout + full.stderr
            assert "Traceback" not in told, told
            assert full.returncode != 0 or '"disk"' in told, told
            assert any(words in told for words in ("No space left", "the disk", '"disk"')), told
            ballast.unlink()
            for _ in range(2):
                again = subprocess.run(command, capture_output=True, text=True, timeout=200)
            assert again.returncode == 0, again.stderr
    assert tar_bytes(work) == tar_bytes(calm)
    assert standings(work) == standings(calm)
    assert verify(WorkDir.at(work)).problems == []
