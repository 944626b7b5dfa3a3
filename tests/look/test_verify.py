"""Verify finds what is planted: each fault alone, in a shard whose sidecars agree with it otherwise."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from valor_data.look.verify import ShardCheck, verify
from valor_data.shard.sample import array_bytes
from valor_data.shard.writer import TarFile
from valor_data.workdir import WorkDir

Samples = list[tuple[str, dict[str, bytes]]]


def read_tar(path: Path) -> Samples:
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for info in tar.getmembers():
            key, extension = info.name.split(".", 1)
            stream = tar.extractfile(info)
            assert stream is not None
            samples.setdefault(key, {})[extension] = stream.read()
    return list(samples.items())


def reseal(work: WorkDir, name: str, change: Callable[[Samples], None]) -> None:
    """Writes a shard anew with a fault, and makes its sidecars fit: hashes, offsets, counts."""
    tar_path = work.shards / f"{name}.tar"
    samples = read_tar(tar_path)
    change(samples)
    with TarFile(tar_path) as tar:
        written = [(key, tar.add_sample(key, files)) for key, files in samples]
    index = work.index / f"{name}.parquet"
    table = pq.read_table(index)
    rows = [row for row in table.to_pylist() if row["status"] != "kept"]
    for key, members in written:
        described = [{"name": m.name, "offset": m.offset, "size": m.size, "sha256": m.sha256} for m in members]
        row = {"key": key, "video_id": "v", "split": "train", "status": "kept", "reason": "", "size_bytes": 0}
        rows.append({**row, "members": described})
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), index)
    beside = work.index / f"{name}.json"
    told = json.loads(beside.read_text())
    told |= {"tar_sha256": tar.sha256, "num_samples": len(written), "num_clips": len(rows)}
    told["counts"]["kept"] = len(written)
    beside.write_text(json.dumps(told))


@pytest.fixture
def name(work: WorkDir) -> str:
    """The shard with the most samples."""
    return max(work.shards.glob("*.tar"), key=lambda path: path.stat().st_size).stem


def problems(work: WorkDir) -> list[str]:
    return verify(work).problems


def test_all_is_well(finished: WorkDir) -> None:
    checks: list[ShardCheck] = []
    found = verify(finished, on_shard=checks.append)
    assert found.problems == []
    assert found.num_shards == len(checks) == len(list(finished.index.glob("*.json"))) > 2
    assert found.num_samples == sum(len(check.keys) for check in checks) > 10
    assert found.to_dict() == {"shards": found.num_shards, "samples": found.num_samples, "problems": []}
    assert [check.name for check in checks] == sorted(check.name for check in checks)


def test_resealing_alone_is_no_fault(work: WorkDir, name: str) -> None:
    reseal(work, name, lambda samples: None)
    assert problems(work) == []


def test_no_shards(tmp_path: Path) -> None:
    assert problems(WorkDir.at(tmp_path)) == [f"{tmp_path}/shards: no shards here; run `valor-data shard` first"]


# -- a fault inside a sample


def edit_json(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        files["json"] = json.dumps({**json.loads(files["json"]), **changes}).encode()

    return edit


def put(**members: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({name.replace("__", "."): data for name, data in members.items()})


def set_mel(change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        files["mel.npy"] = array_bytes(change(np.load(io.BytesIO(files["mel.npy"]))))

    return edit


def with_nan(mel: Any) -> Any:
    mel[1, 1] = np.nan
    return mel


def cut_jpeg(files: dict[str, bytes]) -> None:
    files["frame_01.jpg"] = files["frame_01.jpg"][:-200]


def other_size(files: dict[str, bytes]) -> None:
    import simplejpeg

    small = np.zeros((32, 32, 3), dtype=np.uint8)
    files["frame_01.jpg"] = simplejpeg.encode_jpeg(small)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(txt=b"Another caption."), "txt: is not the first caption"),
        (edit_json(labels=None), "json: labels: None is not of type 'array'"),
        (edit_json(labels=[]), "json: labels: [] should be non-empty"),
        (edit_json(start="0"), "json: start: '0' is not of type 'number'"),
        (edit_json(more=1), "json: top: Additional properties are not allowed ('more' was unexpected)"),
        (edit_json(video_id="other"), "json: says it is {key} of other"),
        (edit_json(key="k_00000000_00001000"), "json: says it is k_00000000_00001000 of {video_id}"),
        (edit_json(end=77.5), "json: span [{start}, 77.5) is not the key's"),
        (edit_json(frame_moments=[0.5]), "3 pictures, the JSON names 1 moments"),
        (put(json=b"{"), "Expecting property name"),
        (put(frame_01__jpg=b"GIF89a"), "frame_01.jpg: no JPEG that decodes"),
        (cut_jpeg, "frame_01.jpg: no JPEG that decodes"),
        (other_size, "pictures of different sizes"),
        (set_mel(with_nan), "mel.npy: holds values that are no numbers"),
        (set_mel(lambda mel: mel.astype(np.float32)), "mel.npy: float32 of shape"),
        (set_mel(lambda mel: mel[:, :63]), ", 63); expected float16 [T, 64]"),
        (set_mel(lambda mel: mel[:0]), "mel.npy: float16 of shape (0, 64); expected float16 [T, 64]"),
        (put(mel__npy=b"no array"), "mel.npy: no array"),
    ],
)
def test_a_fault_in_a_sample(work: WorkDir, name: str, change: Callable[[dict[str, bytes]], None], words: str) -> None:
    planted = {}

    def plant(samples: Samples) -> None:
        _, files = samples[1]
        planted.update(json.loads(files["json"]))
        change(files)

    reseal(work, name, plant)
    (found,) = problems(work)
    assert found.startswith(f"{name}/{planted['key']}: ")
    assert words.format(**planted) in found


@pytest.mark.parametrize("member", ["txt", "json", "mel.npy", "frame_02.jpg"])
def test_a_member_that_is_missing(work: WorkDir, name: str, member: str) -> None:
    keys = []

    def plant(samples: Samples) -> None:
        keys.append(samples[1][0])
        del samples[1][1][member]

    reseal(work, name, plant)
    found = problems(work)
    assert any(f"{name}/{keys[0]}: members" in line and "; other samples have" in line for line in found), found


@pytest.mark.parametrize("member", ["txt", "json", "mel.npy"])
def test_a_member_that_every_sample_lacks(work: WorkDir, name: str, member: str) -> None:
    def plant(samples: Samples) -> None:
        for _, files in samples:
            del files[member]

    reseal(work, name, plant)
    assert any("samples of different shards have different members" in line for line in problems(work))


# -- a fault of a shard


def test_a_flipped_byte(work: WorkDir, name: str) -> None:
    tar = work.shards / f"{name}.tar"
    data = bytearray(tar.read_bytes())
    with tarfile.open(tar) as opened:
        picture = next(info for info in opened.getmembers() if info.name.endswith("frame_01.jpg"))
    data[picture.offset_data + picture.size // 2] ^= 1
    tar.write_bytes(data)
    found = problems(work)
    assert f"{name}.tar: its sha256 is not the one in {name}.json; the file was changed or damaged" in found
    assert f"{name}/{picture.name}: its bytes are not those of {name}.parquet" in found


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:5000], "cannot be read to its end: unexpected end of data"),
        (lambda data: b"no tar at all" * 500, "cannot be read to its end: invalid header"),
        (lambda data: b"", "cannot be read to its end: empty"),
    ],
)
def test_a_tar_that_cannot_be_read(work: WorkDir, name: str, damage: Callable[[bytes], bytes], words: str) -> None:
    tar = work.shards / f"{name}.tar"
    tar.write_bytes(damage(tar.read_bytes()))
    found = problems(work)
    assert any(line.startswith(f"{name}.tar: ") and words in line for line in found), found
    assert any(line.startswith(f"{name}.tar: holds ") and f", {name}.json says " in line for line in found)
    assert not any("Buffered" in line for line in found)


def test_files_that_are_missing(work: WorkDir, name: str) -> None:
    parquet = (work.index / f"{name}.parquet").read_bytes()
    (work.index / f"{name}.parquet").unlink()
    assert [line for line in problems(work) if line.startswith(f"{name}.parquet: cannot be read")]
    (work.index / f"{name}.parquet").write_bytes(parquet[:-50])
    assert [line for line in problems(work) if line.startswith(f"{name}.parquet: cannot be read")]
    (work.index / f"{name}.parquet").write_bytes(parquet)
    tar = (work.shards / f"{name}.tar").rename(work.root / "aside.tar")
    found = problems(work)
    assert f"{name}.tar: is missing; run `shard` again" in found
    assert any("kept in the ledger, but in no shard" in line for line in found)
    assert any(line.startswith(f"{name}: the ledger says ") and "the tar holds 0" in line for line in found)
    tar.rename(work.shards / f"{name}.tar")
    for text in (None, "{", "{}", "[]"):
        (work.index / f"{name}.json").unlink()
        if text is not None:
            (work.index / f"{name}.json").write_text(text)
        assert [line for line in problems(work) if line.startswith(f"{name}: not finished, its JSON cannot be read")]
        (work.index / f"{name}.json").touch()


def test_a_shard_that_does_not_belong(work: WorkDir, name: str) -> None:
    with TarFile(work.shards / "extra-000000.tar") as tar:
        for key, files in read_tar(work.shards / f"{name}.tar"):
            tar.add_sample(key, files)
    assert any(line.startswith("extra-000000: not finished") for line in problems(work))


def test_other_files_that_do_not_belong(work: WorkDir) -> None:
    (work.shards / "train-000000.tar.part").touch()
    (work.index / "old-000000.parquet").touch()
    assert problems(work) == [
        f"{work.index}/old-000000.parquet: belongs to no shard",
        f"{work.shards}/train-000000.tar.part: belongs to no shard",
    ]


def test_an_empty_shard_with_a_tar(work: WorkDir, name: str) -> None:
    beside = work.index / f"{name}.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "num_samples": 0}))
    assert f"{name}.tar: should not be there" in problems(work)


def test_a_clip_that_is_there_twice(work: WorkDir, name: str) -> None:
    (other,) = (p.stem for p in sorted(work.shards.glob("*.tar"))[:1])
    (doubled, files), *_ = read_tar(work.shards / f"{other}.tar")
    name = sorted(path.stem for path in work.shards.glob("*.tar"))[1]
    reseal(work, name, lambda samples: samples.append((doubled, files)))
    found = problems(work)
    assert f"{name}: clip {doubled} is also in {other}" in found
    reseal(work, other, lambda samples: samples.append((doubled, files)))
    assert f"{other}: clip {doubled} is also in {other}" in problems(work)


def test_counts_that_differ(work: WorkDir, name: str) -> None:
    beside = work.index / f"{name}.json"
    told = json.loads(beside.read_text())
    beside.write_text(json.dumps({**told, "num_samples": told["num_samples"] + 1}))
    held = told["num_samples"]
    assert problems(work) == [f"{name}.tar: holds {held} samples, {name}.json says {held + 1}"]
    beside.write_text(json.dumps({**told, "counts": {"kept": 1}}))
    (found,) = problems(work)
    assert found.startswith(f"{name}.parquet: counts ") and found.endswith("says {'kept': 1}")


def test_an_index_in_another_order(work: WorkDir, name: str) -> None:
    index = work.index / f"{name}.parquet"
    table = pq.read_table(index)
    pq.write_table(table.take(list(range(len(table)))[::-1]), index)
    (found,) = problems(work)
    assert "kept clips, the tar holds" in found and found.endswith("or in another order")


# -- the ledger


def with_ledger(work: WorkDir, *statements: str) -> None:
    with sqlite3.connect(work.ledger) as db:
        for statement in statements:
            assert db.execute(statement).rowcount == 1
    db.close()


def test_the_ledger_counts_otherwise(work: WorkDir, name: str) -> None:
    split, number = name.rsplit("-", 1)
    where = f"WHERE split = '{split}' AND shard = {int(number)}"
    held = len(read_tar(work.shards / f"{name}.tar"))
    with_ledger(work, f"UPDATE shards SET num_samples = {held + 3} {where}")
    assert problems(work) == [f"{name}: the ledger says {held + 3} samples, the tar holds {held}"]
    with_ledger(work, f"UPDATE shards SET num_samples = 50000 {where}")
    assert problems(work) == [f"{name}: the ledger says 50000 samples, the tar holds {held}"]


def test_the_ledger_knows_other_clips(work: WorkDir, name: str) -> None:
    key = read_tar(work.shards / f"{name}.tar")[0][0]
    clip = f"clip_id = (SELECT clip_id FROM clips WHERE key = '{key}')"
    with_ledger(work, f"UPDATE outcomes SET status = 'dropped', reason = 'crashed' WHERE stage = 'shard' AND {clip}")
    assert problems(work) == [f"{key}: in {name}, but not kept in the ledger"]
    reseal(work, name, lambda samples: samples.pop(1) and None)
    assert any("kept in the ledger, but in no shard" in line for line in problems(work))


def test_without_a_ledger_the_shards_speak_for_themselves(work: WorkDir) -> None:
    for path in work.root.glob("ledger.sqlite*"):
        path.unlink()
    assert problems(work) == []


def test_an_index_that_is_another_table(work: WorkDir, name: str) -> None:
    pq.write_table(pa.table({"key": ["a"]}), work.index / f"{name}.parquet")
    assert any(line.startswith(f"{name}.parquet: cannot be read") for line in problems(work))
