"""JSON annotations: VALOR's list, its mapping, its `annotations` object, and one object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from valor_data.errors import ManifestError
from valor_data.manifest.formats.base import Format, Head, Plan
from valor_data.manifest.formats.records import find_fields, rows_of_records
from valor_data.manifest.json_stream import JsonReader
from valor_data.manifest.rejects import Reject, RowRefused
from valor_data.manifest.row import Row, is_question, read_captions, read_question, read_spanned_id
from valor_data.manifest.source import Source

_NUM_LOOKED_AT = 50  # items whose keys are taken for the file's keys
_ANNOTATIONS = "annotations"
_OPENED = re.compile(r"\s*\[")


def _reader(text: Any, source: Source) -> JsonReader:
    return JsonReader(text, source.path)


def read_list(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """`[{"video_id": "<id>_<start>_<end>", "desc": "…"}, …]`."""
    with source.open_text() as text:
        yield from rows_of_records(_reader(text, source).items(), plan)


def read_annotations(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """`{"annotations": [{"video_id": …, "caption": …}, …]}`; other members are passed over."""
    with source.open_text() as text:
        yield from rows_of_records(_reader(text, source).member_items(_ANNOTATIONS), plan)


def read_lines(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """One JSON object a line; a line that is none costs only itself."""
    for number, line in enumerate(source.lines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Reject(number, line, "bad_row", f"not a JSON object: {error}")
            continue
        yield from rows_of_records([(number, record, line)], plan)


def read_mapping(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """`{"<id>_<start>_<end>": caption | [captions] | [{"question", "answer"}]}`."""
    with source.open_text() as text:
        for number, name, value, raw in _reader(text, source).pairs():
            try:
                video_id, start_ms, end_ms = read_spanned_id(name, youtube=plan.youtube)
                values = value if isinstance(value, list) else [value]
                questions = tuple(read_question(v) for v in values if is_question(v))
                captions = read_captions([v for v in values if not is_question(v)])
            except RowRefused as refused:
                yield refused.reject(number, raw)
                continue
            yield Row(number, raw, video_id, start_ms, end_ms, captions, questions=questions)


def _list_keys(head: Head) -> list[str]:
    return _keys(_whole_items(head.text, head.text.find("[") + 1))


def _annotation_keys(head: Head) -> list[str]:
    match = re.search(r'"annotations"\s*:\s*\[', head.text)
    return _keys(_whole_items(head.text, match.end() if match else 0))


def _line_keys(head: Head) -> list[str]:
    values = []
    for line in head.lines[:_NUM_LOOKED_AT]:
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return _keys(values)


def _keys(values: list[Any]) -> list[str]:
    return list(dict.fromkeys(key for value in values if isinstance(value, dict) for key in value))


def _whole_items(text: str, at: int) -> list[Any]:
    """The first items of a list that stand whole in a file's head."""
    decode, blanks = json.JSONDecoder(strict=False).raw_decode, re.compile(r"[\s,]*")
    values: list[Any] = []
    while len(values) < _NUM_LOOKED_AT:
        blank = blanks.match(text, at)
        try:
            value, at = decode(text, blank.end() if blank else at)
        except (ValueError, RecursionError):
            break
        values.append(value)
    return values


def _is_annotations(head: Head) -> bool:
    """Whether the object has a member `annotations` that is a list, at its top level."""
    decode, at = json.JSONDecoder(strict=False).raw_decode, head.text.find("{") + 1
    blanks = re.compile(r"[\s,:]*")
    while True:
        try:
            name, at = decode(head.text, blanks.match(head.text, at).end())  # type: ignore[union-attr]  # matches
            at = blanks.match(head.text, at).end()  # type: ignore[union-attr]  # matches
            if name == _ANNOTATIONS:
                return bool(_OPENED.match(head.text, at))
            _, at = decode(head.text, at)
        except (ValueError, RecursionError):
            return False


def _is_lines(head: Head) -> bool:
    """Whether each line is an object of its own. A single one-line object is, if it names an id."""
    if head.first != "{":
        return False
    try:
        first = json.loads(head.lines[0])
    except (ValueError, RecursionError):
        return len(head.lines) > 1 and head.lines[1].startswith("{")
    return isinstance(first, dict) and (len(head.lines) > 1 or "id" in find_fields(first, {}))


def refuse_scalar(head: Head) -> None:
    """Says early that a list of bare texts or lists is no annotation.

    Raises:
        ManifestError: the list's first item is no object.
    """
    items = _whole_items(head.text, head.text.find("[") + 1)
    if items and not any(isinstance(item, dict) for item in items):
        raise ManifestError(
            f"a list of {type(items[0]).__name__} values, such as {items[0]!r}: expected objects "
            'like {"video_id": …, "desc": …}',
            file=head.source.path,
        )


LIST = Format(
    "valor",
    'JSON list [{"video_id": "<id>_<start>_<end>", "desc": …}]',
    lambda head: head.first == "[",
    read_list,
    field_names=_list_keys,
)
ANNOTATIONS = Format(
    "annotations",
    'JSON {"annotations": [{"video_id": …, "caption": …}]}',
    lambda head: head.first == "{" and _is_annotations(head),
    read_annotations,
    field_names=_annotation_keys,
)
LINES = Format("jsonl", "one JSON object a line", _is_lines, read_lines, youtube_ids=False, field_names=_line_keys)
MAPPING = Format(
    "mapping", "JSON {id: caption | [captions] | [{question, answer}]}", lambda head: head.first == "{", read_mapping
)
