"""What a page shows and plays of a clip: a few small pictures, its log-mel, its sound as MP3.

Made of any file, also of one that a set refuses: what cannot be decoded is left out, with the reason.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from valor_data.errors import ClipError
from valor_data.media.extract import extract_clip
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings, clip_mel
from valor_data.media.open import DEFAULT_LIMITS, Limits
from valor_data.media.playback import clip_sound
from valor_data.media.sound import Sound, num_samples, resample_mono

SOUND_TYPE = "audio/mpeg"
"""MP3: every browser plays it."""

SOUND_RATE_HZ = 22_050
SOUND_BITS_PER_SECOND = 40_000
"""Mono, as the mel hears it: 50 kB for ten seconds."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What could be made of a clip.

    Attributes:
        jpegs: pictures, in order; none where there is no picture, or none was asked for.
        moments: clip seconds of each.
        mel: float16 `[T, F]`, natural log; None where there is no sound, or none was asked for.
        sound: an MP3 file; empty where there is none.
        faults: why something that was asked for is missing, a sentence each.
    """

    jpegs: tuple[bytes, ...] = ()
    moments: tuple[float, ...] = ()
    mel: NDArray[np.float16] | None = None
    sound: bytes = b""
    faults: tuple[str, ...] = field(default=())


def preview_clip(
    path: Path,
    offset_seconds: float,
    start: float,
    end: float,
    *,
    frames: FrameSettings | None = None,
    mel: MelSettings | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Preview:
    """Makes what can be made of the span `[start, end)` of a video; nothing that the file causes is raised.

    Args:
        path: a file that holds the span.
        offset_seconds: second of the video at which the file's own second 0 lies.
        start: first second, video seconds.
        end: second after the last, video seconds.
        frames: number and size of the pictures; None: none.
        mel: settings of the log-mel; None: none.
        limits: when to give up.
    """
    jpegs: tuple[bytes, ...] = ()
    moments: tuple[float, ...] = ()
    faults: list[str] = []
    if frames is not None:
        try:
            pictures = extract_clip(path, offset_seconds, start, end, frames, modalities="v", limits=limits)
            jpegs, moments = pictures.jpegs, pictures.frame_moments
        except ClipError as error:
            faults.append(f"no pictures: {error.detail or error.reason}")
    spectrum, playable = None, b""
    try:
        sound = clip_sound(path, offset_seconds, start, end, limits)
        spectrum = clip_mel(sound, end - start, mel) if mel is not None else None
        playable = mp3(sound, end - start)
    except ClipError as error:
        faults.append(f"no sound: {error.detail or error.reason}")
    return Preview(jpegs, moments, spectrum, playable, tuple(faults))


def mp3(sound: Sound, duration_seconds: float) -> bytes:
    """A clip's sound as an MP3 file: mono, 22 050 Hz, 40 kbit/s; small enough for a page.

    Raises:
        ClipError: `undecodable`: this FFmpeg writes no MP3.
    """
    samples = resample_mono(sound, SOUND_RATE_HZ, num_samples(0.0, duration_seconds, SOUND_RATE_HZ))
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp3") as container:
            stream = container.add_stream("libmp3lame", rate=SOUND_RATE_HZ)
            stream.codec_context.layout = "mono"
            stream.codec_context.format = "s16p"
            stream.codec_context.bit_rate = SOUND_BITS_PER_SECOND
            whole = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
            frame_samples = 576  # of an MPEG-2 layer III frame
            for first in range(0, len(whole), frame_samples):
                block = np.ascontiguousarray(whole[first : first + frame_samples]).reshape(1, -1)
                frame = AudioFrame.from_ndarray(block, format="s16p", layout="mono")
                frame.sample_rate, frame.pts = SOUND_RATE_HZ, first
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("undecodable", f"no MP3 could be written: {error}") from error
    return buffer.getvalue()
