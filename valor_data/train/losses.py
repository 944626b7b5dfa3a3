"""VALOR's losses over the clips of all ranks, with the gradient that one process would compute.

MGA: every rank compares its own rows with the columns of all ranks; the rows of similarities are then gathered, so
that each rank has the whole matrix and the same loss. Gradients of columns are summed over ranks on their way back.
What a rank's backward pass leaves in the parameters is its part times the number of ranks: their mean, which DDP
and FSDP take, is the gradient of the loss.

All ranks must have equally many clips.

    G  groups   b  clips of this rank   B  clips of all ranks   T  text tokens   V  vocabulary   W  width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from .masking import NOT_PREDICTED
from .similarity import Tokens, scores


def num_ranks() -> int:
    """Processes that train together; 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def contrastive_losses(
    own: Mapping[str, Tokens],
    groups: Sequence[str],
    scale: Tensor,
    has_sound: Tensor | None = None,
    zero_padding: bool = False,
) -> dict[str, Tensor]:
    """MGA: symmetric cross-entropy of similarities over the clips of all ranks, for each group.

    Args:
        own: tokens of this rank's clips by modality letter.
        groups: of `tasks.CONTRASTIVE_GROUPS`.
        scale: 1/τ.
        has_sound: [b], bool: the other clips are no rows and no columns of a group with `a`. None: all have.
        zero_padding: the reference's treatment of padding, see `similarity.scores`.

    Returns:
        A scalar for each group: the mean of −log softmax at the diagonal, along rows and along columns. 0 where no
        clip is left.
    """
    wanted = [letter for letter in "tva" if any(letter in group[1:] for group in groups)]  # in one order on all ranks
    columns = {letter: gather_tokens(own[letter]) for letter in wanted}
    found = scores(own, columns, groups, zero_padding)
    matrices = gather_rows(torch.stack([found[group] * scale for group in groups], 1)).unbind(1)
    sound = None if has_sound is None else gather_plain(has_sound)
    return {
        group: symmetric_loss(matrix, sound if "a" in group else None)
        for group, matrix in zip(groups, matrices, strict=True)
    }


def symmetric_loss(matrix: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean of −log softmax at the diagonal of [B, B], along rows and along columns, over the clips that are present."""
    if present is None:
        target = torch.arange(matrix.shape[0], device=matrix.device)
        return (functional.cross_entropy(matrix, target) + functional.cross_entropy(matrix.T, target)) / 2
    hidden = torch.finfo(matrix.dtype).min
    along_rows = matrix.masked_fill(~present[None, :], hidden).log_softmax(1).diagonal()
    along_columns = matrix.masked_fill(~present[:, None], hidden).log_softmax(0).diagonal()
    each = torch.where(present, along_rows + along_columns, 0.0)
    return -each.sum() / (2 * present.sum().clamp(min=1))


def word_loss(hidden: Tensor, labels: Tensor, score_words: Any, over_ranks: bool = True) -> Tensor:
    """Mean cross-entropy over the tokens that were hidden; 0 where there is none.

    Args:
        hidden: [b, T, W]; scores are made for the hidden tokens alone.
        labels: [b, T], int64; `NOT_PREDICTED` where nothing is asked.
        score_words: from [n, W] to [n, V].
        over_ranks: whether the mean is over the tokens of all ranks, or of each rank and then over ranks.

    Returns:
        This rank's part, a scalar: the mean over ranks is the loss.
    """
    asked = labels != NOT_PREDICTED
    count = asked.sum()
    total = functional.cross_entropy(score_words(hidden[asked]).float(), labels[asked], reduction="sum")
    if over_ranks and num_ranks() > 1:
        count = count.float()
        dist.all_reduce(count)
        count = count / num_ranks()
    return total / count.clamp(min=1e-6 if over_ranks and num_ranks() > 1 else 1)


def gather_tokens(tokens: Tokens) -> Tokens:
    """The tokens of all ranks, rank after rank, in one message; gradients are summed on the way back."""
    if num_ranks() == 1:
        return tokens
    parts = [tokens.features.float(), tokens.logits.float()[..., None], tokens.filled().float()[..., None]]
    gathered: Tensor = _GatherColumns.apply(torch.cat(parts, -1))
    valid = None if tokens.valid is None else gathered[..., -1].detach() > 0.5
    return Tokens(gathered[..., :-2], gathered[..., -2], valid)


def gather_rows(own: Tensor) -> Tensor:
    """[b, …] of all ranks, [B, …]. For what every rank goes on to compute alike: its gradient is its own part times
    the number of ranks.
    """
    gathered: Tensor = own if num_ranks() == 1 else _GatherRows.apply(own)
    return gathered


def gather_plain(own: Tensor) -> Tensor:
    """[b, …] of all ranks, with no gradient."""
    return own if num_ranks() == 1 else _all_gather(own.to(torch.uint8)).to(own.dtype)


def _all_gather(own: Tensor) -> Tensor:
    gathered = own.new_empty((num_ranks() * own.shape[0], *own.shape[1:]))
    dist.all_gather_into_tensor(gathered, own.contiguous())
    return gathered


class _GatherColumns(torch.autograd.Function):
    """All ranks' tensors; each rank's gradient is the sum of what all ranks computed for it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _all_gather(own)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        size = grad.shape[0] // num_ranks()
        if dist.get_backend() == "nccl":
            own = grad.new_empty((size, *grad.shape[1:]))
            dist.reduce_scatter_tensor(own, grad)
            return own
        dist.all_reduce(grad)
        return grad[dist.get_rank() * size :][:size]


class _GatherRows(torch.autograd.Function):
    """All ranks' tensors; the gradient is this rank's own part, times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _all_gather(own)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        size = grad.shape[0] // num_ranks()
        return grad[dist.get_rank() * size :][:size] * num_ranks()
