"""Who has the list of a published set, and the media, builds the set itself."""

from __future__ import annotations

from pathlib import Path

from valor_data.config import FetchSection, ShardSection
from valor_data.ledger import Ledger
from valor_data.manifest import build_manifest, write_manifest
from valor_data.publish.rows import write_rows
from valor_data.road import Driver, run_fetch, run_shard
from valor_data.shard.reader import find_shards, read_samples
from valor_data.workdir import WorkDir


def test_shards_from_the_ids_edition(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    first = builds["plain"]
    with Ledger(first.ledger, read_only=True) as ledger:
        names = write_rows(first.manifest, ledger, tmp_path / "ids")
    lists = [tmp_path / "ids" / name for name in names if "/kept/" in name]
    write_manifest(build_manifest(lists), tmp_path / "manifest.parquet")
    work = WorkDir.at(tmp_path / "again")
    with Driver(work) as driver:
        source = FetchSection(source=str(first.root.parent / "world" / "media"), workers=1)
        run_fetch(driver, source, manifest=tmp_path / "manifest.parquet", explicit={"source"})
        section = ShardSection(workers=1, max_clips=8, num_frames=3)
        run_shard(driver, section, "av", explicit={"num_frames", "max_clips"})
    had = {sample.key: sample for sample in read_samples(find_shards(str(first.shards)))}
    have = {sample.key: sample for sample in read_samples(find_shards(str(work.shards)))}
    assert sorted(have) == sorted(had)
    for key, sample in have.items():
        assert sample.details == had[key].details
        assert sample.jpegs == had[key].jpegs
        assert (sample.mel == had[key].mel).all()
