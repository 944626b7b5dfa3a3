"""The shards open in webdataset and in datasets, streaming and not, also when the first samples are the emptiest."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from driving import go
from PIL import Image

from valor_data.config import ShardSection
from valor_data.demo import WorldSettings, make_world
from valor_data.manifest import ManifestOptions, build_manifest, write_manifest
from valor_data.shard.reader import read_samples


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One shard whose first five samples have no caption, label or question and whole-numbered times; the rest do."""
    root = tmp_path_factory.mktemp("readers")
    world = make_world(root / "world", WorldSettings.small())
    kept = {clip.video_id: clip for clip in world.truth if clip.expect == "kept"}
    ids = list(kept)
    bare = root / "bare.csv"
    bare.write_text("".join(["video_id,start,end\n", *(f"{video_id},0,1\n" for video_id in ids[:5])]))
    told = root / "told.jsonl"
    captions = ["A circle moves and a bell rings.", {"text": "A bell.", "role": "audio"}]
    rows = [
        {"video_id": video_id, "start": 0.25, "end": 1.3, "captions": captions, "labels": ["/m/0", "/m/1"]}
        for video_id in ids[5:]
    ]
    told.write_text("\n".join(json.dumps(row) for row in rows))
    manifest = root / "manifest.parquet"
    result = build_manifest([bare, told], options=ManifestOptions(join="outer", split="train"))
    write_manifest(result, manifest)
    assert len(result.manifest) == len(ids)
    work = root / "work"
    go(work, manifest, str(world.media), sharding=ShardSection(workers=1, max_clips=1000, partial=True))
    tars = sorted((work / "shards").glob("*.tar"))
    assert len(tars) == 1
    return [_emptiest_first(tars[0], root / "train-000000.tar")]


def _emptiest_first(tar: Path, place: Path) -> Path:
    """The same samples with those that say least in front, the worst case for a reader that guesses types."""
    with tarfile.open(tar) as source:
        groups: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {}
        for info in source.getmembers():
            stream = source.extractfile(info)
            assert stream is not None
            groups.setdefault(info.name.split(".", 1)[0], []).append((info, stream.read()))
    order = sorted(groups, key=lambda key: key.split("_")[-1] != "00001000")
    assert len(order) > 7
    with tarfile.open(place, "w") as target:
        for key in order:
            for info, data in groups[key]:
                target.addfile(info, io.BytesIO(data))
    return place


def test_webdataset(shards: list[Path]) -> None:
    import webdataset

    samples = list(webdataset.WebDataset(str(shards[0]), shardshuffle=False).decode("pil"))
    assert len(samples) > 7
    for sample in samples:
        frames = [sample[f"frame_{i:02d}.jpg"] for i in range(10)]
        assert all(isinstance(frame, Image.Image) and min(frame.size) > 0 for frame in frames)
        assert sample["mel.npy"].dtype == np.float16 and sample["mel.npy"].shape[1] == 64
        assert isinstance(sample["json"]["start"], float)


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets(shards: list[Path], streaming: bool, tmp_path: Path) -> None:
    from datasets import load_dataset

    data = load_dataset(
        "webdataset",
        data_files={"train": [str(path) for path in shards]},
        split="train",
        streaming=streaming,
        cache_dir=str(tmp_path / "cache"),
    )
    rows = list(data)
    assert len(rows) > 7
    assert isinstance(rows[0]["frame_00.jpg"], Image.Image)
    late = rows[-1]["json"]
    # What the emptiest samples could have hidden: fractions, texts and second list entries that come later.
    assert (late["start"], late["end"]) == (0.25, 1.3)
    assert [caption["text"] for caption in late["captions"]] == ["A circle moves and a bell rings.", "A bell."]
    assert late["labels"] == ["/m/0", "/m/1"]
    assert np.asarray(rows[0]["mel.npy"]).shape[1] == 64


def test_own_reader_takes_the_empty_entries_away(shards: list[Path]) -> None:
    samples = list(read_samples(shards))
    assert samples[0].clip.captions == () and samples[0].clip.labels == () and samples[0].clip.questions == ()
    late = samples[-1].clip
    assert [(caption.text, caption.role) for caption in late.captions] == [
        ("A circle moves and a bell rings.", "audiovisual"),
        ("A bell.", "audio"),
    ]
    assert len(samples[0].jpegs) == 10 and samples[0].mel is not None
