"""The JSON Schema of `valor-data stats --json`, written from the code; `schemas/statistics.schema.json` is its copy.

python -m valor_data.look.statistics_schema schemas
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from valor_data.look.statistics import STATISTICS_VERSION
from valor_data.look.words import LONG_WORDS

_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0}


def statistics_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the figures of a set: every field is there, whatever they were taken of."""
    fields: dict[str, Any] = {
        "schema_version": {"const": STATISTICS_VERSION},
        "kind": {"enum": ["work", "manifest", "annotations", "shards"]},
        "place": _said(_TEXT, "what the figures were taken of"),
        "clips": _COUNT,
        "videos": _COUNT,
        "hours": _said(_SHARE, "of all clips whose end is known"),
        "funnel": _said(_list(_funnel()), "all clips first, then each split"),
        "rejected": _said(_list(_record(reason=_TEXT, count=_COUNT, meaning=_TEXT)), "entered no manifest"),
        "published": _list(_published()),
        "durations": _histogram(),
        "captions": _said(_list(_captions()), "of all, then of each split"),
        "caption_words": _histogram(),
        "captions_per_clip": _list(_record(captions=_COUNT, clips=_COUNT)),
        "roles": _list(_record(role=_TEXT, count=_COUNT)),
        "vocabulary": _vocabulary(),
        "audio_concepts": _concepts(),
        "classes": _classes(),
        "measured": _measured(),
        "notes": _list(_TEXT),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "statistics.schema.json",
        "title": "valor-data statistics",
        "description": "What `valor-data stats --json` prints, and what the report shows.",
        **_record(**fields),
    }


def _funnel() -> dict[str, Any]:
    step = _record(step={"enum": ["manifest", "fetched", "kept", "in_shards"]}, clips=_COUNT)
    loss = _record(stage=_TEXT, status={"enum": ["dropped", "waiting"]}, reason=_TEXT, count=_COUNT, meaning=_TEXT,
                   action=_TEXT)  # fmt: skip
    return _record(split=_TEXT, steps=_list(step), losses=_list(loss))


def _published() -> dict[str, Any]:
    share = _said(_SHARE, "clips in shards, or in the manifest where there are no shards, over those published")
    return _record(set=_TEXT, split=_TEXT, published=_COUNT, manifest=_COUNT, in_shards=_COUNT, share=share)


def _captions() -> dict[str, Any]:
    whole = dict.fromkeys(("p5", "median", "p95", "p99", "max", *(f"over_{limit}" for limit in LONG_WORDS)), _COUNT)
    return _record(
        split=_TEXT,
        captions=_COUNT,
        repeated=_said(_COUNT, "captions whose text another one has already"),
        words=_said(_record(mean=_SHARE, **whole), "length, as blanks divide it"),
        only_a_number=_COUNT,
        without_letters=_COUNT,
    )


def _vocabulary() -> dict[str, Any]:
    return _record(
        words=_said(_COUNT, "in all captions; lower case, without punctuation"),
        distinct=_COUNT,
        once=_said(_COUNT, "words that stand there once"),
        top=_list(_record(word=_TEXT, count=_COUNT)),
        growth=_list(_record(captions=_COUNT, distinct=_COUNT)),
    )


def _concepts() -> dict[str, Any]:
    density = {"type": "object", "additionalProperties": _SHARE}
    return _record(
        list=_said(_TEXT, "where the concepts come from"),
        concepts=_COUNT,
        found=_COUNT,
        hits=_COUNT,
        words=_COUNT,
        density=_said(_SHARE, "hits over words: the paper's audio-concept density"),
        top=_list(_record(concept=_TEXT, count=_COUNT)),
        paper=_record(concepts=_COUNT, density=density),
    )


def _classes() -> dict[str, Any]:
    return _record(
        of=_said(_COUNT, "classes of AudioSet"),
        seen=_COUNT,
        clips_with_labels=_COUNT,
        other_labels=_said(_COUNT, "labels that are none of AudioSet's classes"),
        clips_by_class=_list(_record(code=_TEXT, name=_TEXT, clips=_COUNT)),
        missing=_list(_TEXT),
    )


def _measured() -> dict[str, Any]:
    return _record(
        clips=_COUNT,
        still=_COUNT,
        clipping=_COUNT,
        loudness=_histogram(),
        silence=_histogram(),
        resolution=_histogram(),
        codecs=_list(_record(codec=_TEXT, count=_COUNT)),
    )


def _histogram() -> dict[str, Any]:
    group = _record(group=_TEXT, below=_COUNT, counts=_list(_COUNT), above=_COUNT)
    edges = _said(_list({"type": "number"}), "one more than there are counts; a range holds its lower edge")
    return _record(unit=_TEXT, edges=edges, groups=_list(group))


def _record(**fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _said(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {**schema, "description": text}


def schema_files() -> dict[str, str]:
    """File name and text of every schema of this room."""
    return {"statistics.schema.json": json.dumps(statistics_schema(), indent=2, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    for name, text in schema_files().items():
        (Path(sys.argv[1] if len(sys.argv) > 1 else "schemas") / name).write_text(text, "utf-8")
