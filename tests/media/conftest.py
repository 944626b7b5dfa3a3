"""The real clips with what is expected of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from media_reference import Row


@pytest.fixture(scope="session")
def media(shared: Path) -> Path:
    return shared / "media"


@pytest.fixture(scope="session")
def rows(media: Path) -> list[Row]:
    with (media / "clips.tsv").open() as file:
        return [
            Row(r["file"], float(r["start"]), float(r["end"]), r["expect"])
            for r in csv.DictReader(file, delimiter="\t")
            if r["file"] and not r["expect"].startswith("rejected")
        ]
