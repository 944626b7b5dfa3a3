"""`--executor` and `--address` of the commands that have workers: one clear line where Ray cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from cli.commands import call, program

from valor_data.demo import World

NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def fetched(world: World, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with something to do for filter and shard."""
    work = tmp_path_factory.mktemp("executor") / "work"
    call("fetch", manifest, "--source", world.media, "--work", work)
    return work


def road_file(folder: Path, world: World, execute: str) -> Path:
    path = folder / "set.toml"
    files = ", ".join(f'"{path}"' for path in world.annotations)
    path.write_text(
        f'work = "made"\n[manifest]\nfiles = [{files}]\n[fetch]\nsource = "{world.media}"\n'
        f"[shard]\nmax_clips = 8\nnum_frames = 2\npartial = true\n{execute}\n"
    )
    return path


@pytest.fixture(params=["fetch", "filter", "shard", "run", "run, by its file"])
def command(
    request: pytest.FixtureRequest, fetched: Path, world: World, manifest: Path, tmp_path: Path
) -> list[object]:
    """A command with something to do on Ray, at an address where nobody is."""
    section = f'[execute]\nexecutor = "ray"\naddress = "{NOWHERE}"'
    where = ["--executor", "ray", "--address", NOWHERE]
    return {
        "fetch": ["fetch", manifest, "--source", world.media, "--work", tmp_path / "new", *where],
        "filter": ["filter", "--work", fetched, *where],
        "shard": ["shard", "--work", fetched, "--partial", *where],
        "run": ["run", road_file(tmp_path, world, ""), *where],
        "run, by its file": ["run", road_file(tmp_path, world, section)],
    }[request.param]


def test_nobody_at_the_address(command: list[object]) -> None:
    (line,) = call(*command, code=1).errors
    assert line == (
        f"no Ray cluster answers at {NOWHERE} (Connection refused): start one with `ray start --head`, "
        "or leave execute.address away for this machine alone"
    )


def test_ray_is_not_installed(command: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (line,) = call(*command, code=2).errors
    assert line == "execute.executor is ray, and Ray is not installed: pip install 'valor-data[ray]'"


def test_an_address_needs_the_executor(fetched: Path) -> None:
    (line,) = call("shard", "--work", fetched, "--address", "auto", code=2).errors
    assert line == (
        "execute.address is auto and execute.executor is local: a cluster's address goes with --executor ray"
    )
    (line,) = call("filter", "--work", fetched, "--executor", "slurm", code=2).errors
    assert line == "--executor: expected one of local, ray; found 'slurm'"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_road_on_a_ray_of_our_own(world: World, tmp_path: Path) -> None:
    """Each stage starts one and ends it; a program of its own, as Ray takes settings from the environment."""
    for name, execute in (("local", ""), ("ray", '[execute]\nexecutor = "ray"')):
        (tmp_path / name).mkdir()
        answer = program("run", road_file(tmp_path / name, world, execute), "--json")
        assert answer.err == ""
        assert answer.json["verify"]["problems"] == []
    made = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "made" / "shards").iterdir()}
        for name in ("local", "ray")
    ]
    assert len(made[0]) >= 3
    assert made[0] == made[1]
    programs = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [words for words in programs if str(tmp_path) in words] == []
