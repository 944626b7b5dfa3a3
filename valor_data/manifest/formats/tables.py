"""Tables with a header: plain CSV and TSV, Parquet, and AudioCaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from valor_data.errors import ManifestError
from valor_data.manifest.csv_records import csv_records
from valor_data.manifest.formats.base import Format, Head, Plan, plain_name
from valor_data.manifest.formats.records import find_fields, row_of_record, rows_of_records
from valor_data.manifest.rejects import Reject, RowRefused
from valor_data.manifest.row import Row
from valor_data.manifest.source import Source

AUDIOCAPS_CLIP_SECONDS = 10.0
"""AudioCaps writes no end: its clips are AudioSet's, ten seconds long."""

_BATCH_ROWS = 10_000


def read_csv(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """A header, then a record a row; fields may be quoted and may hold line ends."""
    records = csv_records(source.lines(), delimiter=plan.delimiter)
    header: list[str] | None = None
    for line, fields, raw, problem in records:
        if header is None:
            header = [name.strip() for name in fields or []]
            continue
        if fields is None:
            yield Reject(line, raw, "bad_row", problem)
            continue
        if len(fields) != len(header):
            yield Reject(line, raw, "bad_row", f"found {len(fields)} fields: expected the header's {len(header)}")
            continue
        try:
            yield row_of_record(dict(zip(header, fields, strict=True)), line, raw, plan)
        except RowRefused as refused:
            yield refused.reject(line, raw)


def read_parquet(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """A Parquet file; only the columns that mean something are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(source.path) as file:
            columns = list(dict.fromkeys(plan.fields.values()))
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                yield from rows_of_records(_numbered(batch.to_pylist(), number), plan)
                number += batch.num_rows
                source.position_bytes = source.size_bytes * number // max(1, file.metadata.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"the Parquet file cannot be read after row {number}: {error}", file=source.path) from error


def _numbered(records: list[dict[str, Any]], before: int) -> Iterator[tuple[int, dict[str, Any], str]]:
    for number, record in enumerate(records, before + 1):
        yield number, record, str({k: v for k, v in record.items() if v is not None})


def _parquet_columns(head: Head) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(head.source.path).names)
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"the Parquet file is damaged or cut off: {error}", file=head.source.path) from error


def _is_audiocaps(head: Head) -> bool:
    return {"audiocapid", "youtubeid", "starttime"} <= set(map(plain_name, head.header))


def _is_csv(head: Head) -> bool:
    return len(head.header) > 1 and "id" in find_fields(head.header, {})


AUDIOCAPS = Format(
    "audiocaps",
    "CSV with audiocap_id,youtube_id,start_time,caption",
    _is_audiocaps,
    read_csv,
    role="audio",
    clip_seconds=AUDIOCAPS_CLIP_SECONDS,
    fixed_fields={"id": "youtube_id", "start": "start_time", "caption": "caption"},
)
CSV = Format(
    "csv", "CSV or TSV with a header", _is_csv, read_csv, youtube_ids=False, field_names=lambda head: head.header
)
PARQUET = Format(
    "parquet", "Parquet", lambda head: head.is_parquet, read_parquet, youtube_ids=False, field_names=_parquet_columns
)
