"""Every path of a run, and the two ways a file comes to be: written aside, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkDir:
    """The folder of one run. Nothing is created until it is needed.

    Args:
        root: the folder, made absolute so that no id can be taken for an option.
        ledger_path: where the ledger lies instead of `root/ledger.sqlite` (network file systems).
    """

    root: Path
    ledger_path: Path | None = None

    @classmethod
    def at(cls, root: str | Path, ledger_path: str | Path | None = None) -> WorkDir:
        """The work folder at a path, relative ones taken from the current folder."""
        return cls(Path(root).absolute(), None if ledger_path is None else Path(ledger_path).absolute())

    @property
    def config(self) -> Path:
        """The settings of the run."""
        return self.root / "valor.toml"

    @property
    def manifest(self) -> Path:
        """The checked list of clips of this run."""
        return self.root / "manifest.parquet"

    @property
    def rejects(self) -> Path:
        """The annotation rows that could not be used."""
        return self.root / "rejects.parquet"

    @property
    def ledger(self) -> Path:
        """Outcomes and facts of every clip."""
        return self.ledger_path or self.root / "ledger.sqlite"

    @property
    def deadlinks(self) -> Path:
        """Videos that others found to be lost."""
        return self.root / "deadlinks.parquet"

    @property
    def media(self) -> Path:
        """Fetched media files."""
        return self.root / "media"

    @property
    def shards(self) -> Path:
        """Finished tars, alone in their folder."""
        return self.root / "shards"

    @property
    def index(self) -> Path:
        """The sidecars of the tars."""
        return self.root / "index"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report"

    @property
    def logs(self) -> Path:
        """One log file a run."""
        return self.root / "logs"

    @property
    def tmp(self) -> Path:
        """Whatever is not finished; `tmp/<pid of the driver>/`."""
        return self.root / "tmp"

    def media_file(self, key: str, container: str) -> Path:
        """Where a clip's media lies: `media/ab/<key>.<container>`, `ab` from a hash of the key."""
        shelf = hashlib.blake2b(key.encode(), digest_size=1).hexdigest()
        return self.media / shelf / f"{key}.{container}"

    def own_tmp(self) -> Path:
        """The temporary folder of this process, created on first use."""
        path = self.tmp / str(os.getpid())
        path.mkdir(parents=True, exist_ok=True)
        return path

    def clean_tmp(self) -> None:
        """Removes what killed runs left behind. Only the holder of the ledger's lock may call this."""
        shutil.rmtree(self.tmp, ignore_errors=True)


def flush_to_disk(path: Path) -> None:
    """Waits until a file's bytes (or a folder's names) are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path, *, is_flushed: bool = False) -> None:
    """Moves a finished file to its place: flushed (unless it is), renamed, and the folder flushed; never half there."""
    if not is_flushed:
        flush_to_disk(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(final)
    flush_to_disk(final.parent)


@contextmanager
def written_aside(final: Path) -> Iterator[Path]:
    """Gives a path beside `final` to write to; it takes `final`'s place on a clean exit, else it is removed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        yield temporary
        publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
