"""Which moments of a clip become pictures, at what size, and how a decoded picture becomes a JPEG.

Shapes: H rows, W columns of a plane of pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av.error
import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from valor_data.errors import ClipError

_LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""Red's and blue's share in luma, by FFmpeg's number of the matrix: BT.709, FCC, SMPTE 240M, BT.2020."""

_BT601_WEIGHTS = (0.299, 0.114)
_OBLONG = Fraction(16)
_JPEG_MAX_PX = 65_500


@dataclass(frozen=True, slots=True)
class FrameSettings:
    """Which pictures of a clip are stored.

    Attributes:
        count: pictures a clip.
        short_side_px: the shorter side is reduced to this, never enlarged.
        jpeg_quality: 1 to 100.
        frame_snap: `exact` shows what is on screen at each moment; `key` the nearest key picture of the
            clip, which costs less to decode.
    """

    count: int = 10
    short_side_px: int = 256
    jpeg_quality: int = 90
    frame_snap: str = "exact"

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types, for a sample and a shard."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrameSettings:
        """The inverse of `to_dict`."""
        return cls(**values)


def frame_moments(duration_seconds: float, count: int) -> tuple[float, ...]:
    """The middles of `count` equal parts of a clip, clip seconds rounded to the microsecond.

    >>> frame_moments(10.0, 4)
    (1.25, 3.75, 6.25, 8.75)
    """
    return tuple(round(duration_seconds * (2 * i + 1) / (2 * count), 6) for i in range(count))


def pixel_aspect(sample_aspect_ratio: Fraction | None) -> Fraction:
    """Width of a pixel ÷ its height; 1 where the file has none, or one beyond 16:1 that nobody means."""
    ratio = sample_aspect_ratio or Fraction(1)
    return ratio if 1 / _OBLONG <= ratio <= _OBLONG else Fraction(1)


