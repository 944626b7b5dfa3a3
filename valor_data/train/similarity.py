"""VALOR's fine-grained similarity of two sets of tokens, without the tensor of all their dot products.

For a row r and a column k, with w a softmax over a side's own tokens (paper, equation 3):

    s(r, k) = ½ Σ_i w_i max_j ⟨r_i, k_j⟩ + ½ Σ_j w_j max_i ⟨r_i, k_j⟩

The dot products, R·I·K·J numbers, are made block of rows by block of rows, and nothing of them is kept but the
scores: the backward pass makes each block once more. T-V, T-A and T-AV come out of the same blocks, as the maximum
over video and audio tokens is the greater of the two maxima.

    R  rows       I  tokens of a row       C  width     r  rows of a block
    K  columns    J  tokens of a column, segment after segment (video, then audio)    G  groups
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

BLOCK_ELEMENTS = {"cpu": 1 << 17, "cuda": 1 << 26}
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
    joined = Tokens.join(list(parts.values()), dim=1)
    inside = [[i for i, letter in enumerate(parts) if letter in group[1:]] for group in groups]
    weights = torch.stack([_column_weights(list(parts.values()), members) for members in inside])
    plan = _Plan(
        segments=[part.features.shape[1] for part in parts.values()],
        inside=inside,
        row_valid=None if zero_padding else rows.valid,
        column_valid=None if zero_padding else joined.valid,
    )
    left, right = rows.features, joined.features
    device = left.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        left, right = left.to(dtype), right.to(dtype)
    with torch.autocast(device, enabled=False):
        found: Tensor = _Scores.apply(left, right, rows.weights(), weights, plan)
    return dict(zip(groups, found, strict=True))


def _column_weights(parts: list[Tokens], members: list[int]) -> Tensor:
    """Weights of a group's column tokens, [K, J]: one softmax over its segments, 0 in the others."""
    own = Tokens.join([parts[i] for i in members], dim=1).weights()
    shares = dict(zip(members, own.split([parts[i].logits.shape[1] for i in members], 1), strict=True))
    return torch.cat([shares.get(i, torch.zeros_like(part.logits).to(own)) for i, part in enumerate(parts)], 1)


def _zeroed(tokens: Tokens) -> Tokens:
    if tokens.valid is None:
        return tokens
    return Tokens(tokens.features * tokens.valid[..., None], tokens.logits, tokens.valid)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of the dot products belongs where.

    Attributes:
        segments: how many tokens each segment of J has.
        inside: for each group the segments that are its columns.
        row_valid: [R, I], bool: other tokens of a row take no part in maxima over I; None: all do.
        column_valid: [K, J], bool: the same over J.
    """

    segments: list[int]
    inside: list[list[int]]
    row_valid: Tensor | None
    column_valid: Tensor | None

    def multiplied(self, block: slice) -> Tensor | None:
        """The tokens of a block of rows that are multiplied at all, [r, I], bool; None: all.

        On a CPU padding is left out; a GPU would have to be waited for to know how much there is.
        """
        packed = self.row_valid is not None and self.row_valid.device.type == "cpu"
        return self.row_valid[block] if packed and self.row_valid is not None else None

    def dots(self, rows: Tensor, columns: Tensor, block: slice) -> Tensor:
        """Dot products of a block of rows, [r, I, J, K]; about `HIDDEN` where a token is not there.

        Args:
            rows: [R, I, C].
            columns: [J·K, C], so that a maximum runs over whole lines of K.
            block: of R.
        """
        part, there = rows[block], self.multiplied(block)
        if there is None:
            dots = part @ columns.mT
        else:
            dots = part.new_full((*part.shape[:2], columns.shape[0]), HIDDEN)
            dots[there] = part[there] @ columns.mT
        dots = dots.view(*part.shape[:2], sum(self.segments), -1)
        if there is None and self.row_valid is not None:
            dots += (~self.row_valid[block, :, None, None]) * HIDDEN
        if self.column_valid is not None:
            dots += (~self.column_valid.T) * HIDDEN
        return dots

    def blocks(self, rows: Tensor, num_columns: int) -> list[slice]:
        """Slices of R whose dot products fit a block."""
        per_row = rows.shape[1] * sum(self.segments) * num_columns
        step = max(1, BLOCK_ELEMENTS.get(rows.device.type, BLOCK_ELEMENTS["cuda"]) // max(1, per_row))
        return [slice(start, start + step) for start in range(0, rows.shape[0], step)]

    def present_rows(self, block: slice) -> Tensor | float:
        """[r, 1, 1]: 0 for a row that has no token at all, else 1."""
        return 1.0 if self.row_valid is None else self.row_valid[block].any(1)[:, None, None].float()

    def present_columns(self) -> list[Tensor | float]:
        """For each group, [K]: 0 for a column that has none of its tokens, else 1."""
        if self.column_valid is None:
            return [1.0] * len(self.inside)
        parts = self.column_valid.split(self.segments, 1)
        return [torch.cat([parts[i] for i in members], 1).any(1).float() for members in self.inside]


class _Scores(torch.autograd.Function):
    """Scores of several groups, [G, R, K]. Nothing between the tokens and the scores is kept.

    The backward pass makes each block of dot products once more, finds the places of its maxima, and writes what
    comes back for them into a tensor of zeros, which two products turn into the gradients of both sides.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, row_weights: Tensor, column_weights: Tensor, plan: _Plan
    ) -> Tensor:
        flat = columns.transpose(0, 1).flatten(0, 1)
        present = plan.present_columns()
        found = row_weights.new_empty((len(plan.inside), rows.shape[0], columns.shape[0]))
        for block in plan.blocks(rows, columns.shape[0]):
            dots = plan.dots(rows, flat, block)
            best_row = dots.amax(1).float() * plan.present_rows(block)
            over = [part.amax(2) for part in dots.split(plan.segments, 2)]
            for group, members in enumerate(plan.inside):
                best = reduce(torch.maximum, [over[i] for i in members]).float()
                by_row = torch.bmm(row_weights[block, None], best)[:, 0] * present[group]
                by_column = (best_row * column_weights[group].T).sum(1)
                found[group, block] = (by_row + by_column) / 2
        ctx.save_for_backward(rows, columns, row_weights, column_weights)
        ctx.plan = plan
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, row_weights, column_weights = ctx.saved_tensors
        plan: _Plan = ctx.plan
        grad = grad / 2
        to_rows = torch.stack([one * there for one, there in zip(grad, plan.present_columns(), strict=True)])
        flat = columns.transpose(0, 1).flatten(0, 1)
        rows_grad, row_weights_grad = torch.zeros_like(rows), torch.empty_like(row_weights)
        flat_grad = torch.zeros_like(flat, dtype=torch.promote_types(flat.dtype, torch.float32))
        column_weights_grad = torch.zeros_like(column_weights)
        for block in plan.blocks(rows, columns.shape[0]):
            weights = row_weights[block], column_weights
            halves = grad[:, block], to_rows[:, block]
            back, row_weights_grad[block], moved = _through_maxima(rows, flat, weights, halves, plan, block)
            column_weights_grad += moved
            there = plan.multiplied(block)
            if there is None:
                rows_grad[block] = back @ flat
                flat_grad += back.flatten(0, 1).mT @ rows[block].flatten(0, 1)
            else:
                back = back[there]
                rows_grad[block][there] = back @ flat
                flat_grad += back.mT @ rows[block][there]
            del back  # or it would lie beside the next block
        columns_grad = flat_grad.view(columns.shape[1], columns.shape[0], -1).transpose(0, 1).to(columns.dtype)
        return rows_grad, columns_grad, row_weights_grad, column_weights_grad, None


