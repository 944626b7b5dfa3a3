"""The same footage: found among planted copies, and one of each group kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curating import clip, reasons, refused, table
from hypothesis import given
from hypothesis import strategies as st
from planting import COPIES, KINDS, Planted, copied, judge, measured, real, synthetic

from valor_data.filter.alike import Closeness, alike_pairs, are_alike
from valor_data.filter.captions import JunkRule
from valor_data.filter.footage import (
    DuplicateRule,
    Footage,
    copies,
    letterbox_rule,
    preference,
    still_rule,
    visualiser_rule,
)
from valor_data.filter.signatures import Signatures
from valor_data.media.content import NUM_PICTURES, VIEWS, Content

MOMENTS = 97


def content(seed: int, *, pictures: bool = True, sound: bool = True) -> Content:
    """Figures of a clip like no other's."""
    dice = np.random.default_rng(seed)
    hashes = dice.integers(0, 2**64, (NUM_PICTURES, 1), np.uint64).repeat(len(VIEWS), axis=1)
    return Content(
        20.0, 0.5, (0.0, 0.0, 0.0, 0.0), hashes, np.full(NUM_PICTURES, pictures),
        dice.integers(0, 2**32, MOMENTS, np.uint32), np.full(MOMENTS, sound),
    )  # fmt: skip


def changed(before: Content, seed: int, bits: int = 4, error: float = 0.12, shift: int = 0) -> Content:
    """A copy: so many bits of each picture and such a share of the sound's are others."""
    dice = np.random.default_rng(seed)
    hashes = before.hashes.copy()
    for row in hashes:
        for bit in dice.choice(64, bits, replace=False):
            row ^= np.uint64(1 << int(bit))
    sound = np.roll(before.sound, shift)
    for bit in range(32):
        sound = sound ^ ((dice.random(len(sound)) < error).astype(np.uint32) << np.uint32(bit))
    return replace(before, hashes=hashes, sound=sound)


def found(*contents: Content | None) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in alike_pairs(Signatures.of(contents), Closeness())]


def test_pictures_and_sound_must_both_agree() -> None:
    one, other = content(1), content(2)
    assert found(one, changed(one, 3), other) == [(0, 1)]
    assert found(one, changed(one, 3, shift=20)) == [(0, 1)], "two seconds later"
    assert found(one, changed(one, 3, shift=40)) == []
    assert found(one, replace(one, sound=other.sound)) == [], "the same pictures with other sound"
    assert found(one, replace(one, hashes=other.hashes)) == [], "the same sound with other pictures"
    assert found(one, changed(one, 3, bits=30)) == []
    assert found(one, changed(one, 3, error=0.45)) == []
    assert found(one, None, changed(one, 3)) == [(0, 2)]


def test_what_tells_nothing_is_no_evidence() -> None:
    black, silent = content(1, pictures=False), content(1, sound=False)
    assert found(black, changed(black, 3)) == [(0, 1)], "without pictures the sound decides"
    assert found(black, replace(content(2, pictures=False), hashes=black.hashes)) == [], "two black clips"
    assert found(silent, changed(silent, 3)) == [(0, 1)], "without sound the pictures decide"
    still = replace(silent, hashes=silent.hashes[:1].repeat(NUM_PICTURES, axis=0))
    assert found(still, still) == [], "a still picture in silence"
    assert found(replace(black, audible=silent.audible), replace(black, audible=silent.audible)) == [], "nothing at all"
    assert found(content(1), black) == found(content(1), silent) == [], "one has what the other lacks"
    short = replace(black, sound=black.sound[:20], audible=black.audible[:20])
    assert found(short, short) == [], "two seconds of sound alone are too little"


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(-25, 25))
def test_who_is_alike_does_not_depend_on_the_order(seed: int, bits: int, shift: int) -> None:
    some = [content(seed), changed(content(seed), seed + 1, bits=bits, shift=shift), content(seed + 2)]
    signatures = Signatures.of(some)
    pairs = np.array([(a, b) for a in range(3) for b in range(3) if a != b])
    forth, back = (are_alike(signatures, p, Closeness()) for p in (pairs, pairs[:, ::-1]))
    assert list(forth) == list(back)
    assert forth[0], "what was changed so little is found"