def quarter_turns(rotation_degrees: int) -> int:
    """Counter-clockwise quarter turns (0 to 3) that bring a picture upright; other angles are left alone."""
    return (rotation_degrees // 90) % 4 if rotation_degrees % 90 == 0 else 0


def display_size(width: int, height: int, aspect: Fraction, turns: int = 0) -> tuple[int, int]:
    """Size in pixels as shown: the width stretched by the pixel aspect (rounded), swapped by odd turns."""
    shown = max(1, _round_half_up(width * aspect))
    return (height, shown) if turns % 2 else (shown, height)


@lru_cache(maxsize=64)
def scaled_size(width: int, height: int, aspect: Fraction, short_side_px: int) -> tuple[int, int]:
    """Size before rotation of a stored picture.

    The shown size (see `display_size`), reduced so that the shorter side is `short_side_px`; the longer
    side is rounded to the nearest pixel, odd ones too, as ffmpeg's `scale=-1:256` does. Never enlarged.

    >>> scaled_size(480, 270, Fraction(1), 256)
    (455, 256)
    """
    shown = max(Fraction(1), width * aspect)
    short = min(shown, Fraction(height))
    if short <= short_side_px:
        return _round_half_up(shown), height
    scale = short_side_px / short
    return max(1, _round_half_up(shown * scale)), max(1, _round_half_up(height * scale))


def _round_half_up(value: Fraction) -> int:
    return int((2 * value + 1) // 2)


class JpegMaker:
    """Turns decoded pictures into JPEGs of one setting; keeps the scaler between pictures of a clip."""

    def __init__(self, settings: FrameSettings) -> None:
        self._settings = settings
        self._scaler = VideoReformatter()

    def planes(self, frame: VideoFrame, aspect: Fraction) -> tuple[NDArray[np.uint8], ...]:
        """Scales and turns a picture; gives the Y, U and V planes as JPEG defines them.

        JPEG means BT.601 over the full range. Pictures tagged with another matrix (BT.709, BT.2020) are
        converted at the small size; untagged ones are taken for BT.601, as ffmpeg does. Transfer curves
        (HDR) and primaries stay as they are.

        Args:
            frame: any pixel format that swscale reads.
            aspect: width of a pixel ÷ its height.

        Returns:
            uint8 planes `[H, W]`, `[ceil(H/2), ceil(W/2)]` twice; H and W as shown, after rotation.

        Raises:
            ClipError: `undecodable` when the scaler refuses the picture, `too_large` beyond JPEG's size.
        """
        width, height = scaled_size(frame.width, frame.height, aspect, self._settings.short_side_px)
        if max(width, height) > _JPEG_MAX_PX:
            raise ClipError("too_large", f"{width}x{height} px is more than a JPEG holds")
        try:
            small = self._scaler.reformat(
                frame,
                width=width,
                height=height,
                format="yuvj420p",
                interpolation=Interpolation.BICUBIC,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise ClipError("undecodable", f"{frame.format.name} picture cannot be scaled: {error}") from error
        sizes = ((height, width), (-(-height // 2), -(-width // 2)), (-(-height // 2), -(-width // 2)))
        planes = tuple(
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
            for plane, (rows, columns) in zip(small.planes, sizes, strict=True)
        )
        weights = None if frame.format.is_rgb else _LUMA_WEIGHTS.get(int(frame.colorspace))
        if weights is not None:
            planes = to_bt601(planes, weights)
        turns = quarter_turns(frame.rotation)
        return tuple(np.ascontiguousarray(np.rot90(p, turns)) for p in planes) if turns else planes

    def jpeg(self, frame: VideoFrame, aspect: Fraction) -> bytes:
        """The stored JPEG of a picture; see `planes` for what is done to it and what it raises."""
        y, u, v = self.planes(frame, aspect)
        encoded: bytes = simplejpeg.encode_jpeg_yuv_planes(
            _with_even_room(y), u, v, quality=self._settings.jpeg_quality
        )
        return encoded


def _with_even_room(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same picture `[H, W]`, followed in memory by a repeated last row and column where H or W is odd.

    The encoder reads luma up to the next even size: without the room it would read, and store, whatever
    lies behind the plane.
    """
    rows, columns = luma.shape
    if rows % 2 == 0 and columns % 2 == 0:
        return luma
    room = np.pad(luma, ((0, rows % 2), (0, columns % 2)), mode="edge")
    return room[:rows, :columns]


def to_bt601(planes: tuple[NDArray[np.uint8], ...], weights: tuple[float, float]) -> tuple[NDArray[np.uint8], ...]:
    """Converts full-range YUV 4:2:0 planes of another matrix to BT.601, in whole numbers (2⁻¹⁶ steps).

    Args:
        planes: Y `[H, W]`, U and V `[ceil(H/2), ceil(W/2)]`.
        weights: red's and blue's share in the source's luma.
    """
    (yu, yv), (uu, uv), (vu, vv) = ((round(65536 * x) for x in row) for row in _bt601_matrix(*weights))
    u, v = planes[1].astype(np.int32) - 128, planes[2].astype(np.int32) - 128
    shift = yu * u + yv * v + 32768 >> 16
    rows, columns = planes[0].shape
    luma = planes[0].astype(np.int16) + shift.astype(np.int16).repeat(2, 0)[:rows].repeat(2, 1)[:, :columns]
    new_u = (uu * u + uv * v + 32768 >> 16) + 128
    new_v = (vu * u + vv * v + 32768 >> 16) + 128
    return tuple(np.clip(plane, 0, 255).astype(np.uint8) for plane in (luma, new_u, new_v))


def _bt601_matrix(red: float, blue: float) -> tuple[tuple[float, float], ...]:
    """Rows for Y (what to add), U and V of BT.601, from U and V of a matrix with these luma weights."""
    kr, kb = _BT601_WEIGHTS
    green = 1 - red - blue
    # red, green and blue less luma, as multiples of the source's U and V
    r_v, b_u = 2 * (1 - red), 2 * (1 - blue)
    g_u, g_v = -blue * b_u / green, -red * r_v / green
    y_u, y_v = (1 - kr - kb) * g_u + kb * b_u, kr * r_v + (1 - kr - kb) * g_v
    u_row = ((b_u - y_u) / (2 * (1 - kb)), -y_v / (2 * (1 - kb)))
    v_row = (-y_u / (2 * (1 - kr)), (r_v - y_v) / (2 * (1 - kr)))
    return ((y_u, y_v), u_row, v_row)