def _through_maxima(
    rows: Tensor,
    flat: Tensor,
    weights: tuple[Tensor, Tensor],
    halves: tuple[Tensor, Tensor],
    plan: _Plan,
    block: slice,
) -> tuple[Tensor, Tensor, Tensor]:
    """From scores back to dot products and weights, for a block of rows.

    Args:
        rows: [R, I, C].
        flat: [J·K, C].
        weights: of the block's rows, [r, I], and of each group's columns, [G, K, J].
        halves: half of what comes back for the scores, [G, r, K]; the second time without columns that have no token.
        plan: of segments and groups.
        block: of R.

    Returns:
        What comes back for the dot products, [r, I, J·K], for the rows' weights, [r, I], and for the columns' weights,
        [G, K, J].
    """
    dots, present = plan.dots(rows, flat, block), plan.present_rows(block)
    back = torch.zeros_like(dots)
    best, place = dots.max(1)
    for_columns = torch.einsum("grk,rjk->gkj", halves[0], best.float() * present)
    pulled = torch.einsum("grk,gkj->rjk", halves[0], weights[1]) * present
    back.scatter_(1, place[:, None], pulled[:, None].to(back.dtype))
    for_rows = _over_columns(dots, back, weights[0], halves[1], plan)
    return back.flatten(2), for_rows, for_columns


def _over_columns(dots: Tensor, back: Tensor, row_weights: Tensor, grad: Tensor, plan: _Plan) -> Tensor:
    """The part of the backward pass that goes through the maxima over J.

    Args:
        dots: [r, I, J, K].
        back: the same shape; what comes back for each dot product is added to it.
        row_weights: [r, I].
        grad: [G, r, K], half of what comes back for the scores.
        plan: of segments and groups.

    Returns:
        [r, I]: what comes back for the weights.
    """
    best, place = zip(*[part.max(2) for part in dots.split(plan.segments, 2)], strict=True)
    weights_grad = torch.zeros_like(row_weights)
    pulled = [torch.zeros_like(one, dtype=row_weights.dtype) for one in best]
    for members, one_grad in zip(plan.inside, grad, strict=True):
        greatest = reduce(torch.maximum, [best[i] for i in members])
        weights_grad += torch.bmm(greatest.float(), one_grad[:, :, None])[:, :, 0]
        pull = row_weights[:, :, None] * one_grad[:, None, :]
        for i in members:
            wins = best[i] == greatest
            pulled[i] += pull * wins
            pull = pull * ~wins  # of equal segments the first one alone
    for part, where, one in zip(back.split(plan.segments, 2), place, pulled, strict=True):
        part.scatter_add_(2, where[:, :, None], one[:, :, None].to(part.dtype))
    return weights_grad


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
