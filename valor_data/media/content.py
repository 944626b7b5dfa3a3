"""What a clip shows and sounds like, in a few hundred bytes: how much moves, black borders, and fingerprints.

Pictures: perceptual hashes (ImageHash's `phash`: the signs of the lowest frequencies of a picture of 32 × 32) of five
of the moments that a sample shows, each of the whole picture within its black borders and of its middle, for copies
that were cropped.

Sound: the bits of Haitsma and Kalker (A Highly Robust Audio Fingerprinting System, ISMIR 2002): does the difference
of two neighbouring bands grow or shrink from one moment to the next? Here over the bands that a sample's mel has
between 300 and 3 000 Hz, ten times a second. Chromaprint would be the library for it, but no wheel brings it:
pyacoustid wants its shared library or its program; some builds of ffmpeg have it, PyAV's has not, and a process for
each clip would cost more than all of this. The mel is at hand, the method published and thirty lines long.

Shapes: P pictures, V views of a picture, H rows, W columns, T moments of sound, F mel bands.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from valor_data.media.frames import FrameSettings, frame_moments, quarter_turns
from valor_data.media.mel import MelSettings, clip_waveform, log_mel
from valor_data.media.open import DEFAULT_LIMITS, Limits, choose_streams, has_decoder, open_media
from valor_data.media.passage import Passage, PicturePool, asked_for
from valor_data.media.pictures import Picture
from valor_data.media.sound import Sound

CONTENT_VERSION = 1
"""Raised whenever the same clip would measure differently: scores of another version are measured again."""

NUM_PICTURES = 5
VIEWS = (0.0, 0.025, 0.05)
"""What is cut off every side of a picture before it is hashed, as a share of the side."""

_SIZE_PX = (128, 72)
_HASHED_PX = 32
_BLACK = 8
"""A row or column of which 19 of 20 pixels are never brighter (0 to 255) is black."""

_MIN_CONTRAST = 5.0
"""A picture whose brightness varies less (standard deviation, 0 to 255) tells nothing."""

_MOVED = 12.0
"""A sixteenth of the side by a ninth of the other, whose mean brightness changes by so much, has moved."""

_LOW_BAND, _NUM_BITS = 6, 32
"""Of the 64 bands of the mel at 22 050 Hz, those from 300 to 3 000 Hz: 33 bands give 32 differences."""

_WINDOW, _HOP = 37, 10
"""Haitsma and Kalker's window of 0.37 s, every 0.1 s; in mel frames of 10 ms."""

MAX_MOMENTS = 600
"""Of a longer clip's sound, the first minute is remembered."""

_AUDIBLE = -11.0
"""Log of a band's mean energy below which a moment counts as silent: about −60 dBFS."""

