"""In a Ray worker: units are handed to one local worker process beside it, and waited for.

The Ray worker runs nothing of a stage itself, and imports nothing of one. It does not import `ray` either.
"""

from __future__ import annotations

import pickle
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from valor_data.errors import ConfigError
from valor_data.execute import Lost
from valor_data.execute.local import LocalExecutor


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a Ray worker must know to keep a local worker for a driver.

    Attributes:
        notes: a folder of this driver alone, which every machine must see.
        preload: modules that the local worker needs.
        tasks_per_worker: a local worker is replaced after so many units; 0: never.
        version: of this package, where the driver is.
    """

    notes: Path
    preload: tuple[str, ...]
    tasks_per_worker: int
    version: str


_kept: tuple[WorkerSetup, LocalExecutor] | None = None


def hand_over(setup: WorkerSetup, payload: bytes, name: str, deadline_seconds: float | None) -> bytes | Lost:
    """The Ray task: one unit for the local worker, which outlives the task.

    Args:
        setup: of the driver.
        payload: the pickled function and unit.
        name: of the note of what is in hand.
        deadline_seconds: time for the unit.

    Returns:
        The pickled result, or `Lost`.

    Raises:
        ConfigError: this machine is not fit for the driver's work.
        Exception: whatever the function raised.
    """
    worker = _local_worker(setup)
    try:
        answer: bytes | Lost = worker.run_one(_run_pickled, payload, name, deadline_seconds=deadline_seconds)
    except KeyboardInterrupt:  # how Ray says that the driver has cancelled
        worker.close()
        raise
    return answer


def _local_worker(setup: WorkerSetup) -> LocalExecutor:
    """The local worker of this Ray worker; a driver whose machines are all alike gets one."""
    global _kept
    if _kept is not None and _kept[0] == setup:
        return _kept[1]
    if _kept is not None:
        _kept[1].close()
        _kept = None
    version = metadata.version("valor-data")
    if version != setup.version:
        raise ConfigError(
            f"{socket.gethostname()}: valor-data is {version} there and {setup.version} here; install the same one on "
            "every machine of the cluster: another may make other bytes"
        )
    if not setup.notes.is_dir():
        raise ConfigError(
            f"{socket.gethostname()}: {setup.notes} is not there; with Ray the work folder (and the media) must lie on "
            "storage that every machine of the cluster mounts at the same path"
        )
    # A forked worker imports the program of its parent again, here Ray's, unless that has no file.
    vars(sys.modules["__main__"]).pop("__file__", None)
    local = LocalExecutor(1, setup.notes, preload=setup.preload, tasks_per_worker=setup.tasks_per_worker)
    _kept = (setup, local)
    return local


def _run_pickled(payload: bytes) -> bytes:
    """In the local worker: only here the unit is unpacked, and what it needs imported."""
    function, unit = pickle.loads(payload)  # noqa: S301 - the driver's own
    return pickle.dumps(function(unit))
