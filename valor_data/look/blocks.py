"""Pictures in the character cells of a terminal: two pixels a cell, one above the other, or plain characters.

Shapes: R rows and C columns of characters, so 2R by C pixels; T mel frames, M bands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.look.mel_picture import NUM_COLOURS, colours, mel_levels

RAMP = " .:-=+*#%@"
"""Characters by the ink they take, for places without colour."""


def mel_blocks(mel: NDArray[Any], columns: int, rows: int) -> NDArray[np.uint8]:
    """A mel `[T, M]` in colour, the highest band on top: uint8 `[2R, C, 3]`, or fewer columns where T is less."""
    return colours()[mel_levels(mel, columns, 2 * rows)]


def mel_characters(mel: NDArray[Any], columns: int, rows: int) -> list[str]:
    """A mel `[T, M]` in plain characters, the highest band on top: R lines of at most C, the loudest darkest.

    What is quietest in this clip is blank and what is loudest is `@`: ten steps would not do for the fixed scale.
    """
    levels = mel_levels(mel, columns, rows).astype(np.int64)
    low = int(levels.min())
    spread = max(int(levels.max()) - low, NUM_COLOURS // 8)  # what hardly changes stays blank
    steps = (levels - low) * (len(RAMP) - 1) // spread
    return ["".join(RAMP[step] for step in row) for row in steps]


def thumbnail(jpeg: bytes, columns: int, rows: int) -> NDArray[np.uint8]:
    """A picture made to fit into cells, its shape kept: uint8 `[up to 2R, up to C, 3]`, an even number of rows.

    Raises:
        ValueError: no JPEG that decodes.
    """
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(jpeg, min_width=columns, min_height=2 * rows)
    height, width = pixels.shape[:2]
    scale = min(columns / width, 2 * rows / height)
    high, wide = max(2, 2 * round(height * scale / 2)), max(1, round(width * scale))
    return _averaged(_averaged(pixels.astype(np.float32), high, 0), wide, 1).round().astype(np.uint8)


def _averaged(pixels: NDArray[np.float32], size: int, axis: int) -> NDArray[np.float32]:
    """Means of neighbouring rows or columns; one is repeated where there are too few."""
    length = pixels.shape[axis]
    starts = np.arange(size) * length // size
    if size > length:
        repeated: NDArray[np.float32] = pixels.take(starts, axis)
        return repeated
    counts = np.diff(np.append(starts, length))
    shape = [1, 1, 1]
    shape[axis] = size
    return (np.add.reduceat(pixels, starts, axis=axis) / counts.reshape(shape)).astype(np.float32)
