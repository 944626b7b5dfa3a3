"""Figures of captions: their length, their words, the sounds they name. Arrow columns, a slice at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.look.concepts import Concepts
from valor_data.look.histogram import Histogram, counted, counts_of, percentile_of_counts

LONG_WORDS = (30, 40)
"""Lengths that reference/valor.md counts beyond; VALOR cuts a caption at 30 tokens."""

WORD_EDGES = (*range(0, 62, 2), 61)
"""Edges of the lengths' histogram: two words a column (0 and 1, 2 and 3, …)."""

NUM_SLICES = 25
"""The vocabulary's growth is noted so often."""

MAX_SLICE = 50_000

NUM_TOP = 100

_ONLY_NUMBER = r"^\s*[-+]?[0-9][0-9.,\s]*$"
_HAS_LETTER = r"\pL"
_PUNCTUATION = r"[^\pL\pM\pN\s]"


@dataclass(frozen=True, slots=True)
class CaptionFigures:
    """Figures of the captions of one split, or of all.

    Attributes:
        num: captions.
        num_repeated: captions whose text another one of them has already.
        lengths: how many captions have 0, 1, 2, … words, as blanks divide them.
        num_only_number: captions that are a number and nothing else.
        num_without_letters: captions with no letter at all, those among them.
    """

    split: str
    num: int
    num_repeated: int
    lengths: NDArray[np.int64]
    num_only_number: int
    num_without_letters: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; lengths in words."""
        words = np.arange(len(self.lengths))
        total = int(self.lengths.sum())
        shares = {"p5": 0.05, "median": 0.5, "p95": 0.95, "p99": 0.99}
        return {
            "split": self.split,
            "captions": self.num,
            "repeated": self.num_repeated,
            "words": {
                "mean": round(float(words @ self.lengths / total), 4) if total else 0.0,
                **{name: percentile_of_counts(self.lengths, share) if total else 0 for name, share in shares.items()},
                "max": len(self.lengths) - 1 if total else 0,
                **{f"over_{limit}": int(self.lengths[limit + 1 :].sum()) for limit in LONG_WORDS},
            },
            "only_a_number": self.num_only_number,
            "without_letters": self.num_without_letters,
        }


def caption_figures(split: str, texts: Any) -> CaptionFigures:
    """Counts the captions of a split: `texts` is an Arrow column of strings without nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = np.zeros(1, np.int64)
    for piece in _slices(texts, MAX_SLICE):
        words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(piece)))
        is_blank = pc.equal(pc.utf8_trim_whitespace(piece), pa.scalar(""))
        here = np.bincount(np.asarray(pc.if_else(is_blank, 0, words)))
        lengths = _added(lengths, here)
    return CaptionFigures(
        split=split,
        num=len(texts),
        num_repeated=len(texts) - int(pc.count_distinct(texts).as_py()),
        lengths=lengths,
        num_only_number=_num_matching(texts, _ONLY_NUMBER),
        num_without_letters=len(texts) - _num_matching(texts, _HAS_LETTER),
    )


def together(parts: Sequence[CaptionFigures], texts: Any) -> CaptionFigures:
    """The figures of all captions, from those of the splits: `texts` are the captions of all of them."""
    import pyarrow.compute as pc

    lengths = np.zeros(1, np.int64)
    for part in parts:
        lengths = _added(lengths, part.lengths)
    return CaptionFigures(
        split="all",
        num=len(texts),
        num_repeated=len(texts) - int(pc.count_distinct(texts).as_py()),
        lengths=lengths,
        num_only_number=sum(part.num_only_number for part in parts),
        num_without_letters=sum(part.num_without_letters for part in parts),
    )


def _added(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of two counts of different length."""
    total = np.zeros(max(len(a), len(b)), np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total


def _num_matching(texts: Any, pattern: str) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0)


def _slices(column: Any, size: int) -> Any:
    """Some thousand values of a column at a time, each in one piece."""
    for first in range(0, len(column), size):
        piece = column.slice(first, size)
        yield piece.combine_chunks() if hasattr(piece, "chunks") else piece


@dataclass(slots=True)
class Vocabulary:
    """The words of captions, lower case and without punctuation, and the concepts among them.

    Attributes:
        counts: how often each word stands.
        growth: (captions read, different words by then).
        phrases: how often each concept of several words stands.
    """

    concepts: Concepts
    num_captions: int = 0
    num_words: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    growth: list[tuple[int, int]] = field(default_factory=list)
    phrases: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, texts: Any, concepts: Concepts) -> Vocabulary:
        """Reads an Arrow column of captions, in its order."""
        found = cls(concepts)
        size = min(MAX_SLICE, max(1, -(-len(texts) // NUM_SLICES)))
        for piece in _slices(texts, size):
            found._add(piece)
        return found

    def _add(self, texts: Any) -> None:
        import pyarrow.compute as pc

        plain = pc.replace_substring_regex(pc.utf8_lower(texts), _PUNCTUATION, "")
        compute: Any = pc
        words = compute.utf8_split_whitespace(compute.utf8_trim_whitespace(plain))
        found = counts_of(pc.list_flatten(words))
        found.pop("", None)
        self.counts.update(found)
        self.num_captions += len(texts)
        self.num_words += sum(found.values())
        self.growth.append((self.num_captions, len(self.counts)))
        if self.concepts.phrases:
            tidy = compute.binary_join(words, " ")
            pattern = rf"\b(?:{self.concepts.phrase_pattern()})\b"
            self.phrases.update(
                self.concepts.phrases_in(tidy.filter(pc.match_substring_regex(tidy, pattern)).to_pylist())
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form of the vocabulary."""
        top = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:NUM_TOP]
        return {
            "words": self.num_words,
            "distinct": len(self.counts),
            "once": sum(number == 1 for number in self.counts.values()),
            "top": counted(top, "word"),
            "growth": [{"captions": captions, "distinct": words} for captions, words in self.growth],
        }

    def concepts_to_dict(self) -> dict[str, Any]:
        """JSON-able form of the audio concepts: hits over words is the paper's audio-concept density."""
        hits = Counter({word: self.counts[word] for word in self.concepts.single if self.counts[word]})
        hits.update(self.phrases)
        total = sum(hits.values())
        return {
            "list": self.concepts.source,
            "concepts": len(self.concepts),
            "found": len(hits),
            "hits": total,
            "words": self.num_words,
            "density": round(total / self.num_words, 6) if self.num_words else 0.0,
            "top": counted(hits, "concept")[:NUM_TOP],
        }


def word_histogram(figures: CaptionFigures) -> Histogram:
    """The captions' lengths in ranges of two words."""
    found = Histogram("words", tuple(float(edge) for edge in WORD_EDGES))
    found.add("all", np.repeat(np.arange(len(figures.lengths)), figures.lengths))
    return found
