"""The rules about captions. A clip is refused when none of its captions is left; one without captions is not judged.

Shapes: N clips, C captions of all of them, W words of all captions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.filter.clips import ClipTable
from valor_data.filter.rules import Mask, Refused, Standing

MIN_FIXED_WORDS = 3
"""A caption with one free word is a template only when so many other words stay: else every short one would be."""

_URL = re.compile(r"(?:https?://|www\.)\S", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_DIGIT = re.compile(r"\d")
_REPEATED = re.compile(r"([^\W\d_])\1{4}", re.IGNORECASE)
_SHOWN_CHARACTERS = 80


def junk(text: str) -> str:
    """Why a caption is no sentence: `only a number`, `a URL`, `no words`, `a repeated character`; empty if it is one.

    A number may have signs and points about it. A character is repeated when a letter stands five times in a row,
    or when a text of six characters and more is made of one or two.
    """
    if not _LETTER.search(text):
        return "only a number" if _DIGIT.search(text) else "no words"
    if _URL.search(text):
        return "a URL"
    bare = "".join(text.split()).lower()
    if _REPEATED.search(text) or (len(bare) >= 6 and len(set(bare)) <= 2):
        return "a repeated character"
    return ""


def num_words(texts: Any) -> NDArray[np.int64]:
    """Words between blanks of each text of an Arrow array: as VALOR's own figures are counted."""
    import pyarrow.compute as pc

    bare = pc.utf8_trim_whitespace(texts)
    if not len(bare):
        return np.zeros(0, np.int64)
    words = np.asarray(pc.list_value_length(pc.utf8_split_whitespace(bare)), np.int64)
    return np.where(np.asarray(pc.utf8_length(bare)) > 0, words, 0)