def test_a_crowd_that_shares_a_picture_hides_no_copy() -> None:
    card = content(999).hashes
    crowd = [replace(content(n), hashes=card) for n in range(300)]
    crowd[250] = changed(crowd[10], 5, bits=0)
    crowd[251] = replace(
        changed(content(10), 5), hashes=changed(replace(crowd[10], hashes=content(10).hashes), 6).hashes
    )
    pairs = found(*crowd, replace(crowd[10], hashes=content(10).hashes))
    assert (251, 300) in pairs
    many = [changed(content(7), n) for n in range(60)]
    kept = copies(alike_pairs(Signatures.of(many), Closeness()), np.arange(60), lambda p: np.ones(len(p), bool))
    assert list(kept) == [-1] + [0] * 59, "sixty copies of one clip"


groups = st.lists(st.integers(0, 5), min_size=1, max_size=12)


@given(groups, st.randoms())
def test_one_of_each_group_is_kept_and_it_is_the_best(group: list[int], dice) -> None:  # type: ignore[no-untyped-def]
    places = list(range(len(group)))
    dice.shuffle(places)
    pairs = [(a, b) for a in range(len(group)) for b in range(a + 1, len(group)) if group[a] == group[b]]
    some = np.array(pairs, np.int64).reshape(-1, 2)
    kept = copies(some, np.array(places), lambda p: np.ones(len(p), bool))
    for clip_number, name in enumerate(group):
        best = min((n for n in range(len(group)) if group[n] == name), key=lambda n: places[n])
        assert kept[clip_number] == (-1 if clip_number == best else best)


def test_no_clip_goes_because_of_a_copy_of_a_copy() -> None:
    chain = np.array([(0, 1), (1, 2), (2, 3)])
    like = {(0, 1), (1, 2), (2, 3)}
    kept = copies(chain, np.arange(4), lambda p: np.array([tuple(sorted(pair)) in like for pair in p.tolist()], bool))
    assert list(kept) == [-1, 0, -1, 2]


def duplicates(*contents: Content | None, overlap: float = 0.5) -> DuplicateRule:
    return DuplicateRule(overlap, Footage(lambda: Signatures.of(contents), Closeness()))


def test_the_longest_caption_then_the_largest_picture_then_the_first_is_kept() -> None:
    one = content(1)
    clips = table(
        clip("first", "A dog."), clip("small", "A dog barks at a cat.", area_px=100),
        clip("large", "A cat sees a dog bark.", area_px=400), clip("later", "A cat sees a dog bark.", area_px=400),
        clip("other", "A bird."), clip("test", "A dog.", split="test"), clip("junk", "1 2 3 4 5 6 7 8 9"),
    )  # fmt: skip
    rule = duplicates(*(changed(one, n) for n in range(4)), content(2), changed(one, 9), changed(one, 10))
    assert list(preference(clips)) == [4, 3, 1, 2, 5, 6, 0]
    told = refused(rule, clips)
    assert "large_00000000_00010000" in told, "the longest captions win, junk or not, where junk is let in"
    assert reasons([JunkRule(), rule], clips) == [
        "near_duplicate", "near_duplicate", "", "near_duplicate", "", "", "caption_junk",
    ]  # fmt: skip
    words = refused(duplicates(*(changed(one, n) for n in range(4)), content(2), changed(one, 9), None), clips)
    detail = words["first_00000000_00010000"]
    assert detail.startswith("a copy of large_00000000_00010000: 5 of 5 pictures alike, the closest differ by ")
    assert detail.endswith("of the bits of their sound differ; max_picture_bits = 12, max_sound_error = 0.33")


def test_clips_of_one_video_that_overlap_are_the_same_footage() -> None:
    clips = table(
        clip("v", "A dog barks.", start=0, end=10), clip("v", "A dog.", start=4, end=14),
        clip("v", "A", start=9, end=19), clip("w", "A dog.", start=0, end=10), clip("v", "A dog.", start=1, end=3),
    )  # fmt: skip
    nothing = (None,) * 5
    assert refused(duplicates(*nothing), clips) == {
        "v_00004000_00014000": "a copy of v_00000000_00010000: of one video, overlapping by 60% of the shorter",
        "v_00001000_00003000": "a copy of v_00000000_00010000: of one video, overlapping by 100% of the shorter",
    }, "what overlaps a clip that goes alone stays"
    assert set(refused(duplicates(*nothing, overlap=0.7), clips)) == {"v_00001000_00003000"}


