"""While a set is put together: nobody writes the work folder, and what is made lies in a folder that goes again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from valor_data.errors import PublishError
from valor_data.ledger import unwritten
from valor_data.workdir import WorkDir, written_aside


@contextmanager
def undisturbed(work: WorkDir) -> Iterator[None]:
    """While the block runs, no command writes to the work folder.

    Raises:
        PublishError: there is no ledger.
        ValorDataError: a command is writing.
    """
    if not work.ledger.exists():
        raise PublishError(f"no ledger at {work.ledger}: name the work folder with --work, or run `fetch` first")
    with unwritten(work.ledger):
        yield


@contextmanager
def staging(work: WorkDir) -> Iterator[Path]:
    """A folder for what is put together; gone afterwards, for it holds captions."""
    folder = work.own_tmp() / "push"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)
        if not any(work.tmp.iterdir()):
            work.tmp.rmdir()


@dataclass(slots=True)
class Known:
    """What was found out at some cost: which tars are sound, and the hashes of tars of other editions."""

    path: Path
    sound: dict[str, str] = field(default_factory=dict)
    derived: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, work: WorkDir) -> Known:
        """What is kept of a work folder; nothing where the file is missing or damaged."""
        known = cls(work.root / "publish.json")
        try:
            tree = json.loads(known.path.read_text(encoding="utf-8"))
            known.sound, known.derived = dict(tree["sound"]), dict(tree["features"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls(known.path)  # nothing but time is lost
        return known

    def save(self) -> None:
        """Keeps it."""
        with written_aside(self.path) as path:
            path.write_text(json.dumps({"sound": self.sound, "features": self.derived}, indent=1) + "\n")
