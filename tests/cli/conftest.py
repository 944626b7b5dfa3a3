"""A small world, its manifest, and a work folder in which every command has run once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import Answer, call

from valor_data.demo import MediaServer, World, WorldSettings, make_world, serve


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the size of a terminal, or leaves the debug switch on for the next."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("VALOR_DATA_DEBUG", "")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("cli") / "world", WorldSettings.small(), workers=1)


@pytest.fixture(scope="session")
def server(world: World) -> Iterator[MediaServer]:
    with serve(world.media) as running:
        yield running


@pytest.fixture(scope="session")
def manifest(world: World) -> Path:
    path = world.folder.parent / "manifest.parquet"
    call("manifest", *world.annotations, "-o", path)
    return path


@pytest.fixture(scope="session")
def answers(world: World, manifest: Path, server: MediaServer) -> dict[str, Answer]:
    """What each command said on its first run over the world, from URLs."""
    work = world.folder.parent / "work"
    at = ("--work", work)
    return {
        "fetch": call("fetch", manifest, "--source", server.url_template, *at),
        "filter": call("filter", "--workers", 1, *at),
        "shard": call("shard", "--workers", 1, "--max-clips", 8, "--num-frames", 3, "--partial", *at),
        "verify": call("verify", *at),
        "status": call("status", *at),
    }


@pytest.fixture(scope="session")
def finished(world: World, answers: dict[str, Answer]) -> Path:
    """The work folder that `answers` left."""
    return world.folder.parent / "work"


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "work")
    return tmp_path / "work"
