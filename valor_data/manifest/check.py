"""The rules every manifest row keeps, checked by column: a million rows in a second or two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.clip import MAX_ID_CHARACTERS, MAX_MS, ROLES, to_ms_array
from valor_data.errors import ManifestError
from valor_data.manifest.layout import key_column, manifest_schema
from valor_data.manifest.options import SPLIT_NAME

if TYPE_CHECKING:
    import pyarrow as pa


def check_columns(schema: pa.Schema, file: Path | None, remedy: str) -> None:
    """Compares a file's columns with the manifest's.

    Raises:
        ManifestError: a column is missing, has another type or does not belong here.
    """
    import pyarrow as pa

    expected = manifest_schema()
    names = list(schema.names)
    for field in expected:
        if field.name not in names:
            found = ", ".join(names[:12]) or "none"
            raise ManifestError(
                f"no manifest: the column is missing; found columns {found}; {remedy}", file=file, column=field.name
            )
        plain = pa.table({"c": pa.array([], field.type)}).schema.field("c").type
        given = schema.field(field.name).type
        if not _same_shape(given, plain):
            raise ManifestError(
                f"the column's type is {given}, expected {plain}; {remedy}", file=file, column=field.name
            )
    extra = [name for name in names if name not in expected.names]
    if extra:
        raise ManifestError(f"not a column of a manifest; {remedy}", file=file, column=extra[0])
    if names != expected.names:
        order = ", ".join(expected.names)
        raise ManifestError(f"the columns stand in another order, expected {order}; {remedy}", file=file)


def _same_shape(given: Any, expected: Any) -> bool:
    """Whether two types agree but for nullability and the names of list items."""
    import pyarrow as pa

    if pa.types.is_list(expected):
        return pa.types.is_list(given) and _same_shape(given.value_type, expected.value_type)
    if pa.types.is_struct(expected):
        return (
            pa.types.is_struct(given)
            and [f.name for f in given] == [f.name for f in expected]
            and all(_same_shape(g.type, e.type) for g, e in zip(given, expected, strict=True))
        )
    return bool(given.equals(expected))


def check_values(table: Any, file: Path | None = None) -> None:
    """Checks every value of a table that has the manifest's columns.

    Args:
        table: the rows, a `pyarrow.Table`.
        file: where they come from, for messages.

    Raises:
        ManifestError: the first value that breaks a rule, with row and column.
    """
    for column, rule, broken in _rules(table):
        rows = _first_true(broken)
        if rows is not None:
            value = table[column][rows].as_py()
            raise ManifestError(f"{str(value)[:120]!r}: expected {rule}", file=file, row=rows + 1, column=column)


def _rules(table: Any) -> Iterator[tuple[str, str, Any]]:
    """Column, rule in words, and the rows that break it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in ("video_id", "start_seconds", "split", "captions", "labels", "label_names", "questions"):
        yield name, "a value", pc.is_null(table[name])
    ids = table["video_id"].combine_chunks()
    yield "video_id", f"1 to {MAX_ID_CHARACTERS} characters", _outside(pc.utf8_length(ids), 1, MAX_ID_CHARACTERS)
    starts, ends = table["start_seconds"].combine_chunks(), table["end_seconds"].combine_chunks()
    first = np.asarray(starts)
    last = np.asarray(pc.fill_null(ends, MAX_MS / 1000))
    yield "start_seconds", f"0 to {MAX_MS / 1000}", ~((first >= 0) & (first <= MAX_MS / 1000))
    in_range = (last >= first) & (last <= MAX_MS / 1000)
    yield "end_seconds", f"more than the start and at most {MAX_MS / 1000}", ~in_range
    first_ms, last_ms = to_ms_array(first), to_ms_array(last)
    open_ended = np.asarray(pc.is_null(ends), dtype=bool)
    yield "end_seconds", "a millisecond or more after the start", (last_ms <= first_ms) & ~open_ended
    yield "start_seconds", "whole milliseconds", first_ms / 1000 != first
    yield "end_seconds", "whole milliseconds", last_ms / 1000 != last
    expected = key_column(ids, starts, ends)
    keys = table["key"].combine_chunks()
    same = pc.if_else(pc.is_null(expected), pc.is_null(keys), pc.fill_null(pc.equal(keys, expected), False))
    yield "key", "the key of its video_id and span (null while the end is unknown)", pc.invert(same)
    yield "key", "each clip once", _repeated(ids, first_ms, np.where(open_ended, -1, last_ms))
    yield "split", "up to 32 letters, digits, _ or -", _unlike(table["split"], SPLIT_NAME.pattern)
    yield from _list_rules(table)
    empty: Any = pa.array([""], pa.string())
    yield "url", "an address, or null", pc.fill_null(pc.is_in(table["url"], value_set=empty), False)


