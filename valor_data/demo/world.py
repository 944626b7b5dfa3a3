"""Makes the demo's world on disk, and says what is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from valor_data.demo.plan import Truth, WorldSettings, plan_world
from valor_data.errors import ConfigError, ValorDataError
from valor_data.workdir import written_aside

SPLITS = ("train", "val", "test")
WORLD_VERSION = 2
"""Raised when the same settings give another world, so that an old one is not taken for it."""

WORKER = "valor_data.demo.encode"
"""The program that makes videos; only it loads PyAV."""

_STAMP, _MARK = "world.json", ".valor-data-demo"


@dataclass(frozen=True, slots=True)
class World:
    """A finished world.

    Attributes:
        folder: where it lies.
        settings: what it was made from.
        truth: what is known of every clip, in the order of the annotations.
    """

    folder: Path
    settings: WorldSettings
    truth: tuple[Truth, ...]

    @property
    def media(self) -> Path:
        """The folder of video files, `<video_id>.mp4`; serve it, or use it as a folder source."""
        return self.folder / "media"

    @property
    def annotations(self) -> tuple[Path, ...]:
        """`desc_train.json`, `desc_val.json`, `desc_test.json`, in VALOR's released form."""
        return tuple(self.folder / f"desc_{split}.json" for split in SPLITS)

    @property
    def truth_file(self) -> Path:
        """The truth of every clip as JSON, for people and other programs."""
        return self.folder / "truth.json"


def make_world(
    folder: Path,
    settings: WorldSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> World:
    """Makes a world, or takes the one that is there if it is complete and has the same settings.

    Args:
        folder: where to make it; created. One that holds something else is left alone.
        settings: what to make; the defaults if None.
        progress: called with the number of videos done and their total.
        workers: programs to encode with; None for one a core, at most 8. The bytes do not depend on it.

    Returns:
        The world.

    Raises:
        ConfigError: the folder holds something that is not a world of ours.
        ValorDataError: a video could not be made.
    """
    settings = settings or WorldSettings()
    folder = Path(folder).absolute()
    plan = plan_world(settings)
    world = World(folder, settings, plan.truth)
    if _read_stamp(folder) == _stamp(settings):
        return world
    _clear(folder)
    world.media.mkdir(parents=True)
    report = progress or (lambda done, total: None)
    _write_videos(world, len(plan.videos), report, workers or min(os.cpu_count() or 1, 8))
    _write_lists(world)
    with written_aside(folder / _STAMP) as path:
        path.write_text(json.dumps(_stamp(settings), indent=1) + "\n", encoding="utf-8")
    return world


def _stamp(settings: WorldSettings) -> dict[str, object]:
    return {"world_version": WORLD_VERSION, "settings": asdict(settings)}


def _read_stamp(folder: Path) -> object:
    try:
        return json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clear(folder: Path) -> None:
    """Makes room for a world where nothing or an older or unfinished one is; anything else stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _MARK).exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds files that are not the demo's: name an empty or a new folder")
    (folder / _MARK).touch()
    (folder / _STAMP).unlink(missing_ok=True)
    shutil.rmtree(folder / "media", ignore_errors=True)


def _write_videos(world: World, num_videos: int, progress: Callable[[int, int], None], workers: int) -> None:
    """Has every video written by `workers` programs, each of which takes every so many-th.

    Programs of their own, not multiprocessing: this works from any script, without `if __name__ == "__main__"`.
    """
    progress(0, num_videos)
    settings = json.dumps(asdict(world.settings))
    reading, writing = os.pipe()
    programs: list[subprocess.Popen[bytes]] = []
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            try:
                for number in range(workers):
                    share = [str(world.media), settings, str(number), str(workers)]
                    command = [sys.executable, "-P", "-m", WORKER, *share]
                    programs.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing))
            finally:
                os.close(writing)
            for done, _ in enumerate(lines, start=1):  # a line for each video
                progress(done, num_videos)
        failed = [program.returncode for program in programs if program.wait() != 0]
    finally:
        for program in programs:
            if program.poll() is None:
                program.kill()
                program.wait()
    if failed:
        raise ValorDataError(f"making the world's videos failed (exit code {failed[0]}): read the lines above")


def _write_lists(world: World) -> None:
    for split, path in zip(SPLITS, world.annotations, strict=True):
        rows = [
            {"video_id": f"{t.video_id}_{t.start:.3f}_{t.end:.3f}", "desc": t.caption}
            for t in world.truth
            if t.split == split
        ]
        path.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
    truth = json.dumps([asdict(t) for t in world.truth], indent=1)
    world.truth_file.write_text(truth + "\n", encoding="utf-8")
