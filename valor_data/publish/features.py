"""The types of a published set's columns, as `datasets` writes them into a card: declared, so that nobody guesses.

`datasets` infers types from the first five samples and then fails on, or silently cuts, what comes later.
"""

from __future__ import annotations

from typing import Any

from valor_data.publish.rows import rows_schema
from valor_data.shard.sample import SampleSettings
from valor_data.shard.schema import sample_schema


def sample_features(settings: SampleSettings) -> Any:
    """`datasets.Features` of the samples of a tar."""
    import datasets

    columns: dict[str, Any] = {}
    for name in settings.member_names():
        ending = name.rpartition(".")[2]
        if ending == "json":
            columns[name] = _of_schema(sample_schema())
        elif ending == "npy":
            columns[name] = datasets.List(datasets.List(datasets.Value("float16")))
        else:
            kinds = {"jpg": datasets.Image, "flac": datasets.Audio, "mp4": datasets.Video}
            columns[name] = kinds[ending]() if ending in kinds else datasets.Value("string")
    columns["__key__"] = columns["__url__"] = datasets.Value("string")
    return datasets.Features(columns)


def row_features() -> Any:
    """`datasets.Features` of the rows in Parquet."""
    import datasets

    return datasets.Features.from_arrow_schema(rows_schema())


def _of_schema(schema: dict[str, Any]) -> Any:
    """A feature from the JSON Schema of a value that is never null."""
    import datasets

    if "const" in schema:
        return datasets.Value({int: "int64", str: "string"}[type(schema["const"])])
    if "enum" in schema:
        return datasets.Value("string")
    if schema["type"] == "object":
        return {name: _of_schema(value) for name, value in schema["properties"].items()}
    if schema["type"] == "array":
        return datasets.List(_of_schema(schema["items"]))
    return datasets.Value(
        {"string": "string", "number": "float64", "integer": "int64", "boolean": "bool"}[schema["type"]]
    )
