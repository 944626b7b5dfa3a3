"""Several drivers of one work folder, each with its part of the shards and a ledger of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from driving import go, standings, tar_bytes

from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import World, WorldSettings, make_world
from valor_data.errors import ConfigError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.look.status import read_status
from valor_data.look.verify import verify
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, run_filter, run_shard
from valor_data.road.parts import Merged, merge_parts
from valor_data.workdir import Part, WorkDir

SHARDING = ShardSection(workers=1, max_clips=3, partial=True)
NUM_PARTS = 3
NUM_SHARDS = 11
NUM_CLIPS = 32


@dataclass(frozen=True)
class Begun:
    """A work folder whose clips are fetched and planned, and what one undisturbed driver makes of it."""

    planned: Path
    whole: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), WorldSettings.small())


@pytest.fixture(scope="module")
def begun(world: World, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    root = tmp_path_factory.mktemp("parts")
    write_manifest(build_manifest(list(world.annotations)), root / "manifest.parquet")
    fetch = FetchSection(source=str(world.media), workers=2)
    go(root / "planned", root / "manifest.parquet", str(world.media), stages=("fetch",), fetch=fetch)
    (root / "planned" / "valor.toml").write_text("[filter]\nworkers = 1\n[shard]\nworkers = 1\npartial = true\n")
    with Driver(WorkDir.at(root / "planned")) as driver:
        driver.ledger.pin("modalities", "av", advice="")
        driver.remember("filter", FilterSection(), (), ("min_rms_dbfs", "min_peak_dbfs", "min_coverage"))
        report = run_shard(driver, SHARDING, "av", plan_only=True)
    assert report.notices == ["the plan is fixed: 11 shards; each part of a run does its own"]
    assert not (root / "planned" / "shards").exists()
    shutil.copytree(root / "planned", root / "whole")
    with Driver(WorkDir.at(root / "whole")) as driver:
        run_filter(driver, FilterSection(workers=2), "av")
        run_shard(driver, SHARDING, "av")
    return Begun(root / "planned", root / "whole")


@pytest.fixture
def work(begun: Begun, tmp_path: Path) -> Path:
    shutil.copytree(begun.planned, tmp_path / "work")
    return tmp_path / "work"


def start(work: Path, stage: str, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "valor_data", stage, "--work", str(work), "--part", f"{number}/{NUM_PARTS}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def end(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said


def drive(work: Path, number: int, *, filtering: bool = True) -> None:
    """Does one part in this process."""
    with Driver(WorkDir.at(work).of_part(f"{number}/{NUM_PARTS}")) as driver:
        if filtering:
            run_filter(driver, FilterSection(workers=1), "av")
        run_shard(driver, SHARDING, "av")


def merge(work: Path) -> Merged:
    return merge_parts(WorkDir.at(work))


TABLES = {
    "clips": "*",
    "outcomes": "clip_id, stage, status, reason, detail, attempts",
    "media": "*",
    "facts": "*",
    "plan": "*",
    "shards": "*",
    "tallies": "*",
}


def rows(work: Path) -> dict[str, list[Any]]:
    """Everything that a ledger says, but for the times."""
    with contextlib.closing(sqlite3.connect(work / "ledger.sqlite")) as db:
        found = {table: db.execute(f"SELECT {what} FROM {table}").fetchall() for table, what in TABLES.items()}
    found["tallies"] = [row for row in found["tallies"] if row[-1]]
    return {table: sorted(some, key=repr) for table, some in found.items()}


def is_as_the_whole(work: Path, begun: Begun) -> None:
    assert tar_bytes(work) == tar_bytes(begun.whole)
    for path in sorted((begun.whole / "index").iterdir()):
        assert (work / "index" / path.name).read_bytes() == path.read_bytes(), path.name
    assert rows(work) == rows(begun.whole)
    assert standings(work) == standings(begun.whole)
    with Ledger(work / "ledger.sqlite", read_only=True) as one, Ledger(begun.whole / "ledger.sqlite") as other:
        assert read_status(one).to_dict() == read_status(other).to_dict()
    assert verify(WorkDir.at(work)).problems == []
    assert not (work / "parts").exists() and not (work / "tmp").exists()


@pytest.mark.timeout(300)
def test_parts_at_the_same_time_are_as_one_run(work: Path, begun: Begun) -> None:
    for stage in ("filter", "shard"):
        for process in [start(work, stage, number) for number in range(1, NUM_PARTS + 1)]:
            end(process)
    assert sorted(path.name for path in (work / "parts").glob("*.sqlite")) == [
        f"{number:04d}-of-0003.sqlite" for number in (1, 2, 3)
    ]
    assert merge(work) == Merged(tuple(Part(3, n) for n in (1, 2, 3)), (), NUM_SHARDS)
    is_as_the_whole(work, begun)
    assert merge(work) == Merged((), (), NUM_SHARDS), "nothing is left to merge"
    is_as_the_whole(work, begun)
    with Driver(WorkDir.at(work)) as driver:
        report = run_shard(driver, SHARDING, "av")
    assert report.outcomes == {("kept", ""): NUM_SHARDS}
    is_as_the_whole(work, begun)


@pytest.mark.timeout(300)
def test_a_part_that_is_killed_goes_on(work: Path, begun: Begun) -> None:
    drive(work, 1)
    process = start(work, "shard", 2)
    deadline = time.monotonic() + 60
    while not any((work / "index").glob("*-00000[14].json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert any((work / "tmp").glob("0002-of-0003-*")), "it was killed before it was done"
    others = WorkDir.at(work).of_part("3/3").own_tmp()
    (others / "of-part-3").touch()
    drive(work, 2)
    assert (others / "of-part-3").exists(), "no part sweeps another's temporary folder"
    shutil.rmtree(others)
    drive(work, 3)
    merge(work)
    is_as_the_whole(work, begun)


def test_a_merge_that_is_killed_goes_on(work: Path, begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        drive(work, number)
    before = rows(work)
    shutil.copytree(work / "parts", work / "kept")
    program = (
        "import os\nfrom valor_data.ledger import Ledger\nfrom valor_data.road.parts import merge_parts\n"
        "from valor_data.workdir import WorkDir\n"
        "Ledger.flush = lambda self: os.kill(os.getpid(), 9)\n"
        f"merge_parts(WorkDir.at({str(work)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert rows(work) == before, "all parts in one transaction"
    with monkeypatch.context() as patch:
        take_part = Ledger.take_part

        def stopped(self: Ledger, part: Ledger) -> None:
            take_part(self, part)
            if part.path.stem == "0002-of-0003":
                raise KeyboardInterrupt

        patch.setattr(Ledger, "take_part", stopped)
        with pytest.raises(KeyboardInterrupt):
            merge(work)
    assert rows(work) == before
    merge(work)
    # Killed after the commit, before the ledgers of parts were removed: once more makes no difference.
    merged = rows(work)
    shutil.copytree(work / "kept", work / "parts")
    merge(work)
    assert rows(work) == merged
    shutil.rmtree(work / "kept")
    is_as_the_whole(work, begun)


def test_some_parts_now_and_the_others_later(work: Path, begun: Begun) -> None:
    drive(work, 2)
    assert merge(work) == Merged((Part(3, 2),), (Part(3, 1), Part(3, 3)), 3)
    with Ledger(work / "ledger.sqlite", read_only=True) as ledger:
        assert read_status(ledger).num_shards == 3
    with Driver(WorkDir.at(work)) as driver:  # the whole may be driven again: it does the rest
        run_filter(driver, FilterSection(workers=1), "av")
        run_shard(driver, SHARDING, "av")
    is_as_the_whole(work, begun)


def test_what_a_part_takes_back_is_taken_back(begun: Begun, tmp_path: Path) -> None:
    """Media that are gone: fetch's outcome changes, and what came after it is void, in the whole as in the part."""
    work = tmp_path / "work"
    shutil.copytree(begun.whole, work)
    with sqlite3.connect(work / "ledger.sqlite") as db:
        clip_id, split, shard = db.execute(
            "SELECT clip_id, split, shard FROM plan JOIN outcomes USING (clip_id) "
            "WHERE stage = 'shard' AND status = 'kept' ORDER BY clip_id"
        ).fetchone()
        db.execute("UPDATE media SET path = '/nowhere/at.all' WHERE clip_id = ?", (clip_id,))
        db.execute("DELETE FROM facts WHERE clip_id = ?", (clip_id,))
        db.execute("DELETE FROM outcomes WHERE clip_id = ? AND stage != 'fetch'", (clip_id,))
    db.close()
    drive(work, shard % NUM_PARTS + 1)
    merge(work)
    with Ledger(work / "ledger.sqlite", read_only=True) as ledger:
        outcomes = ledger.outcomes_of(clip_id)
        assert outcomes["fetch"][0].reason == "missing" and set(outcomes) == {"fetch"}
        assert ledger.counts()[(split, "fetch", "waiting", "missing")] > 0
        told = [(state.split, state.shard) for state in ledger.finished_shards().values()]
        assert (split, shard) in told
    assert verify(WorkDir.at(work)).problems == []


