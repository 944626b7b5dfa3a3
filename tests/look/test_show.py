"""`show`: a clip from a work folder or from shards alone; drawings that tell what they are of."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from valor_data.errors import ShardError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.look.blocks import RAMP, mel_blocks, mel_characters, thumbnail
from valor_data.look.shard_set import find_set
from valor_data.look.show import manifest_row, show_from_shards, show_from_work
from valor_data.manifest import read_manifest
from valor_data.shard.reader import find_shards, read_samples
from valor_data.workdir import WorkDir


def kept_key(work: WorkDir) -> str:
    with Ledger(work.ledger, read_only=True) as ledger:
        return sorted(ledger.keys_in_shards())[0]


def test_from_a_work_folder(finished: WorkDir) -> None:
    key = kept_key(finished)
    (one,) = show_from_work(finished, key)
    tree = one.to_dict()
    sample = next(s for s in read_samples(find_shards(str(finished.shards))) if s.key == key)
    assert tree["sample"]["json"] == sample.details
    assert one.clip == sample.clip
    assert tuple(one.pictures()) == sample.jpegs
    mel = one.mel()
    assert mel is not None and sample.mel is not None and np.array_equal(mel, sample.mel)
    assert tree["stages"]["shard"]["status"] == "kept" and tree["note"] == ""
    json.dumps(tree)


def test_the_members_are_where_it_says(finished: WorkDir) -> None:
    (one,) = show_from_work(finished, kept_key(finished))
    sample = one.to_dict()["sample"]
    rows = pq.read_table(finished.index / f"{Path(sample['tar']).stem}.parquet").to_pylist()
    listed = {m["name"]: m["sha256"] for row in rows if row["key"] == one.key for m in row["members"]}
    data = Path(sample["tar"]).read_bytes()
    for name, place in sample["members"].items():
        part = data[place["offset"] : place["offset"] + place["size"]]
        assert hashlib.sha256(part).hexdigest() == listed[f"{one.key}.{name}"]


@pytest.mark.parametrize("place", ["work", "shards", "tar", "no index"])
def test_from_shards_alone(finished: WorkDir, tmp_path: Path, place: str) -> None:
    key = kept_key(finished)
    shutil.copytree(finished.shards, tmp_path / "shards")
    if place != "no index":
        shutil.copytree(finished.index, tmp_path / "index")
    (expected,) = show_from_work(finished, key)
    tar = Path(expected.to_dict()["sample"]["tar"]).name
    where = {"work": tmp_path, "tar": tmp_path / "shards" / tar}.get(place, tmp_path / "shards")
    (one,) = show_from_shards(find_set(where), key)
    assert one.details == expected.details
    assert one.stored is not None and expected.stored is not None
    assert one.stored.members == expected.stored.members
    assert one.pictures() == expected.pictures()
    assert one.standing == ("kept", "")


def test_a_refused_clip_from_both(finished: WorkDir) -> None:
    with Ledger(finished.ledger, read_only=True) as ledger:
        refused = next(row for row in ledger.standings() if row[6] == "dropped" and row[7] == "silent")
    (one,) = show_from_work(finished, refused[0])
    assert one.stored is None and one.clip is not None
    assert one.clip.captions == next(read_manifest(finished.manifest).clips([refused[3]])).captions
    assert one.to_dict()["stages"]["filter"]["reason"] == "silent"
    (alone,) = show_from_shards(find_set(finished.shards), refused[0])
    assert alone.standing == ("dropped", "silent")
    told = alone.to_dict()
    assert told["in_shard"]["meaning"].startswith("the sound is below") and told["annotation"] is None


def test_a_video_lists_its_clips(finished: WorkDir) -> None:
    with Ledger(finished.ledger, read_only=True) as ledger:
        rows = list(ledger.standings())
    videos = [row[1] for row in rows if row[8] == "kept"]
    video = max(set(videos), key=videos.count)
    keys = [row[0] for row in rows if row[1] == video]
    assert [one.key for one in show_from_work(finished, video)] == keys
    assert {one.key for one in show_from_shards(find_set(finished.root / "shards"), video)} <= set(keys)


def test_what_is_not_there(finished: WorkDir, tmp_path: Path) -> None:
    near = kept_key(finished)
    with pytest.raises(ValorDataError, match=f"expected a key or a video id; keys like it: .*{near}"):
        show_from_shards(find_set(finished.shards), near[:-1] + "x")
    with pytest.raises(ValorDataError, match=r"expected a key or a video id$"):
        show_from_shards(find_set(finished.shards), "zzz")
    with pytest.raises(ShardError, match="no shards here; expected a work folder, a folder of"):
        find_set(tmp_path)


def test_a_shard_that_was_replaced_is_not_misread(work: WorkDir) -> None:
    key = kept_key(work)
    (before,) = show_from_work(work, key)
    assert before.stored is not None
    tar = Path(before.stored.shard.tar)
    tar.write_bytes(b"\0" * tar.stat().st_size)
    with pytest.raises(ShardError, match=r"holds no .*frame_00\.jpg where its index says"):
        before.pictures()
    (after,) = show_from_work(work, key)
    assert after.stored is None and "was it built again?" in after.note
    tar.unlink()
    assert "No such file" in show_from_work(work, key)[0].note


def test_one_row_of_a_manifest(finished: WorkDir) -> None:
    listed = read_manifest(finished.manifest)
    for number in (0, len(listed) - 1):
        assert manifest_row(finished.manifest, number) == next(listed.clips([number]))
    assert manifest_row(finished.manifest, len(listed)) is None
    assert manifest_row(finished.manifest, None) is None


def test_a_mel_drawn_in_characters() -> None:
    mel = np.full((300, 64), -12.0, np.float16)
    mel[100:200, :16] = 2.0  # low sounds in the middle third
    lines = mel_characters(mel, 60, 8)
    assert [len(line) for line in lines] == [60] * 8
    assert lines[0] == RAMP[0] * 60
    assert lines[-1] == " " * 20 + "@" * 20 + " " * 20
    assert set("".join(mel_characters(np.zeros((5, 64), np.float16), 60, 8))) == {" "}


def test_a_mel_and_a_picture_drawn_in_colour(finished: WorkDir) -> None:
    mel = np.full((300, 64), -14.0, np.float16)
    mel[:, 32:] = 6.0
    pixels = mel_blocks(mel, 50, 8)
    assert pixels.shape == (16, 50, 3)
    assert (pixels[:8].astype(int).sum(-1) > 600).all() and (pixels[8:].astype(int).sum(-1) < 150).all()
    (one,) = show_from_work(finished, kept_key(finished))
    for columns, rows in ((15, 15), (200, 4), (1, 1)):
        drawn = thumbnail(one.pictures()[0], columns, rows)
        assert drawn.shape[0] % 2 == 0 and drawn.shape[0] <= 2 * rows and drawn.shape[1] <= columns
    with pytest.raises(ValueError):
        thumbnail(b"no picture", 5, 5)


@pytest.mark.parametrize("place", ["", "/shards", "tar"])
def test_from_an_address(finished: WorkDir, tmp_path: Path, place: str) -> None:
    """Any fsspec address will do; this one is asked range by range, as a store is."""
    key = kept_key(finished)
    (expected,) = show_from_work(finished, key)
    shutil.copytree(finished.shards, tmp_path / "set" / "shards")
    shutil.copytree(finished.index, tmp_path / "set" / "index")
    tar = Path(expected.to_dict()["sample"]["tar"]).name
    found = find_set(f"file://{tmp_path}/set" + (f"/shards/{tar}" if place == "tar" else place))
    (one,) = show_from_shards(found, key)
    assert one.details == expected.details and one.pictures() == expected.pictures()
    assert one.stored is not None and one.stored.shard.tar.startswith("file://")
