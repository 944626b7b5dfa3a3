"""Local worker processes: forked from a clean server that has done the imports, replaced when they die."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from valor_data import guard
from valor_data.errors import ValorDataError
from valor_data.execute import Idle, Lost

MAX_RESTARTS = 5
"""How often the workers may all be replaced with no result in between."""

IDLE_SECONDS = 0.1
"""How soon an idle source of units is asked again."""


class LocalExecutor:
    """A pool of worker processes on this machine.

    Args:
        workers: number of processes; all of them are started when there is work for them.
        notes: an existing folder for the workers' notes of what they have in hand.
        preload: modules imported once in the fork server, so that a worker costs 0.1 s and little memory.
            They must start no thread.
        tasks_per_worker: a worker is replaced after so many units (0: never), against leaks of libraries.
    """

    def __init__(self, workers: int, notes: Path, *, preload: Sequence[str] = (), tasks_per_worker: int = 0) -> None:
        self._workers = workers
        self._notes = notes
        self._preload = list(preload)
        self._tasks_per_worker = tasks_per_worker
        self._pool: ProcessPool | None = None
        self._numbers = itertools.count()
        self._num_restarts = 0

    def run(
        self,
        function: Callable[[Any], Any],
        units: Iterable[Any],
        *,
        deadline_seconds: float | None = None,
        in_flight: int | None = None,
    ) -> Iterator[tuple[Any, Any | Lost]]:
        """Gives (unit, result) as they are done; see `execute.Executor`."""
        waiting: dict[Any, tuple[Any, str]] = {}  # pebble's futures are not annotated
        source = iter(units)
        try:
            while True:
                idle = False
                for unit in itertools.islice(source, (in_flight or 2 * self._workers) - len(waiting)):
                    if isinstance(unit, Idle):
                        idle = True
                        break
                    name = f"unit-{next(self._numbers)}"
                    waiting[self._schedule(function, unit, name, deadline_seconds)] = (unit, name)
                if not waiting and not idle:
                    return
                if not waiting:
                    time.sleep(IDLE_SECONDS)
                done, _ = wait(waiting, timeout=IDLE_SECONDS if idle else None, return_when=FIRST_COMPLETED)
                for future in done:
                    if not _is_broken(future):
                        self._num_restarts = 0
                        unit, name = waiting.pop(future)
                        yield unit, self._result(future, name, deadline_seconds)
                if any(map(_is_broken, waiting)):
                    self._restart()
                    lost, waiting = waiting, {}
                    for unit, name in lost.values():
                        waiting[self._schedule(function, unit, name, deadline_seconds)] = (unit, name)
        finally:
            for future in waiting:
                future.cancel()

    def run_one(
        self, function: Callable[[Any], Any], unit: Any, name: str, *, deadline_seconds: float | None = None
    ) -> Any | Lost:
        """Runs one unit and waits for it, within reach of an interrupt.

        Args:
            function: as for `run`.
            unit: what to call it with.
            name: of the note of what is in hand.
            deadline_seconds: time for the unit.

        Returns:
            The result, or `Lost`.

        Raises:
            Exception: whatever `function` raised.
        """
        while True:
            future = self._schedule(function, unit, name, deadline_seconds)
            while not wait([future], timeout=IDLE_SECONDS).done:
                pass
            if not _is_broken(future):
                self._num_restarts = 0
                return self._result(future, name, deadline_seconds)
            self._restart()

    def _schedule(self, function: Callable[[Any], Any], unit: Any, name: str, deadline_seconds: float | None) -> Any:
        while True:
            pool = self._started_pool()
            try:
                return pool.schedule(_run_unit, args=(function, unit, name), timeout=deadline_seconds)
            except RuntimeError:  # pebble's word for a pool that was given up
                self._restart()

    def _restart(self) -> None:
        """Takes a new pool: pebble gives the whole one up when a worker dies with nothing in hand.

        Raises:
            ValorDataError: that was not the first time since the last result: the workers cannot even start.
        """
        self.close()
        self._num_restarts += 1
        if self._num_restarts > MAX_RESTARTS:
            raise ValorDataError(
                f"the workers ended {self._num_restarts} times before any work was done: is there memory for "
                f"{self._workers}? Try fewer --workers; --debug before the command shows what they say. In a script of "
                "your own, what starts them stands under `if __name__ == '__main__':`"
            )

    def _started_pool(self) -> ProcessPool:
        """The pool, started when there is work: a stage with nothing to do starts no process."""
        if self._pool is None:
            _refuse_nesting()
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(self._preload)
            self._pool = ProcessPool(
                max_workers=self._workers,
                max_tasks=self._tasks_per_worker,
                context=context,
                initializer=_start_worker,
                initargs=(self._notes, dict(os.environ)),
            )
        return self._pool

    def _result(self, future: Future[Any], name: str, deadline_seconds: float | None) -> Any | Lost:
        try:
            return future.result()
        except TimeoutError as error:
            if error.__cause__ is not None:  # raised by the function itself, not by the deadline
                raise
            item = guard.read_note(self._notes, name)
            return Lost("timeout", item, f"the unit took longer than {deadline_seconds:.0f} s")
        except ProcessExpired as error:
            item = guard.read_note(self._notes, name)
            if error.exitcode == -signal.SIGALRM:
                return Lost("timeout", item, "the clip took longer than its deadline")
            return Lost("crashed", item, f"the worker ended with {_exit_name(error.exitcode)}")
        except MemoryError:
            return Lost("too_large", guard.read_note(self._notes, name), "out of memory")

    def close(self) -> None:
        """Stops the workers, whatever they are doing, and waits for their end."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join(timeout=10)
            self._pool = None


def _refuse_nesting() -> None:
    """A worker imports the script that started it; without this, each would start workers of its own.

    Raises:
        ValorDataError: the script does so as it is imported.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # what multiprocessing itself asks
        raise ValorDataError(
            "a script that starts workers must do so under `if __name__ == '__main__':`, for every worker imports it"
        )


def _is_broken(future: Future[Any]) -> bool:
    """Whether the pool was given up before this unit came back; nothing is known of the unit itself."""
    return future.done() and not future.cancelled() and isinstance(future.exception(), BrokenProcessPool)


def available_cores() -> int:
    """Cores this process may use (a container may allow fewer than the machine has)."""
    return len(os.sched_getaffinity(0))


def _start_worker(notes: Path, environment: dict[str, str]) -> None:
    _end_with_parent()
    os.environ.update(environment)  # the server it is forked from may be older than what was set since
    guard.leave_driver_signals()
    guard.set_note_folder(notes)


def _end_with_parent() -> None:
    """The fork server ends when its driver does, however that ended; a worker in the midst of a unit with it."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _run_unit(function: Callable[[Any], Any], unit: Any, name: str) -> Any:
    guard.open_note(name)
    result = function(unit)
    guard.close_note()
    return result


def _exit_name(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            return f"signal {signal.Signals(-exit_code).name}"
        except ValueError:
            pass
    return f"exit code {exit_code}"
