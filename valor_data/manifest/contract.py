"""The JSON Schemas of a manifest row and of a rejects row, written from the code.

python -m valor_data.manifest.contract schemas
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.clip import MAX_ID_CHARACTERS, MAX_MS, ROLES
from valor_data.manifest.layout import MANIFEST_VERSION, manifest_schema
from valor_data.manifest.options import SPLIT_NAME
from valor_data.manifest.rejects import MAX_RAW_CHARACTERS, REJECT_CODES, REJECTS_VERSION, rejects_schema

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_BLANK = {"pattern": r"\S"}

_MANIFEST_RULES: dict[str, dict[str, Any]] = {
    "key": {
        "description": "<video_id>_<start ms, 8 digits>_<end ms, 8 digits>; null while the end is unknown",
        "pattern": "^[A-Za-z0-9_=-]+_[0-9]{8}_[0-9]{8}$",
    },
    "video_id": {"description": "as the corpus writes it", "minLength": 1, "maxLength": MAX_ID_CHARACTERS},
    "start_seconds": {"description": "whole milliseconds", "minimum": 0, "maximum": MAX_MS / 1000},
    "end_seconds": {
        "description": "after the start; whole milliseconds; null: to the end of the video, not known yet",
        "exclusiveMinimum": 0,
        "maximum": MAX_MS / 1000,
    },
    "split": {"description": "train, val, test or a name of the user's", "pattern": f"^{SPLIT_NAME.pattern}$"},
    "captions": {"description": "sentences about the clip"},
    "captions.text": _NOT_BLANK,
    "captions.role": {"enum": list(ROLES)},
    "labels": {"description": "class labels as the annotation writes them"},
    "labels[]": _NOT_BLANK,
    "label_names": {"description": "the labels in words: none, or one for each label"},
    "label_names[]": _NOT_BLANK,
    "questions": {"description": "questions about the clip"},
    "questions.question_id": _NOT_BLANK,
    "questions.question": _NOT_BLANK,
    "questions.answers": {"minItems": 1},
    "url": {"description": "where the video is, where the annotation says so", "minLength": 1},
}

_REJECTS_RULES: dict[str, dict[str, Any]] = {
    "file": {"description": "name of the annotation file"},
    "row": {"description": "line (CSV, JSONL) or item (JSON, Parquet), counted from 1", "minimum": 1},
    "raw": {"description": f"the row's text, {MAX_RAW_CHARACTERS} characters of it at most and a count of the rest"},
    "reason": {"description": "; ".join(f"{c}: {m}" for c, m in REJECT_CODES.items()), "enum": list(REJECT_CODES)},
    "detail": {"description": "the value found and what would be right"},
}


def manifest_json_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest row. Rules between fields (end after start, key) are in `check_values`."""
    return _row_schema(
        "manifest", MANIFEST_VERSION, "A clip of a valor-data manifest", manifest_schema(), _MANIFEST_RULES
    )


def rejects_json_schema() -> dict[str, Any]:
    """The JSON Schema of a row of rejects.parquet."""
    return _row_schema(
        "rejects", REJECTS_VERSION, "An annotation row that could not be used", rejects_schema(), _REJECTS_RULES
    )


def _row_schema(
    name: str, version: str, title: str, columns: pa.Schema, rules: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{name}.schema.json",
        "title": title,
        "version": version,
        **_object(list(columns), "", rules),
    }


def _object(fields: list[Any], prefix: str, rules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _value(field.type, field.nullable, prefix + field.name, rules) for field in fields},
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }


def _value(kind: Any, nullable: bool, path: str, rules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of one column or field, from its Arrow type and its rules."""
    import pyarrow as pa

    rule = rules.get(path, {})
    if pa.types.is_list(kind):
        return {"type": "array", "items": _item(kind.value_type, path, rules), **rule}
    name = "string" if pa.types.is_string(kind) else "integer" if pa.types.is_integer(kind) else "number"
    return {"type": [name, "null"] if nullable else name, **rule}


def _item(kind: Any, path: str, rules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return _object(list(kind), f"{path}.", rules)
    return _value(kind, False, f"{path}[]", rules)


def schema_files() -> dict[str, str]:
    """File name and text of every schema of this room."""
    schemas = {"manifest": manifest_json_schema(), "rejects": rejects_json_schema()}
    return {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def write_schemas(folder: Path) -> None:
    """Writes this room's schemas into a folder."""
    for name, text in schema_files().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas"))
