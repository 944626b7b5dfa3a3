"""Formats as people write them: recognised from the content, fields found or named, odd bytes survived."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.clip import Caption, Clip, Question, from_ms
from valor_data.errors import ConfigError, ManifestError
from valor_data.manifest import ManifestOptions, ManifestResult, build_manifest

ID = "x-2Abohj8VY"

Build = Callable[..., ManifestResult]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def run(content: Any, name: str = "train.any", **options: Any) -> ManifestResult:
        file = tmp_path / name
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return build_manifest([file], options=ManifestOptions(**options))

    return run


def only(result: ManifestResult) -> Clip:
    (clip,) = result.manifest.clips()
    return clip


CLIP = Clip(ID, 30.0, 40.5, "train", (Caption("A bus."),))


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ([{"video_id": f"{ID}_30.000_40.500", "desc": "A bus."}], "valor"),
        ([{"video_id": f"{ID}_30_40.5", "caption": "A bus."}], "valor"),
        ([{"video_id": ID, "start": 30, "end": 40.5, "captions": ["A bus."]}], "valor"),
        ({f"{ID}_30.000_40.500": "A bus."}, "mapping"),
        ({f"{ID}_30.000_40.500": ["A bus."]}, "mapping"),
        (
            {"info": {"x": [1]}, "annotations": [{"video_id": f"{ID}_30.000_40.500", "caption": "A bus."}]},
            "annotations",
        ),
        (f'{{"id": "{ID}", "start_time": 30, "end_time": 40.5, "text": "A bus."}}\n', "jsonl"),
        (f"video_id,start,end,caption\n{ID},30,40.5,A bus.\n", "csv"),
        (f"YouTubeID;Start_timestamp;End_timestamp;Caption\r\n{ID};00:00:30.000;00:00:40.500;A bus.\r\n", "csv"),
        (f'\ufeffytid\tstart seconds\tend seconds\tdesc\n{ID}\t30.0\t40.5\t"A bus."', "csv"),
    ],
)
def test_the_same_clip_in_every_form(build: Build, content: Any, format: str) -> None:
    result = build(content)
    assert only(result) == CLIP
    assert [source.format for source in result.manifest.sources] == [format]
    assert not result.rejects
    assert only(build(content, format=format)) == CLIP


def test_gzip(build: Build) -> None:
    text = json.dumps([{"video_id": f"{ID}_30.000_40.500", "desc": "A bus."}])
    assert only(build(gzip.compress(text.encode()), "desc_train.json.gz")) == CLIP
    with pytest.raises(ManifestError, match="gzip file is damaged or cut off"):
        build(
            gzip.compress(json.dumps([{"video_id": n} for n in range(90_000)]).encode())[:-2000], "desc_train.json.gz"
        )


def test_parquet_with_other_peoples_names(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pq.write_table(
        pa.table(
            {
                "clip_of": [ID, ID],
                "a": [30.0, 50.0],
                "b": [40.5, None],
                "say": ["A bus.", "A car."],
                "where": ["http://x/1", None],
            }
        ),
        file,
    )
    options = ManifestOptions(
        id_field="clip_of", start_field="a", end_field="b", caption_field="say", url_field="where"
    )
    first, second = build_manifest([file], options=options).manifest.clips()
    assert first == Clip(ID, 30.0, 40.5, "train", (Caption("A bus."),), url="http://x/1")
    assert (second.start, second.end, second.key, second.url) == (50.0, None, None, None)


def test_named_fields_hold_for_json_lists_too(build: Build) -> None:
    row = {"name": ID, "from": 30, "to": 40.5, "what": "A bus.", "video_id": "not this"}
    named = {"id_field": "name", "start_field": "from", "end_field": "to", "caption_field": "what"}
    assert only(build([row], **named)) == CLIP


def test_a_named_field_that_is_not_there(build: Build) -> None:
    with pytest.raises(
        ManifestError, match=r"'say': no file has this field \(--caption-field\); fields found: 'caption'"
    ):
        build("video_id,caption\nx,A bus.\n", caption_field="say")


def test_questions_with_answers(build: Build) -> None:
    asked = [
        {"question": "What is it?", "answer": "a bus", "question_id": 7},
        {"question": "How many?", "answer": ["one", "1", "one"]},
    ]
    clip = only(build({f"{ID}_30.000_40.500": asked}))
    assert clip.questions == (Question("7", "What is it?", ("a bus",)), Question("1", "How many?", ("one", "1")))
    lines = f'{{"video_id": "{ID}", "start": 30, "end": 40.5, "question": "What is it?", "answer": "a bus"}}\n'
    assert only(build(lines)).questions == (Question("0", "What is it?", ("a bus",)),)


def test_captions_with_roles(build: Build) -> None:
    row = {
        "video_id": ID,
        "start": 0,
        "end": 1,
        "captions": ["Both.", {"text": "Heard.", "role": "audio"}, {"caption": "Seen.", "role": "visual"}],
    }
    assert only(build(json.dumps(row))).captions == (
        Caption("Both.", "audiovisual"),
        Caption("Heard.", "audio"),
        Caption("Seen.", "visual"),
    )
    assert only(build(f"id,start,end,caption,role\n{ID},0,1,Heard.,audio\n")).captions == (Caption("Heard.", "audio"),)


def test_several_captions_of_one_clip_are_merged_in_order(build: Build) -> None:
    rows = [(ID, "One."), ("abcdefghijk", "Other."), (ID, "Two."), (ID, "Three.")]
    result = build([{"video_id": f"{v}_1.000_2.000", "desc": text} for v, text in rows])
    assert [[c.text for c in clip.captions] for clip in result.manifest.clips()] == [
        ["One.", "Two.", "Three."],
        ["Other."],
    ]


def test_whole_videos(build: Build) -> None:
    clip = only(build("id,caption,url\nsome/video.1,A bus.,https://x.org/1\n"))
    assert (clip.video_id, clip.start, clip.end, clip.key, clip.url) == (
        "some/video.1",
        0.0,
        None,
        None,
        "https://x.org/1",
    )
    assert only(build({"video7010": "A bus."}, ids="any")).end is None
    assert only(build([{"video_id": ID, "desc": "A bus."}], whole_videos=True)).end is None


def test_ids_of_another_corpus(build: Build) -> None:
    clip = only(build("id,start,end,caption\na.b/ö,1,2,A bus.\n"))
    assert (clip.video_id, clip.key) == ("a.b/ö", "a=2Eb=2F=C3=B6_00001000_00002000")
    with pytest.raises(ManifestError, match=r"'video7010'.*ids of another corpus are taken with --ids any"):
        build({"video7010": "A bus."})
    assert (
        only(build([{"video_id": "my_clip_1.5_2.5", "desc": "A bus."}], ids="any")).key == "my_clip_00001500_00002500"
    )
    assert only(build("id,caption\nabc_1_2,A bus.\n")).video_id == "abc_1_2"


def test_an_eleven_character_id_that_looks_like_a_span(build: Build) -> None:
    assert (
        only(build([{"video_id": "abcde_10_20_1.000_2.000", "desc": "A bus."}])).key == "abcde_10_20_00001000_00002000"
    )
    with pytest.raises(ManifestError, match="no_span"):
        build([{"video_id": "abcde_10_20", "desc": "A bus."}])


def test_vggsounds_full_list(build: Build) -> None:
    text = '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"waterfall, burbling",train\n'
    one, other = build(text, "vggsound.csv").manifest.clips()
    assert (one.key, one.split, one.labels) == ("---g-f_I2yQ_00001000_00011000", "test", ("people marching",))
    assert (other.split, other.labels) == ("train", ("waterfall, burbling",))


def test_nested_quotes_commas_and_line_ends_in_fields(build: Build) -> None:
    text = (
        'id,start,end,caption\r\na,1,2,"He says ""go, now"",\r\nthen leaves."\r\nb,1,2,A 5" pipe falls.\r\nc,1,2,"x\r\n'
    )
    result = build(text)
    assert [clip.captions[0].text for clip in result.manifest.clips()] == [
        'He says "go, now",\r\nthen leaves.',
        'A 5" pipe falls.',
    ]
    assert result.rejects.rows == [5]  # line 3 belongs to the first record
    assert result.rejects.details == ["a quote that never closes"]


def test_bytes_that_are_not_utf8_cost_their_row_only(build: Build) -> None:
    good = [f'{{"video_id": "v{n}", "caption": "Caf\u00e9 {n}."}}'.encode() for n in range(3)]
    broken = b'{"video_id": "v9", "caption": "Caf\xe9 9."}'
    result = build(b"\n".join([good[0], broken, *good[1:]]))
    assert [clip.captions[0].text for clip in result.manifest.clips()] == ["Café 0.", "Café 1.", "Café 2."]
    assert (result.rejects.rows, result.rejects.reasons) == ([2], ["not_utf8"])
    assert r"Caf\xe9 9." in result.rejects.raws[0]


def test_a_lone_surrogate_in_json(build: Build) -> None:
    result = build(f'[{{"video_id":"{ID}_1_2","desc":"A \\ud800 b"}},{{"video_id":"{ID}_1_2","desc":"A bus."}}]')
    assert result.rejects.reasons == ["not_utf8"] and len(result.manifest) == 1


def test_huge_fields(build: Build) -> None:
    rows = [("a", "A bus."), ("b", "x" * 1_000_000), ("c", "A car.")]
    result = build("id,caption\n" + "".join(f'{v},"{t}"\n' for v, t in rows))
    assert [clip.video_id for clip in result.manifest.clips()] == ["a", "c"]
    assert len(result.rejects.raws[0]) < 600
    listed = build([{"video_id": f"{ID}_{n}_9", "desc": t} for n, (_, t) in enumerate(rows)])
    assert listed.rejects.reasons == ["caption_too_long"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b" \n \n", "nothing but blanks"),
        ("video_id,caption\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (
            b"hello\nworld\n",
            r"cannot be told; the first line holds 'hello'. Known formats: .*vggsound.*--format.*--id-field",
        ),
        (b"name,words\nx,A bus.\n", r"the first line holds 'name', 'words'"),
        (
            b'[{"name": "x", "desc": "A bus."}]',
            "no column or key holds the video id; found 'name', 'desc'; name it with",
        ),
        (b"[]", "no rows in"),
        (b"{}", "no rows in"),
        (b"video_id,caption\n", "no rows in"),
        (b'["a", "b"]', "a list of str values, such as 'a': expected objects"),
        (b"PAR1 nothing", "Parquet file is damaged or cut off"),
        (b"index,mid,display_name\n0,/m/1,Speech\n", "a list of class names holds no clips"),
    ],
)
def test_files_that_cannot_be_read_say_why(build: Build, content: bytes, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        build(content)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.json: cannot be read: No such file"):
        build_manifest([tmp_path / "gone.json"])
    with pytest.raises(ManifestError, match="is a folder; name the annotation files in it"):
        build_manifest([tmp_path])
    with pytest.raises(ManifestError, match="no annotation files were given"):
        build_manifest([])


def test_unknown_and_wrong_formats(build: Build) -> None:
    with pytest.raises(ManifestError, match="unknown format 'json': expected one of annotations, audiocaps"):
        build([{"video_id": f"{ID}_1_2", "desc": "A bus."}], format="json")
    with pytest.raises(ManifestError, match="named as parquet, but the file is text; drop --format"):
        build("id,caption\nx,A bus.\n", format="parquet")
    with pytest.raises(ManifestError, match=r"an option names .other\.csv., which is none of the files: train\.any"):
        build("id,caption\nx,A bus.\n", file_formats={"other.csv": "csv"})


def test_options_that_cannot_be_are_all_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        ManifestOptions(join="inner", on_leak="x", ids="x", split="a/b", limit=0, sample=-1)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 7


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).map(lambda text: f"a{text}z")
corpora = st.lists(
    st.tuples(
        st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True),
        st.integers(0, 90_000_000),
        st.integers(1, 9_999_999),
        words,
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row[:3],
)


@settings(max_examples=40, deadline=None)
@given(corpora)
def test_every_format_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, corpus: Any) -> None:
    folder = tmp_path_factory.mktemp("formats")
    spans = [(v, from_ms(a), from_ms(a + d), text) for v, a, d, text in corpus]
    table = io.StringIO()
    csv.writer(table).writerows([("video_id", "start", "end", "caption"), *spans])
    files = {
        "list.json": json.dumps([{"video_id": f"{v}_{a:.3f}_{b:.3f}", "desc": t} for v, a, b, t in spans], indent=1),
        "map.json": json.dumps({f"{v}_{a:.3f}_{b:.3f}": [t] for v, a, b, t in spans}, ensure_ascii=False),
        "lines.jsonl": "".join(
            json.dumps({"video_id": v, "start": a, "end": b, "caption": t}) + "\n" for v, a, b, t in spans
        ),
        "table.csv": table.getvalue(),
    }
    expected = [(v, a, b, (Caption(t),)) for v, a, b, t in spans]
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8", newline="")
        clips = list(build_manifest([folder / name]).manifest.clips())
        assert [(c.video_id, c.start, c.end, c.captions) for c in clips] == expected, name
