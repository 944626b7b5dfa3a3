"""JSON in pieces and CSV record by record: the same as the whole, and broken files say where."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valor_data.errors import ManifestError
from valor_data.manifest.csv_records import csv_records
from valor_data.manifest.json_stream import JsonReader

FILE = Path("desc.json")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def reader(text: str, chunk: int = 1 << 20) -> JsonReader:
    return JsonReader(io.StringIO(text), FILE, chunk)


@given(st.lists(values, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_a_list_in_pieces_is_the_list(items: list[Any], chunk: int, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    found = list(reader(text, chunk).items())
    assert [value for _, value, _ in found] == items
    assert [number for number, _, _ in found] == list(range(1, len(items) + 1))
    assert [json.loads(raw) for _, _, raw in found] == items


@given(st.dictionaries(st.text(max_size=6), values, max_size=5), st.integers(1, 40))
def test_a_mapping_in_pieces_is_the_mapping(mapping: dict[str, Any], chunk: int) -> None:
    assert {name: value for _, name, value, _ in reader(json.dumps(mapping), chunk).pairs()} == mapping


@given(st.lists(values, min_size=1, max_size=4), st.integers(1, 20), st.data())
def test_json_cut_anywhere_is_an_error(items: list[Any], chunk: int, data: st.DataObject) -> None:
    text = json.dumps(items)
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    with pytest.raises(ManifestError, match=r"desc\.json: the JSON is cut off in item \d+ \(line 1, column \d+\)"):
        list(reader(cut, chunk).items())


def test_a_cut_list_names_the_place() -> None:
    text = json.dumps([{"video_id": "a"}, {"video_id": "b", "desc": "A bus."}], indent=0)
    with pytest.raises(ManifestError) as caught:
        list(reader(text[:-9]).items())
    assert str(caught.value) == (
        "desc.json: the JSON is cut off in item 2 (line 7, column 12); the file is not whole: get it again"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[{"a": 1},\n {"b" 2}, {"c": 3, "d": 4, "e": 5}]',
            r"not valid JSON in item 2 \(line 2, column 7\): Expecting ':'",
        ),
        (
            '[{"a": 1} {"b": 2, "filler": "filler"}]',
            r"in item 1 \(line 1, column 11\): expected , or \], found '\{\"b\"'?",
        ),
        ('[1, 2] [3, "something more after it"]', r"expected the end of the file, found '\[3, "),
        ("[" + "[" * 100_000, "not valid JSON|recursion"),
        ("[" + "9" * 5000 + "]", "integer string conversion"),
    ],
)
def test_broken_json_names_the_place(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        list(reader(text).items())


def test_a_name_that_comes_twice_is_two_pairs() -> None:
    assert [value for _, _, value, _ in reader('{"a": 1, "a": 2}').pairs()] == [1, 2]


def test_line_ends_inside_json_texts_are_taken() -> None:
    assert [value for _, value, _ in reader('["a\nb"]').items()] == ["a\nb"]


def test_columns_are_counted_across_pieces() -> None:
    with pytest.raises(ManifestError, match=r"item 3 \(line 1, column 13\)"):
        list(reader('["aa", "bb",x, "some more of it", 1]', 4).items())


fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=12)


@given(st.lists(st.lists(fields, min_size=2, max_size=4), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_csv_records_are_those_that_csv_reads(rows: list[list[str]], line_end: str) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator=line_end).writerows(rows)
    lines = io.TextIOWrapper(io.BytesIO(out.getvalue().encode()), "utf-8", newline="")
    assert [record.fields for record in csv_records(iter(lines)) if record.raw.strip()] == rows


def test_blank_lines_and_records_over_several_lines_keep_the_count() -> None:
    lines = ["a,b\n", "\n", '1,"x\n', 'y"\n', "2,z\n"]
    assert [(r.line, r.fields) for r in csv_records(iter(lines))] == [
        (1, ["a", "b"]),
        (3, ["1", "x\ny"]),
        (5, ["2", "z"]),
    ]


def test_two_stray_quotes_do_not_swallow_what_is_between() -> None:
    lines = ['1,a 5" pipe\n', "2,b\n", '3,a 6" pipe\n', '4,"open\n', '5,"open too\n', "6,c\n"]
    found = [(r.line, r.fields, r.problem) for r in csv_records(iter(lines))]
    assert [f[0] for f in found if f[1] is not None] == [1, 2, 3, 6]
    assert {f[2] for f in found if f[1] is None} == {"a quote that never closes"}


def test_spaces_before_a_quoted_field() -> None:
    record = next(csv_records(iter(['id, 0.000, "/m/1,/m/2"\n']), skip_spaces=True, multi_line=False))
    assert record.fields == ["id", "0.000", "/m/1,/m/2"]
