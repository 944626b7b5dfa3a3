"""Sets of shards made by hand: cheap pictures whose colour says which clip and which moment they are of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from valor_data.clip import Caption, Clip, Question
from valor_data.config import ShardSection
from valor_data.media.facts import Facts
from valor_data.shard.sample import SampleRequest, SampleSettings, array_bytes, first_caption, sample_json
from valor_data.shard.tar import TarFile
from valor_data.train.text import Vocabulary

NUM_FRAMES = 6
MEL_FRAMES = 700
COLOUR_STEP = 36

MEMBER = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("sha256", pa.string())])
SCHEMA = pa.schema([("key", pa.string()), ("status", pa.string()), ("members", pa.list_(MEMBER))])

Change = Callable[[int, dict[str, bytes]], Mapping[str, bytes]]
"""Given a clip's number and its members: what is written instead."""

WORDS = Vocabulary.learn([f"clip {n} is seen and heard what number . " for n in range(400)], 800)


def clip_number(key: str) -> int:
    return int(key[4:10])


def make_clip(number: int, captions: Sequence[Caption] = (), questions: Sequence[Question] = ()) -> Clip:
    return Clip(
        f"clip{number:06d}-",
        0.0,
        7.0,
        captions=tuple(captions) or (Caption(f"Clip {number}."), Caption(f"clip {number} is heard", "audio")),
        questions=tuple(questions),
    )


def picture(number: int, moment: int, width: int = 40, height: int = 32) -> bytes:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:] = (COLOUR_STEP * (number % 7), COLOUR_STEP * (number // 7 % 7), COLOUR_STEP * moment)
    return simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444")


def mel_of(number: int, mel_frames: int = MEL_FRAMES) -> np.ndarray:
    return np.random.default_rng(number).normal(-5, 3, (mel_frames, 64)).astype(np.float16)


def members_of(
    clip: Clip, number: int, modalities: str = "av", spans: Sequence[Any] = ((0.0, 7.0),)
) -> dict[str, bytes]:
    settings = SampleSettings.of(ShardSection(num_frames=NUM_FRAMES), modalities)
    request = SampleRequest(1, clip, None, 0.0, json.dumps(Facts().to_dict()), "{}", "")
    members = {
        "json": sample_json(request, settings, request.facts or "", frame_moments=(0.5,), frame_times=(0.5,),
                            num_frames_clamped=0, audio_spans=spans),
        "txt": first_caption(clip).encode(),
    }  # fmt: skip
    if "v" in modalities:
        members |= {f"frame_{moment:02d}.jpg": picture(number, moment) for moment in range(NUM_FRAMES)}
    if "a" in modalities:
        members["mel.npy"] = array_bytes(mel_of(number))
    return members


def write_set(
    work: Path,
    counts: Sequence[int],
    *,
    split: str = "train",
    modalities: str = "av",
    first: int = 0,
    has_index: bool = True,
    change: Change | None = None,
    clip_of: Callable[[int], Clip] = make_clip,
) -> Path:
    """A work folder with shards of so many clips, numbered from `first`."""
    (work / "shards").mkdir(parents=True, exist_ok=True)
    (work / "index").mkdir(exist_ok=True)
    number = first
    for shard, count in enumerate(counts):
        name = f"{split}-{shard:06d}"
        rows = []
        with TarFile(work / "shards" / f"{name}.tar") as tar:
            for _ in range(count):
                clip = clip_of(number)
                members = members_of(clip, number, modalities)
                places = tar.add_sample(clip.key or "", change(number, members) if change else members)
                rows.append({"key": clip.key, "status": "kept", "members": [asdict(place) for place in places]})
                number += 1
        if has_index:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), work / "index" / f"{name}.parquet")
            (work / "index" / f"{name}.json").write_text(json.dumps({"num_samples": count}))
    return work
