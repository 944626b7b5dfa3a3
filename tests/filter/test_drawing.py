"""Licences, class balance, drawing: rules that choose among good clips."""

from __future__ import annotations

from collections import Counter

import pytest
from curating import clip, reasons, refused, table
from hypothesis import given
from hypothesis import strategies as st

from valor_data.filter.captions import JunkRule
from valor_data.filter.drawing import BalanceRule, LicenceRule, SampleRule

TRAIN = ("train",)


@pytest.mark.parametrize(
    ("allowed", "denied", "kept"),
    [
        (("creative commons*",), (), ["cc"]),
        (("creative commons*", "unknown"), (), ["cc", "none"]),
        ((), ("*standard*",), ["cc", "none"]),
        ((), ("unknown",), ["cc", "standard"]),
        (("*",), ("unknown",), ["cc", "standard"]),
    ],
)
def test_licences(allowed: tuple[str, ...], denied: tuple[str, ...], kept: list[str]) -> None:
    clips = table(
        clip("cc", licence="Creative Commons Attribution license (reuse allowed)"),
        clip("standard", licence="Standard YouTube License"),
        clip("none"),
    )
    found = refused(LicenceRule(allowed, denied), clips)
    assert [name for name in ("cc", "standard", "none") if f"{name}_00000000_00010000" not in found] == kept


def test_a_licence_is_told() -> None:
    found = refused(LicenceRule(("cc*",), ()), table(clip("v")))
    assert found == {"v_00000000_00010000": "the licence is 'unknown'; licences_allowed = [\"cc*\"]"}


labelled = st.lists(st.lists(st.sampled_from("abcd"), max_size=3), max_size=30)


@given(labelled, st.integers(1, 5), st.integers(0, 3))
def test_no_label_has_more_than_the_cap_and_nobody_is_refused_without_cause(
    labels: list[list[str]], cap: int, seed: int
) -> None:
    clips = table(*(clip(f"v{n}", labels=tuple(own)) for n, own in enumerate(labels)))
    told = reasons([BalanceRule(cap, seed, TRAIN)], clips)
    kept = Counter(label for own, why in zip(labels, told, strict=True) if not why for label in set(own))
    assert all(number <= cap for number in kept.values())
    for own, why in zip(labels, told, strict=True):
        assert bool(why) == any(kept[label] >= cap for label in own) or not why
        assert not why or any(kept[label] == cap for label in own)
        assert own or not why, "a clip without labels is kept"


def test_balance_leaves_rare_labels_and_other_splits_alone() -> None:
    clips = table(
        *(clip(f"s{n}", labels=("speech",)) for n in range(8)),
        clip("rare", labels=("speech", "yodel")),
        *(clip(f"t{n}", labels=("speech",), split="test") for n in range(8)),
    )
    found = refused(BalanceRule(2, 0, TRAIN), clips)
    assert len(found) == 7 and not any(key.startswith(("rare", "t")) for key in found)
    assert set(found.values()) == {"speech has 2 clips already; balance = 2"}


@given(st.integers(0, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_a_smaller_share_is_part_of_a_larger_one(num: int, one: float, other: float, seed: int) -> None:
    clips = table(*(clip(f"v{n}") for n in range(num)))
    small, large = (set(refused(SampleRule(share, 0, seed, TRAIN), clips)) for share in sorted((one, other)))
    assert large <= small


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(0, 3))
def test_drawing_is_stable_when_the_set_grows(num: int, more: int, count: int, seed: int) -> None:
    before = table(*(clip(f"v{n}") for n in range(num)))
    after = table(*(clip(f"v{n}") for n in range(num + more)))
    for rule in (SampleRule(1.0, count, seed, TRAIN), SampleRule(0.5, 0, seed, TRAIN)):
        lost, lost_later = set(refused(rule, before)), set(refused(rule, after))
        assert lost <= lost_later, "nobody comes in because others came"
        if rule.share < 1:
            assert lost == {key for key in lost_later if int(key[1:].split("_")[0]) < num}
        else:
            assert num + more - len(lost_later) == min(count, num + more)


def test_a_number_is_drawn_of_those_that_are_left() -> None:
    clips = table(*(clip(f"v{n}", "7" if n % 2 else "A dog barks.") for n in range(40)), clip("t", split="test"))
    told = reasons([JunkRule(), SampleRule(1.0, 10, 0, TRAIN)], clips)
    assert Counter(told) == {"caption_junk": 20, "not_sampled": 10, "": 11} and told[-1] == ""
    assert told != reasons([JunkRule(), SampleRule(1.0, 10, 1, TRAIN)], clips), "another seed draws others"


def test_about_the_share_is_drawn() -> None:
    clips = table(*(clip(f"v{n}") for n in range(2000)))
    assert len(refused(SampleRule(0.25, 0, 7, TRAIN), clips)) == pytest.approx(1500, abs=80)
    (detail,) = {d.split(";")[1] for d in refused(SampleRule(0.25, 0, 7, TRAIN), clips).values()}
    assert detail == " sample_share = 0.25"
