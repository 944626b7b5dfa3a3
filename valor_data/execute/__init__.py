"""Where work runs. A stage gives plain functions and units; an executor gives back results in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Lost:
    """A unit whose worker did not come back with a result.

    Attributes:
        reason: `timeout` (a deadline passed) or `crashed` (the worker died, or ran out of memory).
        item: what the worker had in hand when it was lost (see `guard.working_on`); empty if unknown.
        detail: how it ended, in words.
    """

    reason: str
    item: str
    detail: str


@dataclass(slots=True)
class Suspects:
    """Items that a worker died on once.

    A worker may be killed from outside (a full memory, an operator) with an innocent item in hand: only the second
    death on the same item in a run blames it. A deadline that passed needs no second look.
    """

    items: set[str] = field(default_factory=set)

    def is_first_crash(self, lost: Lost, unit: str) -> bool:
        """Whether to try once more before the item is blamed (the unit, where nothing was in hand)."""
        item = lost.item or unit
        if lost.reason != "crashed" or item in self.items:
            return False
        self.items.add(item)
        return True


class Idle:
    """Given by a source of units that has nothing to hand out right now, but may have later."""


IDLE = Idle()


class Executor(Protocol):
    """Runs a function over units of work, each in isolation from the others."""

    def run(
        self,
        function: Callable[[Any], Any],
        units: Iterable[Any],
        *,
        deadline_seconds: float | None = None,
        in_flight: int | None = None,
    ) -> Iterator[tuple[Any, Any | Lost]]:
        """Gives (unit, result) as they are done, in any order; `Lost` in place of a lost result.

        Units are drawn as workers become free, so an endless or lazily made iterable is fine. One that gives
        `IDLE` is asked again a little later; nothing else waits for it.

        Args:
            function: importable by name; called as `function(unit)` in a worker.
            units: picklable.
            deadline_seconds: time for one unit, after which its worker is killed; None: no limit.
            in_flight: units drawn and not done at any time; None: two for each worker, so that none is idle.

        Raises:
            Exception: whatever `function` raised; a stage's function catches what a clip can cause.
        """
        ...

    def close(self) -> None:
        """Stops the workers. Nothing of theirs is left running."""
        ...
