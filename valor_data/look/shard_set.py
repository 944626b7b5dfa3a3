"""The shards at one or several places, and any sample in them by its key: what `show`, `compare` and `view` read.

A place is a work folder, a folder of tars, a tar, a pattern with braces, or an address (`s3://…`, `hf://…`). Where
`index/` stands beside the tars its Parquet says what is in them; else the headers of a tar are read.
"""

from __future__ import annotations

import fnmatch
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from valor_data.errors import ShardError, Status
from valor_data.look.verify import output_of_work
from valor_data.shard.reader import read_fault
from valor_data.storage import Store, check_address, is_address
from valor_data.tombstones import NOTHING_REMOVED, Tombstones, tombstones_beside
from valor_data.workdir import WorkDir

LISTED = ("key", "video_id", "split", "status", "reason", "size_bytes", "members")
"""Columns of a shard's listing: those of its Parquet in `index/`."""

_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.[^/]+", re.DOTALL)
"""A member's name, its key first: cut at the first dot behind the folders, as webdataset does."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard.

    Attributes:
        name: `<split>-000000`, or whatever its tar is called.
        tar: path or address of its tar; it need not exist where every clip was refused.
        rows: path or address of its Parquet; empty where there is none.
        stamp: changes when the files do: sizes, and times of change on a disk.
    """

    name: str
    tar: str
    rows: str
    stamp: str

    def listing(self) -> Any:
        """Every clip that the shard tells of, an Arrow table of `LISTED`.

        Raises:
            ShardError: neither its Parquet nor its tar can be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self.rows:
                return pq.read_table(io.BytesIO(read_range(self.rows)), columns=list(LISTED))
            return _scan(self.tar)
        except (OSError, tarfile.TarError, pa.ArrowException) as error:
            where = self.rows or self.tar
            raise ShardError(f"{where}: {read_fault(error)}; run `valor-data verify` on its work folder") from error


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a sample lies: its tar, and offset and size of each member by its extension."""

    key: str
    shard: Shard
    members: Mapping[str, tuple[int, int]]

    def read(self, extension: str) -> bytes:
        """The bytes of a member.

        Raises:
            ShardError: the tar is gone, was replaced by another, or ends too early.
            KeyError: the sample has no such member.
        """
        offset, size = self.members[extension]
        before = tarfile.BLOCKSIZE  # the member's header, by which a tar that was replaced is noticed
        try:
            data = read_range(self.shard.tar, offset - before, offset + size)
        except OSError as error:
            raise ShardError(f"{self.shard.tar}: {read_fault(error)}; was it moved or built again?") from error
        name = f"{self.key}.{extension}"
        named = data[: tarfile.LENGTH_NAME].rstrip(b"\0").decode(errors="replace")  # of a long name, a part
        if not named or not (name.startswith(named) or name.endswith(named)) or len(data) != before + size:
            raise ShardError(f"{self.shard.tar}: holds no {name} where its index says; was it built again?")
        return data[before:]

    def frames(self) -> list[str]:
        """Extensions of its pictures, in order."""
        return sorted(name for name in self.members if name.startswith("frame_") and name.endswith(".jpg"))


@dataclass(frozen=True, slots=True)
class ShardSet:
    """All shards at some places.

    Attributes:
        places: as they were given.
        shards: in order of place and name.
        work: the work folder, where a place is one with a ledger.
        tombstones: what was removed from the set since: an old copy of its shards may still hold it.
    """

    places: tuple[str, ...]
    shards: tuple[Shard, ...]
    work: WorkDir | None = None
    tombstones: Tombstones = NOTHING_REMOVED

    def by_name(self) -> dict[str, Shard]:
        """The shards by their names; where two places have shards of one name, by their tars."""
        named = {shard.name: shard for shard in self.shards}
        return named if len(named) == len(self.shards) else {shard.tar: shard for shard in self.shards}

    def listing(self, shard: Shard) -> Any:
        """A shard's listing without the clips that were removed.

        Raises:
            ShardError: neither its Parquet nor its tar can be read.
        """
        table = shard.listing()
        if not self.tombstones:
            return table
        import pyarrow as pa

        names = zip(table["key"].to_pylist(), table["video_id"].to_pylist(), strict=True)
        return table.filter(pa.array([not self.tombstones.covers(*name) for name in names], pa.bool_()))


def find_set(places: str | Path | Sequence[str | Path]) -> ShardSet:
    """Finds the shards at some places.

    Raises:
        ShardError: there are none at one of them; the message names it and says what is expected.
        ConfigError: an address cannot be used.
        StoreError: the store there does not answer.
    """
    import braceexpand

    given = [str(places)] if isinstance(places, (str, Path)) else [str(place) for place in places]
    shards: dict[str, Shard] = {}
    tombstones, work = NOTHING_REMOVED, None
    for place in (one for text in given for one in braceexpand.braceexpand(text)):
        if not is_address(place) and WorkDir.at(place).ledger.exists():
            work = WorkDir.at(place)
            output = output_of_work(work).place
        else:
            output = place
        found = list(_shards_at(output))
        if not found:
            raise ShardError(
                f"{place}: no shards here; expected a work folder, a folder of NAME-000000.tar, one such tar, or an "
                "address of one of these"
            )
        shards |= {shard.tar: shard for shard in found}
        tombstones = tombstones.joined(tombstones_beside(output))
    return ShardSet(tuple(given), tuple(shards.values()), work if len(given) == 1 else None, tombstones)


