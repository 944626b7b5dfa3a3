"""Reading shards back: what was written, and an error that names the file when it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from valor_data.clip import Caption, Clip, Question
from valor_data.config import ShardSection
from valor_data.errors import ShardError
from valor_data.media.facts import Facts
from valor_data.shard.reader import read_samples
from valor_data.shard.sample import SampleRequest, SampleSettings, array_bytes, sample_json
from valor_data.shard.writer import TarFile

SETTINGS = SampleSettings.of(ShardSection(num_frames=2), "av")
MEL = np.linspace(-9, 3, 128, dtype=np.float16).reshape(2, 64)
CLIPS = [
    Clip("-a", 0.0, 1.0),
    Clip("_b.c", 0.25, 1.5, "val", (Caption("A bell."), Caption("Bing.", "audio")), ("/m/1",), ("Bell",),
         (Question("q", "What?", ("a bell", "bell")),)),
]  # fmt: skip


def files_of(clip: Clip) -> dict[str, bytes]:
    request = SampleRequest(1, clip, None, 0.0, json.dumps(Facts().to_dict()), "{}", "")
    details = sample_json(
        request,
        SETTINGS,
        request.facts or "",
        frame_moments=(0.5,),
        frame_times=(0.4,),
        num_frames_clamped=0,
        audio_spans=(),
    )
    return {"json": details, "txt": b"", "mel.npy": array_bytes(MEL), "frame_01.jpg": b"1", "frame_00.jpg": b"0"}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train-000000.tar"
    with TarFile(path) as tar:
        for clip in CLIPS:
            tar.add_sample(clip.key or "", files_of(clip))
    return path


def test_what_was_written_is_read(shard: Path) -> None:
    samples = list(read_samples([shard, str(shard)]))
    assert [sample.clip for sample in samples] == CLIPS * 2
    assert [sample.key for sample in samples] == [clip.key for clip in CLIPS] * 2
    for sample in samples:
        assert sample.jpegs == (b"0", b"1")
        assert sample.mel is not None and sample.mel.dtype == np.float16 and (sample.mel == MEL).all()
        assert sample.media == {}
        assert sample.details["modalities"] == "av"


def test_no_shards(tmp_path: Path) -> None:
    assert list(read_samples([])) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("gone", "No such file or directory"),
        ("cut", "unexpected end of data"),
        ("garbage", "invalid header"),
        ("another tar", "a sample has no member 'json'"),
        ("a pickle", "contains pickled"),
    ],
)
def test_a_damaged_shard_is_named(shard: Path, damage: str, words: str) -> None:
    if damage == "gone":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:3000])
    elif damage == "garbage":
        shard.write_bytes(b"no tar at all" * 1000)
    else:
        files = files_of(CLIPS[0])
        if damage == "another tar":
            files = {"txt": b"x"}
        else:
            files["mel.npy"] = np.array([None], dtype=object).dumps()
        with TarFile(shard) as tar:
            tar.add_sample("k_00000000_00001000", files)
    with pytest.raises(ShardError, match=rf"^{shard}: [^@<>]*{words}[^@<>]*; run `valor-data verify` on its"):
        list(read_samples([shard]))
