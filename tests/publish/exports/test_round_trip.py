"""What was exported, and the shards themselves, are sources again: the same clips, the same captions, the same mel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from building import build
from test_export_valor import HALF_STEP

from valor_data import open_shards
from valor_data.config import ShardSection
from valor_data.publish.exports import ExportOptions, run_export
from valor_data.road import NoProgress
from valor_data.shard.reader import Sample
from valor_data.workdir import WorkDir

FOUR = ShardSection(workers=1, num_frames=4)


def samples(work: WorkDir) -> dict[str, Sample]:
    return {sample.key: sample for sample in open_shards(work.shards)}


def same_clips(again: WorkDir, before: WorkDir) -> None:
    """Every clip with its split, captions, questions and labels."""
    found = {key: sample.clip for key, sample in samples(again).items()}
    assert found == {key: sample.clip for key, sample in samples(before).items()}
    assert len(found) > 20


def psnr(one: bytes, other: bytes) -> float:
    a, b = (simplejpeg.decode_jpeg(data).astype(np.float64) for data in (one, other))
    return float(10 * np.log10(255**2 / max(np.square(a - b).mean(), 1e-9)))


def test_shards_with_video_are_a_webdataset(full: WorkDir, tmp_path: Path) -> None:
    same_clips(build(tmp_path, [full.shards], full.shards, FOUR), full)


def test_parquet_with_video_is_a_hub_set(full: WorkDir, tmp_path: Path) -> None:
    place = tmp_path / "tables"
    run_export(full, "parquet", str(place), ExportOptions(workers=1, include=("audio", "video")), NoProgress())
    same_clips(build(tmp_path, [place], place, FOUR), full)


@pytest.mark.parametrize("fps", [0.0, 8.0])
def test_the_published_layout_is_a_source(full: WorkDir, tmp_path: Path, fps: float) -> None:
    """As many clips; mel within what the stored float16 rounds; pictures but for one more JPEG."""
    place = tmp_path / "world"
    run_export(full, "valor", str(place), ExportOptions(workers=1, fps=fps), NoProgress())
    again = build(tmp_path, [place], place, FOUR)
    same_clips(again, full)
    for key, ours in samples(full).items():
        theirs = samples(again)[key]
        assert ours.mel is not None and theirs.mel is not None
        assert ours.mel.shape == theirs.mel.shape
        assert np.abs(ours.mel.astype(np.float32) - theirs.mel.astype(np.float32)).max() <= 2 * HALF_STEP
        assert len(theirs.jpegs) == 4
        if not fps:
            assert min(psnr(a, b) for a, b in zip(ours.jpegs, theirs.jpegs, strict=True)) > 35
