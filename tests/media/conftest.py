"""The real clips with what is expected of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Row:
    file: str
    start: float
    end: float
    expect: str


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
