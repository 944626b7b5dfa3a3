"""The rows of a published set: one Parquet row for every clip that was tried, kept or refused, for search.

metadata/kept/<split>-00000.parquet      what is in the shards, with captions and facts
metadata/refused/<split>-00000.parquet   what is not, with the stage and the reason; without captions
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.clip import ROLES, parse_key
from valor_data.errors import Status
from valor_data.ledger import STAGES, Ledger
from valor_data.media.facts import Facts
from valor_data.shard import shard_name
from valor_data.shard.sample import FACTS_IN_SAMPLE, SOURCE_FIELDS

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_VERSION = "1"
"""Version of the columns and of their meaning."""

BATCH_ROWS = 10_000
"""Rows of a row group: some megabytes, so that the Hub's viewer pages through them without reading the file."""

FILE_ROWS = 500_000
"""Rows of a file."""

_MEANINGS = {
    "key": "<video_id>_<start ms>_<end ms>; <video_id>_<start ms>_open while the end is not known",
    "start": "seconds from the start of the video",
    "end": "seconds; null where the end of the video was never learnt",
    "status": "kept: in a shard; dropped: refused for good; waiting: refused for now",
    "stage": "the stage that refused it; empty when kept",
    "reason": "why, as a code of `errors.REASONS` (gone, silent, …); empty when kept",
    "shard": "the tar it is in, without its ending; empty when refused",
    "captions": "sentences about the clip; none of refused clips",
    "labels": "class labels as the annotation writes them",
    "label_names": "the labels in words: none, or one for each label",
    "questions": "questions about the clip; none of refused clips",
    "facts": "what was measured on the media; null where nothing was",
    "source": "what the source says of the video: licence field and channel as the uploader set them",
}
_CHOICES = {"status": [s.value for s in Status], "stage": ["", *STAGES]}


def rows_schema() -> pa.Schema:
    """The columns, in order."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    types: dict[type, Any] = {bool: pa.bool_(), int: pa.int64(), float: number, str: text}
    measured = Facts().to_dict()
    facts = pa.struct([(name, types[type(measured[name])]) for name in FACTS_IN_SAMPLE])
    columns: list[Any] = [
        ("key", text), ("video_id", text), ("start", number), ("end", number), ("split", text), ("status", text),
        ("stage", text), ("reason", text), ("shard", text),
        ("captions", pa.list_(pa.struct([("text", text), ("role", text)]))),
        ("labels", pa.list_(text)), ("label_names", pa.list_(text)),
        ("questions", pa.list_(pa.struct([("question_id", text), ("question", text), ("answers", pa.list_(text))]))),
        ("facts", facts), ("source", pa.struct([(name, text) for name in SOURCE_FIELDS])),
    ]  # fmt: skip
    return pa.schema(columns)


def write_rows(manifest: Path, ledger: Ledger, folder: Path) -> list[str]:
    """Writes the rows of every clip of the manifest, some thousand in memory at a time.

    Args:
        manifest: the work folder's list of clips.
        ledger: what became of them.
        folder: written are `metadata/kept/…` and `metadata/refused/…` below it.

    Returns:
        Names of the files, relative to `folder`, sorted.
    """
    pc = _compute()

    writers = _Writers(folder)
    with writers:
        for table in _tables(manifest, ledger):
            is_kept: Any = pc.equal(table["status"], Status.KEPT.value)
            for standing, chosen in (("kept", is_kept), ("refused", pc.invert(is_kept))):
                part = table.filter(chosen)
                for split in pc.unique(part["split"]).to_pylist():
                    writers.write(standing, split, part.filter(pc.equal(part["split"], split)))
    return sorted(writers.names)


class _Writers:
    """Open files by (standing, split); a full one is closed and the next begun."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[str, str], tuple[Any, int]] = {}
        self._pending: dict[tuple[str, str], list[Any]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self.names: list[str] = []

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *error: object) -> None:
        for place in list(self._pending):
            if error[0] is None:
                self._flush(place, is_end=True)
        for writer, _ in self._open.values():
            writer.close()

    def write(self, standing: str, split: str, table: pa.Table) -> None:
        place = (standing, split)
        self._pending.setdefault(place, []).append(table)
        if sum(len(part) for part in self._pending[place]) >= BATCH_ROWS:
            self._flush(place)

    def _flush(self, place: tuple[str, str], *, is_end: bool = False) -> None:
        import pyarrow as pa

        table = pa.concat_tables(self._pending[place])
        full = len(table) if is_end else len(table) // BATCH_ROWS * BATCH_ROWS
        for first in range(0, full, BATCH_ROWS):
            self._write(place, table.slice(first, min(BATCH_ROWS, full - first)))
        self._pending[place] = [table.slice(full)]

    def _write(self, place: tuple[str, str], group: pa.Table) -> None:
        import pyarrow.parquet as pq

        writer, written = self._open.get(place, (None, FILE_ROWS))
        if written >= FILE_ROWS:
            if writer is not None:
                writer.close()
            number = self._numbers.get(place, 0)
            self._numbers[place] = number + 1
            name = f"metadata/{place[0]}/{place[1]}-{number:05d}.parquet"
            self.names.append(name)
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            writer, written = pq.ParquetWriter(path, rows_schema(), compression="zstd", write_page_index=True), 0
        writer.write_table(group.combine_chunks(), row_group_size=BATCH_ROWS)
        self._open[place] = (writer, written + len(group))


