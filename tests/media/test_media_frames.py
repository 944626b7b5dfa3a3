"""Pictures: the right one, upright, at the right size and in the right colours, against ffmpeg itself."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_reference import ffmpeg_picture, psnr
from PIL import Image

from valor_data.media.extract import extract_clip
from valor_data.media.frames import (
    FrameSettings,
    JpegMaker,
    display_size,
    frame_moments,
    pixel_aspect,
    quarter_turns,
    scaled_size,
    to_bt601,
)
from valor_data.media.open import DEFAULT_LIMITS, choose_streams, open_media
from valor_data.media.pictures import decode_pictures
from valor_data.media.playback import clip_pictures
from valor_data.media.span import read_span
from valor_data.media.timeline import read_timeline

FILES = [
    ("audible/Issue 515 (java).mp4", 0.0, 3.5),
    ("audible/MOV00006.3gp", 0.0, 10.0),
    ("audible/androidx_sample.avi", 0.0, 4.0),
    ("audible/bbb_prog_10s.mp4", 0.0, 9.9),
    ("audible/big_buck_bunny_0_30.webm", 10.0, 20.0),
    ("audible/chrome.mp4", 5.0, 15.0),
    ("audible/flipping_a_pancake.mkv", 0.0, 10.0),
    ("audible/hdr10-av1.mp4", 0.0, 4.2),
    ("audible/nasa_13013.mp4", 2.0, 12.0),
    ("audible/nasa_hevc_ac3.mkv", 0.0, 5.0),
    ("audible/nasa_vp9_opus.webm", 0.0, 10.0),
    ("audible/shaka_ac3_start41759.ts", 0.0, 2.5),
    ("audible/shaka_hevc_aac.ts", 0.0, 5.0),
    ("audible/100_0306.AVI", 0.0, 2.7),
    ("audible/tika_testWMV.wmv", 0.0, 5.0),
    ("edge/rotate-buck-bunny.mp4", 0.0, 2.0),
    ("edge/fire2.mp4", 0.0, 2.3),
    ("edge/internal_emulator_transformer_output_270_rotated.mp4", 0.0, 4.9),
    ("edge/sar_2x1.mp4", 0.0, 5.0),
    ("edge/bear-vp9-odd-dimensions.webm", 0.0, 1.0),
    ("edge/FLIR Thermal.mp4", 0.0, 10.0),
    ("edge/-video-with-dash-.mp4", 0.0, 5.0),
]


def planes_of(path: Path, start: float, end: float) -> tuple[list[tuple[np.ndarray, ...]], list[float], bool]:
    """The planes before JPEG, their times in the file, and whether the source's matrix is not BT.601."""
    with open_media(path) as container:
        source = choose_streams(container)
        packets = read_span(source, start, end, DEFAULT_LIMITS)
        timeline = read_timeline(source, packets.video, packets.video_after)
        moments = [start + m for m in frame_moments(end - start, 10)]
        decoded = decode_pictures(source, timeline, (start, end), moments, DEFAULT_LIMITS)
        maker, aspect = JpegMaker(FrameSettings()), pixel_aspect(source.video.sample_aspect_ratio)
        kept = [tuple(p.copy() for p in maker.planes(x.frame, aspect)) for x in decoded.pictures]
        other_matrix = int(decoded.pictures[0].frame.colorspace) in (1, 4, 7, 9, 10)
        return kept, moments, other_matrix


@pytest.mark.parametrize(("file", "start", "end"), FILES, ids=[f[0] for f in FILES])
def test_pictures_equal_what_ffmpeg_shows_at_the_same_moments(media: Path, file: str, start: float, end: float) -> None:
    kept, moments, other_matrix = planes_of(media / file, start, end)
    for index in (1, 4, 8):
        height, width = kept[index][0].shape
        raw = np.frombuffer(ffmpeg_picture(media / file, moments[index], width, height), np.uint8)
        ours = np.concatenate([plane.reshape(-1) for plane in kept[index]])
        quality = psnr(ours, raw)
        assert quality >= 40, (file, index, other_matrix)


@pytest.mark.parametrize(("file", "start", "end"), FILES, ids=[f[0] for f in FILES])
def test_the_picture_is_the_one_on_screen(media: Path, file: str, start: float, end: float) -> None:
    features = extract_clip(media / file, 0.0, start, end, modalities="v")
    shown = [seconds for seconds, _ in clip_pictures(media / file, 0.0, max(0.0, start - 2), end)]
    shown = [seconds + max(0.0, start - 2) - start for seconds in shown]
    for moment, time in zip(features.frame_moments, features.frame_times, strict=True):
        before = [s for s in shown if s <= moment + 0.0006]
        assert time == pytest.approx(before[-1] if before else shown[0], abs=2e-6)


