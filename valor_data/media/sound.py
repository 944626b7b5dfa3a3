"""Decodes the sound of a clip onto an exact grid, and resamples it as ffmpeg does.

Shapes: C channels, N samples of the clip at the file's own rate, M samples at another rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av.error
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet
from numpy.typing import NDArray

from valor_data.errors import ClipError
from valor_data.media.open import Limits, Source

CONTINUITY_SECONDS = 0.015
"""A sound frame this near to the end of the one before follows it without a gap.

More than what millisecond timestamps jitter, less than the shortest frame a codec can lose (Opus, 20 ms).
"""

_GRID_TIE = 1e-6
_RUN_SAMPLES = 32_768
"""Samples collected before they are copied to the grid, or given to the resampler at once.

Few calls, and buffers that stay in the cache: all of ten seconds at once costs the resampler three times as much.
"""

_MAX_LEVEL = 16.0
_MAX_SWR_CHANNELS = 8
_MAX_PLANES = 8
"""What a frame of FFmpeg's holds in itself (AV_NUM_DATA_POINTERS); further planes are in a table of their own."""


@dataclass(slots=True)
class Sound:
    """The sound of a clip at the file's own rate and channels, exactly as long as the clip.

    Attributes:
        samples: float32 `[C, N]`, 1.0 is full scale; zeros where the track has nothing. N = duration ×
            rate, rounded.
        rate_hz: samples a second.
        layout: the channel layout's name as FFmpeg writes it (`stereo`, `5.1`).
        spans: `(first, after_last)` sample numbers where sound exists, in order, apart from each other.
        num_errors: packets that did not decode.
        num_packets: packets that were given to the decoder.
        num_frames: frames that came out of it, those outside the clip included.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    layout: str
    spans: list[tuple[int, int]]
    num_errors: int = 0
    num_packets: int = 0
    num_frames: int = 0

    @property
    def coverage(self) -> float:
        """Share of the clip where sound exists, 0 to 1."""
        return sum(b - a for a, b in self.spans) / max(1, int(self.samples.shape[1]))

    def spans_seconds(self) -> list[tuple[float, float]]:
        """Where sound exists, in clip seconds, rounded to the microsecond."""
        return [(round(a / self.rate_hz, 6), round(b / self.rate_hz, 6)) for a, b in self.spans]


def decode_sound(source: Source, packets: Sequence[Packet[Any]], start: float, end: float, limits: Limits) -> Sound:
    """Decodes packets of a clip's sound and places every frame by its timestamp.

    Args:
        source: the open file; its `audio` must be there.
        packets: what `read_span` gave.
        start: the clip's first second, media seconds.
        end: the second after its last, media seconds.
        limits: `max_clip_seconds`.

    Returns:
        The sound; a track that yields nothing at all gives silence with no spans.

    Raises:
        ClipError: `too_large` when the clip is longer than `limits` allow; `no_audio`.
    """
    if end - start > limits.max_clip_seconds:
        raise ClipError("too_large", f"{end - start:.1f} s of sound, the limit is {limits.max_clip_seconds} s")
    if source.audio is None or source.audio.codec_context is None:
        raise ClipError("no_audio", "no sound track that can be decoded")
    grid, context = _Grid(source, source.audio, start, end), source.audio.codec_context
    errors = num_frames = 0
    for packet in [*packets, None]:
        try:
            frames = context.decode(packet)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError):
            errors += 1
            continue
        num_frames += len(frames)
        for frame in frames:
            if not grid.follows(frame) and not grid.place(frame):
                errors += 1
    sound = grid.finish()
    sound.num_errors, sound.num_packets, sound.num_frames = errors, len(packets), num_frames
    return sound


class _Grid:
    """Places decoded frames on the clip's sample grid; sample k lies at start + k / rate."""

    def __init__(self, source: Source, stream: AudioStream, start: float, end: float) -> None:
        self.source, self.stream = source, stream
        self.start, self.end = start, end
        self.samples: NDArray[np.float32] | None = None
        self.rate_hz, self.layout = 0, ""
        self.spans: list[tuple[int, int]] = []
        self.next: int | None = None  # the sample at which the last frame ended
        self._run: AudioFifo | None = None  # frames that follow one another, not yet on the grid
        self._run_start = 0
        self._run_kind = ("", 0, 0)
        self._interleaver = _Interleaver()
        self._next_ticks: int | None = None  # a frame with this time follows; None where ticks are not samples

    def follows(self, frame: AudioFrame) -> bool:
        """Takes a frame that begins where the last one ended, at little cost; False, and not taken, if not."""
        if self._run is None or self.next is None or self._next_ticks is None or frame.pts != self._next_ticks:
            return False
        num_samples = frame.samples
        if self.next - self._run_start >= _RUN_SAMPLES or _kind(frame) != self._run_kind:
            return False
        frame.pts = None  # in a run frames have no time of their own
        try:
            self._run.write(frame)
        except ValueError:  # its layout is another
            frame.pts = self._next_ticks
            return False
        self.next += num_samples
        self._next_ticks += num_samples
        return True

    def place(self, frame: AudioFrame) -> bool:
        """Takes one frame; False where it does not fit the track (another rate, no time at all)."""
        if self.samples is None:
            self._begin(frame)
        pts = frame.pts
        position = self._position(None if pts is None else self.source.seconds(pts, self.stream.index))
        if position is None:
            return False
        if position != self.next or position - self._run_start >= _RUN_SAMPLES:
            self._end_run()
        whole = self._interleaver.readable(frame)
        if whole is None or not self._append(whole, position):
            return False
        self.next = position + frame.samples
        if pts is not None and self.source.ticks[self.stream.index] == (1, self.rate_hz):
            self._next_ticks = pts + frame.samples
        else:
            self._next_ticks = None
        return True

    def _append(self, frame: AudioFrame, position: int) -> bool:
        """Adds a frame to the run, or to a new one where its format is another."""
        frame.pts = None
        if self._run is not None and _kind(frame) == self._run_kind:
            try:
                self._run.write(frame)
                return True
            except ValueError:
                pass
        self._end_run()
        if frame.sample_rate != self.rate_hz:
            return False
        self._run, self._run_start, self._run_kind = AudioFifo(), position, _kind(frame)
        self._run.write(frame)
        return True

    def _end_run(self) -> None:
        """Writes the run's samples onto the grid, as far as they lie in the clip."""
        run, self._run = self._run, None
        frame = run.read() if run is not None else None
        if frame is None or self.samples is None:
            return
        channels, total = self.samples.shape
        first, after = max(0, self._run_start), min(total, self._run_start + frame.samples)
        if first >= after:
            return
        within = slice(first - self._run_start, after - self._run_start)
        if frame.format.name == "fltp" and len(frame.planes) == channels:
            for channel, plane in zip(self.samples, frame.planes, strict=True):
                channel[first:after] = np.frombuffer(memoryview(plane), np.float32, frame.samples)[within]
        else:
            self.samples[:, first:after] = _match_channels(frame_samples(frame)[:, within], channels)
        self.spans.append((first, after))

    def finish(self) -> Sound:
        """The sound as far as it came; from the stream's header where no frame came."""
        self._end_run()
        if self.samples is None:
            self.rate_hz = self.stream.rate or 48_000
            self.layout = "mono"
            self.samples = np.zeros((1, num_samples(self.start, self.end, self.rate_hz)), np.float32)
        return Sound(_sane(self.samples), self.rate_hz, self.layout, merge_spans(self.spans))

    def _begin(self, frame: AudioFrame) -> None:
        self.rate_hz, self.layout = frame.sample_rate, frame.layout.name
        channels = frame.layout.nb_channels
        self.samples = np.zeros((channels, num_samples(self.start, self.end, self.rate_hz)), np.float32)

    def _position(self, seconds: float | None) -> int | None:
        if seconds is None:
            return self.next
        position = math.floor((seconds - self.start) * self.rate_hz + 0.5 + _GRID_TIE)
        if self.next is not None and abs(position - self.next) <= CONTINUITY_SECONDS * self.rate_hz:
            return self.next
        return position


