"""Small parts around the encoders: what the decoder looks at, and the space where similarities are taken.

B  clips   F  frames or slices of a clip   N  tokens   W  width   C  contrastive width
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .presets import ModelConfig
from .similarity import Tokens

MIN_TEMPERATURE = 0.01
"""Lowest τ of ours: CLIP's own bound (its scale is at most 100)."""

_EPS = 1e-12  # of the norm behind a projection: the reference's


class ModalityTokens(nn.Module):
    """An encoder's tokens as the decoder wants them: its width, which frame they are of, which modality they are.

    Args:
        in_width: of the encoder's tokens; where it is not the decoder's, a linear layer and a norm come first.
        width: the decoder's.
        max_frames: rows of the table of frame (or slice) embeddings.
    """

    def __init__(self, in_width: int, width: int, max_frames: int) -> None:
        super().__init__()
        self.project: nn.Module = nn.Identity()
        if in_width != width:
            linear = nn.Linear(in_width, width)
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            self.project = nn.Sequential(linear, nn.LayerNorm(width, eps=_EPS))
        self.frames = nn.Parameter(torch.empty(max_frames, width).normal_(std=0.02))
        self.kind = nn.Parameter(torch.empty(width).normal_(std=0.02))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, F, N, in_width] to [B, F·N, W]."""
        projected = self.project(tokens)
        placed: Tensor = projected + self.frames[: tokens.shape[1], None] + self.kind
        return placed.flatten(1, 2)


class Contrast(nn.Module):
    """Features, token weights and temperature. Modalities go by their letters: t, v, a."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.contrastive_width
        in_widths = {"t": config.language.width, "v": config.vision.out_width, "a": config.sound.width}
        self.project = nn.ModuleDict({m: nn.Linear(size, width, bias=False) for m, size in in_widths.items()})
        self.weigh = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)) for m in in_widths}
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.free = config.free_temperature
        self.bounded = not config.reference_exact
        start = config.temperature if self.free else -math.log(config.temperature)
        self.temperature = nn.Parameter(torch.tensor([start]))  # [1]: FSDP takes no scalars

    def scale(self, temperature: Tensor | None = None) -> Tensor:
        """1/τ, what similarities are multiplied by; a scalar.

        Args:
            temperature: in the place of the parameter, where that is sharded; [1].
        """
        value = (self.temperature if temperature is None else temperature)[0]
        if self.free:
            return 1 / value
        return (value.clamp(max=-math.log(MIN_TEMPERATURE)) if self.bounded else value).exp()

    def forward(self, letter: str, hidden: Tensor, valid: Tensor | None, gradient: float = 1.0) -> Tokens:
        """Tokens of a modality, ready to be compared.

        Args:
            letter: t, v or a.
            hidden: [B, N, width of the encoder].
            valid: [B, N], bool, or None.
            gradient: what the gradient into the encoder is multiplied by, see `losses`.
        """
        features = functional.normalize(self.project[letter](hidden).float(), dim=-1)
        features = scale_gradient(features, gradient)
        return Tokens(features, self.weigh[letter](features)[..., 0], valid)


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """The value as it is; its gradient times a factor."""
    if factor == 1:
        return value
    return value * factor + (value * (1 - factor)).detach()