spans = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 8), st.integers(1, 5)), max_size=10, unique=True)


@given(spans, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_of_overlapping_clips_none_is_left_and_none_goes_alone(
    given_spans: list[tuple[str, int, int]], least: float
) -> None:
    some = [(v, float(s), float(s + n)) for v, s, n in given_spans]
    clips = table(*(clip(v, "A dog.", start=s, end=e) for v, s, e in some))
    gone = refused(duplicates(*(None,) * len(some), overlap=least), clips)

    def share(one: tuple[str, float, float], other: tuple[str, float, float]) -> float:
        common = min(one[2], other[2]) - max(one[1], other[1])
        return 0.0 if one[0] != other[0] else max(0.0, common / min(one[2] - one[1], other[2] - other[1]))

    kept = [one for number, one in enumerate(some) if clips.key(number) not in gone]
    for number, one in enumerate(some):
        others = [share(one, other) for other in kept if other != one]
        is_same = any(s >= max(least, 1e-9) for s in others)
        assert is_same == (clips.key(number) in gone) or one in kept
        assert not (one in kept and is_same)


def test_looks() -> None:
    clips = table(clip("still"), clip("counter"), clip("film"), clip("boxed"), clip("unknown"))
    contents = [
        replace(content(1), picture_change=0.3, moving_share=0.0),
        replace(content(2), picture_change=2.0, moving_share=0.02),
        content(3), replace(content(4), borders=(0.125, 0.125, 0.1, 0.0)), None,
    ]  # fmt: skip
    signatures = Signatures.of(contents)
    rules = [still_rule(1.0, lambda: signatures), visualiser_rule(0.05, lambda: signatures),
             letterbox_rule(0.2, lambda: signatures)]  # fmt: skip
    assert reasons(list(rules), clips) == ["still", "visualiser", "", "letterbox", ""]
    assert refused(rules[0], clips) == {
        clips.key(0): "from picture to picture the brightness changes by 0.30 of 255; min_picture_change = 1"
    }
    assert refused(rules[2], clips) == {
        "boxed_00000000_00010000": "25.0% of the picture is black borders; max_border_share = 0.2"
    }


def plant(folder: Path, clips: list[Planted], kinds: list[tuple[int, str]]) -> tuple[list[Planted], dict[int, int]]:
    made = [copied(clips[n], kind, folder / f"copy{k}.mkv") for k, (n, kind) in enumerate(kinds)]
    return [*clips, *made], {len(clips) + k: n for k, (n, _) in enumerate(kinds)}


def test_planted_copies_are_found_and_nothing_else(shared: Path, tmp_path: Path) -> None:
    """A small set: some real clips and every kind of synthetic one, each with one copy."""
    clips = real(shared)[1::6]
    clips += [synthetic(tmp_path / f"{n}.mp4", n) for n in range(len(KINDS))]
    kinds = list(COPIES)
    everything, originals = plant(tmp_path, clips, [(n, kinds[n % len(kinds)]) for n in range(len(clips))])
    told = judge(everything, [measured(one) for one in everything], originals)
    assert sum(told.found.values()) >= 0.95 * sum(told.planted.values()), told.missed
    assert len(told.false_alarms) <= 0.001 * told.num_different, told.false_alarms


@pytest.mark.slow
def test_planted_copies_of_a_thousand_clips(shared: Path, tmp_path: Path) -> None:
    """All real clips in every copy, and a thousand synthetic ones, false friends among them, in one each."""
    clips = [*real(shared), *(synthetic(tmp_path / f"{n}.mp4", n) for n in range(1000))]
    kinds, num_real = list(COPIES), len(clips) - 1000
    todo = [(n, kind) for n in range(num_real) for kind in kinds]
    todo += [(num_real + n, kinds[n % len(kinds)]) for n in range(1000)]
    everything, originals = plant(tmp_path, clips, todo)
    told = judge(everything, [measured(one) for one in everything], originals)
    assert all(told.share(kind) >= 0.95 for kind in kinds), told.missed
    assert len(told.false_alarms) <= 0.001 * told.num_different, told.false_alarms
