"""Where shards stand: a folder or an fsspec address, the same names in both.

    shards/<split>-000000.tar   index/<split>-000000.parquet   index/<split>-000000.json

The JSON is the last of a shard to come and the first to go: a shard without its JSON is not finished.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from valor_data.ledger import Ledger
from valor_data.storage import Store, is_address
from valor_data.workdir import publish, written_aside

FOLDERS = ("shards", "index")

EXTENSIONS = "extensions"


def tar_of(shard: str) -> str:
    """The name of a shard's tar below its output."""
    return f"shards/{shard}.tar"


def rows_of(shard: str) -> str:
    """The name of a shard's Parquet."""
    return f"index/{shard}.parquet"


def json_of(shard: str) -> str:
    """The name of a shard's JSON."""
    return f"index/{shard}.json"


class Output(Protocol):
    """A place for shards. Picklable; names are relative to it."""

    @property
    def place(self) -> str:
        """The folder or the address."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether each look costs a request."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of everything in the two folders, by name: one listing, however many shards there are."""
        ...

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a file, or of a range of it.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def stream(self, name: str) -> IO[bytes]:
        """Opens a file for reading.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def put(self, path: Path, name: str) -> None:
        """Puts a finished local file in its place, whole or not at all; the local one may stay or go."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Deletes files; those that are not there are no fault."""
        ...

    def local(self, name: str, folder: Path) -> Path:
        """A local file with these bytes: the file itself, or a copy in `folder`.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderOutput:
    """A folder of a local or shared disk."""

    root: Path

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    @property
    def is_remote(self) -> bool:
        """A look costs little."""
        return False

    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        found: dict[str, int] = {}
        for folder in FOLDERS:
            if (self.root / folder).is_dir():
                with os.scandir(self.root / folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):  # renamed by another part of the run
                            found[f"{folder}/{entry.name}"] = entry.stat().st_size
        return found

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a file, or of a range of it."""
        with (self.root / name).open("rb") as stream:
            stream.seek(start or 0)
            return stream.read() if end is None else stream.read(end - (start or 0))

    def stream(self, name: str) -> IO[bytes]:
        """Opens a file."""
        return (self.root / name).open("rb")

    def put(self, path: Path, name: str) -> None:
        """Moves a file to its place; to another disk it is copied beside it first."""
        try:
            publish(path, self.root / name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with written_aside(self.root / name) as aside:
                shutil.copyfile(path, aside)

    def remove(self, names: Iterable[str]) -> None:
        """Deletes files."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def local(self, name: str, folder: Path) -> Path:
        """The file itself."""
        if not (self.root / name).is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self.root / name


@dataclass(frozen=True, slots=True)
class StoreOutput:
    """Objects at an fsspec address."""

    store: Store

    @property
    def place(self) -> str:
        """The address."""
        return self.store.address

    @property
    def is_remote(self) -> bool:
        """A look is a request."""
        return True

    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        found: dict[str, int] = {}
        for folder in FOLDERS:
            try:
                found.update((f"{folder}/{name}", size) for name, size in Store(self.store.at(folder)).listing())
            except FileNotFoundError:
                continue
        return found

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of an object, or of a range of it."""
        return self.store.read(name, start, end)

    def stream(self, name: str) -> IO[bytes]:
        """Opens an object."""
        return self.store.stream(name)

    def put(self, path: Path, name: str) -> None:
        """Uploads a file; the local one stays."""
        self.store.put(path, name)

    def remove(self, names: Iterable[str]) -> None:
        """Deletes objects."""
        self.store.remove(names)

    def local(self, name: str, folder: Path) -> Path:
        """A copy."""
        path = folder / Path(name).name
        self.store.get(name, path)
        return path


def output_of(ledger: Ledger) -> str:
    """The `[shard] output` that a work folder's shards were last sent to."""
    return str(json.loads(ledger.get_meta("settings.shard") or "{}").get("output", ""))


def extension_of(output: Output, name: str) -> Output:
    """Where an extension of a set stands: `extensions/NAME/` beside its shards, the same names in it.

    Args:
        output: where the set stands.
        name: of the extension.
    """
    if isinstance(output, StoreOutput):
        return StoreOutput(Store(output.store.at(f"{EXTENSIONS}/{name}")))
    return FolderOutput(Path(output.place) / EXTENSIONS / name)


def extensions_of(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The extensions of a work folder's set: their settings, by name."""
    found: dict[str, dict[str, Any]] = json.loads(ledger.get_meta(EXTENSIONS) or "{}")
    return found


def open_output(work: Path, output: str) -> Output:
    """Where the shards of a run go.

    Args:
        work: the work folder: the place when no other was chosen.
        output: `[shard] output`: empty, an absolute path, or an address.
    """
    if is_address(output):
        return StoreOutput(Store(output))
    return FolderOutput(Path(output) if output else work)
