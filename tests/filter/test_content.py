"""What is measured of pictures and sound: movement, borders, hashes, bits; and how it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_media import SECONDS, make_video

from valor_data.media.content import (
    NUM_PICTURES,
    VIEWS,
    Content,
    black_borders,
    even_borders,
    measure_content,
    movement,
    picture_hashes,
    sound_bits,
)
from valor_data.media.measure import measure_clip, measure_clip_and_content
from valor_data.media.sound import Sound

H, W = 72, 128
DICE = np.random.default_rng(5)
RATE_HZ = 22_050


def shown(*pictures: object) -> np.ndarray:
    return np.stack([np.broadcast_to(np.asarray(p, np.uint8), (H, W)) for p in pictures])


def noise(seed: int) -> np.ndarray:
    from PIL import Image

    grid = np.random.default_rng(seed).integers(30, 256, (6, 8), np.uint8)
    return np.asarray(Image.fromarray(grid).resize((W, H)))


def sound_of(wave: np.ndarray) -> Sound:
    return Sound(wave[None].astype(np.float32), RATE_HZ, "mono", [(0, len(wave))])


def test_movement() -> None:
    assert movement(shown(0)) == (-1.0, -1.0)
    assert movement(shown(50, 50, 50)) == (0.0, 0.0)
    assert movement(shown(50, 80)) == (30.0, 1.0)
    corner = np.full((H, W), 50)
    corner[: H // 3, : W // 4] = 200
    assert movement(shown(50, corner)) == (pytest.approx(150 / 12, abs=0.01), pytest.approx(1 / 12, abs=0.001))


def test_borders() -> None:
    boxed = np.zeros((H, W))
    boxed[9:63, :] = 120
    assert black_borders(shown(boxed, boxed)) == (9 / 72, 9 / 72, 0, 0)
    assert Content(borders=black_borders(shown(boxed))).border_share == pytest.approx(0.25)
    pillars = np.zeros((H, W))
    pillars[:, 16:112] = 120
    assert Content(borders=black_borders(shown(pillars))).border_share == pytest.approx(0.25)
    night = np.full((H, W), 0)
    night[40:, :] = 90
    assert black_borders(shown(night)) == (40 / 72, 0, 0, 0)
    assert even_borders((40 / 72, 0, 0, 0)) == (0, 0, 0, 0), "black on one side alone is a dark scene"
    assert black_borders(shown(0, 0)) == (0, 0, 0, 0), "a black picture has no border"
    assert black_borders(shown(boxed, 120)) == (0, 0, 0, 0), "a border is there in all pictures"


def test_a_letterboxed_and_a_cropped_picture_hash_alike() -> None:
    picture = noise(1)
    from PIL import Image

    boxed = np.zeros((H, W), np.uint8)
    boxed[9:63] = np.asarray(Image.fromarray(picture).resize((W, 54)))
    cropped = np.asarray(Image.fromarray(picture).resize((W, H), box=(6.4, 3.6, W - 6.4, H - 3.6)))
    (plain,), _ = picture_hashes(shown(picture), (0, 0, 0, 0))
    (box,), _ = picture_hashes(shown(boxed), black_borders(shown(boxed)))
    (crop,), _ = picture_hashes(shown(cropped), (0, 0, 0, 0))
    (other,), _ = picture_hashes(shown(noise(2)), (0, 0, 0, 0))
    assert int(np.bitwise_count(plain[0] ^ box[0])) <= 6
    assert int(np.bitwise_count(plain[VIEWS.index(0.05)] ^ crop[0])) <= 6
    assert int(np.bitwise_count(plain[:, None] ^ other[None, :]).min()) > 12
    assert list(picture_hashes(shown(picture, 90, 0), (0, 0, 0, 0))[1]) == [True, False, False], (
        "flat ones tell nothing"
    )


def test_silence_and_a_steady_tone_tell_nothing_of_sound() -> None:
    length = 5 * RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(length) / RATE_HZ)
    bursts = DICE.normal(0, 0.1, length) * (np.sin(2 * np.pi * 3 * np.arange(length) / RATE_HZ) > 0)
    assert not sound_bits(sound_of(np.zeros(length)), 5.0)[1].any()
    assert not sound_bits(sound_of(tone), 5.0)[1][2:-2].any()
    bits, audible = sound_bits(sound_of(bursts), 5.0)
    assert len(bits) == len(audible) == 46 and audible.mean() > 0.9
    louder, _ = sound_bits(sound_of(bursts * 3), 5.0)
    assert np.bitwise_count(bits ^ louder).mean() < 2, "loudness does not count"
    assert len(sound_bits(None, 5.0)[0]) == len(sound_bits(sound_of(bursts[:5000]), 0.2)[0]) == 0


@given(
    st.floats(-1, 255, width=32),
    st.tuples(*[st.floats(0, 0.5, width=32)] * 4),
    arrays.arrays(np.uint64, st.tuples(st.integers(0, NUM_PICTURES), st.just(len(VIEWS)))),
    arrays.arrays(np.uint32, st.integers(0, 40)),
    st.randoms(),
)
def test_content_is_read_back_as_it_was(change, borders, hashes, sound, dice) -> None:  # type: ignore[no-untyped-def]
    tells = np.array([dice.random() < 0.5 for _ in hashes], bool)
    audible = np.array([dice.random() < 0.5 for _ in sound], bool)
    content = Content(change, 0.5, borders, hashes, tells, sound, audible)
    data = content.to_bytes()
    again = Content.from_bytes(data)
    assert again.to_bytes() == data
    for name in ("hashes", "tells", "sound", "audible"):
        assert np.array_equal(getattr(again, name), getattr(content, name)), name
    assert (again.picture_change, again.borders) == (change, borders)
    for wrong in (data[:-1] if len(data) > 27 else data[:3], data + b"x", b""):
        with pytest.raises(ValueError, match="no content figures"):
            Content.from_bytes(wrong)


def test_one_pass_gives_what_two_give(tmp_path: Path, shared: Path) -> None:
    files = [(make_video(tmp_path / "v.mp4"), 0.0, SECONDS), (shared / "media/audible/nasa_13013.mp4", 2.0, 8.0)]
    for path, start, end in files:
        for modalities in ("av", "v", "a"):
            facts, content = measure_clip_and_content(path, 0.0, start, end, modalities)
            assert facts == measure_clip(path, 0.0, start, end, modalities)
            assert content is not None
            assert content.to_bytes() == measure_content(path, 0.0, start, end, modalities).to_bytes()
            assert (len(content.hashes) > 0, len(content.sound) > 0) == ("v" in modalities, "a" in modalities)
            assert len(content.to_bytes()) < 800


def test_what_has_nothing_to_compare(shared: Path) -> None:
    media = shared / "media"
    sound_only = measure_content(media / "audio_only/test-pod.m4a", 0.0, 0.0, 10.0)
    assert len(sound_only.hashes) == 0 and sound_only.audible.sum() > 30 and sound_only.picture_change == -1
    black = measure_content(media / "silent/silent-black-10s.mp4", 0.0, 0.0, 10.0)
    assert not black.tells.any() and not black.audible.any()
    facts, content = measure_clip_and_content(media / "silent/silent-black-10s.mp4", 0.0, 0.0, 10.0)
    assert content is None and facts.rms_dbfs < -60, "nobody will ask for it"
    encrypted = measure_content(media / "hostile/prog_8s_enc_dashinit.mp4", 0.0, 0.0, 8.0)
    assert encrypted.to_bytes() == Content().to_bytes()
