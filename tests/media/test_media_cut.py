"""Cuts without re-encoding: the same pictures and the same sound in the span, whatever the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from valor_data.errors import ClipError
from valor_data.media.cut import CutImpossible, cut
from valor_data.media.playback import clip_pictures, clip_sound
from valor_data.media.probe import probe
from valor_data.media.transcode import ffmpeg_path, transcode_mp4

SPANS = [
    ("audible/Issue 515 (java).mp4", 1.3, 2.8, "mp4"),
    ("audible/bbb_prog_10s.mp4", 3.663, 7.92, "mp4"),
    ("audible/androidx_sample.avi", 1.48, 3.2, "mp4"),
    ("audible/big_buck_bunny_0_30.webm", 13.7, 16.0, "mkv"),
    ("audible/chrome.mp4", 0.0, 4.0, "mp4"),
    ("audible/chrome.mp4", 18.7, 23.0, "mp4"),
    ("audible/flipping_a_pancake.mkv", 3.7, 8.0, "mkv"),
    ("audible/hdr10-av1.mp4", 1.55, 3.36, "mp4"),
    ("audible/mediabunny_0.ts", 1.8, 4.98, "mp4"),
    ("audible/nasa_13013.mp4", 5.7, 10.0, "mp4"),
    ("audible/nasa_audio_late_2s5.mp4", 0.0, 10.0, "mp4"),
    ("audible/nasa_flv1_mp3.flv", 2.2, 4.8, "flv"),
    ("audible/nasa_hevc_ac3.mkv", 1.85, 4.0, "mkv"),
    ("audible/nasa_start_7s25.ts", 2.22, 4.8, "mp4"),
    ("audible/shaka_ac3_start41759.ts", 0.9, 2.0, "mp4"),
    ("audible/sowt-with-video.mov", 0.74, 1.6, "mov"),
    ("audible/tika_testWMV.wmv", 1.85, 4.0, "wmv"),
    ("audible/100_0306.AVI", 1.0, 2.16, "mov"),
    ("edge/rotate-buck-bunny.mp4", 0.7, 1.9, "mp4"),
    ("edge/sar_2x1.mp4", 2.0, 4.0, "mp4"),
    ("edge/FLIR Thermal.mp4", 4.0, 9.0, "mp4"),
]


def pictures(path: Path, offset: float, start: float, end: float) -> tuple[list[tuple[str, int]], list[float]]:
    """What each picture of a span shows and how it is turned, and when it comes on screen."""
    shown, times = [], []
    for seconds, frame in clip_pictures(path, offset, start, end):
        pixels = frame.reformat(format="rgb24", threads=1).to_ndarray().tobytes()
        shown.append((hashlib.sha256(pixels).hexdigest(), frame.rotation))
        times.append(seconds)
    return shown, times


def same_pictures(
    one: tuple[list[tuple[str, int]], list[float]], two: tuple[list[tuple[str, int]], list[float]]
) -> bool:
    return len(one[0]) > 0 and one[0] == two[0] and one[1] == pytest.approx(two[1], abs=1e-5)


@pytest.mark.parametrize(("file", "start", "end", "container"), SPANS, ids=[f"{s[0]}@{s[1]}" for s in SPANS])
def test_a_piece_decodes_to_the_same_pictures_and_sound(
    media: Path, tmp_path: Path, file: str, start: float, end: float, container: str
) -> None:
    source = media / file
    piece = cut(source, start, end, tmp_path / "made" / "here", "-a_00001000_00002000")
    assert piece.container == container
    assert piece.path == tmp_path / "made" / "here" / f"-a_00001000_00002000.{container}"
    assert piece.size_bytes == piece.path.stat().st_size
    assert same_pictures(pictures(piece.path, piece.offset_seconds, start, end), pictures(source, 0.0, start, end))
    if probe(source).audio is not None:
        whole, cutout = clip_sound(source, 0.0, start, end), clip_sound(piece.path, piece.offset_seconds, start, end)
        assert np.array_equal(whole.samples, cutout.samples)
        assert whole.spans == cutout.spans
    before, after = probe(source), probe(piece.path)
    assert (before.video.display_width_px, before.video.display_height_px) == (
        after.video.display_width_px,
        after.video.display_height_px,
    )
    assert piece.held_start <= max(start, piece.held_start if start < 0.2 else start - 0.2) + 1e-6
    assert piece.held_end >= min(end, before.duration_seconds) - 0.05
    assert list(piece.path.parent.iterdir()) == [piece.path]  # nothing half-made is left


def test_the_same_cut_gives_the_same_bytes(media: Path, tmp_path: Path) -> None:
    for file, start, end in (("audible/chrome.mp4", 5.0, 9.0), ("audible/nasa_vp9_opus.webm", 2.0, 6.0)):
        one, two = (cut(media / file, start, end, tmp_path, name) for name in ("one", "two"))
        assert one.path.read_bytes() == two.path.read_bytes()


def test_a_piece_of_a_piece(media: Path, tmp_path: Path) -> None:
    first = cut(media / "audible/chrome.mp4", 8.0, 20.0, tmp_path, "first")
    second = cut(first.path, 12.0, 15.0, tmp_path, "second", offset_seconds=first.offset_seconds)
    whole = pictures(media / "audible/chrome.mp4", 0.0, 12.0, 15.0)
    assert same_pictures(pictures(second.path, second.offset_seconds, 12.0, 15.0), whole)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("hostile/prog_8s_enc_dashinit.mp4", "encrypted"),
        ("hostile/init_truncated.mp4", "no packets"),
        ("audible/MOV00006.3gp", "key picture|does not support"),
    ],
)
def test_what_cannot_be_cut_says_so_and_leaves_nothing(media: Path, tmp_path: Path, file: str, words: str) -> None:
    with pytest.raises(CutImpossible, match=words):
        cut(media / file, 4.0, 6.0, tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_an_mp4_of_the_exact_span(media: Path, tmp_path: Path) -> None:
    for file, start, end, size in (
        ("audible/nasa_start_7s25.ts", 1.0, 3.0, (480, 270)),
        ("edge/fire2.mp4", 0.5, 1.5, (1280, 720)),
        ("edge/sar_2x1.mp4", 1.0, 2.0, (1280, 360)),
        ("audible/carphone", 1.0, 2.0, (192, 144)),
    ):
        path = media / ("no_audio/carphone_pristine.mp4" if "carphone" in file else file)
        modalities = "av" if probe(path).audio else "v"
        made = [transcode_mp4(path, start, end, tmp_path / f"{n}.mp4", modalities=modalities) for n in "12"]
        assert made[0].read_bytes() == made[1].read_bytes()
        found = probe(made[0])
        assert (found.video.codec, found.video.rotation_degrees) == ("h264", 0)
        assert (found.video.display_width_px, found.video.display_height_px) == size
        assert found.duration_seconds == pytest.approx(end - start, abs=0.15)
        assert (found.audio is None) == (modalities == "v")


def test_a_file_that_is_the_span_already_is_copied(media: Path, tmp_path: Path) -> None:
    path = media / "audible/mdn_pig.mp4"
    made = transcode_mp4(path, 0.0, 6.533, tmp_path / "copy.mp4")
    assert same_pictures(pictures(made, 0.0, 0.0, 6.5), pictures(path, 0.0, 0.0, 6.5))


def test_transcoding_refuses_what_is_not_there(media: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="no_audio"):
        transcode_mp4(media / "no_audio/bikes.mp4", 0.0, 1.0, tmp_path / "x.mp4")
    with pytest.raises(ClipError, match="no_video"):
        transcode_mp4(media / "audio_only/test-pod.m4a", 0.0, 1.0, tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []
    assert ffmpeg_path().is_absolute()
