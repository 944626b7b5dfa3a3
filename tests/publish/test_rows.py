"""A row for every clip of the manifest, kept or refused, in columns."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from valor_data.ledger import Ledger
from valor_data.publish import rows as module
from valor_data.publish.rows import rows_json_schema, schema_files, write_rows
from valor_data.shard.reader import find_shards, read_samples
from valor_data.workdir import WorkDir

PROJECT = Path(__file__).resolve().parents[2]


def write(work: WorkDir, folder: Path) -> dict[str, pa.Table]:
    with Ledger(work.ledger, read_only=True) as ledger:
        names = write_rows(work.manifest, ledger, folder)
    assert names == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    return {name: pq.read_table(folder / name) for name in names}


def listed(tables: dict[str, pa.Table], standing: str) -> list[dict[str, Any]]:
    return [row for name, table in tables.items() if f"/{standing}/" in name for row in table.to_pylist()]


def test_kept_rows_are_what_the_shards_hold(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    kept = listed(write(builds["plain"], tmp_path), "kept")
    samples = {sample.key: sample for sample in read_samples(find_shards(str(builds["plain"].shards)))}
    assert sorted(row["key"] for row in kept) == sorted(samples)
    for row in kept:
        details = samples[row["key"]].details
        assert (row["start"], row["end"], row["video_id"]) == (details["start"], details["end"], details["video_id"])
        assert row["captions"] == [caption for caption in details["captions"] if caption["text"]]
        assert row["facts"] == details["facts"]
        assert row["source"] == details["source"]
        assert (row["status"], row["stage"], row["reason"]) == ("kept", "", "")


def test_each_kept_row_names_its_shard(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    kept = listed(write(builds["plain"], tmp_path), "kept")
    for tar in builds["plain"].shards.glob("*.tar"):
        assert {row["key"] for row in kept if row["shard"] == tar.stem} == {s.key for s in read_samples([tar])}


def test_refused_rows_have_their_reasons_and_no_captions(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    refused = listed(write(builds["plain"], tmp_path), "refused")
    with Ledger(builds["plain"].ledger, read_only=True) as ledger:
        counts = {key[1:]: n for key, n in ledger.counts().items() if key[1] != "manifest" and key[2] != "kept"}
    assert Counter((row["stage"], row["status"], row["reason"]) for row in refused) == Counter(counts)
    assert len({row["reason"] for row in refused}) >= 5
    assert all(row["captions"] == [] and row["questions"] == [] and row["shard"] == "" for row in refused)
    assert all(row["facts"] is None for row in refused if row["stage"] == "fetch")


def test_rows_are_valid(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    validator = Draft202012Validator(rows_json_schema())
    for table in write(builds["plain"], tmp_path).values():
        for row in table.to_pylist():
            validator.validate(row)


def test_many_rows_are_cut_into_groups_and_files(
    builds: dict[str, WorkDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = listed(write(builds["plain"], tmp_path / "whole"), "kept")
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    monkeypatch.setattr(module, "FILE_ROWS", 4)
    cut = write(builds["plain"], tmp_path / "cut")
    assert listed(cut, "kept") == whole
    assert {name: len(table) for name, table in cut.items() if "kept/train" in name} == {
        "metadata/kept/train-00000.parquet": 4,
        "metadata/kept/train-00001.parquet": 4,
        "metadata/kept/train-00002.parquet": 3,
    }
    first = pq.ParquetFile(tmp_path / "cut" / "metadata/kept/train-00000.parquet")
    assert [first.metadata.row_group(n).num_rows for n in range(first.metadata.num_row_groups)] == [2, 2]


def test_the_same_rows_are_the_same_bytes(builds: dict[str, WorkDir], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(builds["plain"], tmp_path / name)
    for path in (tmp_path / "a").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_schema_file_is_the_codes() -> None:
    for name, text in schema_files().items():
        assert (PROJECT / "schemas" / name).read_text("utf-8") == text, (
            f"schemas/{name} differs: python -m valor_data.publish.rows schemas"
        )
        Draft202012Validator.check_schema(json.loads(text))
