"""A row of the real clips, and ffmpeg's own answer to compare with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np


@dataclass(frozen=True)
class Row:
    file: str
    start: float
    end: float
    expect: str


def run_ffmpeg(*arguments: object) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "error"]
    return subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True).stdout


def ffmpeg_picture(path: Path, moment: float, width: int, height: int, pixel_format: str = "yuvj420p") -> bytes:
    """What ffmpeg shows at a moment (seconds from the container's start), turned and scaled by its bicubic."""
    chosen = f"select=lte(t\\,{moment + 0.0005:.6f})"
    scaled = f"scale={width}:{height}:flags=bicubic:out_color_matrix=bt601"
    # the sound is mapped too: without it ffmpeg takes the first picture's time for second 0
    raw = run_ffmpeg(
        "-i", path, "-map", "0:a?", "-f", "null", "-", "-an", "-vf", f"{chosen},{scaled}", "-fps_mode", "passthrough",
        "-f", "rawvideo", "-pix_fmt", pixel_format, "-",
    )  # fmt: skip
    half = (-(-width // 2)) * (-(-height // 2))
    size = width * height * 3 if pixel_format == "rgb24" else width * height + 2 * half
    return raw[-size:]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)
