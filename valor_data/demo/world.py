"""Makes the demo's world on disk, and says what is in it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from valor_data.demo.plan import Plan, Truth, Video, WorldSettings, plan_world
from valor_data.errors import ConfigError
from valor_data.workdir import written_aside

SPLITS = ("train", "val", "test")
WORLD_VERSION = 1
"""Raised when the same settings give another world, so that an old one is not taken for it."""

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
        workers: processes to encode with; None for one a core, at most 8. The bytes do not depend on it.

    Returns:
        The world.

    Raises:
        ConfigError: the folder holds something that is not a world of ours.
    """
    settings = settings or WorldSettings()
    folder = Path(folder).absolute()
    plan = plan_world(settings)
    world = World(folder, settings, plan.truth)
    if _read_stamp(folder) == _stamp(settings):
        return world
    _clear(folder)
    world.media.mkdir(parents=True)
    _write_videos(plan, world, progress, workers)
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


def _write_one(path: Path, video: Video, settings: WorldSettings) -> None:
    from valor_data.demo.encode import write_video  # PyAV costs 0.1 s: only where something is encoded

    write_video(path, video, settings)


def _write_videos(plan: Plan, world: World, progress: Callable[[int, int], None] | None, workers: int | None) -> None:
    workers = workers or min(os.cpu_count() or 1, 8)
    jobs = [(world.media / f"{video.video_id}.mp4", video, world.settings) for video in plan.videos]
    if progress:
        progress(0, len(jobs))
    if workers == 1:
        for done, job in enumerate(jobs, start=1):
            _write_one(*job)
            if progress:
                progress(done, len(jobs))
        return
    # spawned, not forked: the caller may have threads
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(_write_one, *zip(*jobs, strict=True), chunksize=8), start=1):
            if progress:
                progress(done, len(jobs))


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
