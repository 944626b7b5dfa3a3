"""The content figures of many clips as columns.

Shapes: N clips, P pictures of a clip, V views of a picture, M moments of sound of all clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from valor_data.media.content import NUM_PICTURES, VIEWS, Content


@dataclass(frozen=True, eq=False)
class Signatures:
    """What `media.content` measured of clips; one that was not measured has no picture and no sound here.

    Attributes:
        measured: `[N]`.
        change: `Content.picture_change`, float32 `[N]`; −1 where unknown, as all the following.
        moving: `Content.moving_share`, float32 `[N]`.
        borders: `Content.border_share`, float32 `[N]`.
        hashes: uint64 `[N, P, V]`.
        tells: bool `[N, P]`.
        sound: uint32 `[M]`.
        audible: bool `[M]`.
        offsets: where each clip's sound begins, int64 `[N + 1]`.
    """

    measured: NDArray[np.bool_]
    change: NDArray[np.float32]
    moving: NDArray[np.float32]
    borders: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    tells: NDArray[np.bool_]
    sound: NDArray[np.uint32]
    audible: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.measured)

    @cached_property
    def num_audible(self) -> NDArray[np.int64]:
        """Moments of each clip's sound that tell something, int64 `[N]`."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.audible)])
        counts: NDArray[np.int64] = before[self.offsets[1:]] - before[self.offsets[:-1]]
        return counts

    @cached_property
    def num_telling(self) -> NDArray[np.int64]:
        """Pictures of each clip that tell something, int64 `[N]`."""
        counts: NDArray[np.int64] = self.tells.sum(axis=1)
        return counts

    @classmethod
    def of(cls, contents: Iterable[Content | None]) -> Signatures:
        """The columns of some clips' figures; None where a clip has none."""
        columns = SignatureColumns()
        for content in contents:
            columns.add(content)
        return columns.finish()

    @classmethod
    def joined(cls, parts: Sequence[Signatures]) -> Signatures:
        """Several sets one after another."""
        filled = [part for part in parts if len(part)]
        if len(filled) == 1:
            return filled[0]
        ends = np.cumsum([0, *(len(part.sound) for part in parts)])
        offsets = [part.offsets[:-1] + ends[number] for number, part in enumerate(parts)]
        names = ("measured", "change", "moving", "borders", "hashes", "tells", "sound", "audible")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**columns, offsets=np.concatenate([*offsets, ends[-1:]]))


@dataclass(slots=True)
class SignatureColumns:
    """Signatures while they come in."""

    _figures: list[tuple[bool, float, float, float, int]] = field(default_factory=list)
    _hashes: list[NDArray[np.uint64]] = field(default_factory=list)
    _tells: list[NDArray[np.bool_]] = field(default_factory=list)
    _sound: list[NDArray[np.uint32]] = field(default_factory=list)
    _audible: list[NDArray[np.bool_]] = field(default_factory=list)
    _done: list[Signatures] = field(default_factory=list)

    def add(self, content: Content | None) -> None:
        """Takes the next clip."""
        is_measured = content is not None
        content = content or Content()
        hashes = np.zeros((NUM_PICTURES, len(VIEWS)), np.uint64)
        tells = np.zeros(NUM_PICTURES, bool)
        num = min(NUM_PICTURES, len(content.hashes))
        hashes[:num], tells[:num] = content.hashes[:num], content.tells[:num]
        share = content.border_share if is_measured and num else -1.0
        self._figures.append((is_measured, content.picture_change, content.moving_share, share, len(content.sound)))
        self._hashes.append(hashes)
        self._tells.append(tells)
        self._sound.append(content.sound)
        self._audible.append(content.audible)
        if len(self._figures) >= 50_000:
            self._flush()

    def _flush(self) -> None:
        """Small arrays become large ones now and then: a million of them would take twice the memory."""
        figures = np.array(self._figures, np.float64).reshape(-1, 5)
        self._done.append(
            Signatures(
                measured=figures[:, 0] > 0,
                change=figures[:, 1].astype(np.float32),
                moving=figures[:, 2].astype(np.float32),
                borders=figures[:, 3].astype(np.float32),
                hashes=np.array(self._hashes, np.uint64).reshape(-1, NUM_PICTURES, len(VIEWS)),
                tells=np.array(self._tells, bool).reshape(-1, NUM_PICTURES),
                sound=np.concatenate([np.zeros(0, np.uint32), *self._sound]),
                audible=np.concatenate([np.zeros(0, bool), *self._audible]),
                offsets=np.concatenate([np.zeros(1), np.cumsum(figures[:, 4])]).astype(np.int64),
            )
        )
        for waiting in (self._figures, self._hashes, self._tells, self._sound, self._audible):
            waiting.clear()

    def finish(self) -> Signatures:
        """All clips that were added."""
        self._flush()
        return Signatures.joined(self._done)
