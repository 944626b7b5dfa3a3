"""The rule that keeps training clips out of test sets: by id, and by what they show. Shapes: N clips, R of other sets.

Only training clips ever go; the other set stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.filter.clips import ClipTable
from valor_data.filter.footage import Footage
from valor_data.filter.rules import Mask, Refused, Standing
from valor_data.filter.signatures import Signatures

OWN_SPLITS = "splits"
"""The word in `filter.leak` for the other splits of the same work folder."""


@dataclass(frozen=True, slots=True, eq=False)
class OtherSet:
    """A set that training clips must not be in.

    Attributes:
        name: as the setting writes it.
        video_ids: of its clips, an Arrow column of texts.
        starts_ms: where they begin, int64.
        ends_ms: where they end.
        keys: names of the clips whose content was measured, an Arrow column of texts.
        signatures: their content.
    """

    name: str
    video_ids: Any
    starts_ms: NDArray[np.int64]
    ends_ms: NDArray[np.int64]
    keys: Any
    signatures: Signatures


def absolute_sets(names: Sequence[str], base: Path) -> tuple[str, ...]:
    """The sets that a setting names, files and folders from `base`."""
    return tuple(name if name == OWN_SPLITS else str((base / Path(name).expanduser()).absolute()) for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class LeakRule:
    """Training clips that another set has too."""

    match: str
    sets: Callable[[], Sequence[OtherSet]] = field(repr=False)
    splits: tuple[str, ...]
    footage: Footage = field(repr=False)
    names: tuple[str, ...] = ()
    reason = "leak"

    def setting(self) -> str:
        """As in TOML."""
        listed = ", ".join(f'"{name}"' for name in self.names)
        return f'leak = [{listed}], leak_match = "{self.match}"'

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Training clips whose video and span, or whose footage, is in one of the sets."""
        mine = clips.in_splits(self.splits)
        by_id = np.full(len(clips), -1, np.int64)
        for number, other in enumerate(self.sets()):
            hit = _shares_video(clips, other, mine & (by_id < 0), whole=self.match == "video")
            by_id[hit] = number
        by_content = self._by_content(clips, mine & (by_id < 0)) if self._measured(clips, ~mine) else by_id * 0 - 1

        def detail(clip: int) -> str:
            if by_id[clip] >= 0:
                what = "its video is" if self.match == "video" else "a clip of its video that overlaps it is"
                return f'{what} in {self.sets()[by_id[clip]].name}; leak_match = "{self.match}"'
            other = int(by_content[clip])
            return f"shows the same as {self._name(clips, other)}: {self.footage.words(clip, other)}"

        return Refused(mine & ((by_id >= 0) | (by_content >= 0)), detail)

    def _measured(self, clips: ClipTable, others: Mask) -> bool:
        """Whether there is any content to compare with."""
        has_own = OWN_SPLITS in self.names and bool(others.any())
        return has_own or any(len(other.signatures) for other in self.sets())

    def _by_content(self, clips: ClipTable, mine: Mask) -> NDArray[np.int64]:
        """For each clip the number of one of the other sets' that shows the same, −1 for none; `[N]`."""
        num_all = len(self.footage.signatures)
        is_other = np.zeros(num_all, bool)
        is_other[len(clips) :] = True
        if OWN_SPLITS in self.names:
            is_other[: len(clips)] = ~clips.in_splits(self.splits)
        is_mine = np.zeros(num_all, bool)
        is_mine[: len(clips)] = mine
        pairs = self.footage.pairs
        both_ways = np.concatenate([pairs, pairs[:, ::-1]])
        crossing = both_ways[is_mine[both_ways[:, 0]] & is_other[both_ways[:, 1]]]
        crossing = np.concatenate([crossing, self._through_others(both_ways, is_mine, is_other)])
        found = np.full(len(clips), num_all, np.int64)
        np.minimum.at(found, crossing[:, 0], crossing[:, 1])
        found[found == num_all] = -1
        return found

    def _through_others(self, pairs: NDArray[np.int64], is_mine: Mask, is_other: Mask) -> NDArray[np.int64]:
        """Pairs that hang together by a third clip, and are alike themselves."""
        second = pairs[is_mine[pairs[:, 0]] & is_mine[pairs[:, 1]]]  # mine, mine
        last = pairs[is_mine[pairs[:, 0]] & is_other[pairs[:, 1]]]  # mine, other
        if not len(second) or not len(last):
            return np.zeros((0, 2), np.int64)
        first_of = dict(zip(last[::-1, 0].tolist(), last[::-1, 1].tolist(), strict=True))
        told = [(one, first_of[other]) for one, other in second.tolist() if other in first_of]
        candidates = np.array(told, np.int64).reshape(-1, 2)
        alike: NDArray[np.int64] = candidates[self.footage.alike(candidates)]
        return alike

    def _name(self, clips: ClipTable, number: int) -> str:
        if number < len(clips):
            codes, names = clips.splits()
            return f"{clips.key(number)} of {names[codes[number]]}"
        number -= len(clips)
        for other in self.sets():
            if number < len(other.signatures):
                return f"{other.keys[number].as_py()} of {other.name}"
            number -= len(other.signatures)
        return "another set's clip"


def _shares_video(clips: ClipTable, other: OtherSet, mine: Mask, *, whole: bool) -> Mask:
    """Which of some clips are of a video of another set and, unless `whole`, overlap a clip of it; `[N]`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    videos = pc.unique(other.video_ids)
    places = pc.index_in(clips.rows["video_id"], value_set=videos)
    found = np.array(pc.is_valid(places), bool) & mine
    if whole or not found.any():
        return found
    theirs = np.asarray(pc.index_in(other.video_ids, value_set=videos), np.int64)
    order = np.lexsort((other.starts_ms, theirs))
    wide = np.int64(1) << 28  # more than the milliseconds of a key
    starts = (theirs * wide + other.starts_ms)[order]
    latest = np.maximum.accumulate((theirs * wide + other.ends_ms)[order])  # of a video, the latest end so far
    video = np.asarray(pc.fill_null(places, pa.scalar(0, pa.int32())), np.int64)
    start_ms, end_ms = clips.spans_ms()
    before = np.searchsorted(starts, video * wide + end_ms, side="left") - 1  # the last that begins before my end
    overlaps = (before >= 0) & (latest[np.maximum(before, 0)] > video * wide + start_ms)
    hit: Mask = found & overlaps
    return hit