_HEAD = struct.Struct("<6fBH")


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What was measured of a clip's pictures and sound for curation.

    Attributes:
        picture_change: mean absolute difference of brightness, 0 to 255, from each of the pictures to the next; −1
            when there are not two.
        moving_share: share of the picture, 0 to 1, in which anything changes; −1 likewise.
        borders: black rows and columns as a share of the sides: top, bottom, left, right.
        hashes: uint64 `[P, V]`, a hash for each picture and view.
        tells: whether a picture has enough contrast to be told from others, bool `[P]`.
        sound: the bits of each moment, uint32 `[T]`.
        audible: whether there is sound to be told from other sound then, bool `[T]`.
    """

    picture_change: float = -1.0
    moving_share: float = -1.0
    borders: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((0, len(VIEWS)), np.uint64))
    tells: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    sound: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    audible: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def border_share(self) -> float:
        """Share of the picture that black borders take, 0 to 1."""
        top, bottom, left, right = even_borders(self.borders)
        return 1.0 - (1.0 - top - bottom) * (1.0 - left - right)

    def to_bytes(self) -> bytes:
        """The figures as the ledger keeps them: about 0.6 kB for ten seconds."""
        head = _HEAD.pack(self.picture_change, self.moving_share, *self.borders, len(self.hashes), len(self.sound))
        masks = np.packbits(self.tells).tobytes() + np.packbits(self.audible).tobytes()
        return head + self.hashes.astype("<u8").tobytes() + self.sound.astype("<u4").tobytes() + masks

    @classmethod
    def from_bytes(cls, data: bytes) -> Content:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are not such figures.
        """
        if len(data) < _HEAD.size:
            raise ValueError(f"{len(data)} bytes are no content figures")
        *figures, num_pictures, num_moments = _HEAD.unpack_from(data)
        sound_at = _HEAD.size + 8 * len(VIEWS) * num_pictures
        tells_at = sound_at + 4 * num_moments
        audible_at = tells_at + -(-num_pictures // 8)
        if len(data) != audible_at + -(-num_moments // 8):
            raise ValueError(f"{len(data)} bytes are no content figures of {num_pictures} pictures")
        hashes = np.frombuffer(data, "<u8", len(VIEWS) * num_pictures, _HEAD.size)
        tells = np.unpackbits(np.frombuffer(data, np.uint8, audible_at - tells_at, tells_at), count=num_pictures)
        audible = np.unpackbits(np.frombuffer(data, np.uint8, -1, audible_at), count=num_moments)
        change, moving, top, bottom, left, right = figures
        return cls(
            change,
            moving,
            (top, bottom, left, right),
            hashes.reshape(num_pictures, len(VIEWS)),
            tells.astype(bool),
            np.frombuffer(data, "<u4", num_moments, sound_at),
            audible.astype(bool),
        )


def measure_content(
    path: Path,
    offset_seconds: float,
    start: float,
    end: float,
    modalities: str = "av",
    limits: Limits = DEFAULT_LIMITS,
) -> Content:
    """Measures the span `[start, end)` of a video on a file that holds it; see `media.measure.measure_clip`.

    What does not decode is left out: a clip without a picture has no hashes, one without sound no bits.

    Raises:
        ClipError: `missing`, `empty`, `not_media`, `undecodable` (cannot be opened at all), `too_large`.
    """
    with open_media(path, limits) as container:
        source = asked_for(choose_streams(container), modalities)
        if source.video is None and source.audio is None:
            return Content()
        passage = Passage.read(source, start - offset_seconds, end - offset_seconds, limits)
        if passage.packets.encrypted:
            return Content()
        sound = passage.decode_sound() if source.audio is not None and has_decoder(source.audio) else None
        pool = PicturePool(passage, passage.timeline) if passage.timeline is not None else None
        return content_of(passage, sound, pool, end - start)


def content_moments(passage: Passage) -> list[float]:
    """Media seconds of the pictures that are hashed: some of those that a sample shows by default."""
    moments = frame_moments(passage.after - passage.begin, FrameSettings().count)
    return [passage.begin + moment for moment in moments[:: FrameSettings().count // NUM_PICTURES]]


def content_of(passage: Passage, sound: Sound | None, pool: PicturePool | None, duration_seconds: float) -> Content:
    """Measures a clip that was read, and whose sound was decoded.

    Raises:
        ClipError: `too_large`.
    """
    bits, audible = sound_bits(sound, duration_seconds)
    shown = _thumbnails(passage, pool)
    if not len(shown):
        return Content(sound=bits, audible=audible)
    borders = black_borders(shown)
    hashes, tells = picture_hashes(shown, borders)
    change, moving = movement(shown)
    return Content(change, moving, borders, hashes, tells, bits, audible)


def _thumbnails(passage: Passage, pool: PicturePool | None) -> NDArray[np.uint8]:
    """Brightness of some of the pictures that a sample shows, `[P, H, W]`, upright; P = 0 without pictures."""
    video = passage.source.video
    empty = np.zeros((0, *_SIZE_PX[::-1]), np.uint8)
    if pool is None or video is None or not has_decoder(video):
        return empty
    decoded = pool.at(content_moments(passage))
    scaler = VideoReformatter()
    shown = [_thumbnail(scaler, picture) for picture in decoded.pictures if picture is not None]
    upright = [thumbnail for thumbnail in shown if thumbnail is not None]
    return np.stack(upright) if upright else empty


def _thumbnail(scaler: VideoReformatter, picture: Picture) -> NDArray[np.uint8] | None:
    """Brightness of a picture, 0 to 255, upright, squeezed into `_SIZE_PX`, `[H, W]`."""
    width, height = _SIZE_PX
    turns = quarter_turns(picture.frame.rotation)
    if turns % 2:
        width, height = height, width
    try:
        small = scaler.reformat(
            picture.frame, width=width, height=height, format="gray", interpolation=Interpolation.AREA, threads=1
        )
    except (av.error.FFmpegError, ValueError):
        return None
    luma: NDArray[np.uint8] = np.rot90(small.to_ndarray(), turns)
    return luma


def movement(shown: NDArray[np.uint8]) -> tuple[float, float]:
    """How much changes from picture to picture, and in which share of the picture; −1 and −1 for a single one.

    A still has neither; a visualiser or a picture with a moving counter changes in a small share.

    Args:
        shown: brightness, `[P, H, W]`.
    """
    if len(shown) < 2:
        return -1.0, -1.0
    change = float(np.abs(np.diff(shown.astype(np.int16), axis=0)).mean())
    pictures, height, width = shown.shape
    cells = shown.reshape(pictures, 9, height // 9, 16, width // 16).mean(axis=(2, 4))
    return round(change, 3), round(float((np.ptp(cells, axis=0) >= _MOVED).mean()), 4)


def black_borders(shown: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Black rows and columns that all pictures have, as a share of the sides: top, bottom, left, right.

    All 0 for pictures that are black altogether: there is nothing they could be the border of.
    """
    rows = np.percentile(shown, 95, axis=2).max(axis=0) > _BLACK
    columns = np.percentile(shown, 95, axis=1).max(axis=0) > _BLACK
    if not rows.any() or not columns.any():
        return 0.0, 0.0, 0.0, 0.0
    top, bottom = int(np.argmax(rows)), int(np.argmax(rows[::-1]))
    left, right = int(np.argmax(columns)), int(np.argmax(columns[::-1]))
    height, width = len(rows), len(columns)
    return top / height, bottom / height, left / width, right / width


def even_borders(borders: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Borders that have their like on the other side: what is black on one side alone is a dark scene."""
    top, bottom, left, right = borders
    return min(top, bottom), min(top, bottom), min(left, right), min(left, right)


def picture_hashes(
    shown: NDArray[np.uint8], borders: tuple[float, float, float, float]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes of pictures within their borders, uint64 `[P, V]`, and whether each has contrast, `[P]`."""
    import imagehash
    from PIL import Image

    pictures, height, width = shown.shape
    top, bottom, left, right = even_borders(borders)
    inside = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    hashes = np.zeros((pictures, len(VIEWS)), np.uint64)
    tells = np.zeros(pictures, bool)
    for p, luma in enumerate(shown):
        image = Image.fromarray(np.ascontiguousarray(luma))
        tells[p] = float(np.asarray(image.crop(tuple(map(round, inside)))).std()) >= _MIN_CONTRAST
        for v, cut in enumerate(VIEWS):
            x, y = cut * (inside[2] - inside[0]), cut * (inside[3] - inside[1])
            box = (inside[0] + x, inside[1] + y, inside[2] - x, inside[3] - y)
            view = image.resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX, box=box)
            hashes[p, v] = int(str(imagehash.phash(view)), 16)
    return hashes, tells


def sound_bits(sound: Sound | None, duration_seconds: float) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The bits of each tenth of a second, uint32 `[T]`, and whether there is sound to be told then, `[T]`.

    Sound tells something when it is not silence and its bands move: of a steady tone or hum nothing is told.
    """
    nothing = np.zeros(0, np.uint32), np.zeros(0, bool)
    if sound is None or not sound.spans:
        return nothing
    settings = MelSettings.valor()
    mel = log_mel(clip_waveform(sound, duration_seconds, settings), settings)
    mel = mel[: _HOP * (MAX_MOMENTS + 1) + _WINDOW, _LOW_BAND : _LOW_BAND + _NUM_BITS + 1]
    if len(mel) < _WINDOW + _HOP:
        return nothing
    window = np.hanning(_WINDOW + 2)[1:-1].astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(np.exp(mel), _WINDOW, axis=0)[::_HOP]
    energies = np.log(np.einsum("tfw,w->tf", windows, window / window.sum()))
    slopes = np.diff(energies, axis=1)
    turns = np.diff(slopes, axis=0)
    bits = np.packbits(turns > 0, axis=1, bitorder="little").view("<u4").reshape(-1)
    loud = energies.max(axis=1) > _AUDIBLE
    audible = loud[1:] & loud[:-1] & (np.abs(turns).mean(axis=1) > _MIN_TURN)
    return bits[:MAX_MOMENTS].astype(np.uint32), audible[:MAX_MOMENTS]


_MIN_TURN = 0.05
"""Least mean change of the slopes between bands (natural log) in a tenth of a second."""
