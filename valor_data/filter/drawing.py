"""The rules that choose among good clips: by licence, by class, by chance. Shapes: N clips."""

from __future__ import annotations

import fnmatch
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.filter.clips import ClipTable
from valor_data.filter.rules import Refused, Standing
from valor_data.manifest import draw_ranks

UNKNOWN_LICENCE = "unknown"
"""How a setting names the licence of a clip whose source gives none."""


@dataclass(frozen=True, slots=True)
class LicenceRule:
    """What the source says of the uploader's licence; case does not count, `*` stands for any text."""

    allowed: tuple[str, ...]
    denied: tuple[str, ...]
    reason = "licence"

    def setting(self) -> str:
        """As in TOML."""
        told = [f"licences_allowed = {_listed(self.allowed)}"] if self.allowed else []
        told += [f"licences_denied = {_listed(self.denied)}"] if self.denied else []
        return ", ".join(told)

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips whose licence is denied, or not allowed."""
        import pyarrow.compute as pc

        coded = pc.dictionary_encode(clips.licences).combine_chunks()
        names = coded.dictionary.to_pylist() if len(coded) else []
        bad = np.array([not self._keeps(name or UNKNOWN_LICENCE) for name in names], bool)
        codes = np.asarray(coded.indices, np.int64) if len(coded) else np.zeros(0, np.int64)

        def detail(clip: int) -> str:
            return f"the licence is {names[codes[clip]] or UNKNOWN_LICENCE!r}; {self.setting()}"

        return Refused(bad[codes], detail)

    def _keeps(self, licence: str) -> bool:
        if self.allowed and not _is_one_of(licence, self.allowed):
            return False
        return not _is_one_of(licence, self.denied)


def _is_one_of(licence: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(licence.lower(), pattern.lower()) for pattern in patterns)


def _listed(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


@dataclass(frozen=True, slots=True)
class BalanceRule:
    """At most so many clips of each label in each training split.

    Clips come in the order of how rare their rarest label is, then as drawn, and one is kept as long as none of its
    labels is full: so no label has more than the cap, rare ones keep what they have, and whoever is refused has a
    label that is full. Clips without labels are kept.
    """

    cap: int
    seed: int
    splits: tuple[str, ...]
    reason = "unbalanced"

    def setting(self) -> str:
        """As in TOML."""
        return f"balance = {self.cap}"

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips with a label that is full."""
        codes, names = clips.splits()
        full: dict[int, int] = {}
        offsets, labels, label_names = _labels(clips)
        ranks = _ranks(clips, self.seed)
        for split in (number for number, name in enumerate(names) if name in self.splits):
            chosen = np.flatnonzero(standing.clips & (codes == split) & (np.diff(offsets) > 0))
            self._fill(chosen, offsets, labels, ranks, full)

        def detail(clip: int) -> str:
            return f"{label_names[full[clip]]} has {self.cap} clips already; {self.setting()}"

        refused = np.zeros(len(clips), bool)
        refused[list(full)] = True
        return Refused(refused, detail)

    def _fill(
        self,
        chosen: NDArray[np.int64],
        offsets: NDArray[np.int64],
        labels: NDArray[np.int64],
        ranks: NDArray[np.uint64],
        full: dict[int, int],
    ) -> None:
        """Goes through the clips of a split; notes of each refused one which label of it was full."""
        parts = [labels[offsets[clip] : offsets[clip + 1]] for clip in chosen]
        sizes = np.bincount(np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64))
        rarest = np.array([sizes[part].min() for part in parts], np.int64)
        kept: Counter[int] = Counter()
        for number in np.lexsort((ranks[chosen], rarest)):
            mine = set(parts[number].tolist())
            blocked = [label for label in sorted(mine) if kept[label] >= self.cap]
            if blocked:
                full[int(chosen[number])] = blocked[0]
            else:
                kept.update(mine)


@dataclass(frozen=True, slots=True)
class SampleRule:
    """A share or a number of the training clips, drawn by a hash of their keys: stable when the set grows."""

    share: float
    count: int
    seed: int
    splits: tuple[str, ...]
    reason = "not_sampled"

    def setting(self) -> str:
        """As in TOML."""
        told = [f"sample_share = {self.share:g}"] if self.share < 1 else []
        told += [f"sample_count = {self.count}"] if self.count else []
        return ", ".join(told)

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Clips that are not drawn. A share is drawn of all clips, a number of those that are still there."""
        ranks = _ranks(clips, self.seed)
        places = ranks / 2.0**64
        drawn = places < self.share if self.share < 1 else np.ones(len(clips), bool)
        codes, names = clips.splits()
        mine = clips.in_splits(self.splits)
        last: dict[int, float] = {}
        for split in (number for number, name in enumerate(names) if self.count and name in self.splits):
            there = np.flatnonzero(standing.clips & drawn & (codes == split))
            order = there[np.argsort(ranks[there], kind="stable")]
            drawn[order[self.count :]] = False
            if len(order) > self.count:
                last[split] = float(places[order[self.count - 1]])

        def detail(clip: int) -> str:
            bound = min(self.share, last.get(int(codes[clip]), 1.0))
            return f"its place between 0 and 1 is {places[clip]:.6f}, drawn is up to {bound:.6f}; {self.setting()}"

        return Refused(mine & ~drawn, detail)


def _ranks(clips: ClipTable, seed: int) -> NDArray[np.uint64]:
    return draw_ranks(clips.keys.to_pylist(), clips.rows["split"].to_pylist(), seed)


def _labels(clips: ClipTable) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Any]]:
    """Offsets of each clip's labels `[N + 1]`, the labels as numbers, and their names."""
    import pyarrow.compute as pc

    column = clips.rows["labels"]
    lengths = np.asarray(pc.list_value_length(column).fill_null(0), np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    coded = pc.dictionary_encode(pc.list_flatten(column)).combine_chunks()
    if not len(coded):
        return offsets, np.zeros(0, np.int64), []
    return offsets, np.asarray(coded.indices, np.int64), coded.dictionary.to_pylist()
