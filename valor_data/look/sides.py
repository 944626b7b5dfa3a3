"""One side of a comparison, whatever it is: a work folder, a manifest, annotation files, shards; as Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from valor_data.clip import open_key
from valor_data.errors import ConfigError, ManifestError, Status, ValorDataError
from valor_data.ledger import STAGES, STANDING_COLUMNS, Ledger
from valor_data.look.shard_set import LISTED, ShardSet, find_set, stored_of
from valor_data.manifest import build_manifest
from valor_data.manifest.table import read_columns
from valor_data.shard.reader import read_fault
from valor_data.storage import is_address
from valor_data.workdir import WorkDir

CHUNK_ROWS = 50_000

COUNTED = ("manifest", *STAGES)
"""How far a clip must have come in a work folder to be one that it has."""

EXPECTED = "expected a work folder, a manifest, shards, or an annotation file that `valor-data manifest` reads"

_COLUMNS = ("key", "video_id", "start_seconds", "split", "captions")


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of two things that are compared.

    Attributes:
        name: as it was given.
        kind: `work folder`, `manifest` or `shards`.
        counted: what of it counts: `manifest`, `fetch`, `filter` or `shard`.
        table: Arrow columns key, video_id, split, has, stage, status, reason: a row for each clip that it lists,
            in any order, a key once; `has` says whether it counts as there.
        captions: the captions of some keys, in their order, one text a clip; None where they cannot be told cheaply.
        num_doubled: rows that were left out because their key was there before.
    """

    name: str
    kind: str
    counted: str
    table: Any
    captions: Callable[[Any], Any] | None = None
    num_doubled: int = 0


def read_side(place: str, *, stage: str = "", split: str = "", captions: bool | None = None) -> Side:
    """Reads one side.

    Args:
        place: a work folder, a manifest, an annotation file, or shards (a folder, a tar, an address).
        stage: of a work folder, which clips count: those in the `manifest`, or kept by `fetch`, `filter` or `shard`;
            empty: by the last of these that has kept any.
        split: only clips of this split; empty: all.
        captions: whether captions are read from tars; None: not at an address, where each is a request.

    Raises:
        ValorDataError: there is nothing of these, or it cannot be read; the message says what is expected.
    """
    if stage and stage not in COUNTED:
        raise ConfigError(f"--stage {stage}: expected one of {', '.join(COUNTED)}")
    path = Path(place)
    if not is_address(place) and WorkDir.at(place).ledger.exists():
        side = _of_work(place, WorkDir.at(place), stage)
    elif is_address(place) or place.endswith(".tar") or "{" in place or (path / "shards").is_dir() or _has_tars(path):
        shards = find_set(place)
        wanted = not is_address(place) if captions is None else captions
        side = _of_shards(place, shards, wanted)
    elif path.is_dir() and (path / "manifest.parquet").is_file():
        side = _of_manifest(place, read_columns(path / "manifest.parquet", _COLUMNS))
    elif path.is_file():
        side = _of_manifest(place, _manifest(path))
    else:
        raise ValorDataError(f"{place}: nothing to compare there; {EXPECTED}")
    return _once(side, split)


