"""Workers that crash, hang, raise: one unit is lost, the others are not, and no process is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from valor_data import guard
from valor_data.execute import Lost
from valor_data.execute.local import LocalExecutor, available_cores

DEADLINE_SECONDS = 0.6


def work(unit: dict[str, Any]) -> Any:
    """What the workers run: each unit says how it behaves."""
    with guard.working_on(unit.get("item", ""), unit.get("clip_deadline", 60.0)):
        if "signal" in unit:
            os.kill(os.getpid(), unit["signal"])
        if "exit" in unit:
            os._exit(unit["exit"])
        if "sleep" in unit:
            time.sleep(unit["sleep"])
        if "raise" in unit:
            raise unit["raise"]
        if unit.get("meet"):
            _wait_for_others(Path(unit["meet"]), unit["others"])
    return (unit.get("value"), os.getpid())


def _wait_for_others(folder: Path, others: int) -> None:
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 30
    while len(list(folder.iterdir())) < others:
        if time.monotonic() > end:
            raise RuntimeError("the others did not come")
        time.sleep(0.01)


def die_before_noting(unit: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    running = LocalExecutor(2, tmp_path)
    yield running
    running.close()


def values(results: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {unit["value"]: result if isinstance(result, Lost) else result[0] for unit, result in results}


def test_every_unit_comes_back_once_with_its_result(executor: LocalExecutor) -> None:
    units = [{"value": n} for n in range(40)]
    results = list(executor.run(work, units))
    assert values(results) == {n: n for n in range(40)}
    assert len(results) == 40


def test_workers_are_processes_of_their_own_and_all_are_started(executor: LocalExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "meet"
    folder.mkdir()
    units = [{"value": n, "meet": str(folder), "others": 2} for n in range(2)]
    pids = {result[1] for _, result in executor.run(work, units)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_units_are_drawn_as_they_are_needed(executor: LocalExecutor) -> None:
    drawn = []

    def endless() -> Iterator[dict[str, Any]]:
        for number in range(1_000_000):
            drawn.append(number)
            yield {"value": number}

    results = executor.run(work, endless())
    for _ in range(10):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) <= 10 + 2 * 2


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_costs_one_unit(executor: LocalExecutor, kill: signal.Signals) -> None:
    units: list[dict[str, Any]] = [{"value": n} for n in range(12)]
    units[5] |= {"item": "the culprit", "signal": kill}
    found = values(list(executor.run(work, units)))
    assert found.pop(5) == Lost("crashed", "the culprit", f"the worker ended with signal {kill.name}")
    assert found == {n: n for n in range(12) if n != 5}


def test_a_worker_that_ends_itself(executor: LocalExecutor) -> None:
    ((_, lost),) = executor.run(work, [{"value": 0, "item": "x", "exit": 3}])
    assert lost == Lost("crashed", "x", "the worker ended with exit code 3")


def test_a_clip_that_hangs_is_ended_at_its_own_deadline(executor: LocalExecutor) -> None:
    units = [
        {"value": 0, "item": "hangs", "sleep": 60, "clip_deadline": DEADLINE_SECONDS},
        *({"value": n} for n in range(1, 8)),
    ]
    began = time.monotonic()
    found = values(list(executor.run(work, units)))
    assert found.pop(0) == Lost("timeout", "hangs", "the clip took longer than its deadline")
    assert found == {n: n for n in range(1, 8)}
    assert time.monotonic() - began < 30


def test_a_clip_in_time_is_left_alone(executor: LocalExecutor) -> None:
    unit = {"value": 1, "item": "quick", "clip_deadline": DEADLINE_SECONDS}
    after = {"value": 2, "sleep": 2 * DEADLINE_SECONDS}  # the former deadline must not ring in a later unit
    assert values(list(executor.run(work, [unit, unit, unit, after]))) == {1: 1, 2: 2}


def test_a_unit_that_takes_too_long(executor: LocalExecutor) -> None:
    units = [{"value": 0, "item": "slow", "sleep": 60}, {"value": 1}]
    found = values(list(executor.run(work, units, deadline_seconds=DEADLINE_SECONDS)))
    assert found == {0: Lost("timeout", "slow", "the unit took longer than 1 s"), 1: 1}


def test_memory_that_is_not_there(executor: LocalExecutor) -> None:
    ((_, lost),) = executor.run(work, [{"value": 0, "item": "huge", "raise": MemoryError()}])
    assert lost == Lost("too_large", "huge", "out of memory")


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("a bug"), FileNotFoundError(2, "gone"), TimeoutError("of the function's own")]
)
def test_what_the_function_raises_is_raised(executor: LocalExecutor, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error).replace("[", r"\[").replace("]", r"\]")):
        list(executor.run(work, [{"value": 0, "raise": error}]))


def test_notes_of_one_stage_are_not_taken_for_those_of_the_next(tmp_path: Path) -> None:
    for item, function, units in (
        ("7", work, [{"value": 0, "item": "7", "signal": signal.SIGKILL}]),
        ("", die_before_noting, [0]),
    ):
        executor = LocalExecutor(1, tmp_path)
        try:
            ((_, lost),) = executor.run(function, units)
        finally:
            executor.close()
        assert lost == Lost("crashed", item, "the worker ended with signal SIGKILL")


def test_no_process_is_left_and_none_is_started_without_work(tmp_path: Path) -> None:
    me = psutil.Process()
    before = {process.pid for process in me.children(recursive=True)}
    executor = LocalExecutor(2, tmp_path)
    assert list(executor.run(work, [])) == []
    assert {process.pid for process in me.children(recursive=True)} == before
    results = executor.run(work, [{"value": n, "sleep": 60 if n > 1 else 0} for n in range(4)])
    workers = [next(results)[1][1] for _ in range(2)]
    began = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - began < 10
    end = time.monotonic() + 5
    while time.monotonic() < end and any(psutil.pid_exists(pid) for pid in workers):
        time.sleep(0.05)
    left = [p for p in me.children(recursive=True) if p.pid not in before and "forkserver" not in " ".join(p.cmdline())]
    left = [p for p in left if "resource_tracker" not in " ".join(p.cmdline())]
    assert left == []
    assert not any(psutil.pid_exists(pid) for pid in workers)


def test_outside_a_worker_the_guard_lets_work_pass(tmp_path: Path) -> None:
    with guard.working_on("x", 0.001):
        time.sleep(0.01)
    assert guard.read_note(tmp_path, "unit-0") == ""


def test_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
