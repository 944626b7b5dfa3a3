"""Work folders with many small clips: the road's own writers, on members that cost nothing to make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from valor_data.clip import make_key
from valor_data.config import ShardSection
from valor_data.errors import Status
from valor_data.ledger import Attempt, MediaRow, Outcome
from valor_data.manifest import build_manifest, write_manifest
from valor_data.media.facts import FACTS_VERSION, Facts
from valor_data.road import Driver, StageReport
from valor_data.road.entry import enter_manifest
from valor_data.road.shard_plan import fix_plan
from valor_data.road.shard_records import record_shard, sample_requests, slice_row
from valor_data.shard import writer
from valor_data.shard.sample import Made, SampleRequest, SampleSettings, array_bytes, first_caption, sample_json
from valor_data.workdir import WorkDir

NUM_FRAMES = 2


def video_id(number: int) -> str:
    """Of YouTube's form, and nothing that stands elsewhere by chance."""
    return hashlib.blake2b(f"video {number}".encode(), digest_size=8).hexdigest()[:11]


def key_of(number: int) -> str:
    """Every third clip is the second one of the video before it."""
    if number % 3 == 2:
        return make_key(video_id(number - 1), 10.0, 20.0)
    return make_key(video_id(number), 0.0, 10.0)


def caption_of(number: int) -> str:
    return f"Number {number} “{hashlib.sha256(str(number).encode()).hexdigest()[:12]}” sings & dances."


def write_annotations(path: Path, numbers: Sequence[int]) -> Path:
    rows = []
    for number in numbers:
        video, start, end = key_of(number).rsplit("_", 2)
        rows.append({"video_id": f"{video}_{int(start) / 1000:.3f}_{int(end) / 1000:.3f}", "desc": caption_of(number)})
    path.write_text(json.dumps(rows))
    return path


def members_of(request: SampleRequest, settings: SampleSettings) -> dict[str, bytes]:
    """Members as a sample has them: real JSON and text, pictures and sound of a few bytes."""
    rng = np.random.default_rng(request.clip_id)
    members = {
        "json": sample_json(request, settings, request.facts or "{}", frame_moments=[1.0] * NUM_FRAMES,
                            frame_times=[1.0] * NUM_FRAMES, num_frames_clamped=0, audio_spans=[(0.0, 10.0)]),
        "txt": first_caption(request.clip).encode(),
        "mel.npy": array_bytes(rng.normal(-5, 3, (8, 64)).astype(np.float16)),
    }  # fmt: skip
    return members | {f"frame_{i:02d}.jpg": JPEG for i in range(NUM_FRAMES)}


def _jpeg() -> bytes:
    import simplejpeg

    return simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))


JPEG = _jpeg()


def make_work(
    root: Path, num_clips: int, clips_a_shard: int, *, output: str = "", silent: Sequence[int] = ()
) -> WorkDir:
    """A finished work folder: manifest, ledger, media and shards; some clips were refused as silent."""
    annotations = write_annotations(root.parent / "desc_train.json", range(num_clips))
    write_manifest(build_manifest([annotations]), root.parent / "manifest.parquet")
    work = WorkDir.at(root)
    section = ShardSection(max_clips=clips_a_shard, num_frames=NUM_FRAMES, output=output)
    settings = SampleSettings.of(section, "av")
    facts = json.dumps(Facts().to_dict(), sort_keys=True)
    with Driver(work, stages=[]) as driver, pytest.MonkeyPatch.context() as patch:
        listed = enter_manifest(driver, root.parent / "manifest.parquet", StageReport("fetch"))
        patch.setattr(writer, "make_members", lambda request, *rest: Made(members_of(request, settings), request.facts))
        driver.ledger.pin("modalities", "av", advice="")
        driver.note_settings("shard", section, ("output", "num_frames"))
        for number, clip in enumerate(driver.ledger.find_all()):
            path = work.media_file(clip.key or "", "mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"media of {clip.key}".encode())
            source = json.dumps({"extractor": "url", "container": "mp4", "url": f"https://x.example/{clip.video_id}"})
            media = MediaRow(str(path.relative_to(root)), 0.0, path.stat().st_size, source)
            driver.ledger.add_attempt(clip.clip_id, Attempt(1.0, "direct", "kept", "", f"came: {clip.video_id}"))
            driver.record_fetched(clip.clip_id, Outcome.kept(), clip.key, media)
            driver.ledger.record_facts(clip.clip_id, FACTS_VERSION, facts)
            judged = Outcome.refused("silent", f"{clip.key} is quiet") if number in silent else Outcome.kept()
            driver.ledger.record(clip.clip_id, "filter", judged)
        fix_plan(driver, section, (), lambda: clips_a_shard)
        for split, shard in driver.ledger.planned_shards():
            clips = list(driver.ledger.planned(split, shard))
            wanted = [clip for clip in clips if clip.standing()[0] == Status.KEPT.value]
            unit = writer.ShardUnit(
                split, shard, tuple(map(slice_row, clips)), tuple(sample_requests(driver, wanted, listed)), settings,
                lambda facts: Outcome.kept(), root, work.own_tmp(), 60.0, output=output,
            )  # fmt: skip
            record_shard(driver, settings, writer.build_shard(unit))
        driver.ledger.commit()
    return work