def _has_tars(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.tar"))


def _manifest(path: Path) -> Any:
    """The columns of a manifest, or of what an annotation file (which may be Parquet, too) would become."""
    with path.open("rb") as stream:
        is_parquet = stream.read(4) == b"PAR1"
    if is_parquet:
        try:
            return read_columns(path, _COLUMNS)
        except ManifestError as refusal:
            try:
                return build_manifest([path]).manifest.table.select(list(_COLUMNS))
            except ManifestError:
                raise refusal from None
    return build_manifest([path]).manifest.table.select(list(_COLUMNS))


def _once(side: Side, split: str) -> Side:
    """The same with every key once, and of one split alone if asked."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table: Any = side.table
    if split:
        table = table.filter(pc.equal(table["split"], pa.scalar(split)))
    if table.num_rows == pc.count_distinct(table["key"]).as_py():
        return Side(side.name, side.kind, side.counted, table, side.captions)
    # Of a key's rows the first that counts: a clip may be refused in one shard and be in another.
    numbered = table.append_column("n", pa.array(range(table.num_rows), pa.int64()))
    order: Any = [("has", "descending"), ("n", "ascending")]
    first = numbered.sort_by(order).group_by("key", use_threads=False).aggregate([("n", "first")])
    rows = first["n_first"].combine_chunks().sort()
    return Side(side.name, side.kind, side.counted, table.take(rows), side.captions, table.num_rows - len(rows))


def _of_work(place: str, work: WorkDir, stage: str) -> Side:
    import pyarrow as pa
    import pyarrow.compute as pc

    with Ledger(work.ledger, read_only=True) as ledger:
        table: Any = _standings(ledger.standings())
    if not stage:
        kept = [s for s in STAGES if pc.any(pc.equal(table[f"{s}_status"], pa.scalar("kept"))).as_py()]
        stage = kept[-1] if kept else COUNTED[0]
    ends: Any = pa.scalar(None, pa.string())
    columns: dict[str, Any] = {"stage": ends, "status": pa.scalar(Status.KEPT.value), "reason": pa.scalar("")}
    for name in reversed(STAGES):  # the first stage that did not keep a clip is where it stands
        status = pc.fill_null(table[f"{name}_status"], "")
        goes_on = pc.equal(status, pa.scalar(Status.KEPT.value))
        columns["stage"] = pc.if_else(goes_on, columns["stage"], pa.scalar(name))
        columns["status"] = pc.if_else(goes_on, columns["status"], status)
        columns["reason"] = pc.if_else(goes_on, columns["reason"], pc.fill_null(table[f"{name}_reason"], ""))
    if stage == COUNTED[0]:
        has: Any = pa.repeat(True, table.num_rows)
    else:
        has = pc.fill_null(pc.equal(table[f"{stage}_status"], pa.scalar(Status.KEPT.value)), False)
    kept_columns = {name: table[name] for name in ("key", "video_id", "split")}
    told = pa.table({**kept_columns, "has": has, **columns})
    keys, rows = table["key"], table["manifest_row"]

    def captions(wanted: Any) -> Any:
        listed = _caption_column(read_columns(work.manifest, ["captions"]))
        return listed.take(rows.take(pc.index_in(wanted, keys)))

    return Side(place, "work folder", stage, told, captions if work.manifest.exists() else None)


def _standings(rows: Iterator[tuple[Any, ...]]) -> Any:
    """The ledger's rows as an Arrow table, some thousand at a time."""
    import pyarrow as pa

    texts = pa.string()
    types = [pa.int64() if name == "manifest_row" else texts for name in STANDING_COLUMNS]
    schema = pa.schema(list(zip(STANDING_COLUMNS, types, strict=True)))
    batches = []
    while chunk := list(islice(rows, CHUNK_ROWS)):
        arrays = [pa.array(column, kind) for column, kind in zip(zip(*chunk, strict=True), types, strict=True)]
        batches.append(pa.Table.from_arrays(arrays, schema=schema))
    return pa.concat_tables(batches) if batches else schema.empty_table()


def _of_manifest(place: str, table: Any) -> Side:
    import pyarrow as pa
    import pyarrow.compute as pc

    keys: Any = table["key"]
    if keys.null_count:
        starts = zip(table["video_id"].to_pylist(), table["start_seconds"].to_pylist(), strict=True)
        keys = pc.coalesce(keys, pa.chunked_array([pa.array([open_key(*start) for start in starts])]))
    empty: Any = pa.repeat("", len(keys))
    columns: dict[str, Any] = {"key": keys, "video_id": table["video_id"], "split": table["split"]}
    columns |= {"has": pa.repeat(True, len(keys)), "stage": empty, "status": empty, "reason": empty}
    told = pa.table(columns)

    def captions(wanted: Any) -> Any:
        return _caption_column(table).take(pc.index_in(wanted, keys))

    return Side(place, "manifest", COUNTED[0], told, captions)


def _caption_column(table: Any) -> Any:
    """The captions of a manifest, one text a clip: roles and texts, in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks: list[Any] = []
    for chunk in table["captions"].chunks:
        parts: Any = chunk.flatten()
        lines: Any = pc.binary_join_element_wise(parts.field("role"), parts.field("text"), "\x1f")
        offsets: Any = pc.subtract(chunk.offsets, chunk.offsets[0])
        chunks.append(pc.binary_join(pa.ListArray.from_arrays(offsets, lines), "\x1e"))
    return pa.chunked_array(chunks, pa.string())


def _of_shards(place: str, shards: ShardSet, reads_captions: bool) -> Side:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [name for name in LISTED if name not in ("members", "size_bytes")]
    tables = [shards.listing(shard).select(columns) for shard in shards.shards]
    table: Any = pa.concat_tables(tables)
    numbers = pa.array([n for n, one in enumerate(tables) for _ in range(one.num_rows)], pa.int32())
    kept: Any = pc.equal(table["status"], pa.scalar(Status.KEPT.value))
    stage = pc.if_else(kept, pa.scalar(None, pa.string()), pa.scalar(""))
    told = pa.table({**{name: table[name] for name in columns}, "has": kept, "stage": stage})
    keys = pc.if_else(kept, table["key"], pa.scalar(None, pa.string()))

    def captions(wanted: Any) -> Any:
        return _captions_of_shards(shards, wanted, numbers.take(pc.index_in(wanted, keys).combine_chunks()))

    return Side(place, "shards", STAGES[-1], told, captions if reads_captions else None)


def _captions_of_shards(shards: ShardSet, wanted: Any, numbers: Any) -> Any:
    """The captions out of the samples' JSON, shard by shard; `numbers` says in which shard each key is."""
    import numpy as np
    import pyarrow as pa

    in_shard = np.asarray(numbers)
    names = wanted.to_pylist()
    texts: list[str] = [""] * len(names)
    for number in np.unique(in_shard):
        shard = shards.shards[int(number)]
        places = {row["key"]: stored_of(shard, row) for row in shard.listing().to_pylist() if row["members"]}
        for row in np.flatnonzero(in_shard == number).tolist():
            try:
                details = json.loads(places[names[row]].read("json"))
            except ValueError as error:
                raise ValorDataError(f"{shard.tar}: {names[row]}.json: {read_fault(error)}") from error
            told = ((c["role"], c["text"]) for c in details["captions"] if c["text"])
            texts[row] = "\x1e".join("\x1f".join(pair) for pair in told)
    return pa.chunked_array([pa.array(texts, pa.string())])
