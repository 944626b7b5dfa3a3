"""Work on the machines of a Ray cluster, or on a Ray of this machine's own.

Each unit is a Ray task that hands it to a local worker beside it (see `ray_worker`). So a clip that crashes or
hangs its decoder ends that worker alone, and is told of in the same words as without Ray; and whatever ends the
Ray worker (its machine went, an operator restarted Ray) is no clip's fault: the unit is run again elsewhere.

The work folder, and media outside of it, must lie on storage that every machine mounts at the same path, and
every machine must have the same version of this package; each machine is looked at before it is given work.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import pickle
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from valor_data import guard
from valor_data.errors import ValorDataError
from valor_data.execute import Idle, Lost
from valor_data.execute.local import IDLE_SECONDS, available_cores
from valor_data.execute.ray_cluster import RayCluster
from valor_data.execute.ray_worker import WorkerSetup, hand_over

CANCEL_SECONDS = 5.0
"""For a Ray worker to stop its local worker in order; then it is killed."""

SAME_ITEM_LOSSES = 2
"""Ray workers lost in a row with the same item of a unit in hand, before the item is taken to be the cause."""

MOST_LOSSES = 20
"""Ray workers lost with one unit, whatever was in hand, before the run gives up on the cluster."""

CPU_COUNT_SECONDS = 5.0
"""How often the cluster is asked how large it is: machines may join and leave."""

_END = object()

log = logging.getLogger("valor_data")


@dataclass(slots=True)
class _Task:
    """A unit under way, and what was in hand each time a Ray worker was lost with it."""

    unit: Any
    name: str
    payload: bytes
    deadline_seconds: float | None
    losses: list[str] = field(default_factory=list)

    @property
    def note(self) -> str:
        """Of the present attempt: one that is thought dead may still write to its own."""
        return f"{self.name}-{len(self.losses)}"


class RayExecutor:
    """Units as Ray core tasks of one CPU each.

    Args:
        workers: tasks at the same time; 0: as many as the cluster has CPUs.
        address: `host:port` of a running cluster that this machine belongs to, or `auto`; empty: a Ray of
            our own on this machine, reachable from nowhere else, which ends with `close`.
        notes: an existing folder that all machines see, for the workers' notes of what they have in hand.
        preload: modules that the workers need; see `LocalExecutor`.
        tasks_per_worker: a local worker is replaced after so many units (0: never). The Ray worker beside it
            runs no foreign code, and is not.

    Raises:
        ConfigError: Ray is not installed, or the address is none.
        ValorDataError: nothing answers at the address.
    """

    def __init__(
        self, workers: int, address: str, notes: Path, *, preload: Sequence[str] = (), tasks_per_worker: int = 0
    ) -> None:
        own_notes = notes / f"ray-{secrets.token_hex(6)}"
        self._workers = workers
        self._setup = WorkerSetup(own_notes, tuple(preload), tasks_per_worker, metadata.version("valor-data"))
        self._cluster = RayCluster(address, num_cpus=workers or available_cores())
        self._numbers = itertools.count()
        self._waiting: dict[Any, _Task] = {}
        self._ray: Any = None
        self._remote: Any = None
        self._num_cpus = 0
        self._counted = 0.0

    def run(
        self,
        function: Callable[[Any], Any],
        units: Iterable[Any],
        *,
        deadline_seconds: float | None = None,
        in_flight: int | None = None,
    ) -> Iterator[tuple[Any, Any | Lost]]:
        """Gives (unit, result) as they are done; see `execute.Executor`.

        Raises:
            ConfigError: a machine of the cluster is not fit for the work.
            ValorDataError: the cluster cannot be joined, or loses worker after worker.
        """
        source = iter(units)
        try:
            while True:
                idle = False
                while len(self._waiting) < self._room(in_flight):
                    unit = next(source, _END)
                    idle = isinstance(unit, Idle)
                    if idle or unit is _END:
                        break
                    payload = pickle.dumps((function, unit))
                    self._submit(_Task(unit, f"unit-{next(self._numbers)}", payload, deadline_seconds))
                if not self._waiting and not idle:
                    return
                if not self._waiting:
                    time.sleep(IDLE_SECONDS)
                yield from self._answers(IDLE_SECONDS if idle else None)
        finally:
            self._cancel_all()

    def _room(self, in_flight: int | None) -> int:
        """Units that may be under way now. The cluster is joined when there is work, so first it is one."""
        if self._ray is None:
            return 1
        if time.monotonic() - self._counted > CPU_COUNT_SECONDS:
            self._counted = time.monotonic()
            self._num_cpus = int(self._ray.cluster_resources().get("CPU", 0))
            if not self._num_cpus:
                log.warning("no machine of the Ray cluster has a CPU to give now: waiting for one")
        # No more than the workers asked for: Ray runs what it is given wherever there is a CPU.
        most = self._workers or max(1, 2 * self._num_cpus)
        return min(most, in_flight or most)

    def _submit(self, task: _Task) -> None:
        if self._ray is None:
            self._setup.notes.mkdir()
            self._ray = self._cluster.join()
            self._remote = self._ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(hand_over)
        ref = self._remote.remote(self._setup, task.payload, task.note, task.deadline_seconds)
        self._waiting[ref] = task

    def _answers(self, timeout_seconds: float | None) -> Iterator[tuple[Any, Any | Lost]]:
        """What is done, at least one unit unless the time is over; what a machine took along is submitted again."""
        if not self._waiting:
            return
        done, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=timeout_seconds)
        if done:
            done, _ = self._ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
        for ref in done:
            task = self._waiting.pop(ref)
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                raise _raised_by(error) from error
            except self._ray.exceptions.RayError as error:
                answer = self._lose(task, error)
            if answer is not None:
                yield task.unit, answer if isinstance(answer, Lost) else pickle.loads(answer)  # noqa: S301 - a worker's

    def _lose(self, task: _Task, error: Exception) -> Lost | None:
        """A Ray worker went with a unit: the unit is run again, unless the same item was in hand before."""
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        item = guard.read_note(self._setup.notes, task.note)
        task.losses.append(item)
        log.warning("a Ray worker was lost, and its unit is run again (%s)", why)
        if item and task.losses[-SAME_ITEM_LOSSES:] == [item] * SAME_ITEM_LOSSES:
            reason = "too_large" if isinstance(error, self._ray.exceptions.OutOfMemoryError) else "crashed"
            return Lost(reason, item, f"its Ray worker was lost {SAME_ITEM_LOSSES} times with it in hand ({why})")
        if len(task.losses) >= MOST_LOSSES:
            raise ValorDataError(
                f"the Ray cluster lost {MOST_LOSSES} workers over one unit of work ({why}): look at `ray status`, "
                "then run the same command again; no clip was blamed"
            )
        self._submit(task)
        return None

    def _cancel_all(self) -> None:
        """Ends what is under way, and waits for it: nobody writes into the work folder afterwards."""
        stuck, self._waiting = list(self._waiting), {}
        for force in (False, True):
            for ref in stuck:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(ref, force=force)
            if stuck:
                _, stuck = self._ray.wait(stuck, num_returns=len(stuck), timeout=CANCEL_SECONDS)

    def close(self) -> None:
        """Stops the workers, whatever they are doing; leaves the cluster, or ends the Ray that was started here."""
        if self._ray is not None:
            self._cancel_all()
            self._ray = None
        self._cluster.leave()
        shutil.rmtree(self._setup.notes, ignore_errors=True)


def _raised_by(error: Any) -> BaseException:
    """What the function raised, out of what Ray wraps it in."""
    cause = error.cause
    return cause if isinstance(cause, BaseException) else ValorDataError(f"a Ray worker failed: {error}")
