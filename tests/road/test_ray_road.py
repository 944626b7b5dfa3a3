"""The road on a Ray cluster of three nodes: the same bytes, the same outcomes, and a node that dies costs nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from driving import RealClips, go, standings, tar_bytes

from valor_data.config import FilterSection, ShardSection
from valor_data.demo import World, WorldSettings, make_world, serve
from valor_data.look.verify import verify
from valor_data.manifest import build_manifest, write_manifest
from valor_data.workdir import WorkDir

NODES = Path(__file__).with_name("ray_nodes.py")
CLIPS_A_SHARD, NUM_FRAMES = "3", "3"


@dataclass
class Cluster:
    """The nodes' process, and the environment in which a driver may join."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    address: str

    def kill_a_node(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "killed\n"

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        where = ["--executor", "ray", "--address", self.address, "--json"]
        command = [sys.executable, "-m", "valor_data", *map(str, arguments), *where]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self.environment)

    def run(self, *arguments: str | Path) -> None:
        ends(self.start(*arguments))


def ends(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert err == "", "Ray's own lines stay off the terminal"


def num_in_hand(work: Path) -> int:
    """Units that a worker is busy with: each has a note of its clip."""
    return sum(note.stat().st_size > 0 for note in work.glob("tmp/*/ray-*/unit-*"))


def index_bytes(work: Path) -> dict[str, bytes]:
    """The Parquet and the JSON of every finished shard, by name."""
    return {path.name: path.read_bytes() for path in (work / "index").iterdir()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    environment = {**os.environ, "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_AUTH_MODE": "token"}
    log = (tmp_path_factory.mktemp("nodes") / "log").open("w")
    pipe = subprocess.PIPE
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the paths of its sockets must be short
    process = subprocess.Popen(
        [sys.executable, str(NODES), folder], stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("127.0.0.1:"), Path(log.name).read_text()
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    yield Cluster(process, environment, address)
    process.communicate(timeout=60)
    log.close()
    shutil.rmtree(folder, ignore_errors=True)
    end = time.monotonic() + 20
    while any(map(psutil.pid_exists, family)) and time.monotonic() < end:
        time.sleep(0.2)
    assert [pid for pid in family if psutil.pid_exists(pid)] == [], "something of the cluster is left"


@pytest.mark.timeout(400)
def test_real_clips_give_the_same_bytes_and_a_node_that_dies_costs_nothing(
    cluster: Cluster, real_clips: RealClips, tmp_path: Path
) -> None:
    manifest, local, spread = tmp_path / "manifest.parquet", tmp_path / "local", tmp_path / "spread"
    write_manifest(build_manifest([real_clips.annotation]), manifest)
    source = str(real_clips.folder)
    sharding = ShardSection(workers=1, max_clips=int(CLIPS_A_SHARD), num_frames=int(NUM_FRAMES), partial=True)
    go(local, manifest, source, filtering=FilterSection(workers=1), sharding=sharding)
    go(spread, manifest, source, stages=("fetch",))

    cluster.run("filter", "--work", spread)
    making = ["--max-clips", CLIPS_A_SHARD, "--num-frames", NUM_FRAMES, "--partial"]
    process = cluster.start("shard", "--work", spread, *making)
    end = time.monotonic() + 120
    while not (list((spread / "shards").glob("*.tar")) and num_in_hand(spread) == 3) and time.monotonic() < end:
        time.sleep(0.005)
    cluster.kill_a_node()
    assert process.poll() is None, "the node was to be killed in the middle"
    ends(process)
    (log,) = (spread / "logs").glob("*-shard-*.log")
    assert "a Ray worker was lost, and its unit is run again" in log.read_text()

    assert tar_bytes(spread) == tar_bytes(local)
    assert index_bytes(spread) == index_bytes(local)
    assert standings(spread) == standings(local)
    assert verify(WorkDir.at(spread)).problems == []
    assert not (spread / "tmp").exists()


@pytest.mark.timeout(300)
def test_fetching_on_nodes_has_one_admission(cluster: Cluster, tmp_path: Path) -> None:
    world: World = make_world(tmp_path / "world", WorldSettings.small())
    manifest, local, spread = tmp_path / "manifest.parquet", tmp_path / "local", tmp_path / "spread"
    write_manifest(build_manifest(list(world.annotations)), manifest)
    with serve(world.media) as server:
        go(local, manifest, server.url_template, stages=("fetch",))
        asked = {video.stem: server.count(video.stem, "GET") for video in world.media.iterdir()}
        cluster.run("fetch", manifest, "--source", server.url_template, "--work", spread)
        again = {video.stem: server.count(video.stem, "GET") - asked[video.stem] for video in world.media.iterdir()}
    assert standings(spread) == standings(local)
    assert again == asked, "each video is asked for as often as by local workers"
    files = {path.name: path.read_bytes() for path in (spread / "media").rglob("*.*")}
    assert files == {path.name: path.read_bytes() for path in (local / "media").rglob("*.*")}


@pytest.mark.timeout(120)
def test_the_nodes_listen_on_loopback_alone(cluster: Cluster) -> None:
    family = {process.pid for process in psutil.Process(cluster.process.pid).children(recursive=True)}
    listening = {c.laddr.ip for c in psutil.net_connections() if c.status == psutil.CONN_LISTEN and c.pid in family}
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
