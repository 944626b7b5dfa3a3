"""Inside a worker: say which clip is in hand, and let a hung decoder be killed at the clip's deadline.

A native decoder that hangs holds the interpreter, so no Python code can stop it. The alarm signal keeps its
default action, which is to end the process; the driver reads the note, blames that one clip and gives
the rest of the unit to a fresh worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def working_on(item: str, deadline_seconds: float) -> Iterator[None]:
    """Notes the item in hand and ends this process if it takes longer than its deadline.

    Outside a worker (no note folder) the block just runs.
    """
    if _note is None:
        yield
        return
    _note.write_text(item)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, deadline_seconds)
    try:
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


def limit_memory(max_bytes: int) -> None:
    """Bounds the address space of this worker, so that one clip cannot take the machine down."""
    import resource

    if max_bytes > 0:
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))


def leave_driver_signals() -> None:
    """Ctrl-C goes to the driver alone; it stops the workers in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
