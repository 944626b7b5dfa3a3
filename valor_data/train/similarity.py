"""VALOR's fine-grained similarity of two sets of tokens, without the tensor of all their dot products.

For a row r and a column k, with w a softmax over a side's own tokens (paper, equation 3):

    s(r, k) = ½ Σ_i w_i max_j ⟨r_i, k_j⟩ + ½ Σ_j w_j max_i ⟨r_i, k_j⟩

The dot products, R·I·K·J numbers, are made block by block and only their maxima are kept; the backward pass knows
from the places of the maxima which products it needs. T-V, T-A and T-AV come out of the same blocks: a maximum
over video and audio tokens is the greater of the two maxima.

    R  rows       I  tokens of a row       C  width
    K  columns    J  tokens of a column, segment after segment (video, then audio)    G  segments
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

HIDDEN = -1e4
"""Dot product with a token that is not there: below any cosine, and finite in half precision."""

BLOCK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Dot products in one block: on a CPU what fits its cache, on a GPU a quarter of a gigabyte."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One modality of some clips or texts, ready to be compared.

    Attributes:
        features: [B, N, C], of length 1.
        logits: [B, N]: how much a token counts, before the softmax over its clip.
        valid: [B, N], bool: tokens that are there; None: all are.
    """

    features: Tensor
    logits: Tensor
    valid: Tensor | None = None

    def __len__(self) -> int:
        return self.features.shape[0]

    def to(self, device: torch.device | str) -> Tokens:
        """The same on another device."""
        valid = None if self.valid is None else self.valid.to(device)
        return Tokens(self.features.to(device), self.logits.to(device), valid)

    def __getitem__(self, which: slice | Tensor) -> Tokens:
        valid = None if self.valid is None else self.valid[which]
        return Tokens(self.features[which], self.logits[which], valid)

    def filled(self) -> Tensor:
        """`valid` as a tensor."""
        return torch.ones_like(self.logits, dtype=torch.bool) if self.valid is None else self.valid

    @staticmethod
    def join(parts: Sequence[Tokens], dim: int = 0) -> Tokens:
        """Several sets of clips (`dim` 0), or several modalities of the same clips (1), laid end to end."""
        valid = None
        if any(part.valid is not None for part in parts):
            valid = torch.cat([part.filled() for part in parts], dim)
        return Tokens(
            torch.cat([part.features for part in parts], dim), torch.cat([part.logits for part in parts], dim), valid
        )

    def weights(self) -> Tensor:
        """Softmax of the logits over the tokens that are there, [B, N]; where none is, 0."""
        if self.valid is None:
            return self.logits.float().softmax(1)
        logits = self.logits.float().masked_fill(~self.valid, torch.finfo(torch.float32).min)
        return logits.softmax(1) * self.valid


def scores(
    rows: Mapping[str, Tokens], columns: Mapping[str, Tokens], groups: Iterable[str], zero_padding: bool = False
) -> dict[str, Tensor]:
    """Similarities of every row with every column, for each group.

    Args:
        rows: tokens by modality letter; of a group's first letter.
        columns: tokens by modality letter; of a group's other letters.
        groups: of `tasks.CONTRASTIVE_GROUPS`.
        zero_padding: the reference's treatment of tokens that are not there: their dot products are 0 and take part
            in the maxima. Otherwise they take no part.

    Returns:
        [R, K] for each group, float32.
    """
    groups = list(groups)
    if zero_padding:
        rows = {letter: _zeroed(tokens) for letter, tokens in rows.items()}
        columns = {letter: _zeroed(tokens) for letter, tokens in columns.items()}
    found: dict[str, Tensor] = {}
    for first in dict.fromkeys(group[0] for group in groups):
        found |= _scores_of_side(rows[first], columns, [g for g in groups if g[0] == first], zero_padding)
    return {group: found[group] for group in groups}


def _scores_of_side(
    rows: Tokens, columns: Mapping[str, Tokens], groups: list[str], zero_padding: bool
) -> dict[str, Tensor]:
    """The groups that have their rows in common, from one pass over the dot products."""
    parts = {letter: columns[letter] for letter in "tva" if any(letter in group[1:] for group in groups)}
    sizes = [part.features.shape[1] for part in parts.values()]
    joined = Tokens.join(list(parts.values()), dim=1)
    row_valid, column_valid = (None, None) if zero_padding else (rows.valid, joined.valid)
    best_column, best_row = token_maxima(rows.features, joined.features, sizes, row_valid, column_valid)
    if row_valid is not None:
        best_row = best_row.masked_fill(~row_valid.any(1)[:, None, None], 0.0)
    over_column = dict(zip(parts, best_column, strict=True))
    over_row = dict(zip(parts, best_row.split(sizes, 1), strict=True))
    row_weights = rows.weights()
    found = {}
    for group in groups:
        inside = [letter for letter in parts if letter in group[1:]]
        own = Tokens.join([parts[letter] for letter in inside], dim=1)
        best = reduce(torch.maximum, [over_column[letter] for letter in inside])
        if own.valid is not None and not zero_padding:
            best = best.masked_fill(~own.valid.any(1), 0.0)
        by_row = torch.bmm(row_weights[:, None], best)[:, 0]
        by_column = (torch.cat([over_row[letter] for letter in inside], 1) * own.weights().T[None]).sum(1)
        found[group] = (by_row + by_column) / 2
    return found


def _zeroed(tokens: Tokens) -> Tokens:
    if tokens.valid is None:
        return tokens
    return Tokens(tokens.features * tokens.valid[..., None], tokens.logits, tokens.valid)