def _list_rules(table: Any) -> Iterator[tuple[str, str, Any]]:
    """The rules of what the lists hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    captions = table["captions"].combine_chunks()
    texts, roles = (pc.struct_field(captions.flatten(), name) for name in ("text", "role"))
    yield "captions", "texts that are not blank", _owners(captions, _unlike(texts, r"(?s).*\S.*"))
    known: Any = pa.array(ROLES, pa.string())
    yield "captions", f"roles among {', '.join(ROLES)}", _owners(captions, pc.invert(pc.is_in(roles, value_set=known)))
    for name in ("labels", "label_names"):
        column = table[name].combine_chunks()
        yield name, "texts that are not blank", _owners(column, _unlike(column.flatten(), r"(?s).*\S.*"))
    lengths, named = (pc.list_value_length(table[name].combine_chunks()) for name in ("labels", "label_names"))
    unequal = pc.and_(pc.not_equal(named, pa.scalar(0)), pc.not_equal(named, lengths))
    yield "label_names", "none, or one for each label", unequal
    questions = table["questions"].combine_chunks()
    for name in ("question_id", "question"):
        texts = pc.struct_field(questions.flatten(), name)
        yield "questions", f"a {name} that is not blank", _owners(questions, _unlike(texts, r"(?s).*\S.*"))
    answers: Any = pc.struct_field(questions.flatten(), "answers")
    counts: Any = pc.fill_null(pc.list_value_length(answers), 0)
    yield "questions", "at least one answer", _owners(questions, pc.equal(counts, pa.scalar(0)))


def _unlike(texts: Any, pattern: str) -> Any:
    """Where a text is null or does not match as a whole."""
    import pyarrow.compute as pc

    return pc.invert(pc.fill_null(pc.match_substring_regex(texts, f"^(?:{pattern})$"), False))


def _outside(numbers: Any, low: int, high: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.or_(pc.less(numbers, pa.scalar(low)), pc.greater(numbers, pa.scalar(high)))


def _owners(lists: Any, broken: Any) -> Any:
    """The rows of a list column whose items break a rule."""
    import numpy as np
    import pyarrow.compute as pc

    rows = np.zeros(len(lists), dtype=bool)
    rows[np.asarray(pc.list_parent_indices(lists))[np.asarray(broken, dtype=bool)]] = True
    return rows


def _repeated(ids: Any, first_ms: Any, last_ms: Any) -> Any:
    """Where a clip stood in an earlier row."""
    import numpy as np
    import pyarrow as pa

    spans: dict[str, Any] = {"id": ids, "first": first_ms, "last": last_ms, "row": np.arange(len(first_ms))}
    groups: Any = pa.table(spans).group_by(["id", "first", "last"], use_threads=False)
    firsts = groups.aggregate([("row", "min")])["row_min"]
    repeated = np.ones(len(first_ms), dtype=bool)
    repeated[np.asarray(firsts)] = False
    return repeated


def _first_true(broken: Any) -> int | None:
    """The first row that is true."""
    import numpy as np

    rows = np.flatnonzero(np.asarray(broken, dtype=bool))
    return int(rows[0]) if len(rows) else None
