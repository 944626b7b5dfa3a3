"""Inside a worker: say which clip is in hand, and let a hung decoder be killed at the clip's deadline.

A native decoder that hangs holds the interpreter, so no Python code can stop it. The alarm signal keeps its
default action, which is to end the process; the driver reads the note, blames that one clip and gives
the rest of the unit to a fresh worker.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUT_OF_MEMORY = "the clip needs more memory than clip_memory_bytes allows, or than there is"

_note: Path | None = None
_shared_note_folder: Path | None = None


def set_note_folder(folder: Path) -> None:
    """Called once in each worker: where the notes of what is in hand are kept."""
    global _shared_note_folder
    _shared_note_folder = folder


def open_note(name: str) -> None:
    """Begins a unit of work: forgets what was in hand."""
    global _note
    _note = None if _shared_note_folder is None else _shared_note_folder / name


def close_note() -> None:
    """Ends a unit of work."""
    if _note is not None:
        _note.unlink(missing_ok=True)


@contextmanager
def working_on(item: str, deadline_seconds: float, memory_bytes: int = 0) -> Iterator[None]:
    """Notes the item in hand, ends this process if it takes longer than its deadline, and bounds its memory.

    Outside a worker (no note folder) the block just runs.

    Args:
        item: what is in hand, as the driver knows it.
        deadline_seconds: after which the process ends.
        memory_bytes: what the item may take above what the process holds now; 0: no limit.

    Raises:
        MemoryError: the item wants more; raised by the allocation itself. Native code that does not expect
            it ends the process instead, which costs the item all the same.
    """
    if _note is None:
        yield
        return
    _note.write_text(item)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, deadline_seconds)
    try:
        with _memory_limit(memory_bytes):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def read_note(folder: Path, name: str) -> str:
    """In the driver: the item a lost worker had in hand; empty when it had none. The note is taken away.

    The next stage counts its units from zero again, and must not find a note of this one.
    """
    item = ""
    with contextlib.suppress(OSError):
        item = (folder / name).read_text()
        (folder / name).unlink()
    return item


@contextmanager
def _memory_limit(extra_bytes: int) -> Iterator[None]:
    """Bounds what this process may write to, above what it holds now.

    RLIMIT_DATA counts private writable memory alone; the address space also holds the libraries' files.
    """
    if extra_bytes <= 0:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    soft = _data_bytes() + extra_bytes
    if before[1] != resource.RLIM_INFINITY:
        soft = min(soft, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def memory_left_bytes() -> float:
    """How much more the item in hand may take; infinite where nothing bounds it.

    For native code that answers a refused allocation with an error of another name.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return math.inf if soft == resource.RLIM_INFINITY else soft - _data_bytes()


def _data_bytes() -> int:
    """Private writable memory of this process, as RLIMIT_DATA counts it."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def leave_driver_signals() -> None:
    """Ctrl-C goes to the driver alone; it stops the workers in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
