"""A clip's log-mel as a small PNG: time to the right, low sounds at the bottom, loud is light.

Shapes: T mel frames, M bands, W and H pixels.
"""

from __future__ import annotations

import functools
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = -14.0
"""Natural log-mel that is drawn darkest; digital silence is -15.94 (the log of float32's epsilon)."""

CEILING = 6.0
"""Natural log-mel that is drawn lightest; fixed, so that a quiet clip looks quieter than a loud one."""

NUM_COLOURS = 64
"""Steps that the eye can just tell apart; with fewer than 256 a picture takes two thirds of the bytes."""

_OKLAB_TO_LMS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_LMS_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
"""Oklab to linear sRGB, by its definition (Ottosson 2020, https://bottosson.github.io/posts/oklab)."""


@functools.cache
def colours() -> NDArray[np.uint8]:
    """The colour map, dark to light: uint8 `[NUM_COLOURS, 3]`, sRGB.

    Its lightness in Oklab rises in equal steps, so equal steps of loudness look equal, also to who sees no hue.
    """
    position = np.linspace(0.0, 1.0, NUM_COLOURS)
    lightness = 0.16 + 0.80 * position
    hue = np.deg2rad(285.0 + 180.0 * position)  # blue by way of red to yellow
    chroma = 0.20 * np.sin(np.pi * (0.12 + 0.76 * position))
    wanted = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    for _ in range(40):  # what sRGB cannot show is made paler, never lighter or darker
        linear = _to_linear_rgb(wanted)
        is_outside = ((linear < 0) | (linear > 1)).any(axis=-1)
        wanted[is_outside, 1:] *= 0.97
    linear = np.clip(_to_linear_rgb(wanted), 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    palette: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    return palette


def _to_linear_rgb(oklab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear sRGB `[N, 3]` of Oklab `[N, 3]`; outside 0..1 where sRGB has no such colour."""
    cone: NDArray[np.float64] = (oklab @ np.array(_OKLAB_TO_LMS).T) ** 3
    linear: NDArray[np.float64] = cone @ np.array(_LMS_TO_RGB).T
    return linear


def mel_levels(mel: NDArray[Any], max_width: int, height: int | None = None) -> NDArray[np.uint8]:
    """A mel as rows of colour numbers, the highest band first.

    Args:
        mel: floating `[T, M]`, natural log, T and M at least 1; what is no number is drawn darkest.
        max_width: frames are averaged down to at most so many columns.
        height: bands are averaged (or repeated) to so many rows; None: one row a band.

    Returns:
        uint8 `[H, W]`, 0 to `NUM_COLOURS - 1`.

    Raises:
        ValueError: the array is not two-dimensional, or empty.
    """
    if mel.ndim != 2 or not mel.size:
        raise ValueError(f"a mel of shape {list(mel.shape)}: expected [frames, bands], both at least 1")
    values = np.nan_to_num(mel.astype(np.float64), nan=FLOOR, posinf=CEILING, neginf=FLOOR)
    values = _averaged(np.clip(values, FLOOR, CEILING), min(max_width, len(values)))
    values = _averaged(values.T, height or values.shape[1])
    levels = (values - FLOOR) / (CEILING - FLOOR) * (NUM_COLOURS - 1)
    return np.rint(levels[::-1]).astype(np.uint8)


def _averaged(values: NDArray[np.float64], num_rows: int) -> NDArray[np.float64]:
    """Means of about equally many neighbouring rows; `[num_rows, …]`; a row is repeated where there are too few."""
    starts = np.arange(num_rows) * len(values) // num_rows
    if num_rows > len(values):
        return values[starts]
    sizes = np.diff(np.append(starts, len(values)))
    means: NDArray[np.float64] = np.add.reduceat(values, starts, axis=0) / sizes[:, None]
    return means


def mel_picture(mel: NDArray[Any], *, max_width: int = 480) -> bytes:
    """A mel as a PNG of one row a band and at most `max_width` columns; some 15 kB for ten seconds.

    The picture is dark where nothing sounds, so it is the same on a light and on a dark page.

    Args:
        mel: floating `[T, M]`, natural log, as it lies in a shard.
        max_width: frames are averaged down to so many pixels.

    Raises:
        ValueError: the array is not two-dimensional, or empty.
    """
    return palette_png(mel_levels(mel, max_width), colours())


def palette_png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A PNG of colour numbers: `pixels` uint8 `[H, W]`, `palette` uint8 `[up to 256, 3]`."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each row begins with its filter: 0, as it is
    rows[:, 1:] = pixels
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
