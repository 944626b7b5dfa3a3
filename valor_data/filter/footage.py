"""The rules about what a clip shows: stills, visualisers, letterboxes, and the same footage twice.

A clip whose pictures and sound were not measured is not judged by them. Shapes: N clips, K pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from valor_data.filter.alike import Closeness, Pairs, alike_pairs, are_alike, describe_pair
from valor_data.filter.captions import total_words
from valor_data.filter.clips import ClipTable
from valor_data.filter.rules import Mask, Refused, Standing
from valor_data.filter.signatures import Signatures


@dataclass(frozen=True, slots=True, eq=False)
class LookRule:
    """A threshold on one figure of the pictures.

    Attributes:
        reason: the code.
        name: the setting.
        threshold: least value to keep; largest, for borders.
        column: the figure in `Signatures`.
        words: what the figure says, with a place for it.
    """

    reason: str
    name: str
    threshold: float
    column: str
    words: str
    signatures: Callable[[], Signatures] = field(repr=False)

    def setting(self) -> str:
        """As in TOML."""
        return f"{self.name} = {self.threshold:g}"

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips whose figure is known and beyond the threshold."""
        figures = getattr(self.signatures(), self.column)[: len(clips)]
        beyond = figures > self.threshold if self.column == "borders" else figures < self.threshold
        return Refused((figures >= 0) & beyond, lambda clip: f"{self.words.format(figures[clip])}; {self.setting()}")


def still_rule(threshold: float, signatures: Callable[[], Signatures]) -> LookRule:
    """Little changes from picture to picture."""
    words = "from picture to picture the brightness changes by {:.2f} of 255"
    return LookRule("still", "min_picture_change", threshold, "change", words, signatures)


def visualiser_rule(threshold: float, signatures: Callable[[], Signatures]) -> LookRule:
    """Something moves, in a small part of the picture."""
    words = "{:.1%} of the picture moves"
    return LookRule("visualiser", "min_moving_share", threshold, "moving", words, signatures)


def letterbox_rule(threshold: float, signatures: Callable[[], Signatures]) -> LookRule:
    """Black borders take much of the picture."""
    words = "{:.1%} of the picture is black borders"
    return LookRule("letterbox", "max_border_share", threshold, "borders", words, signatures)


@dataclass(eq=False)
class Footage:
    """Who shows the same as whom, worked out once for all rules that ask.

    Attributes:
        load: gives the signatures of the clips, followed by those of other sets.
        closeness: how much alike clips may differ.
    """

    load: Callable[[], Signatures]
    closeness: Closeness

    @cached_property
    def signatures(self) -> Signatures:
        """Of the clips, followed by those of other sets."""
        return self.load()

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of clips that are alike, `[K, 2]`."""
        return alike_pairs(self.signatures, self.closeness)

    def alike(self, pairs: Pairs) -> Mask:
        """Whether the two of each pair are alike, `[K]`."""
        return are_alike(self.signatures, pairs, self.closeness)

    def words(self, one: int, other: int) -> str:
        """What two clips have in common, and the thresholds."""
        limits = self.closeness
        return (
            f"{describe_pair(self.signatures, one, other, limits)}; max_picture_bits = {limits.max_picture_bits}, "
            f"max_sound_error = {limits.max_sound_error:g}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class DuplicateRule:
    """Of clips of a split that show the same footage, one is kept.

    That is the one with the most words of captions; of several the one with the larger picture; of these the first
    of the manifest. Every clip that goes is like the one that is named as kept in its place. Clips of one video that
    overlap in time need no look: they are the same footage.
    """

    overlap: float
    footage: Footage
    reason = "near_duplicate"

    def setting(self) -> str:
        """As in TOML."""
        return "duplicates = true"

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips of which another one is kept."""
        codes, _ = clips.splits()
        spans = _Spans.of(clips)
        pairs = self.footage.pairs
        pairs = np.concatenate([pairs[(pairs < len(clips)).all(axis=1)], spans.pairs(self.overlap)])
        one, other = pairs[:, 0], pairs[:, 1]
        pairs = pairs[standing.clips[one] & standing.clips[other] & (codes[one] == codes[other])]

        def alike(some: Pairs) -> Mask:
            return (spans.shares(some) >= max(self.overlap, 1e-9)) | self.footage.alike(some)

        copy_of = copies(pairs, preference(clips), alike)

        def detail(clip: int) -> str:
            kept = int(copy_of[clip])
            share = float(spans.shares(np.array([[clip, kept]]))[0])
            if share >= max(self.overlap, 1e-9):
                return f"a copy of {clips.key(kept)}: of one video, overlapping by {share:.0%} of the shorter"
            return f"a copy of {clips.key(kept)}: {self.footage.words(clip, kept)}"

        return Refused(copy_of >= 0, detail)