def sample_in(shard: Shard, key: str) -> Stored | None:
    """Where a sample lies in a shard; None when it is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = shard.listing()
    rows = table.filter(pc.equal(table["key"], pa.scalar(key))).to_pylist()
    return stored_of(shard, rows[0]) if rows and rows[0]["members"] else None


def stored_of(shard: Shard, row: Mapping[str, Any]) -> Stored:
    """The place of the sample of a row of a listing."""
    key = str(row["key"])
    return Stored(key, shard, {m["name"][len(key) + 1 :]: (m["offset"], m["size"]) for m in row["members"]})


def read_range(place: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file or an object, or of a range of it.

    Raises:
        FileNotFoundError: it is not there.
    """
    if is_address(place):
        folder, _, name = place.rpartition("/")
        return Store(folder).read(name, start, end)
    with Path(place).open("rb") as stream:
        stream.seek(start or 0)
        return stream.read() if end is None else stream.read(end - (start or 0))


def _shards_at(place: str) -> Iterator[Shard]:
    if place.endswith(".tar"):
        folder, _, name = place.rpartition("/")
        tar = {one: stamp for one, stamp in _listed(folder or ".") if one == name}
        yield from _paired(folder or ".", tar, with_refused=False)
        return
    for folder in (f"{place.rstrip('/')}/shards", place.rstrip("/") or "/"):
        names = dict(_listed(folder))
        tars = {name: stamp for name, stamp in names.items() if fnmatch.fnmatchcase(name, "*.tar")}
        if tars or (folder.endswith("/shards") and dict(_listed(_index_beside(folder)))):
            yield from _paired(folder, tars)
            return


def _paired(folder: str, tars: Mapping[str, str], *, with_refused: bool = True) -> Iterator[Shard]:
    """The tars of a folder with their Parquet, and the shards whose every clip was refused: Parquet without tar."""
    beside = _index_beside(folder)
    rows = {name: stamp for name, stamp in _listed(beside) if name.endswith(".parquet")}
    stems = {name.removesuffix(".tar") for name in tars}
    if with_refused:
        stems |= {name.removesuffix(".parquet") for name in rows}
    for stem in sorted(stems):
        parquet = f"{stem}.parquet"
        stamp = f"{tars.get(f'{stem}.tar', '')} {rows.get(parquet, '')}"
        yield Shard(stem, f"{folder}/{stem}.tar", f"{beside}/{parquet}" if parquet in rows else "", stamp)


def _index_beside(folder: str) -> str:
    """`index` beside a folder of tars."""
    if is_address(folder):
        return f"{folder.rpartition('/')[0]}/index"
    return str(Path(folder).absolute().parent / "index")


def _listed(folder: str) -> list[tuple[str, str]]:
    """Name and stamp of each file of a folder, in order; nothing where there is no such folder."""
    if is_address(folder):
        check_address(folder, "shards")
        try:
            return sorted((name, str(size)) for name, size in Store(folder).listing() if "/" not in name)
        except FileNotFoundError:
            return []
    path = Path(folder)
    if not path.is_dir():
        return []
    stats = ((entry.name, entry.stat()) for entry in path.iterdir() if entry.is_file())
    return sorted((name, f"{stat.st_size} {stat.st_mtime_ns}") for name, stat in stats)


def _scan(tar: str) -> Any:
    """A listing made of a tar's headers; of a local file nothing else is read."""
    import pyarrow as pa

    rows: dict[str, dict[str, Any]] = {}
    for name, offset, size in _headers(tar):
        found = _MEMBER.fullmatch(name)
        if found is None:
            continue
        key = found[1]
        row = rows.setdefault(key, _unlisted(key, tar))
        row["members"].append({"name": name, "offset": offset, "size": size, "sha256": ""})
        row["size_bytes"] += size
    member = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("sha256", pa.string())])
    texts: list[Any] = [(name, pa.string()) for name in LISTED[:5]]
    columns = [*texts, ("size_bytes", pa.int64()), ("members", pa.list_(member))]
    return pa.Table.from_pylist(list(rows.values()), schema=pa.schema(columns))


def _unlisted(key: str, tar: str) -> dict[str, Any]:
    split = tar.rpartition("/")[2].removesuffix(".tar").rpartition("-")[0]
    video_id = key.rsplit("_", 2)[0]
    return {
        "key": key, "video_id": video_id, "split": split, "status": Status.KEPT.value, "reason": "", "size_bytes": 0,
        "members": [],
    }  # fmt: skip


def _headers(tar: str) -> Iterable[tuple[str, int, int]]:
    """Name, offset of the bytes and size of every file in a tar."""
    with _opened(tar) as stream, tarfile.open(fileobj=stream, mode="r|" if is_address(tar) else "r:") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]
            if member.isreg():
                yield member.name, member.offset_data, member.size


def _opened(tar: str) -> IO[bytes]:
    if is_address(tar):
        folder, _, name = tar.rpartition("/")
        return Store(folder).stream(name)
    return Path(tar).open("rb")
