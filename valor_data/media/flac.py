"""A clip's sound as a FLAC file in memory: the file's own rate and channels, 16 bit, the exact span."""

from __future__ import annotations

import io
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame

from valor_data.errors import ClipError
from valor_data.media.open import DEFAULT_LIMITS, Limits
from valor_data.media.playback import clip_sound
from valor_data.media.sound import Sound, resample_mono

_MAX_FLAC_CHANNELS = 8
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_FRAME_SAMPLES = 4096


def audio_flac(path: Path, offset_seconds: float, start: float, end: float, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The sound of `[start, end)` of a video as FLAC; the same bytes for the same file, always.

    Where the track has nothing there are zeros. More than eight channels, which FLAC cannot hold, become
    one. Decoded values beyond full scale are clipped.

    Args:
        path: a file that holds the span.
        offset_seconds: second of the video at which the file's own second 0 lies.
        start: first second, video seconds.
        end: second after the last, video seconds.
        limits: when to give up.

    Raises:
        ClipError: `no_audio`, `undecodable` (no sound, or a rate FLAC cannot hold), `too_large`, and what
            `open_media` raises.
    """
    sound = clip_sound(path, offset_seconds, start, end, limits)
    try:
        return _encode(sound)
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("undecodable", f"FLAC cannot hold {sound.rate_hz} Hz {sound.layout}: {error}") from error


def _encode(sound: Sound) -> bytes:
    samples = sound.samples
    if samples.shape[0] > _MAX_FLAC_CHANNELS:
        samples = resample_mono(sound, sound.rate_hz, samples.shape[1])[np.newaxis]
    layout = _LAYOUTS[samples.shape[0]]
    whole = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=sound.rate_hz, options={"flags": "+bitexact", "threads": "1"})
        stream.codec_context.layout = layout
        stream.codec_context.format = "s16"
        for first in range(0, whole.shape[1], _FRAME_SAMPLES):
            block = np.ascontiguousarray(whole[:, first : first + _FRAME_SAMPLES].T).reshape(1, -1)
            frame = AudioFrame.from_ndarray(block, format="s16", layout=layout)
            frame.sample_rate, frame.pts = sound.rate_hz, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
