"""Two builds or two lists of clips: what one has that the other has not, and why; and a hash of what both have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from valor_data.errors import REASONS, ManifestError
from valor_data.look.sides import Side
from valor_data.workdir import written_aside

EXAMPLES = 3
"""Keys that are named beside each number."""

ALL = "all"
"""In place of a split: every clip."""

NOT_LISTED = "not listed"
OTHER_SPAN = "other span"


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Clips of one split, or of all.

    Attributes:
        both: clips that both have, in this split in both.
        only_a: clips that B has in no split.
        only_b: the same the other way round.
    """

    split: str
    in_a: int
    in_b: int
    both: int
    only_a: int
    only_b: int


@dataclass(frozen=True, slots=True)
class Lack:
    """Why clips that one side has are not in the other.

    Attributes:
        cause: `dropped` or `waiting` (see stage and reason), `not tried` (the stage has not come to them),
            `other span` (it lists the video with another span alone), or `not listed`.
    """

    cause: str
    stage: str
    reason: str
    number: int
    examples: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        known = REASONS.get(self.reason)
        return {**asdict(self), "meaning": known.meaning if known else "", "examples": list(self.examples)}


@dataclass(frozen=True, slots=True)
class Change:
    """What clips that both have differ in: how many, and some of them as (key, in A, in B)."""

    number: int
    examples: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What came of a comparison.

    Attributes:
        splits: counts of each split, and last of all.
        b_lacks: why B lacks what A alone has, the most frequent first.
        a_lacks: the same the other way round.
        captions: clips whose captions or roles differ; None where one side's cannot be told.
        split: clips that are in another split.
        certificates: `a`, `b` and `both`: of each split and of `all`; see `valor_data.clip.certificate`.
        both: the keys that both have, sorted, an Arrow array.
    """

    a: Side
    b: Side
    splits: tuple[SplitCounts, ...]
    b_lacks: tuple[Lack, ...]
    a_lacks: tuple[Lack, ...]
    captions: Change | None
    split: Change
    certificates: dict[str, dict[str, str]]
    both: Any = field(repr=False)

    @property
    def is_equal(self) -> bool:
        """Whether the two have the same clips, in the same splits, with the same captions as far as can be told."""
        total = self.splits[-1]
        is_same = self.captions is None or not self.captions.number
        return not (total.only_a or total.only_b or self.split.number) and is_same

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            **{letter: {"place": side.name, "kind": side.kind, "counted": side.counted, "doubled": side.num_doubled}
               for letter, side in (("a", self.a), ("b", self.b))},
            "equal": self.is_equal,
            "splits": [asdict(split) for split in self.splits],
            "b_lacks": [lack.to_dict() for lack in self.b_lacks],
            "a_lacks": [lack.to_dict() for lack in self.a_lacks],
            "captions_differ": None if self.captions is None else _told(self.captions),
            "split_differs": _told(self.split),
            "certificates": self.certificates,
        }  # fmt: skip


def _told(change: Change) -> dict[str, Any]:
    examples = [dict(zip(("key", "a", "b"), example, strict=True)) for example in change.examples]
    return {"number": change.number, "examples": examples}


def compare(a: Side, b: Side) -> Comparison:
    """Compares two sides. A million clips on each are a matter of seconds: columns are sorted and looked up."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table_a, table_b = _those_it_has(a), _those_it_has(b)
    at_b: Any = pc.index_in(table_a["key"], table_b["key"])
    is_common = pc.is_valid(at_b)
    common, matched = table_a.filter(is_common), table_b.take(at_b.filter(is_common))
    only_a = table_a.filter(pc.invert(is_common))
    only_b = table_b.filter(pc.invert(pc.is_in(table_b["key"], value_set=table_a["key"])))
    same_split: Any = pc.equal(common["split"], matched["split"])
    splits = _split_counts(table_a, table_b, common.filter(same_split), only_a, only_b, common.num_rows)
    moved = pc.invert(same_split)
    captions = None
    if a.captions is not None and b.captions is not None:
        texts = [side.captions(common["key"]) for side in (a, b) if side.captions is not None]
        differs: Any = pc.not_equal(*texts)
        captions = _change(common["key"], _readable(texts[0], differs), _readable(texts[1], differs), differs)
    certified = {"a": table_a, "b": table_b, "both": common.filter(same_split)}
    return Comparison(
        a=a,
        b=b,
        splits=splits,
        b_lacks=_lacks(only_a, b.table),
        a_lacks=_lacks(only_b, a.table),
        captions=captions,
        split=_change(common["key"], common["split"].filter(moved), matched["split"].filter(moved), moved),
        certificates={name: _certificates(table) for name, table in certified.items()}
        | {"both": {**_certificates(certified["both"]), ALL: sorted_certificate(common["key"])}},
        both=common["key"].combine_chunks() if common.num_rows else pa.array([], pa.string()),
    )


def _those_it_has(side: Side) -> Any:
    """Rows that count, sorted by the bytes of their keys."""
    return side.table.filter(side.table["has"]).sort_by("key")


