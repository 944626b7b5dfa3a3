"""How loud a clip is: over all its channels, before any down-mix.

Shapes: C channels, N samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valor_data.media.sound import Sound

FLOOR_DBFS = -150.0
"""What digital silence measures: levels are never minus infinity."""

SILENCE_DBFS = -60.0
"""A window with a lower RMS is silent (DESIGN's threshold for a whole clip)."""

SILENCE_WINDOW_SECONDS = 0.05

FULL_SCALE = 1.0 - 1.0 / 32768.0
"""The largest 16-bit sample; a value at or beyond it, up or down, is taken as clipped."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of a clip, in dB below full scale, and two shares between 0 and 1.

    Attributes:
        rms_dbfs: root mean square over every sample of every channel where sound exists; a full-scale
            square wave is 0, a full-scale sine −3. `FLOOR_DBFS` when there is none.
        peak_dbfs: the largest magnitude.
        silence_share: share of the clip's 50 ms windows whose RMS over all channels is below −60 dBFS;
            where the track has nothing is silence too.
        clipping_share: share of samples at or beyond full scale.
    """

    rms_dbfs: float = FLOOR_DBFS
    peak_dbfs: float = FLOOR_DBFS
    silence_share: float = 1.0
    clipping_share: float = 0.0


def measure_levels(sound: Sound) -> Levels:
    """Measures a clip's sound; see `Levels` for what each number is taken over."""
    if not sound.spans:
        return Levels()
    channels, length = sound.samples.shape
    window = max(1, round(SILENCE_WINDOW_SECONDS * sound.rate_hz))
    energies = np.zeros(-(-length // window))
    peak, num_clipped = 0.0, 0
    for channel in range(channels):
        values = sound.samples[channel]
        top = max(float(values.max()), -float(values.min()))
        peak = max(peak, top)
        if top >= FULL_SCALE:
            num_clipped += int(np.count_nonzero(np.abs(values) >= FULL_SCALE))
        energies += _window_energies(values, window)
    counts = np.full(energies.shape, window * channels, dtype=np.float64)
    counts[-1] = (length - window * (energies.shape[0] - 1)) * channels
    num_values = channels * sum(b - a for a, b in sound.spans)
    return Levels(
        rms_dbfs=to_dbfs(math.sqrt(float(energies.sum()) / num_values)),
        peak_dbfs=to_dbfs(peak),
        silence_share=float(np.mean(energies / counts < 10 ** (SILENCE_DBFS / 10))),
        clipping_share=num_clipped / num_values,
    )


def to_dbfs(amplitude: float) -> float:
    """A magnitude (1.0 is full scale) in dBFS, rounded to 0.001 and never below `FLOOR_DBFS`."""
    return round(max(FLOOR_DBFS, 20.0 * math.log10(amplitude)), 3) if amplitude > 0 else FLOOR_DBFS


def _window_energies(values: NDArray[np.float32], window: int) -> NDArray[np.float64]:
    """Sums of squares over windows of `window` samples, the last one shorter; `[N]` → `[ceil(N / window)]`."""
    whole = values.shape[0] // window * window
    blocks = values[:whole].reshape(-1, window)
    # One window's sum in single precision is exact to a millionth: 4e-6 dB.
    energies: NDArray[np.float64] = np.einsum("ij,ij->i", blocks, blocks).astype(np.float64)
    if whole < values.shape[0]:
        rest = values[whole:].astype(np.float64)
        energies = np.append(energies, float(rest @ rest))
    return energies
