"""Sounds of the demo's world, computed sample by sample.

Letters: N samples of one channel, float64 from -1 to 1. Every rhythm's period is under 0.75 s, so that a few
seconds always hold the whole of a sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float64]

_MAX_PEAK = 0.6
"""Room for what AAC adds to clicks (4 dB)."""


@dataclass(frozen=True, slots=True)
class Voice:
    """What differs between two clips of one sound class.

    Attributes:
        pitch: factor on every frequency, near 1.
        tempo: factor on every rhythm, near 1.
        phase: where in its rhythm the sound is at second 0, in periods.
        rms_dbfs: the level asked for.
    """

    pitch: float
    tempo: float
    phase: float
    rms_dbfs: float


def _beat(t: Wave, rate_hz: float, voice: Voice) -> Wave:
    """The place in the rhythm at each moment, from 0 to 1."""
    return np.asarray(np.mod(t * rate_hz * voice.tempo + voice.phase, 1.0))


def _gate(beat: Wave, share: float) -> Wave:
    """1 in the first `share` of each beat, with soft edges, else 0."""
    return np.clip(np.minimum(beat, share - beat) / 0.03, 0, 1)


def _tone(t: Wave, hz: float, harmonics: int = 1) -> Wave:
    return np.asarray(sum(np.sin(2 * math.pi * hz * k * t) / k for k in range(1, harmonics + 1)))


def _sweep(t: Wave, low_hz: float, high_hz: float, voice: Voice, rises: bool) -> Wave:
    """Tones that glide between two frequencies, twice a second."""
    beat = _beat(t, 2.0, voice)
    share = 0.8
    place = np.clip(beat / share, 0, 1)
    step_seconds = 1 / (2.0 * voice.tempo)
    start, end = (low_hz, high_hz) if rises else (high_hz, low_hz)
    cycles = share * step_seconds * voice.pitch * (start * place + (end - start) * place**2 / 2)
    return np.asarray(np.sin(2 * math.pi * cycles) * _gate(beat, share))


def _wavering(t: Wave, hz: float, swing_hz: float, rate_hz: float, voice: Voice) -> Wave:
    """A tone that goes up and down by `swing_hz`, `rate_hz` times a second."""
    turns = t * rate_hz * voice.tempo + voice.phase
    swing = swing_hz / (rate_hz * voice.tempo) * np.sin(2 * math.pi * turns) / (2 * math.pi)
    return np.asarray(np.sin(2 * math.pi * voice.pitch * (hz * t + swing)))


def _hum(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _tone(t, 110 * voice.pitch, harmonics=4)


def _whistle(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _tone(t, 2600 * voice.pitch)


def _slow_beeps(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _tone(t, 800 * voice.pitch) * _gate(_beat(t, 1.5, voice), 0.5)


def _fast_beeps(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _tone(t, 800 * voice.pitch) * _gate(_beat(t, 6.0, voice), 0.5)


def _noise_bursts(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return noise * _gate(_beat(t, 2.5, voice), 0.45)


def _ticking(t: Wave, voice: Voice, noise: Wave) -> Wave:
    since_tick = _beat(t, 9.0, voice) / (9.0 * voice.tempo)
    return np.asarray(noise * np.exp(-since_tick / 0.006))


def _rising_chirps(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _sweep(t, 350, 1900, voice, rises=True)


def _falling_chirps(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _sweep(t, 350, 1900, voice, rises=False)


def _siren(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _wavering(t, 1000, 450, 1.5, voice)


def _warble(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return _wavering(t, 1500, 250, 7.0, voice)


def _thuds(t: Wave, voice: Voice, noise: Wave) -> Wave:
    since_thud = _beat(t, 2.2, voice) / (2.2 * voice.tempo)
    knock = np.sin(2 * math.pi * 75 * voice.pitch * since_thud) * np.exp(-since_thud / 0.07)
    return np.asarray(knock + 0.3 * noise * np.exp(-since_thud / 0.004))


def _hiss(t: Wave, voice: Voice, noise: Wave) -> Wave:
    return np.diff(noise, prepend=0.0)


RECIPES: dict[str, Callable[[Wave, Voice, Wave], Wave]] = {
    "hum": _hum,
    "whistle": _whistle,
    "slow_beeps": _slow_beeps,
    "fast_beeps": _fast_beeps,
    "noise_bursts": _noise_bursts,
    "ticking": _ticking,
    "rising_chirps": _rising_chirps,
    "falling_chirps": _falling_chirps,
    "siren": _siren,
    "thuds": _thuds,
    "warble": _warble,
    "hiss": _hiss,
}
"""One function for each name of `classes.SOUND_CLASSES`."""


def synthesise(name: str, voice: Voice, num_samples: int, rate_hz: int, dice: np.random.Generator) -> Wave:
    """A sound of a class, scaled to its level, or to less where it would clip: float64 `[N]`.

    Args:
        name: the sound class, a key of `RECIPES`.
        voice: how it differs from others of its class.
        num_samples: N.
        rate_hz: samples a second.
        dice: gives the noise.
    """
    t = np.arange(num_samples, dtype=np.float64) / rate_hz
    wave = RECIPES[name](t, voice, dice.uniform(-1, 1, num_samples))
    rms, peak = math.sqrt(float(np.mean(wave**2))), float(np.max(np.abs(wave)))
    return wave * min(10 ** (voice.rms_dbfs / 20) / rms, _MAX_PEAK / peak) if peak else wave
