"""Stored log-mel to what the audio encoder takes: slices of equal length, normalised, padded, marked.

Shapes: T mel frames of a clip, M bands, S slices chosen, L mel frames of a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valor_data.train.choice import choose

VALOR_MEAN = -4.2677393
VALOR_STD = 4.5689974
"""AST's figures of AudioSet (16 kHz, 128 bands), which VALOR uses for its own 64 bands at 22 050 Hz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSliceSettings:
    """How a clip's mel is cut and scaled.

    Attributes:
        count: slices of a clip (S). VALOR: 1 in pretraining, 2 for VALOR-32K, MSR-VTT and AudioCaps.
        length: mel frames of a slice (L). VALOR's `audio_target_length`: 512, that is 5.1 s.
        mean: taken from every value; see `valor-data stats --mel`.
        std: values are divided by twice this, as AST and VALOR do.
        reference_exact: pad before normalising (a pad is then 0.467 and not 0), with one slice of nothing but
            padding where T is a multiple of L.
    """

    count: int = 1
    length: int = 512
    mean: float = VALOR_MEAN
    std: float = VALOR_STD
    reference_exact: bool = False


def cut_mel(
    mel: NDArray[Any], settings: MelSliceSettings, rng: np.random.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Cuts a clip's mel into slices that do not overlap and chooses some of them.

    The slices are split into `count` near-equal groups; a random one of each in training, the lower middle
    in test. A clip with fewer slices repeats its last.

    Args:
        mel: floating `[T, M]`, T ≥ 1, natural log, not normalised.
        settings: length, number and scale.
        rng: draws in training; None for test.

    Returns:
        float32 `[S, M, L]`, normalised, padded with 0 behind the sound; and bool `[S, L]`, False where padded.
    """
    num_frames, num_bands = mel.shape
    length = settings.length
    num_slices = num_frames // length + 1 if settings.reference_exact else -(-num_frames // length)
    slices = torch.zeros(settings.count, num_bands, length)
    valid = torch.zeros(settings.count, length, dtype=torch.bool)
    for place, number in enumerate(choose(num_slices, settings.count, rng)):
        part = np.asarray(mel[number * length : (number + 1) * length], dtype=np.float32)
        slices[place, :, : len(part)] = torch.from_numpy(part).T
        valid[place, : len(part)] = True
    scaled = slices.sub_(settings.mean).div_(2 * settings.std)
    if not settings.reference_exact:
        scaled.masked_fill_(~valid.unsqueeze(1), 0.0)
    return scaled, valid
