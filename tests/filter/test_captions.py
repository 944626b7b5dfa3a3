"""Captions: junk, length, language, templates; and VALOR's own files."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from curating import clip, reasons, refused, table
from hypothesis import given
from hypothesis import strategies as st

from valor_data.config import FilterSection
from valor_data.errors import ConfigError
from valor_data.filter.captions import (
    MIN_FIXED_WORDS,
    JunkRule,
    LanguageRule,
    Languages,
    LengthRule,
    TemplateRule,
    junk,
    num_words,
    template_counts,
    total_words,
)
from valor_data.filter.language import likely_languages
from valor_data.filter.recipe import check_recipe


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("700", "only a number"),
        (" -3.5 % ", "only a number"),
        ("…!?", "no words"),
        ("", "no words"),
        ("see www.example.org/x", "a URL"),
        ("HTTPS://example.org", "a URL"),
        ("aaaaaaaa", "a repeated character"),
        ("ha ha ha ha", "a repeated character"),
        ("A dog barksssss", "a repeated character"),
        ("A dog barks.", ""),
        ("A dog barks..........", ""),
        ("Haha", ""),
        ("Zzz", ""),
        ("狗在叫", ""),
        ("Nº 5", ""),
    ],
)
def test_what_is_junk(text: str, why: str) -> None:
    assert junk(text) == why


@pytest.mark.parametrize(("name", "num", "over_30", "mean"), [("train", 5, 2339, 19.72), ("val", 1, 313, 19.63)])
def test_valors_own_files(shared: Path, name: str, num: int, over_30: int, mean: float) -> None:
    """`reference/valor.md` A, on the raw files: the junk filter finds the bare numbers and nothing else."""
    texts = [row["desc"] for row in json.loads((shared / f"annotations/valor32k/desc_{name}.json").read_text())]
    found = [text for text in texts if junk(text)]
    assert len(found) == num and all(text.strip().isdigit() for text in found), found
    words = num_words(pa.array(texts))
    assert (int((words > 30).sum()), round(float(words.mean()), 2)) == (over_30, mean)


def test_a_clip_is_refused_when_no_caption_is_left() -> None:
    clips = table(
        clip("none"),
        clip("good", "A dog barks at a cat."),
        clip("junk", "700", "800"),
        clip("one", "700", "A dog barks."),
        clip("both", "700", "A dog."),
    )
    assert refused(JunkRule(), clips) == {"junk_00000000_00010000": "only a number: '700'"}
    rules = [JunkRule(), LengthRule(3, 0)]
    assert reasons(rules, clips) == ["", "", "caption_junk", "", "caption_length"]
    assert refused(LengthRule(3, 0), clips)["both_00000000_00010000"] == "1 words; caption_min_words = 3: '700'"
    assert list(total_words(clips)) == [0, 6, 2, 4, 3]


def test_lengths() -> None:
    clips = table(*(clip(f"v{n}", " ".join("w" * n)) for n in range(1, 6)))
    assert reasons([LengthRule(2, 4)], clips) == ["caption_length", "", "", "", "caption_length"]
    assert reasons([LengthRule(0, 4)], clips) == ["", "", "", "", "caption_length"]
    assert list(num_words(pa.array(["", "  ", " one ", "two\twords", "a\nb c"]))) == [0, 0, 1, 2, 3]


def languages(texts: list[str]) -> Languages:
    codes, probabilities = np.zeros((len(texts), 8), "<U8"), np.zeros((len(texts), 8), np.float32)
    for row, text in enumerate(texts):
        likely = likely_languages(text)
        codes[row, : len(likely)], probabilities[row, : len(likely)] = zip(*likely, strict=True)
    return Languages(codes, probabilities)


def test_languages() -> None:
    captions = ["A man plays the guitar.", "Ein Hund bellt.", "一个男人在弹吉他", "Un chien aboie", "A man"]
    clips = table(*(clip(f"v{n}", text) for n, text in enumerate(captions)))
    told = languages(captions)
    assert list(told.codes[:4, 0]) == ["en", "de", "zh", "fr"]
    found = refused(LanguageRule(("en", "fr"), 0.9, lambda: told), clips)
    assert [key[:2] for key in found] == ["v1", "v2"]
    assert found["v1_00000000_00010000"].startswith("de, certainty 0.9")
    assert '; caption_languages = ["en", "fr"], caption_certainty = 0.9: \'Ein' in found["v1_00000000_00010000"]
    assert not refused(LanguageRule(("en",), 1.0, lambda: languages(["Ein Hund bellt."])), table(clip("v", "x")))


def test_no_caption_of_valor_is_taken_for_another_language(shared: Path) -> None:
    texts = [row["desc"] for row in json.loads((shared / "annotations/valor32k/desc_val.json").read_text())]
    against = languages(texts).against(("en",))
    assert int((against >= 0.9).sum()) == 0
    assert int((against > 0).sum()) <= 5, "few are doubted at all"


def test_what_is_not_told_of_a_language() -> None:
    told = Languages(
        np.array([["en", ""], ["de", ""], ["de", "nl"]]), np.array([[0.97, 0], [0.97, 0], [0.6, 0.3]], np.float32)
    )
    assert told.against(("en",)) == pytest.approx([0, 0.97, 0.6 / 0.9], abs=1e-5)
    assert told.against(("nl", "en")) == pytest.approx([0, 0.97, 0.6 / 0.9], abs=1e-5)


def test_templates() -> None:
    clips = table(
        *(clip(f"a{n}", f"This is a video of number {n}.") for n in range(5)),
        *(clip(f"b{name}", f"Watch {name} play the drums!") for name in ("Ann", "Bob", "Cem")),
        clip("c", "Watch Dan play the DRUMS"),
        clip("d", "Watch Dan play the loud drums"),
        clip("e", "Music"),
        clip("f", "Speech"),
        clip("g", "Wind blows"),
    )
    found = refused(TemplateRule(4), clips)
    assert sorted({key[0] for key in found}) == ["a", "b", "c"] and len(found) == 9
    assert found["a0_00000000_00010000"] == "occurs 5 times; caption_repeats = 4: 'This is a video of number 0.'"
    assert {key[0] for key in refused(TemplateRule(5), clips)} == {"a"}
    assert not refused(TemplateRule(6), clips)


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


@given(st.lists(words, max_size=12))
def test_templates_are_counted_as_by_comparing_all_with_all(captions: list[list[str]]) -> None:
    def slots(words: list[str]) -> set[tuple[str | None, ...]]:
        one = (
            {(*words[:i], None, *words[i + 1 :]) for i in range(len(words))} if len(words) > MIN_FIXED_WORDS else set()
        )
        return {tuple(words), *one}

    counts = Counter(slot for caption in captions for slot in slots(caption))
    expected = [max(counts[slot] for slot in slots(caption)) for caption in captions]
    texts = [" ".join(caption) for caption in captions]
    assert list(template_counts([pa.array(texts, pa.string())])) == expected
    parts = [pa.array(part, pa.string()) for part in (texts[:3], texts[3:])]
    assert list(template_counts(parts)) == expected


@given(st.lists(st.text(max_size=8), max_size=5))
def test_any_text_can_be_counted(texts: list[str]) -> None:
    assert len(template_counts([pa.array(texts, pa.string())])) == len(texts)
    assert all(isinstance(junk(text), str) for text in texts)
    assert list(num_words(pa.array(texts, pa.string()))) == [len(text.split()) for text in texts] or any(
        ord(character) > 127 or character < " " for text in texts for character in text
    )


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        check_recipe(FilterSection(caption_min_words=5, caption_max_words=3, caption_repeats=1,
                                   caption_languages=("english",)))  # fmt: skip
    one, two, three = caught.value.problems
    assert one == "filter.caption_max_words: 3 is below caption_min_words, 5: no caption would be left"
    assert two.startswith("filter.caption_repeats: 1 would drop every caption")
    assert three.endswith("'english' is no code of a known language such as en; did you mean en?")


def test_a_moved_length_only_ever_keeps_more() -> None:
    clips = table(*(clip(f"v{n}", " ".join("w" * n)) for n in range(1, 9)))
    kept = [reasons([LengthRule(least, 0)], clips).count("") for least in range(9)]
    assert all(more >= fewer for more, fewer in pairwise(kept))
