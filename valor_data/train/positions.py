"""Position tables of another grid: how a table learned at one size starts at another.

N  positions    W  width of a token
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int], extra: int = 1) -> Tensor:
    """A position table for a grid of `new` rows and columns from one for `old`, bilinear as VALOR does it.

    Args:
        table: [extra + old rows · old columns, W]: special tokens, then the grid row by row.
        old: rows and columns of the grid in `table`.
        new: rows and columns wanted.
        extra: special tokens in front (AudioSet's AST: 2, class and distillation). The first one is kept, a second
            one is dropped.

    Returns:
        [1 + new rows · new columns, W]

    Raises:
        ValueError: the table does not hold that grid.
    """
    if table.shape[0] != extra + old[0] * old[1]:
        raise ValueError(f"a table of {table.shape[0]} positions is not {extra} + {old[0]} × {old[1]}")
    special, grid = table[:1], table[extra:]
    if old != new:
        image = grid.T.reshape(1, -1, *old)
        resized = functional.interpolate(image.float(), size=new, mode="bilinear", align_corners=False)
        grid = resized.reshape(table.shape[1], -1).T.to(table.dtype)
    return torch.cat((special, grid))
