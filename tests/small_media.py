"""One small synthetic video with sound, made once: for tests that need some real media, whatever they show."""

from __future__ import annotations

import dataclasses
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from valor_data.demo import WorldSettings, make_world

SECONDS = 2.0
"""How long `make_video`'s file lasts."""


@cache
def _video() -> tuple[Path, TemporaryDirectory[str]]:
    """The file, and its folder, which goes away with this process."""
    folder = TemporaryDirectory(prefix="valor-data-test-")
    settings = dataclasses.replace(
        WorldSettings.small(),
        num_visual_classes=2,
        num_sound_classes=2,
        min_clip_seconds=SECONDS,
        max_clip_seconds=SECONDS,
        num_dead=0,
        num_silent=0,
        num_hushed=0,
        num_quiet=0,
        num_without_sound=0,
        num_without_picture=0,
        num_damaged=0,
        num_pages=0,
        num_still=0,
        num_bare_numbers=0,
    )
    world = make_world(Path(folder.name) / "world", settings, workers=1)
    plain = next(truth for truth in world.truth if truth.kind == "plain")
    return world.media / f"{plain.video_id}.mp4", folder


def make_video(path: Path) -> Path:
    """A copy of a video of `SECONDS` seconds, 96x72, with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_video()[0], path)
    return path
