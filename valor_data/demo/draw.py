"""Pictures of the demo's world: a coloured shape on a dark ground, at a moment of its motion.

Letters: H, W the picture's height and width in pixels; a place is (x, y) with both from -1 to 1, x to the
right and y downwards, and a phase counts turns of the motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valor_data.demo.classes import VisualClass

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a shape is, how large (1 is its usual size) and how far turned, in radians."""

    x: float
    y: float
    scale: float = 1.0
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What differs between two clips of one visual class.

    Attributes:
        size: the shape's radius, as a share of half the picture's height.
        turns_per_second: speed of the motion.
        phase: where in its motion the shape is at second 0, in turns.
        lane: where across its path the shape moves, -1 to 1.
        ground: grey level of the ground, 0 to 255.
    """

    size: float
    turns_per_second: float
    phase: float
    lane: float
    ground: int


def _wave(turns: float) -> float:
    """A zigzag between -1 and 1, once a turn."""
    return 4 * abs((turns % 1.0) - 0.5) - 1


def _ramp(turns: float) -> float:
    """From -1 to 1, then back at once."""
    return 2 * (turns % 1.0) - 1


def _bounce(turns: float, lane: float) -> Pose:
    return Pose(0.6 * _wave(turns), 0.55 * _wave(turns * 1.7 + lane))


def _spin(turns: float, lane: float) -> Pose:
    return Pose(0.4 * lane, 0.2 * lane, angle=2 * math.pi * turns)


def _rise(turns: float, lane: float) -> Pose:
    return Pose(0.5 * lane, -0.9 * _ramp(turns))


def _fall(turns: float, lane: float) -> Pose:
    return Pose(0.5 * lane, 0.9 * _ramp(turns))


def _pulse(turns: float, lane: float) -> Pose:
    return Pose(0.4 * lane, 0.2 * lane, scale=1 + 0.45 * math.sin(2 * math.pi * turns))


def _slide(turns: float, lane: float) -> Pose:
    return Pose(1.0 * _ramp(turns), 0.4 * lane)


def _swing(turns: float, lane: float) -> Pose:
    swing = math.sin(2 * math.pi * turns)
    return Pose(0.6 * swing, 0.3 * lane - 0.15 * swing * swing, angle=-0.5 * swing)


def _orbit(turns: float, lane: float) -> Pose:
    radius = 0.5 + 0.08 * lane
    return Pose(radius * math.cos(2 * math.pi * turns), radius * math.sin(2 * math.pi * turns))


def _hop(turns: float, lane: float) -> Pose:
    return Pose(0.5 * lane, 0.5 - 0.95 * abs(math.sin(2 * math.pi * turns)))


def _tremble(turns: float, lane: float) -> Pose:
    x, y, angle = (math.sin(2 * math.pi * rate * turns) for rate in (7, 11, 9))
    return Pose(0.4 * lane + 0.06 * x, 0.2 * lane + 0.06 * y, angle=0.3 * angle)


def _zigzag(turns: float, lane: float) -> Pose:
    return Pose(-0.85 * _ramp(turns), 0.5 * _wave(4 * turns + lane))


def _spiral(turns: float, lane: float) -> Pose:
    radius, angle = 0.1 + 0.55 * (turns % 1.0), 4 * math.pi * turns + lane
    return Pose(radius * math.cos(angle), radius * math.sin(angle))


MOTIONS: dict[str, Callable[[float, float], Pose]] = {
    "bounce": _bounce,
    "spin": _spin,
    "rise": _rise,
    "fall": _fall,
    "pulse": _pulse,
    "slide": _slide,
    "swing": _swing,
    "orbit": _orbit,
    "hop": _hop,
    "tremble": _tremble,
    "zigzag": _zigzag,
    "spiral": _spiral,
}


_NOTCH = 0.45
"""Where a star's notches lie between its middle (0) and its points (1)."""
_STAR_NORMAL = math.atan2(1 - _NOTCH * math.cos(math.pi / 5), _NOTCH * math.sin(math.pi / 5))
_STAR_DEPTH = math.cos(_STAR_NORMAL)
"""The direction across a star's side, from its point, and the side's distance from the middle."""


def _inside(shape: str, x: Array, y: Array) -> Array:
    """How far each pixel lies inside a shape of radius 1 around (0, 0): positive inside, negative outside."""
    if shape == "square":
        return np.asarray(0.8 - np.maximum(np.abs(x), np.abs(y)), dtype=np.float32)
    if shape == "cross":
        wide, high = np.abs(x), np.abs(y)
        along, across = np.minimum(0.3 - high, 0.95 - wide), np.minimum(0.3 - wide, 0.95 - high)
        return np.asarray(np.maximum(along, across), dtype=np.float32)
    radius = np.hypot(x, y)
    if shape == "ring":
        return np.asarray(0.23 - np.abs(radius - 0.7), dtype=np.float32)
    if shape == "circle":
        return np.asarray(0.95 - radius, dtype=np.float32)
    angle = np.arctan2(x, -y)
    if shape == "triangle":
        sector = np.mod(angle, 2 * math.pi / 3) - math.pi / 3
        return np.asarray(0.5 - radius * np.cos(sector), dtype=np.float32)
    if shape == "star":
        sector = np.abs(np.mod(angle + math.pi / 5, 2 * math.pi / 5) - math.pi / 5)
        return np.asarray(_STAR_DEPTH - radius * np.cos(sector - _STAR_NORMAL), dtype=np.float32)
    raise ValueError(f"unknown shape {shape!r}: expected circle, square, triangle, star, cross or ring")


class Stage:
    """The grid of pixels that shapes are drawn on, made once for a video.

    Args:
        width_px: W.
        height_px: H.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        half = height_px / 2
        self.aspect = width_px / height_px
        y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
        self.x: Array = ((x + 0.5) / half - self.aspect).astype(np.float32)
        self.y: Array = ((y + 0.5) / half - 1).astype(np.float32)
        self.edge = half

    def draw(self, visual: VisualClass, look: Look, seconds: float) -> Picture:
        """The picture at a moment: uint8 `[H, W, 3]`, red, green, blue.

        Args:
            visual: what is seen.
            look: how it differs from others of its class.
            seconds: the moment, from the start of the motion.
        """
        pose = MOTIONS[visual.motion](look.phase + look.turns_per_second * seconds, look.lane)
        radius = look.size * pose.scale
        x = (self.x - pose.x * self.aspect) / radius
        y = (self.y - pose.y) / radius
        if pose.angle:
            cos, sin = math.cos(pose.angle), math.sin(pose.angle)
            x, y = cos * x + sin * y, cos * y - sin * x
        cover = np.clip(_inside(visual.shape, x, y) * (radius * self.edge) + 0.5, 0, 1)[:, :, None]
        colour = np.array(visual.rgb, dtype=np.float32)
        return np.asarray(look.ground + cover * (colour - look.ground) + 0.5, dtype=np.float32).astype(np.uint8)
