"""Which words a model must guess: chosen for a whole batch at once.

B  texts    T  tokens, start and end marks included    m  tokens of a text that may be chosen
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PAD, START, END, MASK = 0, 101, 102, 103
"""Token ids of uncased BERT (its vocab.txt)."""

FIRST_WORD = 106
"""The first id that a random replacement may take (the reference's own lower end)."""

NOT_PREDICTED = -1
"""Label of a token that the loss leaves out."""


@dataclass(frozen=True, slots=True)
class Masked:
    """A batch of texts with gaps.

    Attributes:
        ids: [B, T], int64: the text with chosen tokens replaced.
        labels: [B, T], int64: the original id where a token was chosen, `NOT_PREDICTED` elsewhere.
    """

    ids: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Masked:
        """The same on another device."""
        return Masked(self.ids.to(device), self.labels.to(device))


def mask_tokens(ids: Tensor, share: float, vocabulary: int, generator: torch.Generator | None = None) -> Masked:
    """Chooses tokens to guess and hides them: 80 % `[MASK]`, 10 % a random word, 10 % left as they are.

    Each token but the first and the padding is chosen with probability `share`, and a text of which nothing was
    chosen is drawn again. That is a draw under the condition that at least one is chosen, and is made as such:
    first the place of the first chosen token (a geometric law cut off after m tokens), then every later token by
    itself. So nothing is repeated, and a GPU is never waited for.

    Args:
        ids: [B, T], int64.
        share: probability of a token; VALOR: 0.6 for captions, 0.15 for masked language modelling, 0.99 for answers.
        vocabulary: ids are below this.
        generator: where the randomness comes from; it may live on the CPU while `ids` are on a GPU.
    """
    eligible = ids != PAD
    eligible[:, 0] = False
    device = generator.device if generator is not None else ids.device
    draws = torch.rand((3, *ids.shape), generator=generator, device=device).to(ids.device)
    words = torch.randint(FIRST_WORD, vocabulary, ids.shape, generator=generator, device=device).to(ids.device)
    rank = eligible.cumsum(1) - 1  # of a token among those that may be chosen
    first = _first_chosen(draws[0, :, 0], eligible.sum(1), share)[:, None]
    chosen = eligible & ((rank == first) | ((rank > first) & (draws[1] < share)))
    replaced = torch.where(draws[2] < 0.8, MASK, torch.where(draws[2] < 0.9, words, ids))
    return Masked(torch.where(chosen, replaced, ids), torch.where(chosen, ids, NOT_PREDICTED))


def _first_chosen(draw: Tensor, num_eligible: Tensor, share: float) -> Tensor:
    """Rank of the first chosen token, [B], given that one of the m is: P(r) = p·q^r / (1 - q^m), q = 1 - p."""
    if share >= 1:
        return torch.zeros_like(num_eligible)
    log_q = math.log1p(-share)
    some = -torch.expm1(num_eligible.double() * log_q)  # 1 - q^m
    rank = (torch.log1p(-draw.double() * some) / log_q).floor().long()
    return torch.minimum(rank, (num_eligible - 1).clamp(min=0))
