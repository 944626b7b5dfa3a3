"""Where an export goes: a folder or an fsspec address, with a note of what is in it.

The note, `export.json`, is there from the beginning on: another export, or one made with other options, is refused
rather than mixed with it. It says `"finished": true` when everything is in place.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valor_data.errors import ConfigError
from valor_data.shard.output import FolderOutput, Output, open_output
from valor_data.storage import Store, absolute_place, check_address, is_address
from valor_data.workdir import written_aside

NOTE = "export.json"


@dataclass(frozen=True, slots=True)
class Target:
    """A place for an export. Picklable; names are relative to it."""

    place: str

    @classmethod
    def at(cls, text: str) -> Target:
        """The place that a text names.

        Raises:
            ConfigError: the address holds a password, or names no place.
        """
        if not text.strip():
            raise ConfigError("export: name the folder or the address that the export goes to")
        check_address(text, "export")
        return cls(absolute_place(text))

    @property
    def folder(self) -> Path | None:
        """The local folder; None at an address."""
        return None if is_address(self.place) else Path(self.place)

    @property
    def output(self) -> Output:
        """Reads and writes whole files."""
        return open_output(Path(self.place), self.place)

    def names(self) -> list[str]:
        """Every file at the place, sorted."""
        folder = self.folder
        if folder is None:
            try:
                return sorted(name for name, _ in Store(self.place).listing())
            except FileNotFoundError:
                return []
        found = []
        for root, _, names in os.walk(folder):
            found += [os.path.relpath(f"{root}/{name}", folder) for name in names]
        return sorted(found)

    def is_used(self) -> bool:
        """Whether anything is there."""
        folder = self.folder
        if folder is None:
            try:
                return any(True for _ in Store(self.place).listing())
            except FileNotFoundError:
                return False
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file, whole or not at all."""
        with self.written(name) as path:
            path.write_bytes(data)

    def write_unflushed(self, name: str, data: bytes) -> None:
        """Writes a small file of many, whole or not at all; on a disk the caller flushes them all together."""
        folder = self.folder
        if folder is None:
            self.write(name, data)
            return
        final = folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = final.with_name(f".{final.name}.part")
        aside.write_bytes(data)
        aside.replace(final)

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """Gives a local path to write to; on a clean exit the file is put in its place."""
        output = self.output
        if isinstance(output, FolderOutput):
            with written_aside(output.root / name) as path:
                yield path
            return
        with tempfile.TemporaryDirectory(prefix="valor-data-export-") as scratch:
            path = Path(scratch) / Path(name).name
            yield path
            output.put(path, name)

    def read_json(self, name: str) -> Any:
        """A JSON file; None where there is none that can be read."""
        try:
            return json.loads(self.output.read(name))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None


def begin(target: Target, told: Mapping[str, Any]) -> None:
    """Notes what the place is for, or goes on with what it holds.

    Args:
        target: the place.
        told: layout and options; JSON-able.

    Raises:
        ConfigError: something else is there, or an export made with other options.
    """
    before = target.read_json(NOTE)
    if before is None:
        if target.is_used():
            raise ConfigError(
                f"{target.place}: is not empty, and holds no {NOTE} of an export to go on with; name a new folder"
            )
    else:
        wanted = json.loads(json.dumps(dict(told)))
        held = {name: before.get(name) for name in wanted}
        if held != wanted:
            changed = ", ".join(
                f"{name} is {held[name]!r}, not {wanted[name]!r}" for name in wanted if held[name] != wanted[name]
            )
            raise ConfigError(
                f"{target.place}: holds another export ({changed}); name a new folder, or remove that one"
            )
    target.write(NOTE, note_bytes({**told, "finished": False}))


def note_bytes(told: Mapping[str, Any]) -> bytes:
    """A note as it is written: the same bytes for the same values."""
    return (json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
