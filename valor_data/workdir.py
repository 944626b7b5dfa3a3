"""Every path of a run, and the two ways a file comes to be: written aside, then renamed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from valor_data.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One of several drivers of a work folder: it does the shards whose number is `number - 1` modulo `total`."""

    total: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Reads `3/16`: the third of sixteen.

        Raises:
            ConfigError: it is not of that form, or there is no such part.
        """
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip(), re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--part {text}: expected I/N with I from 1 to N, at most 9999, such as 3/16")
        return cls(int(match[2]), int(match[1]))

    @classmethod
    def of_name(cls, name: str) -> Part | None:
        """The part that a ledger's name without extension names, or None."""
        match = re.fullmatch(r"(\d{4})-of-(\d{4})", name, re.ASCII)
        return None if match is None else cls(int(match[2]), int(match[1]))

    @property
    def name(self) -> str:
        """Sorts as the parts do: `0003-of-0016`."""
        return f"{self.number:04d}-of-{self.total:04d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


@dataclass(frozen=True, slots=True)
class WorkDir:
    """The folder of one run. Nothing is created until it is needed.

    Args:
        root: the folder, made absolute so that no id can be taken for an option.
        ledger_path: where the ledger lies instead of `root/ledger.sqlite` (network file systems).
        part: which part of the run is driven from here; None: all of it.
    """

    root: Path
    ledger_path: Path | None = None
    part: Part | None = None

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
        """Outcomes and facts of every clip; of the clips of its shards when this is a part."""
        if self.part is not None:
            return self.parts / f"{self.part.name}.sqlite"
        return self.ledger_path or self.root / "ledger.sqlite"

    @property
    def parts(self) -> Path:
        """The ledgers of parts that are not merged."""
        return self.root / "parts"

    def of_part(self, text: str | None) -> WorkDir:
        """The same work folder, driven in part: `3/16`; None: all of it.

        Raises:
            ConfigError: there is no such part.
        """
        return self.whole if text is None else WorkDir(self.root, self.ledger_path, Part.parse(text))

    @property
    def whole(self) -> WorkDir:
        """The same work folder, not only a part of it."""
        return WorkDir(self.root, self.ledger_path)

    def part_ledgers(self) -> dict[Part, Path]:
        """The ledgers of parts that are not merged, in order."""
        found = {Part.of_name(path.stem): path for path in sorted(self.parts.glob("*.sqlite"))}
        return {part: path for part, path in found.items() if part is not None}

    @property
    def deadlinks(self) -> Path:
        """Videos that others found to be lost."""
        return self.root / "deadlinks.parquet"

    @property
    def version(self) -> Path:
        """The version of the data set; see `publish.version`."""
        return self.root / "version.json"

    @property
    def tombstones(self) -> Path:
        """What was removed from the set, as hashes."""
        return self.root / "tombstones.parquet"

    @property
    def removal(self) -> Path:
        """A removal that is under way; gone when it is over."""
        return self.root / ".removal.json"

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
    def runs(self) -> Path:
        """The training runs, a folder each."""
        return self.root / "runs"

    @property
    def logs(self) -> Path:
        """One log file a run."""
        return self.root / "logs"

    @property
    def tmp(self) -> Path:
        """Whatever is not finished; `tmp/<host>-<pid of the driver>/`, a part's name before it."""
        return self.root / "tmp"

    def media_file(self, key: str, container: str) -> Path:
        """Where a clip's media lies: `media/ab/<key>.<container>`, `ab` from a hash of the key."""
        shelf = hashlib.blake2b(key.encode(), digest_size=1).hexdigest()
        return self.media / shelf / f"{key}.{container}"

    def own_tmp(self) -> Path:
        """The temporary folder of this process, created on first use."""
        path = self.tmp / f"{self._tmp_prefix}{_host_name()}-{os.getpid()}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def tmp_folders(self) -> list[Path]:
        """The temporary folders of this run and of killed ones; of a part, only those of the same part."""
        if not self.tmp.is_dir():
            return []
        return sorted(path for path in self.tmp.iterdir() if path.name.startswith(self._tmp_prefix))

    def clean_tmp(self) -> None:
        """Removes what killed runs left behind. Only the holder of the ledger's lock may call this."""
        if self.part is None:
            shutil.rmtree(self.tmp, ignore_errors=True)
            return
        for path in self.tmp_folders():
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # not there, or other parts are at work
            self.tmp.rmdir()

    @property
    def _tmp_prefix(self) -> str:
        return "" if self.part is None else f"{self.part.name}-"


def of_this_machine(name: str) -> str:
    """A name under `tmp/` that no other machine uses: one that was thought dead may still write to its own."""
    return f"{name}@{_host_name()}"


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "-", socket.gethostname()) or "host"


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
    temporary = final.with_name(f".{final.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
        yield temporary
        publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
