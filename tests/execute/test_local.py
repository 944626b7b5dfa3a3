"""Workers that crash, hang, raise: one unit is lost, the others are not, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from execute.protocol import PROMISES, die_before_noting, work

from valor_data import guard
from valor_data.errors import ValorDataError
from valor_data.execute import Executor, Lost
from valor_data.execute.local import LocalExecutor, available_cores


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    running = LocalExecutor(2, tmp_path)
    yield running
    running.close()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_what_every_executor_promises(executor: LocalExecutor, promise: Callable[[Executor], None]) -> None:
    promise(executor)


def test_workers_are_processes_of_their_own_and_all_are_started(executor: LocalExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "meet"
    folder.mkdir()
    units = [{"value": n, "meet": str(folder), "others": 2} for n in range(2)]
    pids = {result[1] for _, result in executor.run(work, units)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_workers_that_are_killed_with_nothing_in_hand(executor: LocalExecutor) -> None:
    """Pebble then gives its pool up; nothing that was asked for is lost."""
    found = []
    for unit, result in executor.run(work, ({"value": n} for n in range(40)), in_flight=1):
        found.append(unit["value"])
        assert not isinstance(result, Lost)
        if unit["value"] in (3, 11, 12):
            for server in psutil.Process().children():
                for worker in server.children():
                    worker.kill()
            time.sleep(0.3)
    assert found == list(range(40))


def die_at_once(*what: object) -> None:
    os._exit(1)


def test_workers_that_cannot_start(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valor_data.execute.local._start_worker", die_at_once)
    with pytest.raises(ValorDataError, match="the workers ended 6 times before any work was done"):
        list(executor.run(work, [{"value": 0}]))


SCRIPT = """
from pathlib import Path
from valor_data.execute.local import LocalExecutor
executor = LocalExecutor(2, Path("."))
print(list(executor.run(abs, [-1, -2])))
"""


@pytest.mark.timeout(120)
def test_a_script_that_every_worker_would_run_again(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "a script that starts workers must do so under `if __name__ == '__main__':`" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("what starts them stands under `if __name__ == '__main__':`")


def test_one_unit_alone_under_a_name(executor: LocalExecutor) -> None:
    assert executor.run_one(work, {"value": 3}, "a-name")[0] == 3
    lost = executor.run_one(work, {"item": "7", "exit": 1}, "a-name")
    assert lost == Lost("crashed", "7", "the worker ended with exit code 1")


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
