"""What the Hub's viewer will and will not show, and what it would stumble over."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from valor_data.config import PublishSection
from valor_data.errors import PublishError
from valor_data.ledger import Ledger
from valor_data.publish import lint as module
from valor_data.publish.built import read_built
from valor_data.publish.contents import Contents, RepoFile, gather
from valor_data.publish.lint import check, limits, lint, sample_findings
from valor_data.publish.version import Version
from valor_data.workdir import WorkDir


def contents_of(work: WorkDir, folder: Path, edition: str = "features", **settings: Any) -> Contents:
    with Ledger(work.ledger, read_only=True) as ledger:
        built = read_built(work, ledger)
        section = PublishSection(edition=edition, **settings)
        return gather(built, ledger, section, Version(), ("org/x", "https://h/x"), folder)


def texts(findings: Any, level: str = "wrong") -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


@pytest.mark.parametrize("edition", ["ids", "features", "media"])
def test_what_we_build_is_right(builds: dict[str, WorkDir], tmp_path: Path, edition: str) -> None:
    findings = check(contents_of(builds["full"], tmp_path, edition, private=True, gated=True))
    shown = texts(findings, "shown")[0]
    assert ("a sound player, a video player" in shown) == (edition == "media")
    assert ("a table of clips" in shown) == (edition == "ids")
    limited = " ".join(texts(findings, "limited"))
    assert "private repository" in limited
    assert "behind a gate" in limited
    assert ("mel.npy is shown as lists" in limited) == (edition != "ids")


def sample(**details: Any) -> dict[str, bytes]:
    return {"json": json.dumps({"start": 0.5, "labels": ["a"], **details}).encode(), "txt": b""}


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([("a_1", sample()), ("a_2", {**sample(), "extra": b""})], "hold different members"),
        ([("a.1", sample())], "a dot in a key"),
        ([("a_1", {**sample(), "Frame.JPG": b""})], r"a_1\.Frame\.JPG: a member's name"),
        ([("a_1", sample(labels=[]))], r"json\.labels is an empty list"),
        ([("a_1", sample(title=None))], r"json\.title is null"),
        ([("a_1", sample(start=1)), ("a_2", sample())], r"json\.start is a number, in the first sample a whole number"),
        ([("a_1", sample(labels=["a", 1]))], r"json\.labels\[\] is a whole number, in the first sample a text"),
        ([("a_1", sample(deep=[{"x": []}]))], r"json\.deep\[\]\.x is an empty list"),
    ],
)
def test_a_fault_of_the_first_samples_is_named(samples: Any, words: str) -> None:
    found = texts(sample_findings("train-000000", samples))
    assert len(found) == 1
    assert re.search(words, found[0]), found


def test_sound_samples_give_no_finding() -> None:
    assert list(sample_findings("train-000000", [("a_1", sample()), ("a_2", sample(start=2.0))])) == []


def test_a_sample_with_other_members_is_found_by_the_index(full: WorkDir, tmp_path: Path) -> None:
    path = full.index / "train-000001.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = next(row for row in rows if row["status"] == "kept")
    kept["members"] = [member for member in kept["members"] if not member["name"].endswith("mel.npy")]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    with pytest.raises(PublishError, match=rf"not fit for the Hub: train-000001/{kept['key']}: holds flac, frame_00"):
        check(contents_of(full, tmp_path / "stage", "media"))


def test_the_hubs_limits_are_told_with_what_to_do(
    builds: dict[str, WorkDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = contents_of(builds["plain"], tmp_path)
    assert list(limits(contents)) == []
    for number in range(10_001):
        name = f"shards/train-{number:06d}.tar"
        contents.files[name] = RepoFile(name, 10, "")
    assert texts(limits(contents)) == [
        "shards/ would hold 10,004 files, the Hub takes 10,000 in a folder: build fewer, larger shards with "
        "`valor-data shard --replan --max-clips N`"
    ]
    monkeypatch.setattr(module, "MAX_REPOSITORY_FILES", 10_000)
    assert any("in a repository" in text for text in texts(limits(contents)))


def test_large_files_are_told(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    contents = contents_of(builds["plain"], tmp_path)
    name = "shards/train-000000.tar"
    contents.files[name] = replace(contents.files[name], size_bytes=6 * 10**9)
    assert any("larger than 5.0 GB" in text and "--max-bytes" in text for text in texts(lint(contents), "limited"))
    contents.files[name] = replace(contents.files[name], size_bytes=2 * 10**12)
    assert any("2.0 TB, the Hub takes 50.0 GB a file" in text for text in texts(lint(contents)))
    assert any("asks to be told" in text for text in texts(lint(contents), "limited"))


def test_a_stranger_among_the_tars_is_found(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    contents = contents_of(builds["plain"], tmp_path)
    contents.files["shards/rows.parquet"] = RepoFile("shards/rows.parquet", 10, "")
    assert texts(lint(contents)) == [
        "shards/rows.parquet: only tars may stand in shards/, or `datasets` reads it as one"
    ]


def test_row_groups_that_the_viewer_does_not_read(
    builds: dict[str, WorkDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROW_GROUP_BYTES", 100)
    assert any("a row group has" in text for text in texts(lint(contents_of(builds["plain"], tmp_path)), "limited"))
