"""Recognises a set by what lies at a place: tars, Parquet files with media, or the published trainer's folders."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from valor_data.archives import SOUND_SUFFIXES, VIDEO_SUFFIXES, ArchiveError
from valor_data.storage import Store, check_address, is_address

MAPPERS = ("txt_mapper.json", "txt_mapper_en.json")
QA_MAPPER = "txt_mapper_qa.json"

_TAR, _PARQUET = ".tar", ".parquet"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
_AUDIO_FOLDERS, _FRAMES_FOLDERS = "audio", "frames"


@dataclass(frozen=True, slots=True)
class Holding:
    """A set that somebody has.

    Attributes:
        kind: `tars`, `parquet` or `valor`.
        root: its folder or address; `files` are relative to it.
        files: its tars or Parquet files, sorted; empty for `valor`.
        frames: for `valor`, the folder with a folder of pictures for each clip; empty when there is none.
        sound: for `valor`, the folder of wavs; empty when there is none.
    """

    kind: str
    root: str
    files: tuple[str, ...] = ()
    frames: str = ""
    sound: str = ""

    @contextmanager
    def open(self, file: str) -> Iterator[IO[bytes]]:
        """Opens one of its files for reading.

        Raises:
            ArchiveError: it is not there, or the name leads out of the set.
        """
        if file.startswith("/") or ".." in file.split("/"):
            raise ArchiveError(f"{file!r}: a name that leads out of {self.root}")
        try:
            if is_address(self.root):
                with Store(self.root).stream(file) as stream:
                    yield stream
                return
            with Path(self.root, file).open("rb") as stream:
                yield stream
        except FileNotFoundError:
            raise ArchiveError(
                f"{self.root}/{file}: is not there; name the set that the manifest was made of"
            ) from None

    @contextmanager
    def open_part(self, file: str, start: int, end: int) -> Iterator[tuple[IO[bytes], int]]:
        """Opens a part of a file: a stream, and where in it the part begins. Of an object only the part is asked for.

        Raises:
            ArchiveError: as `open` does.
        """
        if not is_address(self.root):
            with self.open(file) as stream:
                yield stream, start
            return
        try:
            yield io.BytesIO(Store(self.root).read(file, start, end)), 0
        except FileNotFoundError:
            raise ArchiveError(
                f"{self.root}/{file}: is not there; name the set that the manifest was made of"
            ) from None

    def size_bytes(self, file: str) -> int:
        """Bytes of one of its files."""
        if is_address(self.root):
            return Store(self.root).size(file) or 0
        return Path(self.root, file).stat().st_size


def find_holding(place: str) -> Holding | None:
    """What a place holds; None when it is no such set (a folder of media files, an annotation file, nothing).

    A Parquet file counts when it has a column of media.

    Raises:
        ArchiveError: tars are compressed, or two folders could be the pictures.
        ConfigError: the address cannot be used.
        StoreError: the store there does not answer.
    """
    if is_address(place):
        check_address(place, "source")
        return _at_address(place)
    path = Path(place).absolute()
    if path.is_file():
        return _of_files(str(path.parent), [path.name])
    if not path.is_dir():
        return None
    top = sorted(entry.name for entry in os.scandir(path))
    folder = _valor_folder(path, top)
    if folder is not None:
        return folder
    return _of_files(str(path), _listed(path))


def _at_address(place: str) -> Holding | None:
    if place.endswith((_TAR, _PARQUET, *_COMPRESSED)):
        root, _, name = place.rpartition("/")
        return _of_files(root, [name])
    names: list[str] = []
    try:
        for name, _ in Store(place).listing():
            if Path(name).suffix[1:].lower() in VIDEO_SUFFIXES | SOUND_SUFFIXES:
                return None  # a folder of media files; there may be a million of them
            names.append(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _of_files(place, names)


def _listed(folder: Path) -> list[str]:
    """Files below a folder; none as soon as there is a media file: then it is a folder of those."""
    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in names:
            if Path(name).suffix[1:].lower() in VIDEO_SUFFIXES | SOUND_SUFFIXES:
                return []
            if not name.startswith("."):
                found.append(os.path.relpath(f"{root}/{name}", folder))
    return found


def _of_files(root: str, names: Iterable[str]) -> Holding | None:
    tars: list[str] = []
    tables: list[str] = []
    packed: list[str] = []
    for name in names:
        for suffix, found in ((_TAR, tars), (_PARQUET, tables), *((s, packed) for s in _COMPRESSED)):
            if name.endswith(suffix):
                found.append(name)
    if packed and not tars:
        raise ArchiveError(
            f"{root}/{sorted(packed)[0]}: is compressed, and members are read where they lie: unpack it to a plain "
            ".tar first"
        )
    if tars:
        return Holding("tars", root, tuple(sorted(tars)))
    holding = Holding("parquet", root, tuple(sorted(tables)))
    return holding if tables and _has_media(holding) else None


def _has_media(holding: Holding) -> bool:
    from valor_data.archives.parquet import media_columns, read_schema

    try:
        schema: Any = read_schema(holding, holding.files[0])
    except ArchiveError:
        return False
    return bool(media_columns(schema))


def _valor_folder(path: Path, top: list[str]) -> Holding | None:
    """The published trainer's layout: folders of pictures or wavs beside a mapping of texts or lists of ids."""
    lists = [name for name in top if name in MAPPERS or name.endswith(("_id.json", "_ids.json"))]
    folders = [name for name in top if (path / name).is_dir() and not name.startswith(".")]
    frames = [name for name in folders if name.startswith(_FRAMES_FOLDERS)]
    sound = [name for name in folders if name.startswith(_AUDIO_FOLDERS)]
    if not lists or not (frames or sound):
        return None
    if len(frames) > 1 or len(sound) > 1:
        several = frames if len(frames) > 1 else sound
        raise ArchiveError(
            f"{path}: several folders could be it ({', '.join(several)}); leave one there, or link to one"
        )
    return Holding("valor", str(path), (), (frames or [""])[0], (sound or [""])[0])
