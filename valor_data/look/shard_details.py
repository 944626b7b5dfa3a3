"""What shards say of their clips, without a work folder: the JSON of every sample, and the rows of every clip tried.

A place is a folder or an address with `shards/` and `index/` as `shard` leaves them, a folder or an address of tars
alone, or one tar. Beside an index only the JSON members are read; without one the headers of the tars are, too.
"""

from __future__ import annotations

import heapq
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from valor_data.errors import ShardError, Status
from valor_data.look.histogram import counts_of
from valor_data.look.status import Funnel
from valor_data.shard.output import Output, open_output, rows_of, tar_of
from valor_data.shard.reader import find_shards, read_fault
from valor_data.storage import Store, is_address

RANGES_SHARE = 0.05
"""From a store a tar is read whole where the JSON of more than this share of its clips is asked for."""

BATCH = 5_000


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """Shards to read.

    Attributes:
        place: the folder or the address.
        output: the same with an index; None where tars stand alone.
        tars: the tars, where they stand alone.
        names: the finished shards, where there is an index.
    """

    place: str
    output: Output | None
    tars: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names) or len(self.tars)


def find_shard_place(place: str) -> ShardPlace | None:
    """The shards at a place; None where there are none.

    Raises:
        ConfigError: the address cannot be used.
        StoreError: the store there does not answer.
    """
    if not place.endswith(".tar") and (is_address(place) or Path(place).is_dir()):
        output = open_output(Path(place).absolute(), place if is_address(place) else "")
        sizes = output.sizes()
        stems = {Path(name).stem for name in sizes if name.startswith("index/") and name.endswith(".json")}
        names = tuple(sorted(name for name in stems if rows_of(name) in sizes))
        if names:
            return ShardPlace(place, output, (), names)
    tars = tuple(find_shards(place)) or tuple(find_shards(f"{place.rstrip('/')}/shards"))
    return ShardPlace(place, None, tars, ()) if tars else None


def index_funnels(found: ShardPlace) -> list[Funnel]:
    """How far every clip of the shards' slices came: all first, then each split; nothing without an index."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if found.output is None:
        return []
    funnels: dict[str, Funnel] = {"": Funnel("all")}
    for name in found.names:
        table = pq.read_table(io.BytesIO(found.output.read(rows_of(name))), columns=["status", "reason"])
        compute: Any = pc
        reasons = compute.fill_null(table["reason"], "")
        pairs = compute.binary_join_element_wise(table["status"], reasons, "\x1f")
        split = name.rpartition("-")[0]
        for pair, number in counts_of(pairs).items():
            status, reason = pair.split("\x1f")
            for funnel in (funnels[""], funnels.setdefault(split, Funnel(split))):
                funnel.num_clips += number
                if status == Status.KEPT.value:
                    funnel.kept["shard"] += number
                else:
                    funnel.losses[("shard", status, reason)] += number
    return list(funnels.values())


def sample_texts(
    found: ShardPlace, *, sample: int | None = None, seed: int = 0, on_shard: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """The JSON of every clip in the shards, or of some drawn by a hash of their keys; each in one line.

    Raises:
        ShardError: a tar is damaged.
    """
    if found.output is None:
        yield from _of_tars(found.tars, sample, seed, on_shard)
        return
    places = {name: list(_json_places(found.output, name)) for name in found.names}
    wanted = _drawn(places, sample, seed)
    for name, several in places.items():
        chosen = [place for place in several if place[0] in wanted] if wanted is not None else several
        if chosen:
            yield from map(_one_line, _read(found.output, name, chosen, len(several)))
        on_shard(name)


def _json_places(output: Output, name: str) -> Iterator[tuple[str, int, int]]:
    """Key, offset and size of each JSON of a shard."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(output.read(rows_of(name))), columns=["key", "status", "members"])
    for row in table.to_pylist():
        for member in row["members"] or () if row["status"] == Status.KEPT.value else ():
            if member["name"].endswith(".json"):
                yield row["key"], member["offset"], member["size"]


