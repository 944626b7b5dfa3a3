"""The whole process tree is killed at random moments in each stage; the same command again ends the same."""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from driving import commands, kill_after, run_to_its_end, standings, tar_bytes

from valor_data.demo import World, WorldSettings, make_world, serve
from valor_data.look.verify import verify
from valor_data.workdir import WorkDir

ROUNDS = 5


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed: its tars, how its clips ended, and how long each stage took in seconds."""

    tars: dict[str, bytes]
    standings: dict[str, tuple[str, str]]
    durations: dict[str, float]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


def outcomes_in(work: Path, stage: str) -> int:
    try:
        with sqlite3.connect(f"file:{work / 'ledger.sqlite'}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM outcomes WHERE stage = ?", (stage,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.fixture(scope="module")
def lists(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from valor_data.manifest import build_manifest, write_manifest

    path = tmp_path_factory.mktemp("lists") / "manifest.parquet"
    write_manifest(build_manifest(list(world.annotations)), path)
    return path


@pytest.fixture(scope="module")
def undisturbed(world: World, lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    work = tmp_path_factory.mktemp("undisturbed")
    with serve(world.media) as server:
        steps = commands(work, lists, server)
        durations = {stage: run_to_its_end(command) for stage, command in steps.items()}
    tars = tar_bytes(work)
    assert len(tars) > 3
    return Undisturbed(tars, standings(work), durations)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, ROUNDS))]
)
def test_killed_runs_end_the_same(
    seed: int, world: World, lists: Path, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    dice = random.Random(f"kill {seed}")
    kills: Counter[str] = Counter()
    partly: Counter[str] = Counter()
    with serve(world.media) as server:
        steps = commands(tmp_path, lists, server)
        for stage, command in steps.items():
            if stage == "filter" and seed % 2:
                continue  # the shards then measure on the way: the same bytes, the same outcomes
            # Early, so that a machine that has become idle since is still at work, and then anywhere.
            for least, most in ((0.1, 0.4), (0.25, 0.8)):
                kills[stage] += kill_after(command, undisturbed.durations[stage] * dice.uniform(least, most))
                partly[stage] += outcomes_in(tmp_path, stage) > 0
            run_to_its_end(command)
            run_to_its_end(command)  # a finished stage has nothing to do, and does nothing
        asked = {video.stem: server.count(video.stem, "GET") for video in world.media.iterdir()}
    assert sum(kills.values()) > 0, "no run was still going when it was to be killed"
    assert tar_bytes(tmp_path) == undisturbed.tars
    ended = standings(tmp_path)
    if seed % 2:
        # Measured in one pass, a clip that its sound refuses never shows its picture: of a file that is cut off
        # `short` is known and `undecodable` is not. Who is kept and who is not is the same.
        assert {key: status for key, (status, _) in ended.items()} == {
            key: status for key, (status, _) in undisturbed.standings.items()
        }
        differ = {ended[key][1] for key in ended if ended[key] != undisturbed.standings[key]}
        assert differ <= {"no_audio", "short", "silent"}, "only the sound's reasons may come first"
    else:
        assert ended == undisturbed.standings
    assert verify(WorkDir.at(tmp_path)).problems == []
    assert not (tmp_path / "tmp").exists(), "nothing half-written is left behind"
    # Four workers' worth of videos may be in hand at a kill; whatever had an outcome is never asked for again.
    asked = {video_id: number for video_id, number in asked.items() if number}  # a rejected row is never asked for
    assert max(asked.values()) <= 3, asked
    assert sum(number - 1 for number in asked.values()) <= 2 * kills["fetch"] * 4 + 4


@pytest.mark.timeout(120)
def test_a_second_driver_is_refused(world: World, lists: Path, tmp_path: Path) -> None:
    from valor_data.errors import ValorDataError
    from valor_data.road import Driver

    words = f"process {os.getpid()}.* is writing here; wait for it, or stop it"
    with Driver(WorkDir.at(tmp_path)), pytest.raises(ValorDataError, match=words):
        Driver(WorkDir.at(tmp_path))
    with Driver(WorkDir.at(tmp_path)):
        pass


def test_leftovers_of_no_use_are_swept(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    from valor_data.road import Driver

    work = WorkDir.at(tmp_path / "work")
    for name in ("123/video-ab/video.mp4", "123/video-ab.journal.json", "9/train-000000/train-000000.tar"):
        path = work.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half of somethi")
    with Driver(work):
        assert not work.tmp.exists()
