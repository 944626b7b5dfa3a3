"""Slices of log-mel to tokens: AST's layers from transformers behind VALOR's own embedding.

B  clips    S  slices of a clip    M  mel bands    L  mel frames of a slice
N  tokens of a slice: the class token, then patches, mel band by mel band    W  width of a token
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from .presets import SoundConfig


class SoundEmbeddings(nn.Module):
    """Patches, one class token, positions. AST of transformers has a distillation token too, VALOR has not."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, config.width, kernel_size=config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.zeros(config.width))
        self.positions = nn.Parameter(torch.zeros(config.tokens_per_slice, config.width))
        self.dropout = nn.Dropout(config.dropout)
        for parameter in (self.class_token, self.positions):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, mel: Tensor) -> Tensor:
        """[B·S, M, L] to [B·S, N, W]."""
        patches = self.patch(mel[:, None]).flatten(2).transpose(1, 2)
        start = self.class_token.to(patches.dtype).expand(patches.shape[0], 1, -1)
        embedded: Tensor = self.dropout(torch.cat((start, patches), 1) + self.positions)
        return embedded


class Sound(nn.Module):
    """AST, pre-norm, every slice by itself."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.config = config
        self.ast = ASTModel(
            ASTConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feed_forward,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                num_mel_bins=config.mel_bins,
                max_length=config.slice_frames,
                frequency_stride=config.patch,
                time_stride=config.patch,
                attn_implementation="sdpa",
            )
        )
        self.ast.embeddings = SoundEmbeddings(config)

    def forward(self, mel: Tensor, valid: Tensor | None = None) -> Tensor:
        """The tokens of every slice.

        Args:
            mel: [B, S, M, L], normalised.
            valid: [B, S, N] of `token_valid`, bool: other tokens are not attended to. None: all are.

        Returns:
            [B, S, N, W]
        """
        mask = None
        if valid is not None:
            mask = valid.flatten(0, 1)
            mask = torch.cat((torch.ones_like(mask[:, :1]), mask[:, 1:]), 1)  # the class token, so that no row is empty
        hidden: Tensor = self.ast(mel.flatten(0, 1), attention_mask=mask).last_hidden_state
        return hidden.view(*mel.shape[:2], *hidden.shape[1:])

    def token_valid(self, mel_valid: Tensor) -> Tensor:
        """Which tokens hold sound of the clip: [B, S, L] of frames to [B, S, N].

        A patch does when one of its frames does, a class token when one of its slice's frames does.
        """
        rows, columns = self.config.grid
        in_time = mel_valid.unflatten(-1, (columns, self.config.patch)).any(-1)  # [B, S, columns]
        patches = in_time.repeat(1, 1, rows)
        return torch.cat((in_time.any(-1, keepdim=True), patches), -1)

    @property
    def layers(self) -> Iterable[nn.Module]:
        """The blocks."""
        return list(self.ast.layers)
