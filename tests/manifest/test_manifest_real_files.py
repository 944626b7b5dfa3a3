"""Every format on the real file, with the counts that are known of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

from valor_data.clip import parse_key
from valor_data.manifest import ManifestOptions, build_manifest, read_manifest, write_manifest
from valor_data.schema import shipped_file


@pytest.fixture(scope="session")
def annotations(shared: Path) -> Path:
    return shared / "annotations"


@pytest.mark.parametrize(
    ("file", "num_rows", "num_clips", "num_captions", "split", "rejects"),
    [
        ("valor32k/desc_train.json", 25327, 25322, 25322, "train", {"caption_no_letters": 5}),
        ("valor32k/desc_val.json", 3500, 3499, 3499, "val", {"caption_no_letters": 1}),
        ("audioset_eval_segments.csv", 20371, 20371, 0, "test", {}),
        ("audioset_balanced_train_segments.csv", 22160, 22160, 0, "train", {}),
        ("audiocaps_v1_val.csv", 2475, 495, 2390, "val", {"duplicate": 85}),
        ("vggsound_test.csv", 15446, 15446, 0, "test", {}),
        ("../media/desc_local.json", 78, 77, 77, "train", {"caption_no_letters": 1}),
    ],
)
def test_counts(
    annotations: Path, file: str, num_rows: int, num_clips: int, num_captions: int, split: str, rejects: dict[str, int]
) -> None:
    result = build_manifest([annotations / file])
    assert (result.num_rows, len(result.manifest), result.counts["captions"]) == (num_rows, num_clips, num_captions)
    assert result.clips_by_split == {split: num_clips}
    assert result.rejects_by_reason == rejects
    assert num_rows == max(num_captions, num_clips) + len(result.rejects)


def test_the_six_captions_that_are_only_a_number(annotations: Path) -> None:
    result = build_manifest([annotations / "valor32k/desc_train.json", annotations / "valor32k/desc_val.json"])
    known = ("Agi5ySKb1tY", "OWbfAmrFdp8", "EOKUV6hgMhM", "AE5oZzfu2-E", "CQKSstz9_hs", "EmrrGDnB788")
    assert sorted(raw[14:25] for raw in result.rejects.raws) == sorted(known)
    source = json.loads((annotations / "valor32k/desc_train.json").read_text())
    for file, row, raw in zip(result.rejects.files, result.rejects.rows, result.rejects.raws, strict=True):
        if file == "desc_train.json":
            assert json.loads(raw) == source[row - 1]


def test_valor_joined_with_audioset(annotations: Path) -> None:
    files = [
        annotations / "valor32k/desc_train.json",
        annotations / "audioset_eval_segments.csv",
        annotations / "audioset_balanced_train_segments.csv",
        annotations / "audioset_class_labels_indices.csv",
    ]
    result = build_manifest(files)
    assert result.counts["clips"] == result.counts["clips_with_labels"] == 25322
    assert result.counts["clips_without_label_row"] == 0
    assert result.counts["label_rows_unused"] == 20371 + 22160 - 25322
    alone = build_manifest(files[:1]).manifest
    assert result.manifest.table["key"].equals(alone.table["key"])  # equal times, same order
    lengths = [pc.list_value_length(result.manifest.table[name]) for name in ("labels", "label_names")]
    assert lengths[0].equals(lengths[1])
    clip = next(c for c in result.manifest.clips() if c.video_id == "x-2Abohj8VY")
    assert clip.label_names == ("Bus", "Vehicle", "Speech")


def test_ids_that_begin_with_a_dash_or_underscore(annotations: Path, tmp_path: Path) -> None:
    result = build_manifest([annotations / "valor32k/desc_train.json", annotations / "valor32k/desc_val.json"])
    write_manifest(result, tmp_path / "manifest.parquet")
    clips = list(read_manifest(tmp_path / "manifest.parquet").clips())
    released = {
        row["video_id"]
        for name in ("train", "val")
        for row in json.loads((annotations / f"valor32k/desc_{name}.json").read_text())
    }
    for first in "-_":
        expected = {video for video in released if video.startswith(first)}
        found = {f"{c.video_id}_{c.start:.3f}_{c.end:.3f}" for c in clips if c.video_id.startswith(first)}
        assert len(found) > 300
        assert found <= expected and len(expected - found) <= 6
    for clip in clips:
        assert clip.key is not None and parse_key(clip.key) == (clip.video_id, clip.start, clip.end)


def test_audiocaps_are_ten_second_clips_described_by_ear(annotations: Path) -> None:
    clips = list(build_manifest([annotations / "audiocaps_v1_val.csv"]).manifest.clips())
    assert clips[0].key == "vfY_TJq7n_U_00130000_00140000"
    assert {caption.role for clip in clips for caption in clip.captions} == {"audio"}
    assert max(len(clip.captions) for clip in clips) == 5


def test_vggsound_labels_are_their_own_names(annotations: Path) -> None:
    clip = next(build_manifest([annotations / "vggsound_test.csv"]).manifest.clips())
    assert (clip.key, clip.labels) == ("glLQrEijrKg_00300000_00310000", ("playing hammond organ",))
    assert clip.label_names == clip.labels


def test_audiosets_three_forms_give_the_same(annotations: Path, tmp_path: Path) -> None:
    original = annotations / "audioset_eval_segments.csv"
    rows = original.read_text().splitlines()[3:]
    saved = tmp_path / "resaved_eval.csv"
    saved.write_text(
        "# num_ytids=1\n# YTID, start_seconds, end_seconds, positive_labels\n"
        + "".join(row.replace(", ", ",") + "\r\n" for row in rows)
    )
    plain = tmp_path / "plain_eval.csv"
    plain.write_text(
        "YTID,start_seconds,end_seconds,positive_labels\n" + "\n".join(row.replace(", ", ",") for row in rows)
    )
    bare = tmp_path / "bare_eval.csv"
    bare.write_text("\n".join(rows))
    prints = {build_manifest([file]).manifest.fingerprint for file in (original, saved, plain, bare)}
    assert len(prints) == 1


def test_outer_join_lets_labels_define_clips(annotations: Path) -> None:
    files = [
        annotations / "valor32k/desc_val.json",
        annotations / "audioset_eval_segments.csv",
        annotations / "audioset_balanced_train_segments.csv",
    ]
    result = build_manifest(files, options=ManifestOptions(join="outer"))
    assert len(result.manifest) == 20371 + 22160
    assert result.counts["captions"] == 3499
    assert result.counts["clips_without_captions"] == 20371 + 22160 - 3499
    assert result.manifest.table["split"][0].as_py() == "val"


def test_a_manifest_can_be_read_as_annotations(annotations: Path, tmp_path: Path) -> None:
    first = build_manifest([annotations / "audiocaps_v1_val.csv", annotations / "audioset_balanced_train_segments.csv"])
    write_manifest(first, tmp_path / "manifest.parquet")
    again = build_manifest([tmp_path / "manifest.parquet"])
    assert again.manifest.fingerprint == first.manifest.fingerprint


@pytest.mark.parametrize(
    ("name", "source"),
    [("audioset-eval", "audioset_eval_segments.csv"), ("audioset-balanced", "audioset_balanced_train_segments.csv")],
)
def test_the_lists_that_ship_are_those_that_were_released(annotations: Path, name: str, source: str) -> None:
    shipped = read_manifest(shipped_file("manifests", f"{name}.parquet"))
    made = build_manifest([annotations / source, annotations / "audioset_class_labels_indices.csv"])
    assert shipped.fingerprint == made.manifest.fingerprint
