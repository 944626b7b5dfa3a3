"""Pictures: the reference's arithmetic where it is asked for, and a faster one that looks the same."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torchvision.transforms import v2

from valor_data.errors import ConfigError
from valor_data.train.pictures import PictureSettings, decode_pictures, random_box


def scene(width: int, height: int, seed: int = 0) -> bytes:
    """A smooth picture with edges."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin((x * a + y * b) / 23 + seed + a) for a, b in ((1.0, 0.3), (0.2, 0.9), (0.7, -0.8))]
    pixels = np.stack(waves, axis=-1)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 60)
    return simplejpeg.encode_jpeg(pixels.astype(np.uint8), quality=90, colorsubsampling="420")


def by_the_reference(jpeg: bytes, *steps: torch.nn.Module) -> torch.Tensor:
    picture = v2.functional.pil_to_tensor(Image.open(io.BytesIO(jpeg))).float().div(255)
    return v2.Compose(list(steps))(picture.unsqueeze(0))[0]


SIZES = [(455, 256), (256, 455), (256, 256), (320, 180)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_the_reference_to_the_last_bit(width: int, height: int, augment: str) -> None:
    jpegs = [scene(width, height, seed) for seed in range(2)]
    settings = PictureSettings(augment=augment, reference_exact=True)
    found = decode_pictures(jpegs, settings)
    assert found.dtype == torch.float32 and found.shape == (2, 3, 224, 224)
    if augment == "none":
        steps = [v2.Resize((224, 224), antialias=False)]
    else:
        steps = [v2.Resize(224, antialias=False), v2.CenterCrop(224)]
    for jpeg, frame in zip(jpegs, found, strict=True):
        assert frame.equal(by_the_reference(jpeg, *steps))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("size", [224, 112, 64])
def test_the_fast_way_looks_the_same(width: int, height: int, size: int) -> None:
    jpeg = scene(width, height)
    found = decode_pictures([jpeg], PictureSettings(size_px=size))
    assert found.dtype == torch.uint8 and found.shape == (1, 3, size, size)
    expected = by_the_reference(jpeg, v2.Resize((size, size), antialias=True)) * 255
    assert (found[0] - expected).abs().mean() < 2


def test_the_middle_square_keeps_the_shape_of_things() -> None:
    pixels = np.zeros((256, 512, 3), np.uint8)
    y, x = np.mgrid[0:256, 0:512]
    pixels[(y - 128) ** 2 + (x - 256) ** 2 < 64**2] = 255
    pixels[:, :100] = (255, 0, 0)
    jpeg = simplejpeg.encode_jpeg(pixels, quality=95)
    cropped = decode_pictures([jpeg], PictureSettings(fit="crop"))[0]
    circle = cropped[1] > 128
    assert abs(int(circle.any(0).sum()) - int(circle.any(1).sum())) <= 2
    assert int(circle.any(0).sum()) == pytest.approx(112, abs=2)
    assert not ((cropped[0] > 128) & ~circle).any(), "what lies outside the middle square is not shown"
    squashed = decode_pictures([jpeg], PictureSettings())[0]
    assert int((squashed[1] > 128).any(0).sum()) == pytest.approx(56, abs=2)


@pytest.mark.parametrize("is_exact", [False, True])
def test_one_crop_and_one_mirror_image_for_a_clip(is_exact: bool) -> None:
    jpeg, again = scene(300, 280), bytes(bytearray(scene(300, 280)))
    settings = PictureSettings(augment="crop_flip", reference_exact=is_exact)
    drawn = [decode_pictures([jpeg, again], settings, np.random.default_rng(seed)) for seed in range(8)]
    for frames in drawn:
        assert frames[0].equal(frames[1])
    assert len({float(frames.float().sum()) for frames in drawn}) > 4
    one = decode_pictures([jpeg], settings, np.random.default_rng(3))
    assert one.equal(drawn[3][:1]), "the same draw gives the same pictures"


@pytest.mark.parametrize("as_torchvision", [False, True])
@pytest.mark.parametrize(("height", "width"), [(256, 455), (256, 260), (455, 256), (30, 31)])
def test_random_boxes_lie_inside(height: int, width: int, as_torchvision: bool) -> None:
    rng = np.random.default_rng(0)
    boxes = [random_box(height, width, rng, as_torchvision=as_torchvision) for _ in range(200)]
    for top, left, tall, wide in boxes:
        assert tall == wide
        assert 0 <= top <= height - tall and 0 <= left <= width - wide
    if as_torchvision and max(height, width) == 455:
        assert {frozenset(box) for box in boxes} == {frozenset((0, 99, 256))}, (
            "torchvision's crop is the middle of every wide picture"
        )
    else:
        assert len(set(boxes)) > 20
        smallest = min(box[2] for box in boxes) / min(height, width)
        assert smallest == pytest.approx(0.8**0.5, abs=0.06)


def test_the_same_picture_twice_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(1) or decode(*a, **k))
    jpeg = scene(64, 64)
    frames = decode_pictures([jpeg, jpeg, jpeg], PictureSettings(size_px=32))
    assert len(calls) == 1 and frames[0].equal(frames[2])


@pytest.mark.parametrize(
    ("jpegs", "words"),
    [
        ([b"no picture"], "JPEG"),
        ([scene(64, 64)[:-200]], "."),
        ([scene(64, 64), scene(64, 48)], "pictures of different sizes: 64x48, 64x64"),
    ],
)
def test_what_cannot_be_used(jpegs: list[bytes], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_pictures(jpegs, PictureSettings())


def test_wrong_settings_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        PictureSettings(count=0, size_px=-1, fit="stretch", augment="flip")
    assert len(caught.value.problems) == 4
    assert "fit = 'stretch': expected one of squash, crop" in caught.value.problems
