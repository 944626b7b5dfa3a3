"""Counts of values in ranges, from columns, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Histogram:
    """How many values lie between neighbouring edges, for each group of clips.

    Attributes:
        unit: of the values.
        edges: E + 1 rising numbers for E ranges; a range holds its lower edge, the last one its upper edge too.
        groups: for each group, counts int64 `[E + 2]`: those below the first edge, of each range, above the last.
    """

    unit: str
    edges: tuple[float, ...]
    groups: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, group: str, values: NDArray[Any]) -> None:
        """Counts values of a group; those that are no number are left out."""
        counts = self.groups.setdefault(group, np.zeros(len(self.edges) + 1, np.int64))
        values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
        counts[1:-1] += np.histogram(values, self.edges)[0]
        counts[0] += np.count_nonzero(values < self.edges[0])
        counts[-1] += np.count_nonzero(values > self.edges[-1])

    @property
    def total(self) -> int:
        """Values counted, of all groups."""
        return int(sum(counts.sum() for counts in self.groups.values()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "unit": self.unit,
            "edges": list(self.edges),
            "groups": [
                {"group": name, "below": int(c[0]), "counts": c[1:-1].tolist(), "above": int(c[-1])}
                for name, c in self.groups.items()
            ],
        }


def percentile_of_counts(counts: NDArray[np.int64], share: float) -> int:
    """The smallest whole number that at least this share of the values does not pass.

    Args:
        counts: how many values are 0, 1, 2, …; not all zero.
        share: 0 to 1.
    """
    return int(np.searchsorted(np.cumsum(counts), max(1, np.ceil(share * counts.sum()))))


def counts_of(column: Any) -> dict[Any, int]:
    """How often each value of an Arrow column stands there, in order of first appearance."""
    import pyarrow.compute as pc

    counts: Any = pc.value_counts(column)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def counted(values: Mapping[str, int] | Sequence[tuple[str, int]], name: str) -> list[dict[str, Any]]:
    """Counts as a list of objects, the most frequent first, equal ones in order of their names."""
    pairs = values.items() if isinstance(values, Mapping) else values
    return [{name: key, "count": int(number)} for key, number in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]