def _split_counts(
    table_a: Any, table_b: Any, both: Any, only_a: Any, only_b: Any, num_both: int
) -> tuple[SplitCounts, ...]:
    counted = [_by_split(table) for table in (table_a, table_b, both, only_a, only_b)]
    names = sorted({name for counts in counted for name in counts})
    rows = [SplitCounts(name, *(counts.get(name, 0) for counts in counted)) for name in names]
    rows.append(SplitCounts(ALL, table_a.num_rows, table_b.num_rows, num_both, only_a.num_rows, only_b.num_rows))
    return tuple(rows)


def _by_split(table: Any) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in table["split"].value_counts().to_pylist()}


def _lacks(missing: Any, other: Any) -> tuple[Lack, ...]:
    """Why keys are not among those that the other side has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    at: Any = pc.index_in(missing["key"], other["key"])
    known = other.select(["stage", "status", "reason"]).take(at)
    has_video: Any = pc.is_in(missing["video_id"], value_set=other["video_id"])
    unlisted = pc.if_else(has_video, pa.scalar(OTHER_SPAN), pa.scalar(NOT_LISTED))
    status = pc.if_else(pc.equal(known["status"], pa.scalar("")), pa.scalar("not tried"), known["status"])
    table = pa.table({
        "key": missing["key"],
        "cause": pc.if_else(pc.is_valid(at), status, unlisted),
        "stage": pc.fill_null(known["stage"], ""),
        "reason": pc.fill_null(known["reason"], ""),
    })  # fmt: skip
    groups = table.group_by(["cause", "stage", "reason"]).aggregate([("key", "count")]).to_pylist()
    lacks = []
    for group in groups:
        rows: Any = table
        for name in ("cause", "stage", "reason"):
            rows = rows.filter(pc.equal(rows[name], pa.scalar(group[name])))
        examples = tuple(rows["key"].slice(0, EXAMPLES).to_pylist())
        lacks.append(Lack(group["cause"], group["stage"], group["reason"], group["key_count"], examples))
    return tuple(sorted(lacks, key=lambda lack: (-lack.number, lack.cause, lack.stage, lack.reason)))


def _change(keys: Any, in_a: Any, in_b: Any, differs: Any) -> Change:
    """The rows that differ; `in_a` and `in_b` are theirs alone."""
    changed = keys.filter(differs)
    some = (column.slice(0, EXAMPLES).to_pylist() for column in (changed, in_a, in_b))
    return Change(len(changed), tuple(zip(*some, strict=True)))


def _readable(texts: Any, differs: Any) -> Any:
    """The captions that differ as a person reads them: `role: text | role: text`."""
    import pyarrow as pa

    some = texts.filter(differs).slice(0, EXAMPLES).to_pylist()
    return pa.array([text.replace("\x1f", ": ").replace("\x1e", " | ") for text in some], pa.string())


def _certificates(table: Any) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for split in sorted(_by_split(table)):
        found[split] = sorted_certificate(table.filter(pc.equal(table["split"], pa.scalar(split)))["key"])
    return {**found, ALL: sorted_certificate(table["key"])}


def sorted_certificate(keys: Any) -> str:
    """`valor_data.clip.certificate` of an Arrow column of keys that is sorted and holds each once."""
    import pyarrow.compute as pc

    hasher = hashlib.sha256()
    for chunk in keys.chunks if hasattr(keys, "chunks") else [keys]:
        lines: Any = pc.binary_join_element_wise(chunk, "", "\n")
        if len(lines):  # the texts of an Arrow array lie one behind the other
            offsets = memoryview(lines.buffers()[1]).cast("i")[lines.offset : lines.offset + len(lines) + 1]
            hasher.update(memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]])
    return hasher.hexdigest()


def write_keys(keys: Any, target: Path) -> None:
    """Writes keys, one a line; `sha256sum` of the file is their certificate.

    Args:
        keys: an Arrow array, sorted, each key once.
        target: the file.
    """
    with written_aside(target) as path, path.open("w", encoding="utf-8", newline="\n") as stream:
        for first in range(0, len(keys), 100_000):
            stream.writelines(f"{key}\n" for key in keys.slice(first, 100_000).to_pylist())


def read_keys(path: str | Path) -> frozenset[str]:
    """The keys of a file, one a line; empty lines are left out.

    Raises:
        ManifestError: no such file, no text, a line that is no key, or no line at all.
    """
    from valor_data.clip import parse_key

    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ManifestError(f"{words}; expected a file of keys, one a line", file=path) from error
    lines: Iterable[tuple[int, str]] = enumerate((line.strip() for line in text.splitlines()), 1)
    keys = set()
    for number, line in lines:
        if line:
            try:
                parse_key(line)
            except ManifestError as error:
                raise ManifestError(str(error), file=path, row=number) from None
            keys.add(line)
    if not keys:
        raise ManifestError("holds no key; expected one a line, as `valor-data compare --keys-out` writes", file=path)
    return frozenset(keys)
