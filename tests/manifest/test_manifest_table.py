"""The manifest file: read back as written, refused when it is none, chosen from, described by its schema."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.clip import Caption, Clip, Question, make_key
from valor_data.errors import ManifestError, ValorDataError
from valor_data.manifest import (
    Manifest,
    ManifestOptions,
    build_manifest,
    manifest_schema,
    read_manifest,
    write_manifest,
)
from valor_data.manifest.check import check_values
from valor_data.manifest.contract import schema_files
from valor_data.schema import load_schema, shipped_file

ROW: dict[str, Any] = {
    "key": "x-2Abohj8VY_00001000_00002500",
    "video_id": "x-2Abohj8VY",
    "start_seconds": 1.0,
    "end_seconds": 2.5,
    "split": "train",
    "captions": [{"text": "A bus.", "role": "audiovisual"}],
    "labels": ["/m/0a"],
    "label_names": ["Bus"],
    "questions": [{"question_id": "0", "question": "Who?", "answers": ["I"]}],
    "url": None,
}
EMPTY = ROW | {"key": None, "end_seconds": None, "captions": [], "labels": [], "label_names": [], "questions": []}


def table_of(*rows: dict[str, Any]) -> pa.Table:
    """Rows as columns, with nulls let through so that the checks see them."""
    fields = [field.with_nullable(True) for field in manifest_schema()]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    rows = [{"video_id": f"video{n:06d}_{n}.000_{n + 1}.500", "desc": f"Bus number {n}."} for n in range(300)]
    (tmp_path / "desc_train.json").write_text(json.dumps(rows))
    path = tmp_path / "manifest.parquet"
    write_manifest(build_manifest([tmp_path / "desc_train.json"]), path)
    return path


def test_what_is_written_is_read(manifest_file: Path) -> None:
    manifest = read_manifest(manifest_file)
    assert len(manifest) == 300
    assert manifest.split_counts() == {"train": 300}
    assert next(manifest.clips()) == Clip("video000000", 0.0, 1.5, "train", (Caption("Bus number 0."),))
    assert [clip.start for clip in manifest.clips([5, 3])] == [5.0, 3.0]
    assert manifest.table.schema.equals(manifest_schema())
    (source,) = manifest.sources
    assert (source.name, source.format, source.num_rows) == ("desc_train.json", "valor", 300)
    assert len(source.sha256) == 64 and manifest.package_version


def test_rows_become_clips() -> None:
    full, bare = Manifest.of(table_of(ROW, EMPTY)).clips()
    assert full == Clip(
        "x-2Abohj8VY", 1.0, 2.5, "train", (Caption("A bus."),), ("/m/0a",), ("Bus",), (Question("0", "Who?", ("I",)),)
    )
    assert full.key == ROW["key"]
    assert bare == Clip("x-2Abohj8VY", 1.0, None)


def test_the_fingerprint_is_of_the_content_alone(manifest_file: Path, tmp_path: Path) -> None:
    first = read_manifest(manifest_file)
    table = pq.read_table(manifest_file)
    pq.write_table(table, tmp_path / "other.parquet", compression="snappy", row_group_size=7, use_dictionary=False)
    assert read_manifest(tmp_path / "other.parquet").fingerprint == first.fingerprint
    pieces = pa.concat_tables([first.table.slice(0, 13), first.table.slice(13)])
    assert Manifest.of(pieces).fingerprint == first.fingerprint
    assert Manifest.of(first.table.slice(0, 299)).fingerprint != first.fingerprint
    assert Manifest.of(table.take(list(range(299, -1, -1)))).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"split": "val"},
        {"end_seconds": 2.501},
        {"url": "u"},
        {"labels": ["/m/0", "a"]},
        {"labels": ["/m/0b"]},
        {"captions": []},
        {"captions": [{"text": "A bus.", "role": "audio"}]},
        {"end_seconds": None},
        {"label_names": []},
    ],
)
def test_every_column_counts_in_the_fingerprint(change: dict[str, Any]) -> None:
    assert Manifest.of(table_of(ROW)).fingerprint != Manifest.of(table_of(ROW | change)).fingerprint


def test_the_fingerprint_does_not_know_paths(tmp_path: Path) -> None:
    prints = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / f"{folder}_train.json"
        file.write_text(json.dumps({"x-2Abohj8VY_1_2": "A bus."}, indent=1 if folder == "a" else None))
        prints.add(build_manifest([file]).manifest.fingerprint)
    assert len(prints) == 1


def test_writing_twice_gives_the_same_bytes(manifest_file: Path, tmp_path: Path) -> None:
    read_manifest(manifest_file).save(tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == manifest_file.read_bytes()


def test_nothing_half_written(manifest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = build_manifest([tmp_path / "desc_train.json"], options=ManifestOptions(limit=2))

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(ManifestError, match="cannot be written: No space left on device"):
        write_manifest(result, manifest_file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video_id": ""}, "column 'video_id': '': expected 1 to 160 characters"),
        ({"video_id": None}, "expected a value"),
        ({"start_seconds": -1.0}, "'-1.0': expected 0 to 99999.999"),
        ({"start_seconds": math.nan}, "'nan': expected 0 to"),
        ({"start_seconds": 1.0001}, "expected whole milliseconds"),
        ({"end_seconds": 1.0}, "a millisecond or more after the start"),
        ({"end_seconds": 0.5}, "more than the start and at most"),
        ({"end_seconds": math.inf}, "more than the start and at most"),
        ({"end_seconds": 100_000.0}, "at most 99999.999"),
        ({"key": "x"}, "column 'key': 'x': expected the key of its video_id and span"),
        ({"key": None}, "expected the key of its"),
        ({"end_seconds": None}, "null while the end is unknown"),
        ({"split": "../x"}, "up to 32 letters, digits, _ or -"),
        ({"captions": [{"text": " ", "role": "audio"}]}, "texts that are not blank"),
        ({"captions": [{"text": "A", "role": "smell"}]}, "roles among audiovisual, visual, audio"),
        ({"captions": None}, "column 'captions': 'None': expected a value"),
        ({"labels": [""]}, "column 'labels': .*not blank"),
        ({"label_names": ["a", "b"]}, "none, or one for each label"),
        ({"questions": [{"question_id": "", "question": "Who?", "answers": ["I"]}]}, "a question_id that is not blank"),
        ({"questions": [{"question_id": "1", "question": "Who?", "answers": []}]}, "at least one answer"),
        ({"url": ""}, "an address, or null"),
    ],
)
def test_a_value_that_breaks_a_rule_is_named(change: dict[str, Any], words: str) -> None:
    good = ROW | {"key": "x_00000000_00001000", "video_id": "x", "start_seconds": 0.0, "end_seconds": 1.0}
    with pytest.raises(ManifestError, match=f"row 2.*{words}"):
        check_values(table_of(good, ROW | change))


def test_a_clip_that_comes_twice() -> None:
    for row in (ROW, EMPTY):
        with pytest.raises(ManifestError, match=r"row 2, column 'key': .* expected each clip once"):
            check_values(table_of(row, row))


def test_files_that_are_no_manifest(manifest_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"

    def refuse(words: str) -> None:
        with pytest.raises(ManifestError, match=words):
            read_manifest(other)

    refuse("no manifest there; make a manifest of annotation files with: valor-data manifest FILES")
    other.write_text("video_id,caption\n")
    refuse("not a readable Parquet file")
    other.write_bytes(manifest_file.read_bytes()[:-100])
    refuse("not a readable Parquet file")
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), other)
    refuse("column 'key': no manifest: the column is missing; found columns id, text; make a manifest")
    table = pq.read_table(manifest_file)
    pq.write_table(table.replace_schema_metadata(None), other)
    refuse("no manifest: its metadata has no 'valor_data.manifest_version'")
    pq.write_table(table.replace_schema_metadata({"valor_data.manifest_version": "9"}), other)
    refuse("manifest version '9': this valor-data reads '1'")
    pq.write_table(table.slice(1), other)
    refuse("the fingerprint differs")
    pq.write_table(table.append_column("x", table["key"]), other)
    refuse("column 'x': not a column of a manifest")
    pq.write_table(table.set_column(2, "start_seconds", table["start_seconds"].cast("string")), other)
    refuse("column 'start_seconds': the column's type is string, expected double")
    pq.write_table(table.select(table.column_names[::-1]), other)
    refuse("the columns stand in another order, expected key, video_id")


def test_limit_and_sample(manifest_file: Path) -> None:
    manifest = read_manifest(manifest_file)
    assert [c.start for c in manifest.select(limit=3).clips()] == [0.0, 1.0, 2.0]
    drawn = [c.key for c in manifest.select(sample=50, seed=1).clips()]
    assert drawn == [c.key for c in manifest.select(sample=50, seed=1).clips()]
    assert drawn == sorted(drawn) and len(set(drawn)) == 50
    assert drawn != [c.key for c in manifest.select(sample=50, seed=2).clips()]
    assert set(drawn) < {c.key for c in manifest.select(sample=60, seed=1).clips()}
    assert manifest.select(sample=1000) is manifest
    assert len(manifest.select(limit=20, sample=5)) == 5


def test_a_sample_while_building(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("id,caption\n" + "".join(f"v{n},A bus.\n" for n in range(100)))
    result = build_manifest([file], options=ManifestOptions(sample=10, seed=3))
    assert (result.counts["clips"], result.counts["clips_before_selection"]) == (10, 100)
    again = build_manifest([file], options=ManifestOptions(sample=10, seed=3))
    assert again.manifest.fingerprint == result.manifest.fingerprint


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_the_schemas_that_ship_are_those_of_the_code(name: str) -> None:
    text = shipped_file("schemas", name).read_text("utf-8")
    assert text == schema_files()[name], "write them anew: python -m valor_data.manifest.contract schemas"


def test_a_schema_that_does_not_ship() -> None:
    with pytest.raises(
        ValorDataError, match=r"no file 'x\.schema\.json' ships in schemas/; there are: .*manifest\.schema\.json"
    ):
        load_schema("x")


def test_rows_are_valid_by_the_schema(manifest_file: Path) -> None:
    validator = jsonschema.Draft202012Validator(load_schema("manifest"))
    for row in [*read_manifest(manifest_file).table.to_pylist(), ROW, EMPTY]:
        validator.validate(row)
    rejects = jsonschema.Draft202012Validator(load_schema("rejects"))
    rejects.validate({"file": "t.json", "row": 1, "raw": "x", "reason": "bad_id", "detail": "id 'x'"})


@pytest.mark.parametrize(
    "change",
    [
        {"video_id": ""},
        {"split": ""},
        {"start_seconds": -1.0},
        {"end_seconds": 100_000.0},
        {"labels": [" "]},
        {"captions": [{"text": "", "role": "audio"}]},
        {"captions": [{"text": "A", "role": "x"}]},
        {"url": ""},
        {"questions": [{"question_id": "0", "question": "Who?", "answers": []}]},
        {"captions": None},
    ],
)
def test_what_the_schema_refuses_the_checks_refuse(change: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(load_schema("manifest")).is_valid(ROW | change)
    with pytest.raises(ManifestError):
        check_values(table_of(ROW | change))


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ids, st.integers(0, 99_999_000), st.integers(1, 999)), min_size=1, max_size=6, unique=True))
def test_keys_by_column_are_keys_one_by_one(tmp_path_factory: pytest.TempPathFactory, spans: Any) -> None:
    file = tmp_path_factory.mktemp("keys") / "train.jsonl"
    rows = [{"id": v, "start": a / 1000, "end": (a + d) / 1000, "text": "A bus."} for v, a, d in spans]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = build_manifest([file]).manifest
    expected = [make_key(row["id"], row["start"], row["end"]) for row in rows]
    assert manifest.table["key"].to_pylist() == expected == [clip.key for clip in manifest.clips()]