@pytest.mark.parametrize(("file", "start", "end"), FILES, ids=[f[0] for f in FILES])
def test_stored_jpeg_is_near_its_picture_and_nearer_than_its_neighbours(
    media: Path, file: str, start: float, end: float
) -> None:
    features = extract_clip(media / file, 0.0, start, end, modalities="v")
    with Image.open(io.BytesIO(features.jpegs[4])) as picture:
        stored = np.asarray(picture.convert("RGB"))
    height, width = stored.shape[:2]
    moment = start + features.frame_moments[4]
    near = {}
    step = 1 / 120
    for name, t in (("right", moment), ("before", start + features.frame_times[4] - step)):
        raw = np.frombuffer(ffmpeg_picture(media / file, t, width, height, "rgb24"), np.uint8)
        near[name] = raw.reshape(height, width, 3)
    assert psnr(stored, near["right"]) >= 27
    if psnr(near["right"], near["before"]) < 30:
        assert psnr(stored, near["right"]) > psnr(stored, near["before"])


def test_rotation_and_pixel_aspect_are_applied(media: Path) -> None:
    sizes = {
        "edge/rotate-buck-bunny.mp4": (256, 455),
        "edge/fire2.mp4": (455, 256),
        "edge/internal_emulator_transformer_output_270_rotated.mp4": (256, 455),
        "edge/sar_2x1.mp4": (910, 256),
        "edge/bear-vp9-odd-dimensions.webm": (161, 121),
        "edge/-video-with-dash-.mp4": (1, 1),
        "audible/shaka_ac3_start41759.ts": (455, 256),
        "audible/carphone": (193, 144),
    }
    for file, size in sizes.items():
        path = media / ("no_audio/carphone_pristine.mp4" if "carphone" in file else file)
        jpeg = extract_clip(path, 0.0, 0.0, 1.0, FrameSettings(count=1), modalities="v").jpegs[0]
        with Image.open(io.BytesIO(jpeg)) as picture:
            assert picture.size == size, file


def test_same_bytes_in_two_processes(media: Path) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path; from valor_data.media.extract import extract_clip\n"
        "from valor_data.media.flac import audio_flac\n"
        "f = extract_clip(Path(sys.argv[1]), 0.0, 2.0, 7.0)\n"
        "h = hashlib.sha256(b''.join(f.jpegs) + f.mel.tobytes() + audio_flac(Path(sys.argv[1]), 0.0, 2.0, 7.0))\n"
        "print(h.hexdigest())"
    )
    path = str(media / "audible/chrome.mp4")
    runs = {subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True).stdout for _ in "12"}
    assert len(runs) == 1


def test_two_calls_share_nothing(media: Path) -> None:
    path = media / "audible/bbb_prog_10s.mp4"
    digests = {hashlib.sha256(b"".join(extract_clip(path, 0.0, 1.0, 4.0).jpegs)).hexdigest() for _ in range(3)}
    assert len(digests) == 1


@given(st.floats(0.05, 3600), st.integers(1, 64))
def test_moments_are_the_middles_of_equal_parts(duration: float, count: int) -> None:
    moments = frame_moments(duration, count)
    assert len(moments) == count
    for i, moment in enumerate(moments):
        assert duration * i / count - 1e-6 <= moment <= duration * (i + 1) / count + 1e-6
        assert moment + moments[-1 - i] == pytest.approx(duration, abs=3e-6)


@given(st.integers(1, 8192), st.integers(1, 8192), st.fractions(Fraction(1, 20), 20), st.integers(1, 1024))
def test_scaled_size_keeps_the_aspect_and_never_enlarges(w: int, h: int, sar: Fraction, short: int) -> None:
    sar = pixel_aspect(sar)
    width, height = scaled_size(w, h, sar, short)
    shown_width, shown_height = display_size(w, h, sar)
    assert 1 <= width <= max(1, shown_width)
    assert 1 <= height <= shown_height
    if min(shown_width, shown_height) > short:
        assert min(width, height) == short
    assert abs(width * h - height * max(1, w * sar)) <= max(h, max(1, w * sar))


@given(st.integers(-720, 720))
def test_only_quarter_turns_are_turned(degrees: int) -> None:
    turns = quarter_turns(degrees)
    assert 0 <= turns <= 3
    assert turns == 0 or degrees % 90 == 0


def test_matrix_step_keeps_greys_and_moves_colours() -> None:
    grey = (np.arange(256, dtype=np.uint8).reshape(16, 16), *(np.full((8, 8), 128, np.uint8),) * 2)
    assert all(np.array_equal(a, b) for a, b in zip(to_bt601(grey, (0.2126, 0.0722)), grey, strict=True))
    # pure BT.709 green, full range: Y 182, U 30, V 12; as BT.601: Y 150, U 44, V 21
    green = (np.full((3, 3), 182, np.uint8), np.full((2, 2), 30, np.uint8), np.full((2, 2), 12, np.uint8))
    for plane, wanted in zip(to_bt601(green, (0.2126, 0.0722)), (150, 44, 21), strict=True):
        assert abs(int(plane[0, 0]) - wanted) <= 1
