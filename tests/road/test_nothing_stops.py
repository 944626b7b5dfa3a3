"""Decoders that hang, crash or eat the memory cost their one clip; the number of workers is what was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from driving import go, standings, tar_bytes

from valor_data import open_shards
from valor_data.demo import World, WorldSettings, make_world
from valor_data.manifest import build_manifest, write_manifest
from valor_data.media.transcode import ffmpeg_path

DEADLINE_SECONDS = 4.0
ROAD_TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


@pytest.fixture(scope="module")
def manifest(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "manifest.parquet"
    write_manifest(build_manifest(list(world.annotations)), path)
    return path


def videos_that_are_kept(work: Path) -> list[str]:
    return sorted(key.rsplit("_", 2)[0] for key, (status, _) in standings(work).items() if status == "kept")


def run_with_faults(stage: str, work: Path, hang: str, crash: str) -> subprocess.CompletedProcess[str]:
    """The real command in a session of its own, its workers with the faults; nothing of the session is left."""
    traces = work.parent / "traces"
    traces.mkdir()
    (work / "valor.toml").write_text(f"[{stage}]\nclip_deadline_seconds = {DEADLINE_SECONDS}\n")
    command = [sys.executable, "-m", "injected_faults", stage, "--work", str(work), "--workers", "2", "--json"]
    paths = os.pathsep.join([str(ROAD_TESTS), str(ROAD_TESTS.parent.parent)])
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "TEST_HANG": hang,
        "TEST_CRASH": crash,
        "TEST_TRACES": str(traces),
    }
    command += ["--partial"] if stage == "shard" else []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    out, err = process.communicate(timeout=150)
    for _ in range(50):
        left = [p.name() for p in psutil.process_iter() if os_session(p.pid) == process.pid]
        if not left:
            break
        time.sleep(0.1)
    assert left == [], "processes are left"
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def os_session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", ["filter", "shard"])
def test_a_decoder_that_hangs_and_one_that_crashes(world: World, manifest: Path, tmp_path: Path, stage: str) -> None:
    calm, work = tmp_path / "calm", tmp_path / "work"
    go(calm, manifest, str(world.media))
    hang, crash, *_ = videos_that_are_kept(calm)
    go(work, manifest, str(world.media), stages=("fetch",))

    done = run_with_faults(stage, work, hang, crash)

    assert done.returncode == 0, done.stderr
    traces = sorted(path.name.split("-")[0] for path in (tmp_path / "traces").iterdir())
    assert traces == ["crashed", "crashed", "hung"], "a crash is looked at twice before the clip is blamed"
    assert not (work / "tmp").exists(), "no temporary file is left"
    go(work, None, str(world.media), stages=("filter", "shard"))
    expected = standings(calm)
    for key in expected:
        if key.startswith((hang, crash)):
            expected[key] = ("dropped", "timeout" if key.startswith(hang) else "crashed")
    found = standings(work)
    assert {key: status for key, (status, _) in found.items()} == {k: status for k, (status, _) in expected.items()}
    assert {k: found[k] for k in found if found[k][1] in ("timeout", "crashed")} == {
        k: expected[k] for k in expected if expected[k][1] in ("timeout", "crashed")
    }
    assert samples_in(work) == {k: s for k, s in samples_in(calm).items() if not k.startswith((hang, crash))}


def samples_in(work: Path) -> dict[str, tuple[bytes, ...]]:
    return {sample.key: sample.jpegs for sample in open_shards(work / "shards")}


def make_picture(path: Path, size: str) -> None:
    lavfi = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=5:d=2", "-f", "lavfi", "-i", "sine=d=2"]
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([ffmpeg_path(), "-v", "error", *lavfi, *encode, path], check=True, timeout=60)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("stage", ["filter", "shard"])
def test_a_clip_that_takes_more_memory_than_it_may(tmp_path: Path, stage: str) -> None:
    """64 MB are enough for a small picture and not for one of 32 million pixels."""
    videos, work = tmp_path / "videos", tmp_path / "work"
    videos.mkdir()
    annotations, manifest = tmp_path / "desc_train.json", tmp_path / "manifest.parquet"
    sizes = {"small______": "320x240", "huge_______": "7680x4160", "another____": "320x240"}
    for video_id, size in sizes.items():
        make_picture(videos / f"{video_id}.mp4", size)
    rows = [{"video_id": f"{name}_0.000_2.000", "desc": "A test card beeps."} for name in sizes]
    annotations.write_text(json.dumps(rows))
    write_manifest(build_manifest([annotations]), manifest)
    go(work, manifest, str(videos), stages=("fetch",))
    (work / "valor.toml").write_text(f"[{stage}]\nclip_memory_bytes = {64 * 2**20}\n")
    command = [sys.executable, "-m", "valor_data", stage, "--work", str(work), "--workers", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    go(work, None, str(videos), stages=("filter", "shard"))
    found = {key[:5]: told for key, told in standings(work).items()}
    assert found == {"small": ("kept", ""), "huge_": ("dropped", "too_large"), "anoth": ("kept", "")}


@pytest.mark.timeout(180)
def test_sixty_four_workers_are_sixty_four_processes(world: World, manifest: Path, tmp_path: Path) -> None:
    calm, work = tmp_path / "calm", tmp_path / "work"
    go(calm, manifest, str(world.media), stages=("fetch",))
    go(work, manifest, str(world.media), stages=("fetch",))
    command = [sys.executable, "-m", "valor_data", "shard", "--max-clips", "1", "--partial", "--json", "--work"]
    assert subprocess.run([*command, str(calm), "--workers", "1"], capture_output=True, timeout=150).returncode == 0
    process = subprocess.Popen([*command, str(work), "--workers", "64"], stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, num_workers(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0
    assert most == 64
    assert tar_bytes(work) == tar_bytes(calm), "the same bytes with 1 worker and with 64"


def num_workers(driver: int) -> int:
    """Children of the driver's fork server."""
    try:
        servers = psutil.Process(driver).children()
        return max((len(server.children()) for server in servers), default=0)
    except psutil.NoSuchProcess:
        return 0