def test_more_parts_than_shards(work: Path) -> None:
    with Driver(WorkDir.at(work).of_part("40/40")) as driver:
        run_filter(driver, FilterSection(workers=1), "av")
        report = run_shard(driver, SHARDING, "av")
    assert report.notices == ["no shard of the plan falls to part 40/40"]
    assert merge(work).parts == (Part(40, 40),)


# -- what is refused


def refused(words: str, action: Callable[[], Any]) -> None:
    with pytest.raises(ValorDataError, match=words):
        action()


def test_a_part_needs_a_plan(work: Path, begun: Begun) -> None:
    with Driver(WorkDir.at(work)) as driver:
        driver.ledger.drop_plan()
        driver.ledger.set_meta("plan_digest", "")
        driver.ledger.commit()
    refused(
        rf"^--part 1/3: {NUM_CLIPS} clips have no place in the shard plan: run `.* shard --plan-only",
        lambda: drive(work, 1),
    )
    refused("^--part 1/3: no ledger at .*: run `fetch`", lambda: drive(work / "none", 1))


def test_nobody_writes_the_whole_while_parts_are_out(work: Path) -> None:
    drive(work, 1)
    words = r"are here that are not merged \(1/3\): when they have ended run `valor-data ledger merge --work .*`"
    refused(words, lambda: Driver(WorkDir.at(work)))
    with Driver(WorkDir.at(work).of_part("2/3")):
        refused("another valor-data run .* is writing here", lambda: merge(work))
        refused("another valor-data run .* is writing here", lambda: drive(work, 2))
    refused(
        r"^--part 1/4: there are ledgers of 3 parts here \(1/3, 2/3\): go on with these",
        lambda: Driver(WorkDir.at(work).of_part("1/4")),
    )


