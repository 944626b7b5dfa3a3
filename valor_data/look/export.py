"""The ledger as one Parquet table, a row a clip, for everybody's own questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from valor_data.ledger import STAGES, Ledger
from valor_data.workdir import WorkDir, written_aside

CHUNK_ROWS = 50_000


def export_ledger(work: WorkDir, target: Path) -> int:
    """Writes key, video, split, each stage's status, reason, raw text and attempts, the media's place, the facts.

    Returns:
        How many clips.

    Raises:
        ValorDataError: there is no ledger.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.int64()
    columns: list[Any] = [("key", text), ("video_id", text), ("split", text)]
    for stage in STAGES:
        columns += [(f"{stage}_status", text), (f"{stage}_reason", text), (f"{stage}_detail", text),
                    (f"{stage}_attempts", number), (f"{stage}_seen", pa.float64())]  # fmt: skip
    columns += [("media_path", text), ("media_offset_seconds", pa.float64()), ("media_bytes", number)]
    columns += [("source", text), ("facts", text)]
    schema = pa.schema(columns)
    written = 0
    with Ledger(work.ledger, read_only=True) as ledger, written_aside(target) as path:
        rows = ledger.export_rows()
        with pq.ParquetWriter(os.fspath(path), schema, compression="zstd") as writer:
            while chunk := [row for _, row in zip(range(CHUNK_ROWS), rows, strict=False)]:
                arrays = [pa.array([row[i] for row in chunk], schema.field(i).type) for i in range(len(schema))]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                written += len(chunk)
    return written
