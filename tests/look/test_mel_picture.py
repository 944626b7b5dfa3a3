"""The mel picture: what a program and an eye read from it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from valor_data.look.mel_picture import CEILING, FLOOR, NUM_COLOURS, colours, mel_levels, mel_picture

STEPS = NUM_COLOURS - 1


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_png_that_others_read_low_bands_at_the_bottom() -> None:
    mel = np.full((1000, 64), -15.94, dtype=np.float16)
    mel[500:, 3] = CEILING
    levels = decoded(mel_picture(mel, max_width=250))
    assert levels.shape == (64, 250)
    assert levels[63 - 3, 124] == 0 and levels[63 - 3, 125] == STEPS
    assert np.count_nonzero(levels) == 125
    rgb = np.asarray(Image.open(io.BytesIO(mel_picture(mel, max_width=250))).convert("RGB"))
    assert (rgb[0, 0] == colours()[0]).all() and (rgb[60, 200] == colours()[-1]).all()


def test_a_mean_of_neighbours_not_one_of_them() -> None:
    mel = np.array([[FLOOR], [CEILING], [CEILING], [CEILING]])
    assert mel_levels(mel, 2).tolist() == [[round(STEPS / 2), STEPS]]
    assert mel_levels(mel, 1000).tolist() == [[0, STEPS, STEPS, STEPS]]  # never wider than there are frames
    assert mel_levels(np.array([[FLOOR, CEILING]]), 1, height=4).tolist() == [[STEPS], [STEPS], [0], [0]]
    assert mel_levels(np.array([[FLOOR, CEILING, FLOOR, FLOOR]]), 1, height=2).tolist() == [[0], [round(STEPS / 2)]]


def test_what_is_no_number_is_dark_and_nothing_overflows() -> None:
    mel = np.array([[np.nan, -np.inf, np.inf, 60_000.0]], dtype=np.float16)
    assert mel_levels(mel, 10)[::-1, 0].tolist() == [0, 0, STEPS, STEPS]


@pytest.mark.parametrize("shape", [(0, 64), (10, 0), (5,), (2, 2, 2)])
def test_no_picture_of_nothing(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\[frames, bands\\]"):
        mel_picture(np.zeros(shape, dtype=np.float16))


def test_equal_steps_of_loudness_look_equal() -> None:
    """CIE lightness, another measure than the map was made with, rises everywhere and about evenly."""
    encoded = colours() / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert lightness[0] < 10 and lightness[-1] > 93
    assert np.percentile(steps, 95) < 2 * np.median(steps)
