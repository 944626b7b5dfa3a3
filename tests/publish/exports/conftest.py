"""Finished sets to export, made once: a small world with everything in its shards, and real clips of ten seconds."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from building import build

from valor_data.config import ShardSection
from valor_data.demo import World, WorldSettings, make_world
from valor_data.workdir import WorkDir

REAL = ("BbbProg_004", "BbbWebm_005", "-BlueSky_03")
"""Two clips of ten seconds, nearly, and one of four; none is louder than full scale, where a flac would clip."""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("exports") / "world", WorldSettings.small(), workers=1)


@pytest.fixture(scope="session")
def full(world: World, tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    """Shards of three splits with sound and video in them, four pictures a clip; several captions for some."""
    section = ShardSection(workers=1, max_clips=8, num_frames=4, partial=True, include=("audio", "video"))
    return build(tmp_path_factory.mktemp("full"), list(world.annotations), world.media, section)


@pytest.fixture
def work(full: WorkDir, tmp_path: Path) -> WorkDir:
    """A copy of the full set."""
    shutil.copytree(full.root, tmp_path / "work")
    return WorkDir.at(tmp_path / "work")


@pytest.fixture(scope="session")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    """Real clips, ten pictures each."""
    root = tmp_path_factory.mktemp("real")
    (root / "videos").mkdir()
    with (shared / "media" / "clips.tsv").open() as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["video_id"] in REAL]
    lines = ["video_id,start,end,caption,split"]
    for row in rows:
        origin = shared / "media" / row["file"]
        os.symlink(origin, root / "videos" / f"{row['video_id']}{origin.suffix.lower()}")
        text = row["caption"].replace('"', '""')
        lines += [f'{row["video_id"]},{row["start"]},{row["end"]},"{text}",train']
        lines += [f'{row["video_id"]},{row["start"]},{row["end"]},"Again: {text}",train']
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    section = ShardSection(workers=1, include=("audio",))
    return build(root, [root / "clips.csv"], root / "videos", section)
