"""Rows whose values have names: which name means what, and how a record becomes a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from valor_data.manifest.formats.base import Plan, plain_name
from valor_data.manifest.rejects import Reject, RowRefused
from valor_data.manifest.row import (
    Row,
    clean,
    is_question,
    read_captions,
    read_id,
    read_labels,
    read_question,
    read_role,
    read_seconds,
    read_span,
    read_spanned_id,
    read_split,
)

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("video_id", "youtube_id", "ytid", "yt_id", "videoid", "vid", "id", "video"),
    "caption": ("captions", "caption", "desc", "description", "text", "sentence"),
    "start": ("start_seconds", "start", "start_time", "start_time_seconds", "start_timestamp", "start_sec"),
    "end": ("end_seconds", "end", "end_time", "end_time_seconds", "end_timestamp", "end_sec"),
    "url": ("url", "video_url", "content_url"),
    "split": ("split",),
    "role": ("role",),
    "labels": ("labels", "label", "positive_labels"),
    "questions": ("questions", "question"),
    "answer": ("answers", "answer"),
    "question_id": ("question_id",),
}
"""Names that other people's files use, best first; compared without case, blanks, `_` and `-`."""


def find_fields(names: Iterable[str], named: Mapping[str, str]) -> dict[str, str]:
    """The column or key for each meaning.

    Args:
        names: the file's columns or keys.
        named: what a person named, by meaning; counts where the file has it, else the usual names do.
    """
    there = list(names)
    by_plain_name = {plain_name(name): name for name in reversed(there)}
    found = {}
    for meaning, usual in USUAL_NAMES.items():
        if named.get(meaning) in there:
            found[meaning] = named[meaning]
            continue
        for name in usual:
            spelled = by_plain_name.get(plain_name(name))
            if spelled is not None and spelled not in named.values():
                found[meaning] = spelled
                break
    return found


def rows_of_records(records: Iterable[tuple[int, Any, str]], plan: Plan) -> Iterator[Row | Reject]:
    """Reads numbered records; those that cannot be used come out as rejects."""
    for number, record, raw in records:
        if not isinstance(record, dict):
            found = f"found a {type(record).__name__}: expected an object with named values"
            yield Reject(number, raw, "bad_row", found)
            continue
        try:
            yield row_of_record(record, number, raw, plan)
        except RowRefused as refused:
            yield refused.reject(number, raw)


def row_of_record(record: Mapping[str, Any], number: int, raw: str, plan: Plan) -> Row:
    """One record as a row.

    Raises:
        RowRefused: a value that cannot be what its name says.
    """
    fields = plan.fields
    video_id, start_ms, end_ms = _read_clip(record, plan)
    row = Row(number, raw, video_id, start_ms, end_ms)
    if plan.has_captions:
        _read_texts(row, record, plan)
    if len(fields) > 2:
        _read_extras(row, record, fields)
    return row


def _read_clip(record: Mapping[str, Any], plan: Plan) -> tuple[str, int | None, int | None]:
    """Id and span of a record; a span in fields of its own wins over one in the id."""
    fields = plan.fields
    id_value = record.get(fields["id"])
    start, end = (record.get(fields[m]) if m in fields else None for m in ("start", "end"))
    if plan.clip_seconds is not None:
        first = read_seconds(start)
        end = None if first is None else first + plan.clip_seconds
    if plan.youtube or ("start" not in fields and "end" not in fields):
        video_id, start_ms, end_ms = read_spanned_id(id_value, youtube=plan.youtube)
    else:
        video_id, start_ms, end_ms = read_id(id_value, youtube=False), None, None
    given = read_span(start, end)
    return (video_id, *given) if given[0] is not None else (video_id, start_ms, end_ms)


def _read_texts(row: Row, record: Mapping[str, Any], plan: Plan) -> None:
    """Captions and questions of a record."""
    fields = plan.fields
    role = read_role(record.get(fields["role"])) if "role" in fields else plan.role
    if "caption" in fields:
        row.captions = read_captions(record.get(fields["caption"]), role)
    if "questions" not in fields:
        return
    asked = record.get(fields["questions"])
    if isinstance(asked, str) and asked.strip():
        answer = record.get(fields["answer"]) if "answer" in fields else None
        question_id = record.get(fields["question_id"]) if "question_id" in fields else None
        row.questions = (read_question({"question": asked, "answer": answer, "question_id": question_id}),)
    elif isinstance(asked, list):
        row.questions = tuple(read_question(q if is_question(q) else {"question": None}) for q in asked)


def _read_extras(row: Row, record: Mapping[str, Any], fields: Mapping[str, str]) -> None:
    """Labels, split and address of a record."""
    if "labels" in fields:
        row.labels = read_labels(record.get(fields["labels"]))
    if "split" in fields:
        row.split = read_split(record.get(fields["split"]))
    if "url" in fields:
        url = record.get(fields["url"])
        row.url = clean(str(url)) or None if url is not None else None
