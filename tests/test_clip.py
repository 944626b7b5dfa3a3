"""Keys: any id and any span there and back again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valor_data.clip import (
    MAX_ID_CHARACTERS,
    MAX_MS,
    Clip,
    escape_id,
    from_ms,
    from_ms_array,
    make_key,
    open_key,
    parse_key,
    to_ms,
    to_ms_array,
    unescape_id,
)
from valor_data.errors import ManifestError

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda text: len(escape_id(text)) <= MAX_ID_CHARACTERS
)
spans_ms = st.tuples(st.integers(0, MAX_MS), st.integers(0, MAX_MS)).map(sorted).filter(lambda s: s[0] < s[1])


@given(ids, spans_ms)
def test_a_key_gives_back_what_it_was_made_of(video_id: str, span: list[int]) -> None:
    start, end = from_ms(span[0]), from_ms(span[1])
    key = make_key(video_id, start, end)
    assert parse_key(key) == (video_id, start, end)
    assert set(key) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=")


@given(ids, spans_ms, ids, spans_ms)
def test_different_clips_have_different_keys(one: str, span: list[int], other: str, other_span: list[int]) -> None:
    keys = {make_key(one, from_ms(span[0]), from_ms(span[1])), make_key(other, *map(from_ms, other_span))}
    assert len(keys) == len({(one, *span), (other, *other_span)})


@given(st.integers(0, MAX_MS))
def test_milliseconds_survive_seconds(milliseconds: int) -> None:
    assert to_ms(from_ms(milliseconds)) == milliseconds
    assert to_ms(float(f"{milliseconds / 1000:.3f}")) == milliseconds


@given(st.lists(st.floats(0, MAX_MS / 1000), max_size=50))
def test_arrays_round_as_single_numbers_do(seconds: list[float]) -> None:
    assert to_ms_array(np.array(seconds, dtype=np.float64)).tolist() == [to_ms(s) for s in seconds]
    whole = np.array([to_ms(s) for s in seconds], dtype=np.int64)
    assert from_ms_array(whole).tolist() == [from_ms(int(ms)) for ms in whole]


@given(ids)
def test_an_escaped_id_gives_back_the_id(video_id: str) -> None:
    assert unescape_id(escape_id(video_id)) == video_id


@pytest.mark.parametrize("video_id", ["-0BIyqJj9ZU", "_0BIyqJj9ZU", "a_00000000_0", "__________-"])
def test_ids_that_look_like_options_or_keys(video_id: str) -> None:
    assert parse_key(make_key(video_id, 30, 40)) == (video_id, 30.0, 40.0)


def test_case_is_kept() -> None:
    assert make_key("aB", 0, 1) != make_key("Ab", 0, 1)


@pytest.mark.parametrize(
    ("video_id", "start", "end", "words"),
    [
        ("", 0, 1, "expected 1 to 160 characters"),
        ("x" * 161, 0, 1, "expected 1 to 160 characters"),
        ("é" * 30, 0, 1, "once escaped"),
        ("x", 5, 5, "expected 0 <= start < end"),
        ("x", 5, 5.0004, "a millisecond apart"),
        ("x", -1, 5, "expected 0 <= start < end"),
        ("x", 0, 100_000, "27.7 h"),
    ],
)
def test_what_cannot_be_a_key_says_why(video_id: str, start: float, end: float, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        make_key(video_id, start, end)


@pytest.mark.parametrize("key", ["", "x", "x_1_2", "x_00000000_0000001", "x.y_00000000_00000001", "x_00000000_open"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ManifestError, match="is not a key"):
        parse_key(key)


@pytest.mark.parametrize("escaped", ["=41", "=ZZ", "a.b", "=C3", "=c3=a9"])
def test_what_no_id_escapes_to(escaped: str) -> None:
    with pytest.raises(ManifestError, match="not an escaped id"):
        unescape_id(escaped)


def test_a_clip_without_an_end_has_no_key_yet() -> None:
    clip = Clip("a.b", 1.5, None)
    assert clip.key is None
    assert open_key(clip.video_id, clip.start) == "a=2Eb_00001500_open"
    assert Clip("a.b", 1.5, 2).key == "a=2Eb_00001500_00002000"


def test_a_time_that_is_no_number_makes_no_key() -> None:
    with pytest.raises((ManifestError, ValueError)):
        make_key("x", math.nan, 1)
