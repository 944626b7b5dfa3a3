"""Clips as curation sees them, without media or ledger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from valor_data.clip import make_key
from valor_data.filter.clips import ClipTable
from valor_data.filter.rules import Rule, Standing, curate
from valor_data.manifest.layout import manifest_schema


def clip(
    video_id: str = "v",
    *captions: str,
    start: float = 0.0,
    end: float = 10.0,
    split: str = "train",
    labels: tuple[str, ...] = (),
    licence: str = "",
    area_px: int = 0,
) -> dict[str, Any]:
    """A clip; what is not given is plain."""
    return {
        "video_id": video_id, "captions": [{"text": text, "role": "audiovisual"} for text in captions],
        "start": start, "end": end, "split": split, "labels": list(labels), "licence": licence, "area_px": area_px,
    }  # fmt: skip


def table(*clips: dict[str, Any]) -> ClipTable:
    """Clips as columns; ids count from 1."""
    schema = manifest_schema()
    columns = {name: [c[name] for c in clips] for name in ("video_id", "split", "captions", "labels")}
    return ClipTable(
        clip_ids=np.arange(1, len(clips) + 1),
        manifest_rows=np.arange(len(clips)),
        keys=pa.chunked_array([[make_key(c["video_id"], c["start"], c["end"]) for c in clips]], pa.string()),
        rows=pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}),
        areas_px=np.array([c["area_px"] for c in clips], np.int64),
        licences=pa.chunked_array([[c["licence"] for c in clips]], pa.string()),
    )


def refused(rule: Rule, clips: ClipTable) -> dict[str, str]:
    """Keys of the clips that a rule alone refuses, each with its detail."""
    told = rule.refuse(clips, Standing.of(clips))
    return {clips.key(i): told.detail(i) for i in np.flatnonzero(told.clips).tolist()}


def reasons(rules: list[Rule], clips: ClipTable) -> list[str]:
    """Why each clip is refused by the rules together; empty for those that are kept."""
    curated = curate(clips, rules)
    return [curated.reason(i) for i in range(len(clips))]
