"""At which place each query finds what it looks for, both ways, from one matrix of similarities.

A query's place is one more than the number of wrong items that score at least as high as its best right one: ties
count against the model, so one that says the same of everything finds nothing.

    Q  queries (rows of this process)    K  items (columns, the same on every process)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from valor_data.train.gather import gather_objects, highest, total

DEPTHS = (1, 5, 10)
"""Of recall: VALOR's R@1, R@5 and R@10."""

_BLOCK_NUMBERS = 1 << 22
"""Similarities looked at together: 16 MB a copy."""

Rescale = Callable[[Tensor], Tensor]
"""What becomes of a block of rows, [q, K], before anything is compared."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Similarities of this process's rows with the columns of all, and what belongs to what.

    Attributes:
        scores: [Q, K], float32, on the CPU.
        row_owners: [Q], int64: the clip each row is of.
        column_owners: [K], int64: the clip each column is of.
    """

    scores: Tensor
    row_owners: Tensor
    column_owners: Tensor

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows some at a time: their scores [q, K], and whether row and column are of the same clip [q, K]."""
        step = max(1, _BLOCK_NUMBERS // max(1, self.scores.shape[1]))
        for start in range(0, self.scores.shape[0], step):
            part = slice(start, start + step)
            yield self.scores[part], self.row_owners[part, None] == self.column_owners[None]

    def num_wrong(self) -> int:
        """Scores of all processes that are no numbers."""
        wrong = sum(int((~block.isfinite()).sum()) for block, _ in self.blocks())
        return int(total(torch.tensor(wrong)))


def row_places(matrix: Matrix, rescale: Rescale | None = None) -> list[int]:
    """The place, from 1, at which each row finds a column of its clip; rows of all processes.

    A row whose clip has no column is left out.
    """
    found: list[int] = []
    for block, right in matrix.blocks():
        scores = rescale(block) if rescale else block
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        places = 1 + ((scores >= best) & ~right).sum(1)
        found += places[right.any(1)].tolist()
    return [place for part in gather_objects(found) for place in part]


def column_places(matrix: Matrix, rescale: Rescale | None = None) -> list[int]:
    """The place, from 1, at which each column finds a row of its clip, among the rows of all processes.

    A column whose clip has no row is left out.
    """
    num_columns = matrix.scores.shape[1]
    best = torch.full((num_columns,), -torch.inf, dtype=torch.float64)
    for block, right in matrix.blocks():
        scores = rescale(block) if rescale else block
        best = torch.maximum(best, scores.double().masked_fill(~right, -torch.inf).amax(0))
    best = highest(best)
    ahead = torch.zeros(num_columns, dtype=torch.int64)
    for block, right in matrix.blocks():
        scores = rescale(block) if rescale else block
        ahead += ((scores.double() >= best) & ~right).sum(0)
    places: list[int] = (1 + total(ahead))[best > -torch.inf].tolist()
    return places


def dual_softmax_of_rows(matrix: Matrix, scale: float) -> Rescale:
    """DSL where rows are the queries: S · softmax(S/τ, over all rows) · number of rows.

    Every column's similarities compete for it, so that no item answers every query. It looks at all queries of the
    test at once (Cheng et al., 2021; VALOR's best numbers use it).

    Args:
        matrix: the similarities.
        scale: 1/τ, the model's temperature.
    """
    num_columns = matrix.scores.shape[1]
    top = torch.full((num_columns,), -torch.inf, dtype=torch.float64)
    for block, _ in matrix.blocks():
        top = torch.maximum(top, block.double().amax(0))
    top = highest(top)
    mass = torch.zeros(num_columns, dtype=torch.float64)
    for block, _ in matrix.blocks():
        mass += ((block.double() - top) * scale).exp().sum(0)
    mass = total(mass)
    num_rows = int(total(torch.tensor(matrix.scores.shape[0])))
    return lambda block: block.double() * ((block.double() - top) * scale).exp() / mass * num_rows


def dual_softmax_of_columns(matrix: Matrix, scale: float) -> Rescale:
    """DSL where columns are the queries: S · softmax(S/τ, over all columns) · number of columns."""
    num_columns = matrix.scores.shape[1]
    return lambda block: block.double() * (block.double() * scale).softmax(1) * num_columns


def summary(places: Sequence[int]) -> dict[str, float]:
    """Recall in percent at 1, 5 and 10 (`r1`, …), their mean (`mean_r`), `median_rank` and `mean_rank`."""
    found = {f"r{depth}": 100 * sum(place <= depth for place in places) / len(places) for depth in DEPTHS}
    found["mean_r"] = sum(found.values()) / len(DEPTHS)
    found["median_rank"] = float(statistics.median(places))
    found["mean_rank"] = sum(places) / len(places)
    return found