def total_words(clips: ClipTable) -> NDArray[np.int64]:
    """Words of all captions of each clip, int64 `[N]`."""
    words = _of_all(clips, num_words, np.int64)
    return np.bincount(clips.caption_clips, weights=words, minlength=len(clips)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class JunkRule:
    """Captions that are no sentence."""

    reason = "caption_junk"

    def setting(self) -> str:
        """As in TOML."""
        return "caption_junk = true"

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips all of whose captions are junk, or were refused before."""
        bad = _of_all(clips, lambda texts: np.array([bool(junk(text)) for text in texts.to_pylist()], bool), bool)
        return _refused(clips, standing, bad, lambda text, _: f"{junk(text) or 'junk'}: {_shown(text)}")


@dataclass(frozen=True, slots=True)
class LengthRule:
    """Captions with too few or too many words."""

    min_words: int
    max_words: int
    reason = "caption_length"

    def setting(self) -> str:
        """As in TOML."""
        told = [f"caption_min_words = {self.min_words}"] if self.min_words else []
        told += [f"caption_max_words = {self.max_words}"] if self.max_words else []
        return ", ".join(told)

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips all of whose captions are too short or too long, or were refused before."""
        words = _of_all(clips, num_words, np.int64)
        bad = words < self.min_words
        if self.max_words:
            bad |= words > self.max_words
        return _refused(clips, standing, bad, lambda text, c: f"{words[c]} words; {self.setting()}: {_shown(text)}")


@dataclass(frozen=True, slots=True, eq=False)
class Languages:
    """What language each caption is likely in; K of them are known, the likeliest first.

    Attributes:
        codes: texts `[C, K]`, empty where fewer were told.
        probabilities: float32 `[C, K]`, 0 there.
    """

    codes: NDArray[np.str_]
    probabilities: NDArray[np.float32]

    def against(self, languages: tuple[str, ...]) -> NDArray[np.float32]:
        """How likely the likeliest language is beside these, 0.5 (no more than the likeliest of these) to 1; `[C]`.

        0 for a caption whose likeliest language is one of these. Of a language that is not among those told, no more
        is known than that it is at most as likely as the last, or as what is left.
        """
        first = self.probabilities[:, 0]
        told = np.isin(self.codes, languages)
        lowest = np.where(self.probabilities[:, -1] > 0, self.probabilities[:, -1], 1 - self.probabilities.sum(axis=1))
        among = np.where(told, self.probabilities, 0).max(axis=1)
        among = np.where(told.any(axis=1), among, np.maximum(lowest, 0))
        against: NDArray[np.float32] = np.where(told[:, 0], 0, first / np.maximum(first + among, 1e-9)).astype(
            np.float32
        )
        return against


@dataclass(frozen=True, slots=True, eq=False)
class LanguageRule:
    """Captions in another language than asked for; one of which that is not certain is let through."""

    languages: tuple[str, ...]
    certainty: float
    told: Callable[[], Languages] = field(repr=False)
    reason = "caption_language"

    def setting(self) -> str:
        """As in TOML."""
        names = ", ".join(f'"{name}"' for name in self.languages)
        return f"caption_languages = [{names}]"

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips all of whose captions are in other languages, or were refused before."""
        told = self.told()
        against = told.against(self.languages)

        def detail(text: str, caption: int) -> str:
            code, certainty = told.codes[caption, 0], against[caption]
            least = f"caption_certainty = {self.certainty:g}"
            return f"{code}, certainty {certainty:.2f}; {self.setting()}, {least}: {_shown(text)}"

        return _refused(clips, standing, (against > 0) & (against >= self.certainty), detail)


@dataclass(frozen=True, slots=True)
class TemplateRule:
    """Captions that occur again and again, the same or the same but for one word.

    All of a template's captions are refused: they say little about any clip. Case, punctuation and digits do not
    count; every number is the same word.
    """

    repeats: int
    reason = "caption_template"

    def setting(self) -> str:
        """As in TOML."""
        return f"caption_repeats = {self.repeats}"

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips all of whose captions are templates, or were refused before."""
        counts = template_counts(clips.texts())
        bad = counts >= self.repeats
        return _refused(
            clips, standing, bad, lambda text, c: f"occurs {counts[c]} times; {self.setting()}: {_shown(text)}"
        )


def template_counts(batches: Iterable[Any]) -> NDArray[np.int64]:
    """How often each caption occurs, the same or the same but for one word, itself included; int64 `[C]`.

    A caption's hash is the sum of the hashes of its words at their places, so the hash of the caption with one word
    left open is had by one subtraction: W hashes are sorted, and no two captions are ever compared.
    """
    words, lengths = _words_and_lengths(batches)
    if not len(lengths):
        return np.zeros(0, np.int64)
    ends = np.cumsum(lengths)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(words)) - np.repeat(ends - lengths, lengths)
    terms = _mixed(words + _mixed(places.astype(np.uint64) + np.uint64(1)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    whole = sums[ends] - sums[ends - lengths] + _mixed(lengths.astype(np.uint64) ^ np.uint64(0x5EED))
    _, inverse, counts = np.unique(whole, return_inverse=True, return_counts=True)
    best = counts[inverse].astype(np.int64)
    is_long = lengths[owners] > MIN_FIXED_WORDS
    open_at = whole[owners[is_long]] - terms[is_long] + _mixed(places[is_long].astype(np.uint64) ^ np.uint64(0xB1A4C))
    _, inverse, counts = np.unique(open_at, return_inverse=True, return_counts=True)
    np.maximum.at(best, owners[is_long], counts[inverse])
    return best


def _words_and_lengths(batches: Iterable[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hash of every word of every caption, uint64 `[W]`, and the number of words of each, `[C]`."""
    import pyarrow.compute as pc

    known: dict[str, int] = {}
    words, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for texts in batches:
        plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\pL\pN]+", " "))
        split = pc.utf8_split_whitespace(pc.replace_substring_regex(plain, r"\pN+", "0"))
        coded = pc.dictionary_encode(pc.list_flatten(split))
        hashes = np.array([_word_hash(word, known) for word in coded.dictionary.to_pylist()], np.uint64)
        words.append(hashes[np.asarray(coded.indices, np.int64)] if len(coded) else np.zeros(0, np.uint64))
        lengths.append(np.asarray(pc.list_value_length(split), np.int64))
    return np.concatenate(words), np.concatenate(lengths)


def _word_hash(word: str, known: dict[str, int]) -> int:
    if word not in known:
        known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return known[word]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatters 64-bit numbers, each to another one (the finaliser of splitmix64)."""
    mixed = values ^ (values >> np.uint64(30))
    mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed = mixed * np.uint64(0x94D049BB133111EB)
    scattered: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return scattered


def _of_all(clips: ClipTable, measure: Callable[[Any], NDArray[Any]], kind: Any) -> NDArray[Any]:
    """A figure of every caption, `[C]`."""
    return np.concatenate([np.zeros(0, kind), *(measure(texts) for texts in clips.texts())]).astype(kind)


def _refused(clips: ClipTable, standing: Standing, bad: Mask, detail: Callable[[str, int], str]) -> Refused:
    """Refuses clips that have captions, none of which is left; a clip's detail is that of its first bad caption."""
    left = np.bincount(clips.caption_clips, weights=standing.captions & ~bad, minlength=len(clips))
    had = np.diff(clips.caption_offsets) > 0
    touched = np.bincount(clips.caption_clips, weights=standing.captions & bad, minlength=len(clips)) > 0

    def of_clip(clip: int) -> str:
        first, after = (int(offset) for offset in clips.caption_offsets[clip : clip + 2])
        caption = first + int(np.argmax(bad[first:after]))
        return detail(clips.rows["captions"][clip].as_py()[caption - first]["text"], caption)

    return Refused((left == 0) & had & touched, of_clip, bad)


def _shown(text: str) -> str:
    """A caption in quotes, its beginning."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")