def _tables(manifest: Path, ledger: Ledger) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = ledger.rows_to_publish()
    ahead = next(rows, None)
    first = 0
    with pq.ParquetFile(manifest) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            told = []
            while ahead is not None and ahead[0] < first + len(batch):
                told.append(ahead)
                ahead = next(rows, None)
            if told:
                places = pa.array([row[0] - first for row in told], pa.int64())
                yield _table(pa.Table.from_batches([batch]).take(places), told)
            first += len(batch)


def _table(listed: pa.Table, told: list[tuple[Any, ...]]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    pc = _compute()

    _, keys, status, stage, reason, shards, sources, facts = zip(*told, strict=True)
    splits: list[Any] = listed["split"].to_pylist()
    kept = np.array([name == Status.KEPT.value for name in status])
    in_shards = [shard_name(split, number) if is_kept else "" for split, number, is_kept in
                 zip(splits, shards, kept, strict=True)]  # fmt: skip
    ends: list[Any] = listed["end_seconds"].to_pylist()
    ends = [parse_key(k)[2] if e is None and is_kept else e for k, e, is_kept in zip(keys, ends, kept, strict=True)]
    schema, empty = rows_schema(), pa.array(kept)
    columns = {
        "key": keys, "video_id": listed["video_id"], "start": listed["start_seconds"], "end": ends, "split": splits,
        "status": status, "stage": stage, "reason": reason, "shard": in_shards,
        "labels": listed["labels"], "label_names": listed["label_names"],
        "facts": _parsed(facts, schema.field("facts").type), "source": [_source(text) for text in sources],
    }  # fmt: skip
    for name in ("captions", "questions"):
        kind = schema.field(name).type
        texts: Any = listed[name].combine_chunks().cast(kind)
        columns[name] = pc.if_else(empty, texts, pa.scalar([], kind))
    return pa.table([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    return values.cast(kind) if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, kind)


def _source(text: str | None) -> dict[str, str] | None:
    """What a sample says of its origin: always texts."""
    if text is None:
        return None
    told = json.loads(text)
    return {name: str(told.get(name, "")) for name in SOURCE_FIELDS}


def _parsed(texts: tuple[str | None, ...], kind: Any) -> Any:
    """JSON texts as a struct column, parsed by Arrow; null where there is no text."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    pc = _compute()

    block = b"\n".join((text or "{}").encode() for text in texts) + b"\n"
    read = arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1)
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(list(kind)), unexpected_field_behavior="ignore")
    table = arrow_json.read_json(io.BytesIO(block), read_options=read, parse_options=parse)
    columns = [table[field.name].combine_chunks() for field in kind]
    there = pa.array([text is not None and text != "{}" for text in texts])
    return pa.StructArray.from_arrays(columns, fields=list(kind), mask=pc.invert(there))


def _compute() -> Any:
    """Arrow's functions; their stubs know less than they do."""
    from pyarrow import compute

    return compute


def rows_json_schema() -> dict[str, Any]:
    """The JSON Schema of a row."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "rows.schema.json",
        "title": "A row of a published set",
        "version": ROWS_VERSION,
        **_object(rows_schema(), _MEANINGS),
    }


def _object(fields: Any, meanings: dict[str, str]) -> dict[str, Any]:
    properties = {}
    for field in fields:
        rule = _value(field.type, field.name)
        if field.name in ("end", "facts", "source"):
            rule["type"] = [rule["type"], "null"]
        if field.name in _CHOICES and "status" in meanings:
            rule["enum"] = _CHOICES[field.name]
        properties[field.name] = {**rule, **({"description": meanings[field.name]} if field.name in meanings else {})}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _value(kind: Any, name: str) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return _object(list(kind), {})
    if pa.types.is_list(kind):
        return {"type": "array", "items": _value(kind.value_type, name)}
    if name == "role":
        return {"enum": list(ROLES)}
    names = {pa.bool_(): "boolean", pa.int64(): "integer", pa.float64(): "number", pa.string(): "string"}
    return {"type": names[kind]}


def schema_files() -> dict[str, str]:
    """File name and text of every schema of this room."""
    return {"rows.schema.json": json.dumps(rows_json_schema(), indent=2, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    for file, text in schema_files().items():
        (Path(sys.argv[1] if len(sys.argv) > 1 else "schemas") / file).write_text(text, "utf-8")
