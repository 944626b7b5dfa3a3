"""The JSON Schema of a sample's JSON, written from the code; `schemas/sample.schema.json` is its copy.

python -m valor_data.shard.schema schemas
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from valor_data.clip import ROLES
from valor_data.media.facts import Facts
from valor_data.media.mel import MelSettings
from valor_data.shard.sample import FACTS_IN_SAMPLE, SAMPLE_SCHEMA_VERSION, SOURCE_FIELDS

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}


def sample_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `<key>.json` in a shard: every field is there, no list is empty."""
    span = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
    fields: dict[str, Any] = {
        "schema_version": {"const": SAMPLE_SCHEMA_VERSION},
        "key": {"type": "string", "pattern": "^[A-Za-z0-9_=-]+_[0-9]{8}_[0-9]{8}$"},
        "video_id": {"type": "string", "minLength": 1},
        "start": {"type": "number", "minimum": 0, "description": "seconds from the start of the video"},
        "end": {"type": "number", "exclusiveMinimum": 0, "description": "seconds; the clip is [start, end)"},
        "split": {"type": "string", "minLength": 1},
        "captions": _list(_record({"text": _TEXT, "role": {"enum": list(ROLES)}})),
        "labels": _list(_TEXT),
        "label_names": _list(_TEXT),
        "questions": _list(_record({"question_id": _TEXT, "question": _TEXT, "answers": _list(_TEXT)})),
        "frame_moments": _list({**_NUMBER, "description": "asked for, seconds from the start of the clip"}),
        "frame_times": _list({**_NUMBER, "description": "when the picture shown for each had come on screen"}),
        "num_frames_clamped": {"type": "integer", "minimum": 0},
        "audio_spans": _list({**span, "description": "where the clip has sound, in seconds of the clip"}),
        "mel": _record({name: _json_type(value) for name, value in MelSettings.valor().to_dict().items()}),
        "modalities": {"enum": ["av", "v", "a"]},
        "facts": _record({name: _json_type(Facts().to_dict()[name]) for name in FACTS_IN_SAMPLE}),
        "source": _record(dict.fromkeys(SOURCE_FIELDS, _TEXT)),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "sample.schema.json",
        "title": "valor-data sample",
        "description": "One clip inside a shard. What a clip does not have is one empty entry, never null.",
        **_record(fields),
    }


def _record(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _json_type(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer"}
    if isinstance(value, float):
        return dict(_NUMBER)
    if isinstance(value, str):
        return dict(_TEXT)
    if isinstance(value, list):
        return _list(_json_type(value[0]))
    raise TypeError(f"{type(value).__name__} has no place in a sample")


def schema_files() -> dict[str, str]:
    """File name and text of every schema of this room."""
    return {"sample.schema.json": json.dumps(sample_schema(), indent=2, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    for name, text in schema_files().items():
        (Path(sys.argv[1] if len(sys.argv) > 1 else "schemas") / name).write_text(text, "utf-8")
