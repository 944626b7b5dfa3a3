"""A finished run over a small world, made once; tests that damage it take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from viewing import make_run

from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import WorldSettings, make_world
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, run_fetch, run_filter, run_shard
from valor_data.workdir import WorkDir


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    """Several shards of two splits, from a folder; dead links wait, and their shards were built with --partial."""
    root = tmp_path_factory.mktemp("look")
    world = make_world(root / "world", WorldSettings.small(), workers=1)
    write_manifest(build_manifest(list(world.annotations)), root / "manifest.parquet")
    work = WorkDir.at(root / "work")
    with Driver(work) as driver:
        source = FetchSection(source=str(world.media), workers=1)
        run_fetch(driver, source, manifest=root / "manifest.parquet", explicit={"source"})
        run_filter(driver, FilterSection(workers=1), "av")
        run_shard(driver, ShardSection(workers=1, max_clips=8, num_frames=3, partial=True), "av")
    return work


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    """A finished run to be browsed: media inside the work folder, sound in the samples, two strange captions."""
    return make_run(tmp_path_factory.mktemp("browsed"))


@pytest.fixture
def work(finished: WorkDir, tmp_path: Path) -> WorkDir:
    """A copy of the finished run."""
    shutil.copytree(finished.root, tmp_path / "work")
    return WorkDir.at(tmp_path / "work")
