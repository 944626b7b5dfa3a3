"""Joining and splits: labels by equal times, names of classes, what stays over is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from valor_data.errors import ManifestError
from valor_data.manifest import ManifestOptions, Progress, build_manifest
from valor_data.manifest.splits import kept_split, split_of_name

HEADER = "YTID,start_seconds,end_seconds,positive_labels\n"
CLASSES = 'index,mid,display_name\n0,/m/0a,"Speech, adult"\n1,/m/0b,Music\n'


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(**contents: Any) -> list[Path]:
        paths = []
        for name, content in contents.items():
            is_text = isinstance(content, str)
            paths.append(tmp_path / f"{name}.{'csv' if is_text else 'json'}")
            paths[-1].write_text(content if is_text else json.dumps(content))
        return paths

    return write


def test_labels_match_at_equal_milliseconds_only(files: Any) -> None:
    captions = {f"video{n:06d}_{span}": f"Bus {n}." for n, span in enumerate(("1.000_11.000", "2.5_12.5", "3_13"))}
    labels = HEADER + "video000000,1,11,/m/0a\nvideo000001, 2.500, 12.500,/m/0b\nvideo000002,3,13.001,/m/0a\n"
    result = build_manifest(files(desc_train=captions, eval=labels))
    assert [clip.labels for clip in result.manifest.clips()] == [("/m/0a",), ("/m/0b",), ()]
    assert result.counts["clips_without_label_row"] == result.counts["label_rows_unused"] == 1
    assert result.clips_by_split == {"train": 3}  # a label file that is only matched sets no split


def test_two_label_lists_are_united(files: Any) -> None:
    paths = files(
        desc_train={"video000000_1_11": "A bus."},
        audioset=HEADER + 'video000000,1,11,"/m/0a,/m/0b"\n',
        vggsound="video000000_000001.mp4,bus passing\n",
        more=HEADER + 'video000000,1,11,"/m/0b,/m/0c"\n',
        classes=CLASSES,
    )
    result = build_manifest(paths)
    (clip,) = result.manifest.clips()
    assert clip.labels == ("/m/0a", "/m/0b", "bus passing", "/m/0c")
    assert clip.label_names == ("Speech, adult", "Music", "bus passing", "/m/0c")
    assert result.notices == ("1 labels have no name in the class list, such as '/m/0c'",)


def test_without_a_class_list_codes_have_no_names(files: Any) -> None:
    rows = HEADER + "video000000,1,11,/m/0a\nvideo000001,1,11,/m/0b\n"
    assert {clip.label_names for clip in build_manifest(files(eval=rows)).manifest.clips()} == {()}


def test_label_rows_of_one_clip_are_united_when_they_define_it(files: Any) -> None:
    rows = HEADER + "video000000,1,11,/m/0a\nvideo000001,1,11,/m/0b\nvideo000000,1,11,/m/0b\n"
    clips = list(build_manifest(files(eval=rows)).manifest.clips())
    assert [clip.labels for clip in clips] == [("/m/0a", "/m/0b"), ("/m/0b",)]


def test_a_table_without_captions_labels_clips(files: Any) -> None:
    paths = files(desc_val={"video000000_1_2": "A bus."}, segments="ytid,start,end,label\nvideo000000,1,2,speech\n")
    (clip,) = build_manifest(paths).manifest.clips()
    assert (clip.labels, clip.split) == (("speech",), "val")


def test_outer_join_splits_label_clips_by_their_files_name(files: Any) -> None:
    rows = HEADER + "video000000,1,11,/m/0a\nvideo000001,1,11,/m/0b\nvideo000002,9,1,/m/0b\n"
    paths = files(desc_train={"video000000_1_11": "A bus."}, eval=rows)
    result = build_manifest(paths, options=ManifestOptions(join="outer"))
    assert [(c.video_id, c.split, len(c.captions)) for c in result.manifest.clips()] == [
        ("video000000", "train", 1),
        ("video000001", "test", 0),
    ]
    assert result.rejects_by_reason == {"bad_span": 1}  # told once, though the file is read twice


def test_order_is_of_first_appearance(files: Any) -> None:
    paths = files(
        b_train={"video000009_1_2": "A.", "video000001_1_2": "B."},
        a_train={"video000005_1_2": "C.", "video000009_1_2": "D."},
    )
    clips = list(build_manifest(paths).manifest.clips())
    assert [clip.video_id for clip in clips] == ["video000009", "video000001", "video000005"]
    assert [caption.text for caption in clips[0].captions] == ["A.", "D."]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("desc_train.json", "train"),
        ("training.csv", "train"),
        ("VALOR-Val.json", "val"),
        ("my.validation.jsonl", "val"),
        ("dev2.csv", "val"),
        ("eval_segments.csv", "test"),
        ("testing-set.parquet", "test"),
        ("trained.json", None),
        ("contest.json", None),
        ("train_val.json", None),
        ("desc.json", None),
    ],
)
def test_the_split_a_name_says(name: str, split: str | None) -> None:
    assert split_of_name(Path("test") / name) == split


def test_no_split_in_the_name_is_told_and_can_be_named(files: Any) -> None:
    paths = files(desc={"video000000_1_2": "A."}, other={"video000001_1_2": "B."})
    told = build_manifest(paths)
    assert told.clips_by_split == {"train": 2}
    assert told.notices[0] == "desc.json: its name says no split, so its rows are 'train'; --split names another"
    named = build_manifest(paths, options=ManifestOptions(split="val", file_splits={"other.json": "holdout"}))
    assert named.clips_by_split == {"val": 1, "holdout": 1}
    assert not named.notices


def test_a_split_column_wins_over_the_name_and_is_made_one_word(files: Any) -> None:
    text = "id,caption,split\na,A.,validation\nb,B.,\nc,C.,Holdout\n"
    result = build_manifest(files(all_test=text))
    assert result.clips_by_split == {"val": 1, "test": 1, "Holdout": 1}
    assert not result.notices
    assert build_manifest(files(all_test=text), options=ManifestOptions(split="train")).clips_by_split == {"train": 3}


def test_where_a_leaked_video_stays() -> None:
    assert kept_split(["train", "val"]) == "val"
    assert kept_split(["val", "test", "train"]) == "test"
    assert kept_split(["train", "holdout"]) == "holdout"


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "train.csv")
        paths[-1].write_text(f"id,caption\n{folder},A bus.\n{folder},12\n")
    result = build_manifest(paths)
    assert result.rejects.files == [str(path) for path in paths]


def test_progress_is_told(files: Any) -> None:
    seen: list[Progress] = []
    rows = {f"video{n:06d}_1_2": "A bus." for n in range(12_000)}
    (path,) = files(train=rows)
    build_manifest([path], progress=seen.append)
    assert [now.num_rows for now in seen] == [5000, 10000, 12000]
    assert seen[-1] == Progress("train.json", 12_000, 12_000, 0, path.stat().st_size, path.stat().st_size)
    assert all(0 < now.bytes_done <= now.bytes_total for now in seen)


def test_only_a_class_list_and_labels_out_of_reach(files: Any) -> None:
    with pytest.raises(ManifestError, match="a list of class names holds no clips; add the file that does"):
        build_manifest(files(classes=CLASSES))
