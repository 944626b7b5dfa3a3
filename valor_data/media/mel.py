"""Log-mel spectrograms as the reference trainer takes them: Kaldi's filterbank through torchaudio.

The only file that imports torchaudio, and only when a spectrogram is asked for.

Shapes: N samples, T windows, F mel bands.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.media.allocator import keep_freed_memory
from valor_data.media.sound import Sound, num_samples, resample_mono

_BLOCK = 64
"""Windows that are worked on together: their arrays stay in the processor's cache."""

_PREEMPHASIS = 0.97
_LOW_HZ, _HIGH_HZ = 20.0, 0.0
"""Kaldi's defaults: lowest and highest frequency of the bands, 0 is half of the sample rate."""


@dataclass(frozen=True, slots=True)
class MelSettings:
    """How sound becomes a log-mel spectrogram.

    Attributes:
        name: `valor`, `ast`, or a name of the user's.
        sample_rate_hz: rate the mono sound is resampled to.
        num_mel_bins: bands (F).
        window: Kaldi's window type.
        window_ms: length of a window.
        hop_ms: distance of two windows.
    """

    name: str = "valor"
    sample_rate_hz: int = 22_050
    num_mel_bins: int = 64
    window: str = "hanning"
    window_ms: float = 25.0
    hop_ms: float = 10.0

    @classmethod
    def valor(cls) -> MelSettings:
        """VALOR's: 22 050 Hz (its audio folder's rate), 64 bands (`audio_melbins`), Hann, 25/10 ms."""
        return cls()

    @classmethod
    def ast(cls) -> MelSettings:
        """The Audio Spectrogram Transformer's: 16 kHz, 128 bands, Hann, 25/10 ms."""
        return cls(name="ast", sample_rate_hz=16_000, num_mel_bins=128)

    @property
    def window_samples(self) -> int:
        """Samples of a window, cut as Kaldi cuts them (551 at 22 050 Hz)."""
        return int(self.sample_rate_hz * self.window_ms * 0.001)

    @property
    def hop_samples(self) -> int:
        """Samples between two windows (220 at 22 050 Hz)."""
        return int(self.sample_rate_hz * self.hop_ms * 0.001)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types, for a sample and a shard."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MelSettings:
        """The inverse of `to_dict`."""
        return cls(**values)


def num_mel_frames(num_waveform_samples: int, settings: MelSettings) -> int:
    """Windows that fit into a waveform (T): 1 + (N − window) // hop; one where the waveform is shorter."""
    return 1 + max(0, num_waveform_samples - settings.window_samples) // settings.hop_samples


def log_mel(waveform: NDArray[np.float32], settings: MelSettings) -> NDArray[np.float32]:
    """Natural-log mel spectrogram of a mono waveform, not normalised.

    The mean of the whole waveform is removed, then `torchaudio.compliance.kaldi.fbank` with the
    reference's arguments. A waveform shorter than one window is filled with zeros to one window (after
    its mean is removed), where Kaldi would return nothing.

    Args:
        waveform: float32 `[N]` at `settings.sample_rate_hz`, 1.0 is full scale.
        settings: bands, window, hop.

    Returns:
        float32 `[T, F]`, from −15.94 (the log of float32's epsilon) upwards.
    """
    torch, _ = _torch()
    with torch.inference_mode():
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        samples = samples - samples.mean()
        if samples.shape[0] < settings.window_samples:
            samples = torch.nn.functional.pad(samples, (0, settings.window_samples - samples.shape[0]))
        bands = _hann_bank(samples, settings) if settings.window == "hanning" else _kaldi_bank(samples, settings)
    result: NDArray[np.float32] = bands.numpy()
    return result


def _kaldi_bank(samples: Any, settings: MelSettings) -> Any:
    """Torchaudio's own filterbank of a waveform `[N]`: any of Kaldi's windows; gives `[T, F]`."""
    _, kaldi = _torch()
    return kaldi.fbank(
        samples.unsqueeze(0),
        htk_compat=True,
        sample_frequency=settings.sample_rate_hz,
        use_energy=False,
        window_type=settings.window,
        num_mel_bins=settings.num_mel_bins,
        dither=0.0,
        frame_length=settings.window_ms,
        frame_shift=settings.hop_ms,
    )


def _hann_bank(samples: Any, settings: MelSettings) -> Any:
    """The same for a Hann window, bit for bit (a test holds it): the same steps, in half of the memory.

    Torchaudio also sums up the energy of each window, which nobody asked for, and makes a new array in
    every step.
    """
    torch, _ = _torch()
    width, hop = settings.window_samples, settings.hop_samples
    window, bank = _window_and_bank(settings)
    windows = samples.as_strided((num_mel_frames(samples.shape[0], settings), width), (hop, 1))
    power = torch.empty(windows.shape[0], bank.shape[1])
    padded = torch.zeros(min(_BLOCK, windows.shape[0]), 2 * (bank.shape[1] - 1))
    for first in range(0, windows.shape[0], _BLOCK):
        some = windows[first : first + _BLOCK]
        some = some - some.mean(dim=1, keepdim=True)
        emphasized = padded[: some.shape[0], :width]
        weaker = some * _PREEMPHASIS  # before each sample the one to the left of it, before the first itself
        torch.sub(some[:, 1:], weaker[:, :-1], out=emphasized[:, 1:])
        torch.sub(some[:, :1], weaker[:, :1], out=emphasized[:, :1])
        emphasized *= window
        torch.abs(torch.fft.rfft(padded[: some.shape[0]]), out=power[first : first + _BLOCK])
    energies = torch.mm(power.pow_(2.0), bank.T)
    return energies.clamp_(min=torch.finfo(torch.float32).eps).log_()


@cache
def _window_and_bank(settings: MelSettings) -> tuple[Any, Any]:
    """The window `[W]` and the filterbank `[F, 1 + FFT / 2]` of some settings, as Kaldi defines them."""
    torch, kaldi = _torch()
    fft = 1 << (settings.window_samples - 1).bit_length()
    bank, _ = kaldi.get_mel_banks(
        settings.num_mel_bins, fft, float(settings.sample_rate_hz), _LOW_HZ, _HIGH_HZ, 100.0, -500.0, 1.0
    )
    bank = torch.nn.functional.pad(bank.to(torch.float32), (0, 1))
    return torch.hann_window(settings.window_samples, periodic=False), bank


def clip_waveform(sound: Sound, duration_seconds: float, settings: MelSettings) -> NDArray[np.float32]:
    """The mono waveform a clip's spectrogram is made of: float32 `[N]`, N = duration × rate, rounded."""
    length = num_samples(0.0, duration_seconds, settings.sample_rate_hz)
    return resample_mono(sound, settings.sample_rate_hz, length)


def clip_mel(sound: Sound, duration_seconds: float, settings: MelSettings) -> NDArray[np.float16]:
    """The spectrogram a sample stores: `log_mel` of the clip's waveform, rounded to float16, `[T, F]`."""
    return log_mel(clip_waveform(sound, duration_seconds, settings), settings).astype(np.float16)


@cache
def _torch() -> tuple[Any, Any]:
    """Imports torch and torchaudio once, and holds torch to one thread (workers are the parallelism)."""
    keep_freed_memory()
    import torch
    from torchaudio.compliance import kaldi

    torch.set_num_threads(1)
    return torch, kaldi
