"""A small data set of real files, and the ways the tests drive the road over it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from driving import RealClips

from valor_data.manifest import build_manifest, write_manifest


@pytest.fixture(scope="session")
def real_clips(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> RealClips:
    folder = tmp_path_factory.mktemp("videos")
    with (shared / "media" / "clips.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row in rows:
        if row["file"]:
            origin = shared / "media" / row["file"]
            link = folder / f"{row['video_id']}{origin.suffix.lower()}"
            if not link.exists():
                os.symlink(origin, link)
    return RealClips(folder, shared / "media" / "desc_local.json", rows)


@pytest.fixture
def make_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Builds a manifest of annotation files."""

    def make(*files: Path, name: str = "manifest.parquet") -> Path:
        path = tmp_path / "lists" / name
        path.parent.mkdir(exist_ok=True)
        write_manifest(build_manifest(list(files)), path)
        return path

    return make
