"""Measuring in a worker: every clip of a unit ends with facts or with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_media import SECONDS, make_video

from valor_data.clip import make_key
from valor_data.errors import REASONS
from valor_data.filter.measure import MeasureRequest, MeasureUnit, measure_clips
from valor_data.media.facts import FACTS_VERSION, Facts, canonical_json


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


def request(number: int, path: Path, start: float = 0.0, end: float = SECONDS, offset: float = 0.0) -> MeasureRequest:
    return MeasureRequest(number, make_key("v", start, end), path, offset, start, end)


def test_every_clip_ends(video: Path, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<!doctype html>")
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[4096:])
    (tmp_path / "empty.mp4").touch()
    files = [video, tmp_path / "page.mp4", tmp_path / "none.mp4", video, tmp_path / "cut.mp4", tmp_path / "empty.mp4"]
    unit = MeasureUnit(tuple(request(n, path) for n, path in enumerate(files)), "av", 60.0)
    found = measure_clips(unit)
    assert [clip.clip_id for clip in found] == list(range(6))
    good, page, gone, again, cut, empty = found
    assert good.facts is not None and good.facts == again.facts
    facts = Facts.from_dict(json.loads(good.facts))
    assert (facts.has_video, facts.has_audio, facts.decodable, facts.version) == (True, True, True, FACTS_VERSION)
    assert facts.rms_dbfs > -40
    assert (page.facts, page.reason) == (None, "not_media")
    assert (gone.lost, gone.facts, gone.detail) == (True, None, f"{tmp_path / 'none.mp4'} is gone")
    assert cut.reason in ("undecodable", "not_media") and cut.detail
    assert empty.reason == "empty"
    assert all(clip.reason in REASONS for clip in (page, cut, empty))


def test_a_clip_behind_the_end_of_its_file_has_no_coverage(video: Path) -> None:
    (found,) = measure_clips(MeasureUnit((request(1, video, 50.0, 60.0),), "av", 60.0))
    assert found.facts is not None
    facts = json.loads(found.facts)
    assert (facts["audio_coverage"], facts["video_coverage"]) == (0.0, 0.0)


def test_the_offset_moves_the_span(video: Path) -> None:
    here, there = measure_clips(
        MeasureUnit((request(1, video, 0.5, 1.5), request(2, video, 100.5, 101.5, offset=100.0)), "av", 60.0)
    )
    assert here.facts == there.facts


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_trees)
def test_canonical_json_is_one_text_for_one_tree(tree: object) -> None:
    text = canonical_json(tree)
    assert json.loads(text) == tree
    assert canonical_json(json.loads(text)) == text
    assert "\n" not in text


def test_canonical_json_has_no_order_and_no_nan() -> None:
    assert (
        canonical_json({"b": 1, "a": [1.0, "ä"]})
        == '{"a":[1.0,"ä"],"b":1}'
        == canonical_json({"a": [1.0, "ä"], "b": 1})
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("inf")})
