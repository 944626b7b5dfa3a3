"""The road from annotations to shards, in this process."""

from __future__ import annotations

from pathlib import Path

from valor_data.config import FetchSection, ShardSection
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, run_fetch, run_shard
from valor_data.workdir import WorkDir


def build(root: Path, annotations: list[Path], source: Path, shard: ShardSection) -> WorkDir:
    """The road from annotations to shards, over a folder of files."""
    write_manifest(build_manifest(annotations), root / "manifest.parquet")
    work = WorkDir.at(root / "work")
    with Driver(work) as driver:
        run_fetch(
            driver, FetchSection(source=str(source), workers=1), manifest=root / "manifest.parquet", explicit={"source"}
        )
        run_shard(driver, shard, "av")
    return work