def token_maxima(
    rows: Tensor,
    columns: Tensor,
    segments: Sequence[int],
    row_valid: Tensor | None = None,
    column_valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Greatest dot products of the tokens of every row with those of every column.

    Args:
        rows: [R, I, C].
        columns: [K, J, C].
        segments: how many tokens each segment of J has; they add up to J.
        row_valid: [R, I], bool: other tokens of a row take part in no maximum over I. None: all do.
        column_valid: [K, J], bool: the same over J.

    Returns:
        [G, R, I, K], the maxima over each segment of J, and [R, J, K], the maxima over I; float32. Where there is
        none to choose from, about `HIDDEN`.
    """
    with torch.autocast(rows.device.type, enabled=False):
        if torch.is_autocast_enabled(rows.device.type):
            dtype = torch.get_autocast_dtype(rows.device.type)
            rows, columns = rows.to(dtype), columns.to(dtype)
        found: tuple[Tensor, Tensor] = _Maxima.apply(rows, columns, list(segments), row_valid, column_valid)
    return found


class _Maxima(torch.autograd.Function):
    """`token_maxima`, block of rows by block of rows; only maxima and their places are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        segments: list[int],
        row_valid: Tensor | None,
        column_valid: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        num_rows, per_row, _ = rows.shape
        num_columns, per_column, _ = columns.shape
        left, right = _with_missing(rows, columns, row_valid, column_valid)
        right = right.transpose(0, 1).flatten(0, 1).mT.contiguous()  # [C, J·K]: a maximum runs over whole lines
        best_column = rows.new_empty((len(segments), num_rows, per_row, num_columns), dtype=torch.float32)
        best_row = rows.new_empty((num_rows, per_column, num_columns), dtype=torch.float32)
        column_place = torch.empty_like(best_column, dtype=_place_type(per_column))
        row_place = torch.empty_like(best_row, dtype=_place_type(per_row))
        for block in _blocks(num_rows, per_row * per_column * num_columns, rows.device.type):
            dots = (left[block].flatten(0, 1) @ right).view(-1, per_row, per_column, num_columns)
            value, place = dots.max(1)
            best_row[block], row_place[block] = value, place
            for i, part in enumerate(dots.split(segments, 2)):
                value, place = part.max(2)
                best_column[i, block], column_place[i, block] = value, place
        ctx.save_for_backward(rows, columns, column_place, row_place)
        ctx.segments = segments
        return best_column, best_row

    @staticmethod
    def backward(ctx: Any, column_grad: Tensor, row_grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, column_place, row_place = ctx.saved_tensors
        segments: list[int] = ctx.segments
        per_row, per_column, num_columns = rows.shape[1], columns.shape[1], columns.shape[0]
        flat = columns.transpose(0, 1).flatten(0, 1)  # [J·K, C]
        rows_grad = torch.empty_like(rows)
        flat_grad = torch.zeros_like(flat, dtype=torch.float32)
        for block in _blocks(rows.shape[0], per_row * per_column * num_columns, rows.device.type):
            grad = row_grad.new_zeros((rows[block].shape[0], per_row, per_column, num_columns))
            grad.scatter_(1, row_place[block].long()[:, None], row_grad[block][:, None])
            for i, part in enumerate(grad.split(segments, 2)):
                part.scatter_add_(2, column_place[i, block].long()[:, :, None], column_grad[i, block][:, :, None])
            dots_grad = grad.view(-1, per_column * num_columns).to(rows.dtype)
            rows_grad[block] = (dots_grad @ flat).view_as(rows_grad[block])
            flat_grad += dots_grad.mT @ rows[block].flatten(0, 1)
        columns_grad = flat_grad.view(per_column, num_columns, -1).transpose(0, 1).to(columns.dtype)
        return rows_grad, columns_grad, None, None, None


def _with_missing(
    rows: Tensor, columns: Tensor, row_valid: Tensor | None, column_valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both sides with extra places by which a dot product with a missing token becomes about `HIDDEN`."""
    extra_rows, extra_columns = [rows], [columns]
    for valid, own, other in (
        (row_valid, extra_rows, extra_columns),
        (column_valid, extra_columns, extra_rows),
    ):
        if valid is not None:
            own.append(((~valid) * HIDDEN).to(rows.dtype)[..., None])
            other.append(torch.ones_like(other[0][..., :1]))
    return torch.cat(extra_rows, -1), torch.cat(extra_columns, -1)


def _place_type(size: int) -> torch.dtype:
    return torch.uint8 if size <= 256 else torch.int32


def _blocks(num_rows: int, elements_per_row: int, device: str) -> list[slice]:
    """Slices of rows whose dot products fit a block."""
    step = max(1, BLOCK_ELEMENTS.get(device, BLOCK_ELEMENTS["cuda"]) // max(1, elements_per_row))
    return [slice(start, start + step) for start in range(0, num_rows, step)]


@torch.no_grad()
def score_matrix(
    rows: Mapping[str, Tokens],
    columns: Mapping[str, Tokens],
    group: str,
    zero_padding: bool = False,
    chunk: int = 512,
) -> Tensor:
    """Similarities of many rows with many columns, for retrieval: [R, K], float32, on the CPU.

    Args:
        rows: tokens by modality letter, wherever they lie.
        columns: the same.
        group: of `tasks.CONTRASTIVE_GROUPS`, such as `tva`.
        zero_padding: see `scores`.
        chunk: columns compared at once.
    """
    first, rest = group[0], group[1:]
    device = rows[first].features.device
    done = []
    for start in range(0, len(columns[rest[0]]), chunk):
        part = {letter: columns[letter][start : start + chunk].to(device) for letter in rest}
        done.append(scores({first: rows[first]}, part, [group], zero_padding)[group].cpu())
    return torch.cat(done, 1)
