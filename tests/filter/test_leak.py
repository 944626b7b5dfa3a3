"""Training clips that another set has too: by id, and by what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from curating import clip, refused, table
from hypothesis import given
from hypothesis import strategies as st
from test_footage import changed, content

from valor_data.config import FilterSection
from valor_data.errors import ConfigError
from valor_data.filter.alike import Closeness
from valor_data.filter.footage import Footage
from valor_data.filter.leak import OWN_SPLITS, LeakRule, OtherSet, absolute_sets
from valor_data.filter.recipe import check_recipe
from valor_data.filter.signatures import Signatures
from valor_data.media.content import Content
from valor_data.road.scores import other_sets
from valor_data.workdir import WorkDir

TRAIN = ("train",)


def other(*spans: tuple[str, float, float], contents: tuple[Content, ...] = (), name: str = "test.csv") -> OtherSet:
    return OtherSet(
        name,
        pa.chunked_array([[video for video, _, _ in spans]], pa.string()),
        np.array([round(1000 * start) for _, start, _ in spans], np.int64),
        np.array([round(1000 * end) for _, _, end in spans], np.int64),
        pa.chunked_array([[f"key{n}" for n in range(len(contents))]], pa.string()),
        Signatures.of(contents),
    )


def rule(
    *sets: OtherSet, match: str = "span", own: tuple[Content | None, ...] = (), names: tuple[str, ...] = ()
) -> LeakRule:
    joined = Signatures.joined([Signatures.of(own), *(one.signatures for one in sets)])
    return LeakRule(match, lambda: sets, TRAIN, Footage(lambda: joined, Closeness()), names)


def test_by_id() -> None:
    clips = table(
        clip("a", start=0, end=10), clip("a", start=10, end=20), clip("a", start=25, end=35), clip("b"),
        clip("a", start=5, end=15, split="test"),
    )  # fmt: skip
    sets = (other(("a", 5, 15), ("c", 0, 10)), other(("b", 5, 6), name="audiocaps.csv"))
    assert refused(rule(*sets), clips) == {
        "a_00000000_00010000": 'a clip of its video that overlaps it is in test.csv; leak_match = "span"',
        "a_00010000_00020000": 'a clip of its video that overlaps it is in test.csv; leak_match = "span"',
        "b_00000000_00010000": 'a clip of its video that overlaps it is in audiocaps.csv; leak_match = "span"',
    }
    whole = refused(rule(*sets, match="video"), clips)
    assert set(whole) == set(map(clips.key, range(4))), "every train clip of the videos, and no test clip"
    assert whole["a_00025000_00035000"] == 'its video is in test.csv; leak_match = "video"'


spans = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(1, 6)), max_size=8, unique=True)


@given(spans, spans)
def test_overlaps_are_those_that_comparing_all_with_all_finds(
    mine: list[tuple[str, int, int]], theirs: list[tuple[str, int, int]]
) -> None:
    clips = table(*(clip(v, start=float(s), end=float(s + n)) for v, s, n in mine))
    gone = refused(rule(other(*((v, float(s), float(s + n)) for v, s, n in theirs))), clips)
    expected = {
        clips.key(i)
        for i, (v, s, n) in enumerate(mine)
        if any(v == w and s < t + m and t < s + n for w, t, m in theirs)
    }
    assert set(gone) == expected


def test_by_content() -> None:
    mine = (changed(content(1), 5), content(2), changed(content(3), 6), None)
    clips = table(clip("a"), clip("b"), clip("c", split="val"), clip("d"))
    shown = refused(rule(other(contents=(content(9), content(1), content(3)), name="other"), own=mine), clips)
    assert list(shown) == ["a_00000000_00010000"], "another id, the same footage; and a val clip is never taken"
    detail = shown["a_00000000_00010000"]
    assert detail.startswith("shows the same as key1 of other: 5 of 5 pictures alike") and "max_picture_bits" in detail


def test_the_other_splits_of_the_same_folder() -> None:
    mine = (changed(content(1), 5), content(2), content(1), content(2))
    clips = table(clip("a"), clip("b"), clip("c", split="test"), clip("d"))
    empty = other(name="the other splits")
    shown = refused(rule(empty, own=mine, names=(OWN_SPLITS,)), clips)
    assert list(shown) == ["a_00000000_00010000"], "b and d are both train: not this rule's business"
    assert "shows the same as c_00000000_00010000 of test: " in shown["a_00000000_00010000"]
    assert not refused(rule(empty, own=mine), clips), "only when asked for"


def test_places_and_wrong_names(tmp_path: Path) -> None:
    assert absolute_sets(("splits", "x.csv", "/y"), tmp_path) == ("splits", str(tmp_path / "x.csv"), "/y")
    check_recipe(FilterSection(leak=("splits", str(tmp_path))))
    with pytest.raises(ConfigError, match=r"filter\.leak: /none: no such file or folder; expected a manifest, an anno"):
        check_recipe(FilterSection(leak=("/none",)))


@pytest.mark.parametrize(
    ("name", "video_id", "start", "end"),
    [
        ("audiocaps_v1_val.csv", "vfY_TJq7n_U", 130.0, 140.0),
        ("vggsound_test.csv", "---g-f_I2yQ", 1.0, 11.0),
        ("valor32k/desc_val.json", "7G0CFAGswrw", 240.0, 250.0),
    ],
)
def test_lists_that_are_in_the_wild(
    shared: Path, tmp_path: Path, name: str, video_id: str, start: float, end: float
) -> None:
    section = FilterSection(leak=(str(shared / "annotations" / name),))
    sets = other_sets(WorkDir.at(tmp_path), section)
    clips = table(
        clip(video_id, start=start, end=end), clip(video_id, start=start + 5, end=end + 5),
        clip(video_id, start=end, end=end + 10), clip("NotInAny_01", start=start, end=end),
    )  # fmt: skip
    assert list(refused(rule(*sets), clips)) == [clips.key(0), clips.key(1)]
    assert list(refused(rule(*sets, match="video"), clips)) == [clips.key(n) for n in range(3)]