def test_no_part_begins_while_the_whole_is_driven(work: Path) -> None:
    with Driver(WorkDir.at(work)):
        refused("another valor-data run .* is writing here", lambda: drive(work, 1))
        refused("another valor-data run .* is writing here", lambda: merge(work))
    assert not (work / "parts").exists()


def test_a_part_of_another_plan_is_refused(work: Path) -> None:
    drive(work, 1)
    drive(work, 2)
    shutil.move(work / "parts", work / "aside")
    with Driver(WorkDir.at(work)) as driver:
        run_shard(driver, ShardSection(workers=1, max_clips=5, partial=True), "av", explicit={"max_clips"}, replan=True,
                  plan_only=True)  # fmt: skip
    shutil.move(work / "aside", work / "parts")
    before = rows(work)
    words = "^parts/0001-of-0003.sqlite: was made from another plan than the work folder has now; put back what"
    with pytest.raises(ConfigError, match=words) as error:
        merge(work)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "parts/0001-of-0003.sqlite",
        "parts/0002-of-0003.sqlite",
    ]
    assert rows(work) == before
    refused(words, lambda: drive(work, 1))
    assert len(list((work / "parts").glob("*.sqlite"))) == 2, "nothing is thrown away"


def test_a_part_of_another_manifest_is_refused(work: Path) -> None:
    drive(work, 3)
    with contextlib.closing(sqlite3.connect(work / "ledger.sqlite")) as db:
        db.execute("UPDATE meta SET value = 'another' WHERE name = 'manifest'")
        db.commit()
    refused("^parts/0003-of-0003.sqlite: was made from another manifest than", lambda: merge(work))


def test_every_part_has_the_same_settings(work: Path) -> None:
    def other() -> None:
        with Driver(WorkDir.at(work).of_part("1/3")) as driver:
            run_shard(driver, ShardSection(num_frames=3, mel="ast"), "av", explicit={"num_frames", "mel"})

    words = "^--part 1/3: every part has the shard settings of the work folder: num_frames is 10, not 3, mel is valor,"
    refused(words, other)

    def louder() -> None:
        with Driver(WorkDir.at(work).of_part("1/3")) as driver:
            run_filter(driver, FilterSection(min_rms_dbfs=-40.0), "av", explicit={"min_rms_dbfs"})

    refused("every part has the filter settings of the work folder: min_rms_dbfs is -60.0, not -40.0", louder)

    def planning() -> None:
        with Driver(WorkDir.at(work).of_part("1/3")) as driver:
            run_shard(driver, SHARDING, "av", replan=True)

    refused("^--part 1/3: the plan is everybody's; make it without --part", planning)


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1/10000", "¹/3"])
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--part .*: expected I/N with I from 1 to N, at most 9999, such as 3/16"):
        Part.parse(text)


def test_a_part_of_a_run_holds_no_row_of_another(work: Path) -> None:
    seen: dict[str, list[Any]] = {table: [] for table in ("clips", "outcomes", "media", "plan")}
    for number in (1, 2, 3):
        with Driver(WorkDir.at(work).of_part(f"{number}/3")) as driver:
            path = driver.ledger.path
            assert driver.ledger.num_clips() == sum(
                number for (_, stage, _, _), number in driver.ledger.counts().items() if stage == "manifest"
            )
        with contextlib.closing(sqlite3.connect(path)) as db:
            for table, found in seen.items():
                found += db.execute(f"SELECT {TABLES[table]} FROM {table}").fetchall()
            assert db.execute("PRAGMA journal_mode").fetchone() != ("wal",), "the disk may be shared by machines"
    assert {table: sorted(found, key=repr) for table, found in seen.items()} == {
        table: rows(work)[table] for table in seen
    }
