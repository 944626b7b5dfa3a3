"""What every executor promises, as checks that each executor's tests run; and units that behave as they say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from valor_data import guard
from valor_data.execute import IDLE, Executor, Idle, Lost

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
        if unit.get("take_along"):
            _take_along(Path(unit["take_along"]), unit["times"])
    return (unit.get("value"), os.getpid())


def _wait_for_others(folder: Path, others: int) -> None:
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 30
    while len(list(folder.iterdir())) < others:
        if time.monotonic() > end:
            raise RuntimeError("the others did not come")
        time.sleep(0.01)


def _take_along(folder: Path, times: int) -> None:
    """Kills the process above the fork server of this one, so many times."""
    if len(list(folder.iterdir())) < times:
        (folder / str(os.getpid())).touch()
        fork_server = psutil.Process().parent()
        assert fork_server is not None
        above = fork_server.parent()
        assert above is not None
        above.kill()
        time.sleep(60)


def die_before_noting(unit: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def values(results: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {unit["value"]: result if isinstance(result, Lost) else result[0] for unit, result in results}


def every_unit_comes_back_once_with_its_result(executor: Executor) -> None:
    units = [{"value": n} for n in range(40)]
    results = list(executor.run(work, units))
    assert values(results) == {n: n for n in range(40)}
    assert len(results) == 40


def no_units_no_results(executor: Executor) -> None:
    assert list(executor.run(work, [])) == []


def units_are_drawn_as_they_are_needed(executor: Executor) -> None:
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


def no_more_are_in_flight_than_asked_for(executor: Executor) -> None:
    drawn, done, most = 0, 0, 0

    def units() -> Iterator[dict[str, Any]]:
        nonlocal drawn, most
        for number in range(8):
            drawn += 1
            most = max(most, drawn - done)
            yield {"value": number}

    for _ in executor.run(work, units(), in_flight=1):
        done += 1
    assert (done, most) == (8, 1)


def an_idle_source_is_asked_again_and_holds_nobody_up(executor: Executor) -> None:
    told: list[str] = []

    def units() -> Iterator[dict[str, Any] | Idle]:
        yield {"value": 0, "sleep": 0.5}
        while "0" not in told:  # the second unit comes of the first one's result
            yield IDLE
        yield IDLE
        yield {"value": 1}

    for unit, _ in executor.run(work, units()):
        told.append(str(unit["value"]))
    assert told == ["0", "1"]


def a_worker_that_dies_costs_one_unit(executor: Executor, kill: signal.Signals = signal.SIGSEGV) -> None:
    units: list[dict[str, Any]] = [{"value": n} for n in range(12)]
    units[5] |= {"item": "the culprit", "signal": kill}
    found = values(list(executor.run(work, units)))
    assert found.pop(5) == Lost("crashed", "the culprit", f"the worker ended with signal {kill.name}")
    assert found == {n: n for n in range(12) if n != 5}


def a_worker_that_is_killed_costs_one_unit(executor: Executor) -> None:
    a_worker_that_dies_costs_one_unit(executor, signal.SIGKILL)


def a_worker_that_ends_itself(executor: Executor) -> None:
    ((_, lost),) = executor.run(work, [{"value": 0, "item": "x", "exit": 3}])
    assert lost == Lost("crashed", "x", "the worker ended with exit code 3")


def a_clip_that_hangs_is_ended_at_its_own_deadline(executor: Executor) -> None:
    units = [
        {"value": 0, "item": "hangs", "sleep": 60, "clip_deadline": DEADLINE_SECONDS},
        *({"value": n} for n in range(1, 8)),
    ]
    began = time.monotonic()
    found = values(list(executor.run(work, units)))
    assert found.pop(0) == Lost("timeout", "hangs", "the clip took longer than its deadline")
    assert found == {n: n for n in range(1, 8)}
    assert time.monotonic() - began < 30


def a_clip_in_time_is_left_alone(executor: Executor) -> None:
    unit = {"value": 1, "item": "quick", "clip_deadline": DEADLINE_SECONDS}
    after = {"value": 2, "sleep": 2 * DEADLINE_SECONDS}  # the former deadline must not ring in a later unit
    assert values(list(executor.run(work, [unit, unit, unit, after]))) == {1: 1, 2: 2}


def a_unit_that_takes_too_long(executor: Executor) -> None:
    units = [{"value": 0, "item": "slow", "sleep": 60}, {"value": 1}]
    found = values(list(executor.run(work, units, deadline_seconds=DEADLINE_SECONDS)))
    assert found == {0: Lost("timeout", "slow", "the unit took longer than 1 s"), 1: 1}


def memory_that_is_not_there(executor: Executor) -> None:
    ((_, lost),) = executor.run(work, [{"value": 0, "item": "huge", "raise": MemoryError()}])
    assert (lost.reason, lost.item) == ("too_large", "huge")
    assert "memory" in lost.detail


def what_the_function_raises_is_raised(executor: Executor) -> None:
    for error in (ZeroDivisionError("a bug"), FileNotFoundError(2, "gone"), TimeoutError("of the function's own")):
        with pytest.raises(type(error), match=str(error).replace("[", r"\[").replace("]", r"\]")):
            list(executor.run(work, [{"value": 0, "raise": error}]))


PROMISES: tuple[Callable[[Executor], None], ...] = (
    every_unit_comes_back_once_with_its_result,
    no_units_no_results,
    units_are_drawn_as_they_are_needed,
    no_more_are_in_flight_than_asked_for,
    an_idle_source_is_asked_again_and_holds_nobody_up,
    a_worker_that_dies_costs_one_unit,
    a_worker_that_is_killed_costs_one_unit,
    a_worker_that_ends_itself,
    a_clip_that_hangs_is_ended_at_its_own_deadline,
    a_clip_in_time_is_left_alone,
    a_unit_that_takes_too_long,
    memory_that_is_not_there,
    what_the_function_raises_is_raised,
)
