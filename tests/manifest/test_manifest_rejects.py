"""Every reject code: a row that earns it, and the words a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from valor_data.errors import ManifestError
from valor_data.manifest import REJECT_CODES, ManifestOptions, build_manifest, write_manifest

ID = "x-2Abohj8VY"
GOOD = {"video_id": f"{ID}_1.000_2.000", "desc": "A bus."}
SEGMENTS = "YTID,start_seconds,end_seconds,positive_labels\n" + "".join(
    f'{video},{start},{start + 10},"/m/0a,/m/0b"\n'
    for video, start in (("onespan____", 1), ("twospans___", 1), ("twospans___", 5))
)

CASES: list[tuple[str, str, Any, str]] = [
    ("bad_row", "t.json", [GOOD, 7], "found a int: expected an object with named values"),
    ("bad_row", "t.jsonl", '{"id": "a", "text": "A bus."}\n{"id": "b", "te', "not a JSON object"),
    ("bad_row", "t.csv", "id,caption\na,A bus.\nb\n", "found 1 fields: expected the header's 2"),
    ("bad_row", "t.csv", 'id,caption\na,A bus.\nb,"A car.\n', "a quote that never closes"),
    ("bad_row", "t.csv", f"{SEGMENTS}onespan____,3,4\n", "found 3 fields: expected id, start, end, labels"),
    (
        "not_utf8",
        "t.csv",
        b"id,caption\na,A bus.\nb,Caf\xe9.\n",
        "not UTF-8 at character 4 of the caption; save the file as UTF-8",
    ),
    ("bad_id", "t.json", [GOOD, {"video_id": "short_1.000_2.000", "desc": "A."}], "expected YouTube's 11 characters"),
    ("bad_id", "t.json", [GOOD, {"video_id": None, "desc": "A bus."}], "id None: expected a text"),
    ("bad_id", "t.csv", "id,caption\na,A bus.\n  ,A car.\n", "expected 1 to 160 characters once escaped"),
    ("bad_id", "t.csv", f"{ID}_000030.mp4,dog\nx_y.mp4,cat\n", "expected <id>_<start, 6 digits>.mp4"),
    (
        "bad_span",
        "t.json",
        [GOOD, {"video_id": f"{ID}_9.000_9.000", "desc": "A."}],
        "span [9.000, 9.000): expected 0 <= start < end",
    ),
    (
        "bad_span",
        "t.json",
        [GOOD, {"video_id": f"{ID}_-1.000_9.000", "desc": "A."}],
        "span [-1.000, 9.000): expected 0 <= start",
    ),
    ("bad_span", "t.json", [GOOD, {"video_id": f"{ID}_0.000_100000.000", "desc": "A."}], "end <= 99999 seconds"),
    (
        "bad_span",
        "t.jsonl",
        '{"id":"a","start":NaN,"end":1,"text":"A"}\n{"id":"a","start":0,"end":1,"text":"A"}',
        "span [nan, 1)",
    ),
    ("bad_span", "t.csv", "id,start,end,caption\na,0,1,A\nb,inf,,B\n", "start 'inf': expected 0 to 99999 seconds"),
    (
        "bad_span",
        "t.csv",
        "id,start,end,caption\na,0,1,A\nb,soon,2,B\n",
        "time 'soon': expected seconds, such as 30 or 30.000",
    ),
    (
        "no_span",
        "t.json",
        [GOOD, {"video_id": ID, "desc": "A bus."}],
        f"id '{ID}' has no span: expected <id>_<start>_<end>, a joined",
    ),
    (
        "bad_split",
        "t.csv",
        "id,caption,split\na,A bus.,train\nb,A car.,../x\n",
        "split '../x': expected up to 32 letters",
    ),
    (
        "bad_label",
        "t.jsonl",
        '{"id":"a","text":"A"}\n{"id":"b","text":"A","label":{"x":1}}',
        "labels {'x': 1}: expected a text or a list",
    ),
    (
        "caption_empty",
        "t.json",
        [GOOD, {"video_id": f"{ID}_3_4", "desc": "  \n"}],
        "the caption is blank: expected a sentence",
    ),
    (
        "caption_empty",
        "t.json",
        [GOOD, {"video_id": f"{ID}_3_4", "desc": None}],
        "the row has no caption: expected a sentence",
    ),
    (
        "caption_no_letters",
        "t.json",
        [GOOD, {"video_id": f"{ID}_3_4", "desc": "23.7"}],
        "caption '23.7': expected a sentence, found no letter",
    ),
    (
        "caption_too_long",
        "t.json",
        [GOOD, {"video_id": f"{ID}_3_4", "desc": "a" * 10_001}],
        "10001 characters: expected at most 10000",
    ),
    (
        "caption_not_text",
        "t.json",
        [GOOD, {"video_id": f"{ID}_3_4", "desc": 5}],
        "caption 5: expected a text or a list of texts",
    ),
    (
        "caption_bad_role",
        "t.csv",
        "id,caption,role\na,A bus.,audio\nb,A car.,smell\n",
        "role 'smell': expected one of audiovisual, visual, audio",
    ),
    (
        "question_bad",
        "t.json",
        {f"{ID}_1_2": "A bus.", f"{ID}_3_4": [{"question": "Who?"}]},
        "question 'Who?' with answers None",
    ),
    ("duplicate", "t.json", [GOOD, GOOD], "the same clip with the same caption 'A bus.' stood earlier"),
    (
        "duplicate",
        "t.json",
        {f"{ID}_1_2": [{"question": "Who?", "answer": "I"}] * 2},
        "the same clip with the same question 'Who?'",
    ),
    (
        "duplicate",
        "t.csv",
        SEGMENTS + 'onespan____,1,11,"/m/0a,/m/0b"\n',
        "the same clip with the same labels stood earlier",
    ),
]


def write(file: Path, content: Any) -> Path:
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


@pytest.mark.parametrize(("reason", "name", "content", "words"), CASES)
def test_one_bad_row_is_refused_and_the_rest_stays(
    tmp_path: Path, reason: str, name: str, content: Any, words: str
) -> None:
    rejects = build_manifest([write(tmp_path / name, content)]).rejects
    assert rejects.reasons == [reason]
    assert words in rejects.details[0]


def test_an_id_without_a_span_takes_it_from_the_one_segment(tmp_path: Path) -> None:
    captions = [{"video_id": video, "desc": "A bus."} for video in ("twospans___", "onespan____", "nospan_____")]
    files = [write(tmp_path / "desc_train.json", captions), write(tmp_path / "segments.csv", SEGMENTS)]
    result = build_manifest(files)
    (clip,) = result.manifest.clips()
    assert (clip.key, clip.labels) == ("onespan_____00001000_00011000", ("/m/0a", "/m/0b"))
    assert result.rejects.reasons == ["several_spans", "no_span"]
    assert result.rejects.details == [
        "2 spans in the joined segment lists: [1.0, 11.0), [5.0, 15.0); expected one",
        "no span for 'nospan_____' in the joined segment lists",
    ]
    assert result.rejects.rows == [1, 3]


def test_a_leak_is_an_error_that_names_the_videos(tmp_path: Path) -> None:
    def captions(start: int, count: int) -> list[dict[str, str]]:
        return [{"video_id": f"video{n:06d}_{start}.0_{start + 1}.0", "desc": f"Bus {n}."} for n in range(count)]

    files = [write(tmp_path / "desc_train.json", captions(1, 15)), write(tmp_path / "desc_test.json", captions(5, 12))]
    with pytest.raises(
        ManifestError, match=r"12 videos are in more than one split: video000000 \(train and test\), "
    ) as caught:
        build_manifest(files)
    assert "video000009 (train and test) and 2 more; take them out of one, or --on-leak drop" in str(caught.value)
    result = build_manifest(files, options=ManifestOptions(on_leak="drop"))
    assert result.clips_by_split == {"train": 3, "test": 12}
    assert result.rejects_by_reason == {"leak": 12}
    assert (result.rejects.files[0], result.rejects.rows[0]) == ("desc_train.json", 1)
    assert result.rejects.details[0] == "video 'video000000' is in 'test' too, where it stays; this clip was 'train'"
    assert "12 videos were in more than one split; 12 of their clips were dropped" in result.notices


def test_the_same_clip_in_two_splits_is_a_leak_too(tmp_path: Path) -> None:
    files = [write(tmp_path / f"desc_{split}.json", [GOOD]) for split in ("train", "val")]
    with pytest.raises(ManifestError, match="1 videos are in more than one split"):
        build_manifest(files)
    result = build_manifest(files, options=ManifestOptions(on_leak="drop"))
    assert result.clips_by_split == {"val": 1}


def test_every_code_has_a_test() -> None:
    """Three of them elsewhere."""
    assert {case[0] for case in CASES} | {"several_spans", "leak", "no_media"} == set(REJECT_CODES)


def test_one_bad_caption_of_several_costs_only_itself(tmp_path: Path) -> None:
    result = build_manifest([write(tmp_path / "t.json", {f"{ID}_1_2": ["A bus.", "12", "A car.", "A bus."]})])
    (clip,) = result.manifest.clips()
    assert [caption.text for caption in clip.captions] == ["A bus.", "A car."]
    assert result.rejects.reasons == ["caption_no_letters", "duplicate"]


def test_the_rejects_file(tmp_path: Path) -> None:
    result = build_manifest([write(tmp_path / "t.json", [GOOD, {"video_id": "x" * 2000, "desc": "A."}])])
    path = write_manifest(result, tmp_path / "out" / "manifest.parquet")
    assert path == tmp_path / "out" / "rejects.parquet"
    table = pq.read_table(path)
    assert table.column_names == ["file", "row", "raw", "reason", "detail"]
    assert table["row"].to_pylist() == [2]
    assert table["raw"][0].as_py().endswith("(2030 characters)")
    assert table.schema.metadata[b"valor_data.manifest_fingerprint"].decode() == result.manifest.fingerprint


def test_when_nothing_is_left_the_first_refusal_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "t.json", [{"video_id": f"{ID}_1_2", "desc": "12"}] * 3)
    with pytest.raises(
        ManifestError, match=r"no row could be used: 3 were refused \(caption_no_letters 3\); the first: t.json, row 1"
    ):
        build_manifest([file])