def _drawn(places: dict[str, list[tuple[str, int, int]]], sample: int | None, seed: int) -> set[str] | None:
    if sample is None:
        return None
    keys = (key for several in places.values() for key, _, _ in several)
    return set(heapq.nsmallest(sample, keys, key=lambda key: _rank(key, seed)))


def _rank(key: str, seed: int) -> bytes:
    return blake2b(f"{seed} {key}".encode(), digest_size=8).digest()


def _read(output: Output, name: str, chosen: list[tuple[str, int, int]], num_all: int) -> Iterator[bytes]:
    if output.is_remote and len(chosen) <= RANGES_SHARE * num_all:
        for _, offset, size in chosen:
            yield output.read(tar_of(name), offset, offset + size)
        return
    with (
        tempfile.TemporaryDirectory(prefix="valor-data-stats-") as folder,
        output.local(tar_of(name), Path(folder)).open("rb") as stream,
    ):
        for _, offset, size in chosen:
            stream.seek(offset)
            yield stream.read(size)


def _of_tars(tars: tuple[str, ...], sample: int | None, seed: int, on_shard: Callable[[str], None]) -> Iterator[str]:
    """The JSON members of tars without an index; with a sample all are read and the drawn ones kept."""
    drawn: list[tuple[bytes, str]] = []
    for tar in tars:
        try:
            with _opened(tar) as stream, tarfile.open(fileobj=stream, mode="r|" if is_address(tar) else "r:") as read:
                for info in read:
                    member = read.extractfile(info) if info.isfile() and info.name.endswith(".json") else None
                    if member is None:
                        continue
                    text = _one_line(member.read())
                    if sample is None:
                        yield text
                    else:
                        drawn.append((_rank(info.name.removesuffix(".json"), seed), text))
        except (OSError, ValueError, tarfile.TarError) as error:
            raise ShardError(f"{tar}: {read_fault(error)}; run `valor-data verify` on its work folder") from error
        drawn = heapq.nsmallest(sample or 0, drawn)
        on_shard(tar)
    yield from (text for _, text in drawn)


def _opened(tar: str) -> IO[bytes]:
    return Store(tar).stream("") if is_address(tar) else Path(tar).open("rb")


def _one_line(data: bytes) -> str:
    text = data.decode()
    return text if "\n" not in text else json.dumps(json.loads(text), ensure_ascii=False)


def clips_table(texts: list[str]) -> Any:
    """Samples' JSON as columns: those of a manifest, and `facts` as JSON texts. What stands for nothing is left out.

    Raises:
        ShardError: it is not the JSON of a sample.
    """
    import pyarrow as pa

    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for text in texts:
        try:
            tree = json.loads(text)
            for name in ("video_id", "split"):
                rows[name].append(tree[name])
            rows["start_seconds"].append(tree["start"])
            rows["end_seconds"].append(tree["end"])
            rows["captions"].append([c for c in tree["captions"] if c["text"]])
            rows["labels"].append([label for label in tree["labels"] if label])
            rows["facts"].append(json.dumps(tree["facts"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(f"a sample's JSON is not one of this package ({error!r})") from None
    return pa.table(rows, schema=_schema())


_COLUMNS = ("video_id", "start_seconds", "end_seconds", "split", "captions", "labels", "facts")


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    kinds: Any = (text, pa.float64(), pa.float64(), text, pa.list_(pa.struct([("text", text), ("role", text)])),
                  pa.list_(text), text)  # fmt: skip
    return pa.schema(list(zip(_COLUMNS, kinds, strict=True)))


def read_clips(
    found: ShardPlace, *, sample: int | None = None, seed: int = 0, on_shard: Callable[[str], None] = lambda _: None
) -> Any:
    """The clips of shards as one table; see `clips_table`.

    Raises:
        ShardError: no clips in them, or they cannot be read.
    """
    import pyarrow as pa

    tables, waiting = [], []
    for text in sample_texts(found, sample=sample, seed=seed, on_shard=on_shard):
        waiting.append(text)
        if len(waiting) >= BATCH:
            tables.append(clips_table(waiting))
            waiting = []
    tables.append(clips_table(waiting))
    return pa.concat_tables(tables)
