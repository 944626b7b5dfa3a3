"""Loads what was pushed as a stranger does, in a process of its own; prints what came, as JSON.

python load_all.py ORG/IDS ORG/FEATURES ORG/MEDIA
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import datasets
import numpy as np

from valor_data.publish.loads import as_bytes, has_torchcodec


def told(value: Any) -> Any:
    """A value, or a hash where it is large."""
    if isinstance(value, dict) and "bytes" in value:
        value = value["bytes"]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value


def of_sample(sample: dict[str, Any]) -> dict[str, Any]:
    found = {name: told(value) for name, value in sample.items() if name != "__url__"}
    if "mel.npy" in found:
        mel = np.array([np.asarray(row, np.float16) for row in found["mel.npy"]], np.float16)
        found["mel.npy"] = [list(mel.shape), hashlib.sha256(mel.tobytes()).hexdigest()]
    return found


def load(name: str, streaming: bool) -> dict[str, list[dict[str, Any]]]:
    features = None
    if "media" in name and not has_torchcodec():
        features = as_bytes(datasets.load_dataset_builder(name).info.features)
    found = {}
    for split, rows in datasets.load_dataset(name, streaming=streaming, features=features).items():
        plain = rows.decode(False) if streaming else (rows.with_format("arrow"))
        samples = plain if streaming else (batch.to_pylist()[0] for batch in plain)
        found[split] = [of_sample(sample) for sample in samples]
    return found


if __name__ == "__main__":
    datasets.disable_progress_bars()
    answer: dict[str, Any] = {
        f"{name} {'streaming' if streaming else 'whole'}": load(name, streaming)
        for name in sys.argv[1:]
        for streaming in (True, False)
    }
    rows = datasets.load_dataset(sys.argv[2], data_files="metadata/*/*.parquet", split="train")
    answer["rows"] = [
        [row["key"], row["status"], row["reason"]] for row in rows.select_columns(["key", "status", "reason"])
    ]
    answer["refused"] = datasets.load_dataset(sys.argv[1], "refused", split="train").num_rows
    print(json.dumps(answer))