def preference(clips: ClipTable) -> NDArray[np.int64]:
    """The place of each clip among those to keep, 0 the first, `[N]`: words of captions, size, order."""
    order = np.lexsort((clips.manifest_rows, -clips.areas_px, -total_words(clips)))
    places = np.empty(len(clips), np.int64)
    places[order] = np.arange(len(clips))
    return places


def copies(pairs: Pairs, places: NDArray[np.int64], alike: Callable[[Pairs], Mask]) -> NDArray[np.int64]:
    """Which clip is kept in place of each, −1 for one that is kept itself; `[N]`.

    Of each group that hangs together by its pairs the best is kept, and those that are like it go; then the best of
    the rest, and so on. So no clip goes because of a copy of a copy that it is not like itself.

    Args:
        pairs: clips found alike.
        places: of each clip among those to keep, 0 the first.
        alike: tells of pairs, better clip first, whether they are alike.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = len(places)
    copy_of = np.full(num, -1, np.int64)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(num, num))
    _, groups = connected_components(graph, directed=False)
    left = np.unique(pairs)
    left = left[np.lexsort((places[left], groups[left]))]
    while len(left):
        is_best = np.concatenate([[True], groups[left[1:]] != groups[left[:-1]]])
        best = left[is_best][np.cumsum(is_best) - 1]
        rest, kept = left[~is_best], best[~is_best]
        gone = alike(np.stack([kept, rest], axis=1))
        copy_of[rest[gone]] = kept[gone]
        left = rest[~gone]
    return copy_of


@dataclass(frozen=True, slots=True, eq=False)
class _Spans:
    """Where clips lie in their videos: video numbers, starts and ends in milliseconds, `[N]` each."""

    videos: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, clips: ClipTable) -> _Spans:
        return cls(clips.video_codes(), *clips.spans_ms())

    def shares(self, pairs: Pairs) -> NDArray[np.float64]:
        """Share of the shorter clip of each pair that the two have in common; 0 of different videos."""
        one, other = pairs[:, 0], pairs[:, 1]
        common = np.minimum(self.ends[one], self.ends[other]) - np.maximum(self.starts[one], self.starts[other])
        shorter = np.minimum((self.ends - self.starts)[one], (self.ends - self.starts)[other])
        shares: NDArray[np.float64] = np.where(self.videos[one] == self.videos[other], common / shorter, 0.0)
        return np.maximum(shares, 0.0)

    def pairs(self, least: float) -> Pairs:
        """Pairs of clips of one video that overlap by so much of the shorter."""
        order = np.lexsort((self.ends, self.starts, self.videos))
        found = [np.zeros((0, 2), np.int64)]
        behind = np.arange(len(order))
        step = 0
        while len(behind):
            step += 1
            behind = behind[behind + step < len(order)]
            one, other = order[behind], order[behind + step]
            touch = (self.videos[one] == self.videos[other]) & (self.starts[other] < self.ends[one])
            behind = behind[touch]
            found.append(np.stack([one[touch], other[touch]], axis=1))
        pairs = np.sort(np.concatenate(found), axis=1)
        kept: Pairs = pairs[self.shares(pairs) >= max(least, 1e-9)]
        return kept
