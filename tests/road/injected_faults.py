"""Loaded into workers by a test: a decoder that hangs, and one that crashes, on the clips it names.

The videos' ids come from the environment. A native decoder that hangs holds the interpreter's lock, and so
does this one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from valor_data.media import measure, take

HANG, CRASH = os.environ.get("TEST_HANG", ""), os.environ.get("TEST_CRASH", "")

_open_media = take.open_media


@contextmanager
def _faulty(path: Path, *rest: Any) -> Iterator[Any]:
    with _open_media(path, *rest) as container:
        if HANG and path.name.startswith(HANG):
            (Path(os.environ["TEST_TRACES"]) / f"hung-{os.getpid()}").touch()
            ctypes.PyDLL(None).sleep(600)
        if CRASH and path.name.startswith(CRASH):
            (Path(os.environ["TEST_TRACES"]) / f"crashed-{os.getpid()}").touch()
            ctypes.string_at(0)
        yield container


take.open_media = measure.open_media = _faulty


def run(arguments: list[str]) -> int:
    """The command line, with workers that have loaded this module."""
    from valor_data.cli import main
    from valor_data.road import driver

    for stage, names in driver.PRELOAD.items():
        driver.PRELOAD[stage] = (*names, "injected_faults")
    return main(arguments)


if __name__ == "__main__":
    import sys

    sys.exit(run(sys.argv[1:]))