def _kind(frame: AudioFrame) -> tuple[str, int, int]:
    """What frames must share to be joined. The FIFO looks at less, and one plane too few ends the process."""
    return frame.format.name, frame.layout.nb_channels, frame.sample_rate


class _Interleaver:
    """Makes frames of many channels readable: PyAV reads beyond the table of their planes, if they have planes."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._kind = ("", 0, 0)

    def readable(self, frame: AudioFrame) -> AudioFrame | None:
        """The frame itself, or its samples side by side; None where that cannot be."""
        if frame.layout.nb_channels <= _MAX_PLANES or not frame.format.is_planar:
            return frame
        if self._resampler is None or self._kind != _kind(frame):
            self._resampler, self._kind = AudioResampler(format="flt"), _kind(frame)
        try:
            frames = self._resampler.resample(frame)
        except (av.error.FFmpegError, ValueError):
            self._resampler = None
            return None
        return frames[0] if len(frames) == 1 and frames[0].samples == frame.samples else None


def num_samples(start: float, end: float, rate_hz: int) -> int:
    """How many samples a clip has at a rate: its length × rate, rounded, at least one."""
    return max(1, math.floor((end - start) * rate_hz + 0.5 + _GRID_TIE))


def merge_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorts spans and joins those that touch or overlap."""
    merged: list[tuple[int, int]] = []
    for first, after in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(after, merged[-1][1]))
        else:
            merged.append((first, after))
    return merged


