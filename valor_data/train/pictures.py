"""Stored JPEG files to what the vision encoder takes.

Shapes: F pictures of a clip, H and W their height and width, P = `size_px`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from valor_data.errors import ConfigError

FITS = ("squash", "crop")
AUGMENTS = ("none", "crop_flip")

CROP_AREA = (0.8, 1.0)
"""Share of the largest square that a random crop takes: the reference's `crop_flip`."""

CROP_TRIES = 10
"""How often torchvision, and so the reference, draws a crop that does not fit before it takes the middle."""

Box = tuple[int, int, int, int]
"""Top, left, height and width of a part of a picture, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSettings:
    """How pictures are chosen and brought to size.

    Attributes:
        count: pictures of a clip (F). VALOR: 4 in pretraining (base), 8 in most tests.
        size_px: height and width of what the encoder gets (P).
        fit: `squash`: the whole picture, its aspect ratio given up (reference); `crop`: the middle square.
        augment: in training, `crop_flip`: a random square and a mirror image, the same for all pictures of a clip;
            in test it means the middle square.
        reference_exact: float32 in 0 … 1 by the reference's arithmetic: bilinear on floats without anti-aliasing.
            Else uint8, bilinear with anti-aliasing, a twelfth of the time.

    Raises:
        ConfigError: a value that cannot be; all of them at once.
    """

    count: int = 4
    size_px: int = 224
    fit: str = "squash"
    augment: str = "none"
    reference_exact: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value!r}: expected one of {', '.join(allowed)}"
            for name, value, allowed in (("fit", self.fit, FITS), ("augment", self.augment, AUGMENTS))
            if value not in allowed
        ]
        problems += [
            f"{name} = {value}: expected at least 1"
            for name, value in (("count", self.count), ("size_px", self.size_px))
            if value < 1
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def shows_all(self) -> bool:
        """Whether in test the whole picture is shown, and not its middle square."""
        return self.fit == "squash" and self.augment == "none"

    @property
    def dtype(self) -> torch.dtype:
        """What `decode_pictures` gives."""
        return torch.float32 if self.reference_exact else torch.uint8


def decode_pictures(
    jpegs: Sequence[bytes], settings: PictureSettings, rng: np.random.Generator | None = None
) -> Tensor:
    """Decodes a clip's chosen pictures and brings them to size.

    Args:
        jpegs: JPEG files; the same one may be there several times.
        settings: size and policy.
        rng: draws the crop and the mirror image in training; None for test.

    Returns:
        `[F, 3, P, P]`, uint8, or float32 in 0 … 1 with `reference_exact`.

    Raises:
        ValueError: a file is no JPEG that decodes, or pictures differ in size.
    """
    pictures: list[Tensor] = []
    for place, jpeg in enumerate(jpegs):
        is_repeated = place > 0 and jpeg is jpegs[place - 1]
        pictures.append(pictures[-1] if is_repeated else _decode(jpeg, settings))
    shapes = {tuple(picture.shape) for picture in pictures}
    if len(shapes) > 1:
        raise ValueError(f"pictures of different sizes: {', '.join(f'{w}x{h}' for _, h, w in sorted(shapes))}")
    height, width = pictures[0].shape[1:]
    box, is_mirrored = _part(height, width, settings, rng)
    result = torch.stack([_to_size(picture, box, settings) for picture in pictures])
    return result.flip(-1) if is_mirrored else result


def _decode(jpeg: bytes, settings: PictureSettings) -> Tensor:
    """A picture `[3, H, W]`, uint8, its colours side by side in memory; halved in the decoder where that is enough."""
    import simplejpeg

    least = 0 if settings.reference_exact else settings.size_px
    if settings.augment == "crop_flip":
        least = int(least / CROP_AREA[0] ** 0.5) + 1 if least else 0
    pixels: Any = simplejpeg.decode_jpeg(jpeg, min_height=least, min_width=least, min_factor=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _part(
    height: int, width: int, settings: PictureSettings, rng: np.random.Generator | None
) -> tuple[Box | None, bool]:
    """The part of a clip's pictures that is shown, None for all of it; and whether they are mirrored."""
    if settings.augment == "crop_flip" and rng is not None:
        box = random_box(height, width, rng, as_torchvision=settings.reference_exact)
        return box, bool(rng.random() < 0.5)
    if settings.shows_all or settings.reference_exact:  # the reference resizes first: `_to_size` cuts
        return None, False
    side = min(height, width)
    return ((height - side) // 2, (width - side) // 2, side, side), False


def random_box(height: int, width: int, rng: np.random.Generator, *, as_torchvision: bool = False) -> Box:
    """A random square of 0.8 to 1 of the area.

    Torchvision (and so the reference) takes the share of the whole picture's area; of a picture wider than
    1.25 times its height no such square fits, and it takes the middle one every time. Ours is a share of the
    largest square, anywhere.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        rng: draws.
        as_torchvision: as `RandomResizedCrop(scale=(0.8, 1), ratio=(1, 1))` does.
    """
    largest = min(height, width)
    area = height * width if as_torchvision else largest * largest
    for _ in range(CROP_TRIES):
        side = round((area * rng.uniform(*CROP_AREA)) ** 0.5)
        if side <= largest:
            top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            return int(top), int(left), side, side
    return (height - largest) // 2, (width - largest) // 2, largest, largest


def _to_size(picture: Tensor, box: Box | None, settings: PictureSettings) -> Tensor:
    """A picture `[3, H, W]` or a part of it as `[3, P, P]`."""
    size = settings.size_px
    if box is not None:
        top, left, height, width = box
        picture = picture[:, top : top + height, left : left + width]
    if not settings.reference_exact:
        if picture.shape[1:] == (size, size):
            return picture
        return functional.interpolate(picture.unsqueeze(0), (size, size), mode="bilinear", antialias=True)[0]
    values = picture.contiguous().to(torch.float32).div(255).unsqueeze(0)
    if box is not None or settings.shows_all:
        return functional.interpolate(values, (size, size), mode="bilinear", align_corners=False)[0]
    return _short_side_and_middle(values, size)[0]


def _short_side_and_middle(values: Tensor, size: int) -> Tensor:
    """Short side to `size`, then the middle square, rounded as torchvision's Resize and CenterCrop round."""
    height, width = values.shape[-2:]
    short, long = min(height, width), max(height, width)
    scaled = (size, int(size * long / short)) if height <= width else (int(size * long / short), size)
    values = functional.interpolate(values, scaled, mode="bilinear", align_corners=False)
    top, left = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return values[..., top : top + size, left : left + size]
