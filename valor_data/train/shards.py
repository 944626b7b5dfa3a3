"""Where the shards of a set are, how many samples each holds, and reading their samples through webdataset."""

from __future__ import annotations

import io
import json
import logging
import tarfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from valor_data.errors import ShardError
from valor_data.shard.reader import extension_tar, joined, keys_in, read_fault
from valor_data.storage import Store, StoreError, is_address
from valor_data.tombstones import NOTHING_REMOVED, Tombstones, read_tombstones, tombstones_beside
from valor_data.train.plan import Piece

log = logging.getLogger("valor_data.train")

Places = str | Path | Sequence[str | Path]
"""A tar, a folder of tars, a work folder, a pattern with braces or stars, an address such as `hf://` or `s3://`,
or several of these."""

READ_BYTES = 1 << 20
"""A tar is read in pieces of this size."""

RECONNECT_SECONDS = (0.5, 2.0, 8.0)
"""Pauses before a connection that broke off is opened again."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar and the number of samples in it; and the tar of an extension that goes with it, or nothing."""

    url: str
    num_samples: int
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Raw:
    """A sample as it lies in its shard, or why it cannot be read.

    Attributes:
        key: the sample's key; empty where it is not known.
        shard: address of its tar.
        held: what is kept of its members; None when they cannot be read.
        fault: why they cannot; empty when they can.
    """

    key: str
    shard: str
    held: Held | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of a sample until its turn comes.

    Attributes:
        details: its JSON, not parsed yet; empty where it has none.
        jpegs: the chosen pictures, in order; the same one may be there several times.
        mel: its spectrogram as a NumPy file; None where it has none.
        num_jpegs: pictures that the sample has.
    """

    details: bytes
    jpegs: tuple[bytes, ...]
    mel: bytes | None
    num_jpegs: int


Hold = Callable[[str, Mapping[str, Any]], Held]
"""Keeps of a sample (its key, its members) what will be needed."""


def find_shards(places: Places, split: str = "") -> list[Shard]:
    """Finds the shards of a set and counts their samples.

    The counts come from the JSON files in `index/` beside the folder of tars; a tar without one is read through.

    Args:
        places: where they are.
        split: of a folder only the tars named `<split>-….tar`.

    Raises:
        ShardError: there are none, or one cannot be read; the message names the place.
    """
    return [Shard(url, _count(url)) for url in locate(places, split)]


def locate(places: Places, split: str = "") -> list[str]:
    """Paths and addresses of the shards of a set; none of them is opened.

    Args:
        places: where they are.
        split: of a folder only the tars named `<split>-….tar`.

    Raises:
        ShardError: there are none; the message names the place.
    """
    several = [places] if isinstance(places, (str, Path)) else list(places)
    urls = list(dict.fromkeys(url for place in several for url in _urls(str(place), split)))
    if not urls:
        named = f" of split {split!r}" if split else ""
        raise ShardError(
            f"{', '.join(map(str, several)) or 'no place'}: no shards{named} here; expected a tar, a folder of tars or "
            "a work folder with shards/"
        )
    return urls


def removed_from(shards: Sequence[Shard], tombstones: str | Path = "") -> Tombstones:
    """What was removed from a set since its shards were made.

    Args:
        shards: the set's.
        tombstones: a list; empty: those that lie beside the tars.

    Raises:
        ConfigError: no list there, or none that can be read.
    """
    if tombstones:
        return read_tombstones(tombstones)
    found = NOTHING_REMOVED
    for place in dict.fromkeys(shard.url.rpartition("/")[0] or "." for shard in shards):
        found = found.joined(tombstones_beside(place))
    return found


def extended(shards: Sequence[Shard], extension: str) -> list[Shard]:
    """Shards with the tars of an extension that go with them.

    Args:
        shards: the first set's.
        extension: its name, or its folder or address; empty: none.

    Raises:
        ShardError: one of its tars is not there.
    """
    if not extension:
        return list(shards)
    found = [replace(shard, extension=extension_tar(shard.url, extension)) for shard in shards]
    there = {
        folder: {url.rpartition("/")[2] for url in _listed(folder, "*.tar")}
        for folder in {shard.extension.rpartition("/")[0] for shard in found}
    }
    held = [shard for shard in found if shard.num_samples]
    missing = [s.extension for s in held if s.extension.rpartition("/")[2] not in there[s.extension.rpartition("/")[0]]]
    if missing:
        raise ShardError(
            f"extension {extension}: {len(missing)} of {len(held)} tars are not there, such as {missing[0]}; "
            "run `valor-data extend` on the work folder"
        )
    return found


def read_joined(shard: Shard) -> Generator[dict[str, Any], None, None]:
    """The samples of a shard, as `read_shard` gives them, with the members of its extension."""
    if not shard.extension:
        yield from read_shard(shard.url)
        return
    with closing(read_shard(shard.url)) as samples, closing(read_shard(shard.extension)) as more:
        yield from joined(samples, more, keys_in(shard.extension))


def _urls(place: str, split: str) -> list[str]:
    import braceexpand

    found: list[str] = []
    for one in braceexpand.braceexpand(place):
        is_pattern = "*" in one or "?" in one
        found += [one] if one.endswith(".tar") and not is_pattern else _tars(one, split)
    return found


def _tars(place: str, split: str) -> list[str]:
    """The tars of a folder, or those that a pattern with stars fits."""
    folder, _, name = place.rpartition("/") if place.endswith(".tar") else (place.rstrip("/"), "", "")
    pattern = name or (f"{split}-*.tar" if split else "*.tar")
    for inner in [folder] if name else [f"{folder}/shards", folder]:
        found = _listed(inner, pattern)
        if found:
            return found
    return []


def _listed(folder: str, pattern: str) -> list[str]:
    if not is_address(folder):
        return sorted(map(str, Path(folder or ".").glob(pattern)))
    store = Store(folder)
    try:
        names = sorted(name for name, _ in store.listing() if fnmatch(name, pattern) and "/" not in name)
    except FileNotFoundError:
        return []
    return [store.at(name) for name in names]


def open_place(place: str) -> IO[bytes]:
    """Opens a file or an address for reading.

    Raises:
        ShardError: it is not there, or this machine cannot read it.
        ConfigError: the store does not let us at it.
        StoreError: the store fails, however often it is asked.
    """
    try:
        if not is_address(place):
            return Path(place).open("rb", buffering=READ_BYTES)
        return io.BufferedReader(StoreStream(place), READ_BYTES)
    except OSError as error:
        words = error.strerror or str(error) or type(error).__name__
        raise ShardError(f"{place}: cannot be read: {words}; check the place, or build the shard again") from error


class StoreStream(io.RawIOBase):
    """An object at an address, read from its beginning to its end; a broken connection is opened again.

    Args:
        address: of the object.

    Raises:
        FileNotFoundError: no such object.
        ConfigError, StoreError: see `Store`.
    """

    def __init__(self, address: str) -> None:
        folder, _, self._name = address.rpartition("/")
        self._store = Store(folder)
        self._stream = self._store.stream(self._name)
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as the object goes; gives the number of bytes."""
        for pause in (*RECONNECT_SECONDS, None):
            try:
                data = self._stream.read(len(buffer))
                break
            except Exception as error:
                if pause is None:
                    raise StoreError(
                        f"{self._store.at(self._name)}: broke off at byte {self._position}: {error}"
                    ) from error
                log.info(
                    "%s: broke off at byte %d (%s); trying again", self._store.at(self._name), self._position, error
                )
                time.sleep(pause)
                self._stream = self._store.stream(self._name)
                self._stream.seek(self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Ends the connection."""
        if not self.closed:
            self._stream.close()
        super().close()


def _count(url: str) -> int:
    """Samples of a shard: as its sidecar says, else counted."""
    folder, _, name = url.rpartition("/")
    sidecar = f"{folder}/../index/" if not is_address(url) else f"{folder.rpartition('/')[0]}/index/"
    sidecar = f"{sidecar if folder else '../index/'}{name.removesuffix('.tar')}.json"
    try:
        with open_place(sidecar) as stream:
            return int(json.load(stream)["num_samples"])
    except (ShardError, ValueError, KeyError, TypeError):
        if is_address(url):
            log.info("%s: no %s, so the tar is read through once to count its samples", url, sidecar)
    return sum(1 for _ in _keys(url))


def _keys(url: str) -> Iterator[str]:
    """Keys of a tar's samples; of a local file only the headers are read."""
    from webdataset.tariterators import base_plus_ext

    last = None
    try:
        with open_place(url) as stream, tarfile.open(fileobj=stream, mode="r|" if is_address(url) else "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]
                key, _ = base_plus_ext(member.name)
                if member.isreg() and key is not None and key != last:
                    last = key
                    yield key
    except (OSError, tarfile.TarError) as error:
        raise ShardError(f"{url}: {read_fault(error)}; run `valor-data verify` on its work folder") from error


def read_shard(url: str) -> Generator[dict[str, Any], None, None]:
    """The samples of a tar one after another, as webdataset groups them: extension to bytes, and `__key__`.

    Args:
        url: path or address.

    Raises:
        OSError, ValueError, tarfile.TarError: the tar is damaged.
        ShardError: it cannot be opened.
    """
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    def members(stream: IO[bytes]) -> Iterable[dict[str, Any]]:
        for member in tar_file_iterator(stream):
            member["__url__"] = url
            yield member

    with open_place(url) as stream:
        yield from group_by_keys(members(stream))


class PieceReader:
    """Hands out the samples of a piece in its order, from any place in it on; reads no more than it must.

    Args:
        shards: those that the piece's spans count.
        piece: what to read.
        hold: what to keep of a sample.
        start: samples of the order that were handed out before.
    """

    def __init__(self, shards: Sequence[Shard], piece: Piece, hold: Hold, start: int = 0) -> None:
        self._shards, self._piece, self._hold = shards, piece, hold
        self._given = set(piece.order[:start])
        self._start = start

    def __iter__(self) -> Iterator[Raw]:
        waiting: dict[int, Raw] = {}
        with closing(self._read()) as stream:
            for wanted in self._piece.order[self._start :]:
                while wanted not in waiting:
                    position, raw = next(stream)
                    waiting[position] = raw
                yield waiting.pop(wanted)

    def _read(self) -> Generator[tuple[int, Raw], None, None]:
        """Positions with their samples, in the order of the spans; without those that were given before."""
        position = 0
        for span in self._piece.spans:
            places = [p for p in range(position, position + len(span)) if p not in self._given]
            if places:
                yield from self._read_span(span.shard, span.first - position, places)
            position += len(span)

    def _read_span(self, shard: int, shift: int, places: list[int]) -> Generator[tuple[int, Raw], None, None]:
        """The samples of a shard at some positions; those that a damaged tar does not give come with a fault."""
        url = self._shards[shard].url
        left = iter(places)
        place: int | None = next(left)
        fault = "the tar holds fewer samples than were counted"
        try:
            with closing(read_joined(self._shards[shard])) as samples:
                for number, files in enumerate(samples):
                    if place is None:
                        return
                    if number == place + shift:
                        key = str(files["__key__"])
                        yield place, Raw(key, url, self._hold(key, files))
                        place = next(left, None)
        except (OSError, ValueError, tarfile.TarError) as error:
            fault = read_fault(error)
        if place is not None:
            for lost in (place, *left):
                yield lost, Raw("", url, None, fault)