def frame_samples(frame: AudioFrame) -> NDArray[np.float32]:
    """A decoded frame as float32 `[C, N]` in units of full scale; whole numbers divided by their range."""
    values: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(values.dtype, np.integer):
        full_scale = float(2 ** (8 * values.dtype.itemsize - 1))
        return values.astype(np.float32) * np.float32(1.0 / full_scale)
    return values.astype(np.float32, copy=False)


def _sane(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sound without anything that is no number, and within ±16 (+24 dBFS): damaged float streams hold both."""
    peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    if peak <= _MAX_LEVEL:
        return samples
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -_MAX_LEVEL, _MAX_LEVEL)


def _match_channels(values: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Fits a frame whose number of channels changed in mid-stream: its mean on every channel."""
    return values if values.shape[0] == channels else values.mean(axis=0, keepdims=True)


def resample_mono(sound: Sound, rate_hz: int, length: int) -> NDArray[np.float32]:
    """Down-mixes to mono and resamples as `ffmpeg -ac 1 -ar RATE` to a 16-bit wav does.

    The 16 bits are part of it: with them swresample scales its down-mix so that it cannot overflow (0.5
    left and right), without them it does not (0.707), which moves every log-mel value by 0.69.

    Args:
        sound: the clip's sound, `[C, N]`.
        rate_hz: the rate wanted.
        length: samples wanted (M); what the resampler gives is cut or filled with zeros at the end.

    Returns:
        float32 `[M]`: 16-bit values divided by 32768, the first at the clip's start.
    """
    samples, layout = sound.samples, sound.layout
    if samples.shape[0] > _MAX_SWR_CHANNELS:
        samples, layout = samples.mean(axis=0, keepdims=True, dtype=np.float32), "mono"
    resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)
    pieces = [piece.to_ndarray().reshape(-1) for piece in _resample(resampler, samples, layout, sound.rate_hz)]
    joined = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    out = np.zeros(length, np.float32)
    kept = min(length, joined.shape[0])
    out[:kept] = joined[:kept]
    out /= 32768.0
    return out


def _resample(resampler: AudioResampler, samples: NDArray[np.float32], layout: str, rate_hz: int) -> list[AudioFrame]:
    pieces: list[AudioFrame] = []
    for first in range(0, samples.shape[1], _RUN_SAMPLES):
        frame = _as_frame(np.ascontiguousarray(samples[:, first : first + _RUN_SAMPLES]), layout)
        frame.sample_rate = rate_hz
        pieces += resampler.resample(frame)
    return [*pieces, *resampler.resample(None)]


def _as_frame(samples: NDArray[np.float32], layout: str) -> AudioFrame:
    try:
        return AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
    except ValueError:  # an unnamed layout: the default one of that many channels
        default = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
        return AudioFrame.from_ndarray(samples, format="fltp", layout=default[samples.shape[0]])
