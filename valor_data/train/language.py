"""One BERT that reads and writes: text encoder, and decoder that looks at a clip.

The layers are transformers' BERT with its cross-attention: after the self-attention of each layer the text looks
at the clip's video and audio tokens, laid end to end; with no clip that step is left out. A prompt or a question
stands behind the text: its positions count from 0 again and its token type is `PROMPT_TYPE`.

    B  texts   T  tokens of a text   P  tokens of a prompt   N  tokens of the clip   W  width   V  vocabulary
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from .masking import PAD
from .presets import LanguageConfig

PROMPT_TYPE = 2
"""Token type of a prompt: BERT has types 0 and 1, VALOR learns a third vector for prompts."""

Reading = Literal["both", "causal"]
"""What a token of the text may see of the text: words on both sides, or itself and those before it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What the decoder looks at.

    Attributes:
        tokens: [B, N, W].
        valid: [B, N], bool: tokens that may be looked at; None: all. A clip with none is looked at whole: a loss
            leaves it out, and no row of the attention is empty.
    """

    tokens: Tensor
    valid: Tensor | None = None

    def mask(self) -> Tensor | None:
        """[B, 1, 1, N], bool, for the attention."""
        if self.valid is None:
            return None
        return (self.valid | ~self.valid.any(1, keepdim=True))[:, None, None, :]


class WordHead(nn.Module):
    """From a hidden state to a score for each word; the last matrix is the table of words itself."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """[..., W] and the table [V, W] to [..., V]."""
        return functional.linear(self.norm(functional.gelu(self.dense(hidden))), words, self.bias)


class Language(nn.Module):
    """BERT as encoder and decoder, its weights shared, and the head that guesses words."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BertModel(
            BertConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feed_forward,
                max_position_embeddings=config.positions,
                type_vocab_size=3,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                is_decoder=True,
                add_cross_attention=True,
                use_cache=False,
                attn_implementation="sdpa",
            ),
            add_pooling_layer=False,
        )
        self.head = WordHead(config)

    @property
    def words(self) -> Tensor:
        """The table of words, [V, W]."""
        table: Tensor = self.bert.embeddings.word_embeddings.weight
        return table

    def forward(
        self, ids: Tensor, reading: Reading = "both", clip: Clip | None = None, prompt: Tensor | None = None
    ) -> Tensor:
        """Hidden states of a text and of the prompt behind it.

        Args:
            ids: [B, T], int64.
            reading: what the text sees of itself. Either way it sees the whole prompt; a prompt sees the text only
                when `both`.
            clip: what to look at; None: nothing, as a text encoder.
            prompt: [B, P], int64, or [P] for one that all texts share.

        Returns:
            [B, T + P, W]
        """
        mask = text_mask(ids, reading)
        positions = torch.arange(ids.shape[1], device=ids.device)
        types = torch.zeros_like(positions)
        if prompt is not None:
            prompt = prompt.expand(ids.shape[0], -1)
            mask = prompt_mask(mask, ids, prompt, reading)
            behind = torch.arange(prompt.shape[1], device=ids.device)
            positions = torch.cat((positions, behind))
            types = torch.cat((types, torch.full_like(behind, PROMPT_TYPE)))
            ids = torch.cat((ids, prompt), 1)
        hidden: Tensor = self.bert(
            input_ids=ids,
            attention_mask=mask[:, None],
            token_type_ids=types.expand_as(ids),
            position_ids=positions.expand_as(ids),
            encoder_hidden_states=None if clip is None else clip.tokens,
            encoder_attention_mask=None if clip is None else clip.mask(),
            use_cache=False,
        ).last_hidden_state
        return hidden

    def scores(self, hidden: Tensor) -> Tensor:
        """A score for each word, [..., V], from hidden states [..., W]."""
        scores: Tensor = self.head(hidden, self.words)
        return scores

    @property
    def layers(self) -> Iterable[nn.Module]:
        """The blocks."""
        return list(self.bert.encoder.layer)


def text_mask(ids: Tensor, reading: Reading) -> Tensor:
    """What each token may see, [B, T, T], bool: no padding, and with `causal` nothing after itself."""
    seen = (ids != PAD)[:, None, :].expand(-1, ids.shape[1], -1)
    if reading == "causal":
        seen = seen & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
    return seen


def prompt_mask(mask: Tensor, ids: Tensor, prompt: Tensor, reading: Reading) -> Tensor:
    """The mask of a text with a prompt behind it, [B, T + P, T + P], from that of the text."""
    behind = (prompt != PAD)[:, None, :]
    from_text = torch.cat((mask, behind.expand(-1, ids.shape[1], -1)), 2)
    text_seen = (ids != PAD)[:, None, :].expand(-1, prompt.shape[1], -1)
    if reading == "causal":
        text_seen = torch.zeros_like(text_seen)
    from_prompt = torch.cat((text_seen, behind.expand(-1, prompt.shape[1], -1)), 2)
    return torch.cat((from_text, from_prompt), 1)
