"""Ten-second clips of natural video in several forms, made from a folder of real files by Debian's ffmpeg."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NATURAL = (
    ("chrome.mp4", 0.0),
    ("chrome.mp4", 15.0),
    ("chaplin.mp4", 0.0),
    ("flipping_a_pancake.mkv", 0.0),
    ("mdn_pig.mp4", 0.0),
    ("mdn_monster.mp4", 0.0),
    ("mdn_crystal.webm", 0.0),
    ("nasa_13013.mp4", 2.0),
    ("mp4parser_v2.mp4", 0.0),
    ("rabbit320.mp4", 0.0),
    ("big_buck_bunny_0_30.webm", 12.0),
    ("prog_8s.mp4", 0.0),
    ("androidx_sample.avi", 0.0),
    ("shaka_ac3_start41759.ts", 0.0),
    ("Issue 515 (java).mp4", 0.0),
    ("sowt-with-video.mov", 0.0),
)
"""File and first second; files shorter than ten seconds are repeated."""

_AAC = ("-c:a", "aac", "-b:a", "128k", "-ar", "44100", "-ac", "2")
_OPUS = ("-c:a", "libopus", "-b:a", "96k", "-ar", "48000", "-ac", "2")


@dataclass(frozen=True)
class Form:
    """How the clips are encoded; `num_clips` of `NATURAL` are made."""

    name: str
    height_px: int
    extension: str
    options: tuple[str, ...]
    num_clips: int


FORMS = (
    Form(
        "H.264/AAC, at most 360p", 360, "mp4", ("-c:v", "libx264", "-crf", "23", "-g", "150", *_AAC), len(NATURAL)
    ),
    Form(
        "the same, baseline (no picture can be left out)",
        360, "mp4", ("-c:v", "libx264", "-profile:v", "baseline", "-crf", "23", "-g", "150", *_AAC), 8,
    ),
    Form("H.264/AAC, 720p", 720, "mp4", ("-c:v", "libx264", "-crf", "23", "-g", "150", *_AAC), 6),
    Form(
        "VP9/Opus, at most 360p",
        360, "webm", ("-c:v", "libvpx-vp9", "-crf", "33", "-b:v", "0", "-g", "150", "-deadline", "realtime",
        "-cpu-used", "5", "-row-mt", "1", *_OPUS), 6,
    ),
    Form(
        "AV1/Opus, at most 360p",
        360, "mp4", ("-c:v", "libsvtav1", "-preset", "9", "-crf", "35", "-g", "150", *_OPUS), 6,
    ),
)  # fmt: skip


def make_clips(form: Form, media: Path, folder: Path) -> list[Path]:
    """Encodes the form's clips into a folder; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, (name, start) in enumerate(NATURAL[: form.num_clips]):
        clip = folder / f"{FORMS.index(form)}_{number:02d}.{form.extension}"
        clips.append(clip)
        if clip.exists():
            continue
        # Never enlarged but for 720p, where the point is the size.
        height = str(form.height_px) if form.height_px > 360 else f"min({form.height_px}\\,ih)"
        aside = clip.with_name(f"tmp_{clip.name}")
        subprocess.run(
            ["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-ss", str(start), "-i", media / name,
             "-t", "10", "-map", "0:v:0", "-map", "0:a:0", "-vf", f"scale=-2:trunc({height}/2)*2,setsar=1",
             "-pix_fmt", "yuv420p", *form.options, aside],
            check=True,
        )  # fmt: skip
        aside.rename(clip)
    return clips
