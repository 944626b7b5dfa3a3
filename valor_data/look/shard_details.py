"""What shards say of their clips, without a work folder: the JSON of every sample, and the rows of every clip tried."""

from __future__ import annotations

import contextlib
import heapq
import json
import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from valor_data.errors import ShardError, Status
from valor_data.look.histogram import counts_of
from valor_data.look.shard_set import Shard, ShardSet, read_range
from valor_data.look.status import Funnel
from valor_data.shard.reader import read_fault
from valor_data.storage import Store, is_address

RANGES_SHARE = 0.05
"""From a store a tar is fetched whole where the JSON of more than this share of its clips is asked for."""

BATCH = 5_000

_SPLIT_MARK = "\x1f"

_COLUMNS = ("video_id", "start_seconds", "end_seconds", "split", "captions", "labels", "facts")


def index_funnels(shards: ShardSet) -> list[Funnel]:
    """How far every clip of the shards' slices came: all first, then each split; nothing unless all have an index."""
    import pyarrow.compute as pc

    if not all(shard.rows for shard in shards.shards):
        return []
    whole, funnels, compute = Funnel("all"), dict[str, Funnel](), _any(pc)
    for shard in shards.shards:
        table = shard.listing()
        reasons = compute.fill_null(table["reason"], "")
        pairs = compute.binary_join_element_wise(table["split"], table["status"], reasons, _SPLIT_MARK)
        for pair, number in counts_of(pairs).items():
            split, status, reason = pair.split(_SPLIT_MARK)
            for funnel in (whole, funnels.setdefault(split, Funnel(split))):
                funnel.num_clips += number
                if status == Status.KEPT.value:
                    funnel.kept["shard"] += number
                else:
                    funnel.losses[("shard", status, reason)] += number
    return [whole, *(funnels[split] for split in sorted(funnels))]


def _any(module: Any) -> Any:
    """Arrow's functions take what their annotations do not know."""
    return module


def sample_texts(
    shards: ShardSet, *, sample: int | None = None, seed: int = 0, on_shard: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """The JSON of every clip in the shards, or of some drawn by a hash of their keys; each in one line.

    Raises:
        ShardError: a tar is damaged or gone.
    """
    places = [(shard, list(_json_places(shard))) for shard in shards.shards]
    wanted = None
    if sample is not None:
        keys = (key for _, several in places for key, _, _ in several)
        wanted = set(heapq.nsmallest(sample, keys, key=lambda key: _rank(key, seed)))
    for shard, several in places:
        chosen = several if wanted is None else [place for place in several if place[0] in wanted]
        if chosen:
            try:
                yield from map(_one_line, _read(shard, chosen, len(several)))
            except (OSError, ValueError) as error:
                raise ShardError(f"{shard.tar}: {read_fault(error)}; run `valor-data verify`") from error
        on_shard(shard.name)


def _json_places(shard: Shard) -> Iterator[tuple[str, int, int]]:
    """Key, offset and size of each JSON of a shard."""
    for row in shard.listing().select(["key", "members"]).to_pylist():
        for member in row["members"] or ():
            if member["name"] == f"{row['key']}.json":
                yield row["key"], member["offset"], member["size"]


def _rank(key: str, seed: int) -> bytes:
    return blake2b(f"{seed} {key}".encode(), digest_size=8).digest()


def _read(shard: Shard, chosen: list[tuple[str, int, int]], num_all: int) -> Iterator[bytes]:
    """Some members of a tar: of a file by seeking, of an object by ranges, or from a copy of it."""
    with contextlib.ExitStack() as stack:
        path = Path(shard.tar)
        if is_address(shard.tar):
            if len(chosen) <= RANGES_SHARE * num_all:
                for _, offset, size in chosen:
                    yield read_range(shard.tar, offset, offset + size)
                return
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="valor-data-stats-"))
            place, _, name = shard.tar.rpartition("/")
            path = Path(folder) / name
            Store(place).get(name, path)
        stream = stack.enter_context(path.open("rb"))
        for _, offset, size in chosen:
            stream.seek(offset)
            yield stream.read(size)


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


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    caption = pa.list_(pa.struct([("text", text), ("role", text)]))
    kinds: Any = (text, pa.float64(), pa.float64(), text, caption, pa.list_(text), text)
    return pa.schema(list(zip(_COLUMNS, kinds, strict=True)))


def read_clips(
    shards: ShardSet, *, sample: int | None = None, seed: int = 0, on_shard: Callable[[str], None] = lambda _: None
) -> Any:
    """The clips of shards as one table; see `clips_table`.

    Raises:
        ShardError: they cannot be read.
    """
    import pyarrow as pa

    tables: list[Any] = []
    waiting: list[str] = []
    for text in sample_texts(shards, sample=sample, seed=seed, on_shard=on_shard):
        waiting.append(text)
        if len(waiting) >= BATCH:
            tables.append(clips_table(waiting))
            waiting = []
    return pa.concat_tables([*tables, clips_table(waiting)])
