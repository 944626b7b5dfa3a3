"""Planted duplicates: synthetic clips that differ, false friends among them, and copies made by ffmpeg.

Used by the tests and by `benchmarks/duplicates.py`.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from PIL import Image

from valor_data.filter.alike import Closeness, alike_pairs
from valor_data.filter.signatures import Signatures
from valor_data.media.content import Content, measure_content

SECONDS, FPS, SIZE, RATE_HZ = 6, 10, (160, 120), 22_050

_X264 = ("-c:v", "libx264", "-preset", "veryfast")
_CROP = "crop=trunc(iw*0.9/2)*2:trunc(ih*0.9/2)*2"
COPIES: dict[str, tuple[str, ...]] = {
    "re-encoded": (*_X264, "-crf", "30", "-c:a", "aac", "-b:a", "96k"),
    "re-scaled to 40 %": (*_X264, "-vf", "scale=trunc(iw*0.4/2)*2:trunc(ih*0.4/2)*2", "-c:a", "aac", "-b:a", "128k"),
    "cropped 5 % a side": (*_X264, "-vf", _CROP, "-c:a", "aac", "-b:a", "128k"),
    "sound at 32 kbit/s": (*_X264, "-crf", "18", "-c:a", "libmp3lame", "-b:a", "32k"),
    "all together": (
        *_X264, "-crf", "32", "-vf", f"{_CROP},scale=trunc(iw*0.5/2)*2:trunc(ih*0.5/2)*2",
        "-c:a", "libmp3lame", "-b:a", "32k",
    ),
}  # fmt: skip
"""What was done to a copy; 5 % are cut off every side."""

KINDS = ("plain",) * 8 + ("same still", "black", "silent", "steady tone", "same intro", "same sound", "plain", "plain")
"""Synthetic clips in turn: plain ones, and those that have something in common with others and are not the same."""


@dataclass(frozen=True)
class Planted:
    """A clip of the set: where it is, which footage it shows, and what was done to it.

    Attributes:
        footage: clips with equal footage show the same.
        copy: a key of `COPIES`; empty for an original.
    """

    path: Path
    start: float
    end: float
    footage: str
    kind: str
    copy: str = ""


def synthetic(path: Path, number: int) -> Planted:
    """Writes a synthetic clip: scenes with moving patches and a cut, and sound whose colour changes."""
    kind = KINDS[number % len(KINDS)]
    dice = np.random.default_rng(number)
    common = np.random.default_rng(10**6)
    pictures = _pictures(common if kind == "same still" else dice, still=kind == "same still")
    sound = _sound(dice)
    if kind == "black":
        pictures[:] = 0
    elif kind == "silent":
        sound[:] = 0
    elif kind == "steady tone":
        sound = 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / RATE_HZ)
    elif kind == "same intro":
        sound[: len(sound) // 3] = _sound(common)[: len(sound) // 3]
    elif kind == "same sound":
        sound = _sound(common)
    _encode(path, pictures, sound.astype(np.float32))
    return Planted(path, 0.0, float(SECONDS), f"synthetic {number}", kind)


def _pictures(dice: np.random.Generator, *, still: bool) -> np.ndarray[Any, Any]:
    width, height = SIZE
    shown = np.zeros((SECONDS * FPS, height, width, 3), np.uint8)
    cut = int(dice.integers(15, 45))
    for first, after in ((0, cut), (cut, len(shown))):
        ground = _texture(dice, width * 2, height * 2)
        patch = _texture(dice, width // 3, height // 3)
        pan, start, way = dice.uniform(-2, 2, 2), dice.uniform(0, 0.6, 2), dice.uniform(-0.012, 0.012, 2)
        for k in range(first, after):
            step = 0 if still else k - first
            x, y = (int(np.clip(size / 2 + p * step, 0, size)) for size, p in zip((width, height), pan, strict=True))
            shown[k] = ground[y : y + height, x : x + width]
            u, v = (np.clip(start + way * step, 0, 0.66) * (width, height)).astype(int)
            shown[k, v : v + height // 3, u : u + width // 3] = patch
    if still:
        shown[:] = shown[0]
    return shown


def _texture(dice: np.random.Generator, width: int, height: int) -> np.ndarray[Any, Any]:
    coarse = Image.fromarray(dice.integers(0, 256, (6, 8, 3), np.uint8))
    fine = Image.fromarray(dice.integers(0, 256, (24, 32, 3), np.uint8))
    smooth, rough = (np.asarray(im.resize((width, height), Image.Resampling.BICUBIC), float) for im in (coarse, fine))
    return np.clip(0.8 * smooth + 0.2 * rough, 0, 255).astype(np.uint8)


def _sound(dice: np.random.Generator) -> np.ndarray[Any, Any]:
    """Noise whose spectrum changes several times a second, with pauses; as much like speech as is cheap."""
    hop, num = 256, SECONDS * RATE_HZ // 256 + 4
    grid = Image.fromarray(dice.uniform(-6, 3, (SECONDS * 5, 20)).astype(np.float32))
    colour = np.exp(np.asarray(grid.resize((257, num), Image.Resampling.BILINEAR)))
    spectrum = colour * np.exp(2j * np.pi * dice.uniform(0, 1, colour.shape))
    pieces = np.fft.irfft(spectrum, 512) * np.hanning(512)
    wave = np.zeros(num * hop + 512)
    for k, piece in enumerate(pieces):
        wave[k * hop : k * hop + 512] += piece
    wave = wave[: SECONDS * RATE_HZ]
    return 0.5 * wave / np.abs(wave).max()


def _encode(path: Path, pictures: np.ndarray[Any, Any], sound: np.ndarray[Any, Any]) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "22", "threads": "1"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, options={"b": "128000"})
        audio.layout = "mono"
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        wave.sample_rate, wave.pts = RATE_HZ, 0
        container.mux(audio.encode(wave))
        container.mux(audio.encode(None))


def real(shared: Path) -> list[Planted]:
    """The clips of `media/clips.tsv` that are kept, with what its README says of their footage."""
    with (shared / "media" / "clips.tsv").open() as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["expect"] == "kept"]
    return [
        Planted(shared / "media" / row["file"], float(row["start"]), float(row["end"]), _footage(row["file"]), "real")
        for row in rows
    ]


def _footage(file: str) -> str:
    name = Path(file).name
    if name.startswith("nasa_"):
        return "nasa"
    bunny = ("bbb_prog_10s.mp4", "big_buck_bunny_0_30.webm", "bigbuckbunny_5_1.mp4", "rotate-buck-bunny.mp4")
    return "big buck bunny" if name in bunny else name


def copied(clip: Planted, copy: str, path: Path) -> Planted:
    """Makes a copy of a clip."""
    span = ("-ss", str(clip.start), "-t", str(clip.end - clip.start))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", clip.path, *span, "-map", "0:v:0",
               "-map", "0:a:0", "-ac", "2", "-threads", "1", *COPIES[copy], path]  # fmt: skip
    subprocess.run(command, check=True)
    return Planted(path, 0.0, clip.end - clip.start, clip.footage, clip.kind, copy)


def measured(clip: Planted) -> Content:
    """What is measured of a clip."""
    return measure_content(clip.path, 0.0, clip.start, clip.end)


@dataclass(frozen=True)
class Found:
    """Of all pairs of a planted set: how many copies were found, by what was done; and false alarms."""

    planted: dict[str, int]
    found: dict[str, int]
    missed: list[str]
    num_different: int
    false_alarms: list[str]

    def share(self, copy: str) -> float:
        """Share of the copies of a kind that were found."""
        return self.found[copy] / self.planted[copy]


def judge(clips: Sequence[Planted], contents: Sequence[Content], originals: dict[int, int]) -> Found:
    """Searches a planted set.

    Args:
        clips: all clips.
        contents: what was measured of each.
        originals: number of a copy to that of its original.
    """
    pairs = {(int(a), int(b)) for a, b in alike_pairs(Signatures.of(contents), Closeness())}
    planted: dict[str, int] = dict.fromkeys(COPIES, 0)
    found, missed = dict(planted), []
    for copy, original in originals.items():
        planted[clips[copy].copy] += 1
        if (min(copy, original), max(copy, original)) in pairs:
            found[clips[copy].copy] += 1
        else:
            missed.append(f"{clips[original].footage} ({clips[original].kind}), {clips[copy].copy}")
    false = [f"{clips[a].footage} ({clips[a].kind}) and {clips[b].footage} ({clips[b].kind})"
             for a, b in sorted(pairs) if clips[a].footage != clips[b].footage]  # fmt: skip
    _, sizes = np.unique([clip.footage for clip in clips], return_counts=True)
    num_same = int((sizes * (sizes - 1) // 2).sum())
    return Found(planted, found, missed, len(clips) * (len(clips) - 1) // 2 - num_same, false)
