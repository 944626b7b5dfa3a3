"""Picture and sound on one clock: flashes and beeps, odd start times, late sound, at the file's own rates."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from valor_data.media.cut import cut
from valor_data.media.playback import clip_pictures, clip_sound
from valor_data.media.probe import probe


def flashes(path: Path, offset: float, start: float, end: float) -> list[float]:
    """Clip seconds of the pictures that jump brighter than the one before by far."""
    found: list[float] = []
    last = None
    for seconds, frame in clip_pictures(path, offset, start, end):
        luma = frame.reformat(format="gray", threads=1).to_ndarray().astype(np.float64)
        if last is not None and np.abs(luma - last).mean() > 10:
            found.append(seconds)
        last = luma
    return found


def beeps(path: Path, offset: float, start: float, end: float) -> list[float]:
    """Clip seconds at which silence of a third of a second ends."""
    sound = clip_sound(path, offset, start, end)
    loud = np.flatnonzero(np.abs(sound.samples).max(axis=0) > 0.1) / sound.rate_hz
    return [float(b) for a, b in pairwise(loud) if b - a > 0.3]


@pytest.mark.parametrize(("start", "end"), [(2.0, 12.0), (30.0, 40.0), (33.3, 41.7)])
def test_flashes_and_beeps_agree_within_one_picture(media: Path, start: float, end: float) -> None:
    path = media / "audible/sync_test.mp4"
    seen, heard = flashes(path, 0.0, start, end), beeps(path, 0.0, start, end)
    together = [(f, b) for f in seen for b in heard if abs(f - b) < 0.3]
    assert len(together) >= 7
    assert max(abs(f - b) for f, b in together) <= 1 / 30


def test_a_cut_keeps_flashes_and_beeps_where_they_were(media: Path, tmp_path: Path) -> None:
    path = media / "audible/sync_test.mp4"
    piece = cut(path, 31.4, 40.2, tmp_path, "sync")
    assert flashes(piece.path, piece.offset_seconds, 31.4, 40.2) == pytest.approx(
        flashes(path, 0.0, 31.4, 40.2), abs=1e-6
    )
    assert beeps(piece.path, piece.offset_seconds, 31.4, 40.2) == beeps(path, 0.0, 31.4, 40.2)


def test_second_zero_is_the_containers_start(media: Path) -> None:
    """The same footage, as it was and moved by a start time of 8.5 s, shows the same picture at the same second."""
    moved = media / "audible/nasa_start_7s25.ts"
    assert probe(moved).start_time_seconds == pytest.approx(8.522)
    times = [seconds for seconds, _ in clip_pictures(moved, 0.0, 0.0, 1.0)]
    assert times[0] == pytest.approx(0.128, abs=0.001)
    sound = clip_sound(moved, 0.0, 0.0, 6.0)
    late = clip_sound(media / "audible/nasa_13013.mp4", 0.0, 0.0, 13.0)
    assert sound.spans[0][0] == 0
    assert late.spans[0][0] == 0


def test_a_start_of_eleven_hours_is_second_zero_too(media: Path) -> None:
    path = media / "audible/shaka_ac3_start41759.ts"
    assert probe(path).start_time_seconds == pytest.approx(41759.368, abs=0.001)
    times = [seconds for seconds, _ in clip_pictures(path, 0.0, 0.0, 2.5)]
    assert times[0] == pytest.approx(0.352, abs=0.001)
    assert np.diff(times) == pytest.approx(0.04, abs=1e-4)
    assert clip_sound(path, 0.0, 0.0, 2.5).coverage > 0.99


def test_late_sound_stays_late(media: Path) -> None:
    """The file's sound was made 2.5 s late: it correlates with the original's at that distance."""
    late = clip_sound(media / "audible/nasa_audio_late_2s5.mp4", 0.0, 4.5, 6.5)
    original = clip_sound(media / "audible/nasa_13013.mp4", 0.0, 0.0, 13.0)
    assert original.rate_hz == 2 * late.rate_hz
    there = original.samples[0, ::2]
    scores = np.correlate(there, late.samples[0], "valid")
    energy = np.convolve(there**2, np.ones(late.samples.shape[1]), "valid")
    best = int(np.argmax(scores / np.sqrt(energy + 1e-9)))
    assert best / late.rate_hz == pytest.approx(4.5 - 2.5, abs=0.15)
