"""A clip's sound as the reference trainer reads it: a mono wav of 16 bit, whose log-mel is the stored one."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

from valor_data.media.mel import MelSettings, clip_waveform
from valor_data.media.open import DEFAULT_LIMITS, Limits
from valor_data.media.playback import clip_sound


def audio_wav(path: Path, offset_seconds: float, start: float, end: float, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The sound of `[start, end)` of a video as a wav: 22 050 Hz, mono, 16 bit; nothing in it but samples.

    They are the very samples that VALOR's log-mel is computed from (`media.mel`), so a wav holds no rounding
    that the stored mel does not have.

    Args:
        path: a file that holds the span.
        offset_seconds: second of the video at which the file's own second 0 lies.
        start: first second, video seconds.
        end: second after the last, video seconds.
        limits: when to give up.

    Raises:
        ClipError: as `playback.clip_sound` raises.
    """
    settings = MelSettings.valor()
    sound = clip_sound(path, offset_seconds, start, end, limits)
    samples = np.rint(clip_waveform(sound, end - start, settings) * 32768.0).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(settings.sample_rate_hz)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
