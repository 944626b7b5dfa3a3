"""What the rules of curation share: who is still there, and who is refused. Shapes: N clips, C captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from valor_data.filter.clips import ClipTable

Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Standing:
    """Who is still there when a rule's turn comes.

    Attributes:
        clips: `[N]`.
        captions: `[C]`; a caption that a rule refused is no reason any more to keep its clip.
    """

    clips: Mask
    captions: Mask

    @classmethod
    def of(cls, clips: ClipTable) -> Standing:
        """All of them."""
        return cls(np.ones(len(clips), bool), np.ones(int(clips.caption_offsets[-1]), bool))


@dataclass(frozen=True, slots=True)
class Refused:
    """What a rule refuses.

    Attributes:
        clips: `[N]`.
        detail: the score and the threshold that decided about a clip, in words.
        captions: `[C]`, for a rule about captions; else None.
    """

    clips: Mask
    detail: Callable[[int], str]
    captions: Mask | None = None


class Rule(Protocol):
    """A filter of curation."""

    @property
    def reason(self) -> str:
        """Its code, one of `errors.CURATION`."""
        ...

    def setting(self) -> str:
        """The setting that turns it on, as a person would write it in TOML."""
        ...

    def refuse(self, clips: ClipTable, standing: Standing) -> Refused:
        """Which clips of those that are still there it refuses."""
        ...


@dataclass(frozen=True, slots=True)
class Curated:
    """What came of all rules.

    Attributes:
        rule: the number of the rule that refused a clip, −1 for one that is kept; int16 `[N]`.
        refused: what each rule refused, for its details.
    """

    rules: Sequence[Rule]
    rule: NDArray[np.int16]
    refused: Sequence[Refused]

    def reason(self, clip: int) -> str:
        """Why a clip is refused; empty when it is kept."""
        number = int(self.rule[clip])
        return "" if number < 0 else self.rules[number].reason

    def detail(self, clip: int) -> str:
        """The score and the threshold behind it."""
        number = int(self.rule[clip])
        return "" if number < 0 else self.refused[number].detail(clip)


def curate(clips: ClipTable, rules: Sequence[Rule]) -> Curated:
    """Applies rules one after another; each sees what those before it left."""
    decided = np.full(len(clips), -1, np.int16)
    if not rules:
        return Curated(rules, decided, [])
    standing = Standing.of(clips)
    refused = []
    for number, rule in enumerate(rules):
        told = rule.refuse(clips, standing)
        decided[told.clips & standing.clips] = number
        standing.clips &= ~told.clips
        if told.captions is not None:
            standing.captions &= ~told.captions
        refused.append(told)
    return Curated(rules, decided, refused)


def refuse_alone(clips: ClipTable, rule: Rule) -> int:
    """How many clips a rule would refuse if it were the only one."""
    return int(np.count_nonzero(rule.refuse(clips, Standing.of(clips)).clips))
