"""Rows that cannot be used: the one list of reject codes, and the table that keeps the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.workdir import written_aside

if TYPE_CHECKING:
    import pyarrow as pa

REJECTS_VERSION = "1"
"""Version of the columns of rejects.parquet."""

MAX_RAW_CHARACTERS = 500
"""How much of a refused row is kept: enough to find and judge it, bounded for hostile files."""

REJECT_CODES: dict[str, str] = {
    "bad_row": "the row cannot be read: broken JSON, a quote that never closes, columns missing or too many",
    "not_utf8": "the row holds bytes or characters that are not UTF-8; save the file as UTF-8",
    "bad_id": "no video id, or not one this format can hold (YouTube's: 11 characters A-Z a-z 0-9 _ -)",
    "bad_span": "the span is no span: end <= start, negative, not a number, or beyond 27.7 h",
    "no_span": "the id has no span and no joined segment list has one; join one, or --whole-videos",
    "several_spans": "the id has no span and the joined segment lists have more than one for it",
    "bad_split": "the split is not a name of up to 32 letters, digits, _ or -",
    "bad_label": "the labels are neither a text nor a list of texts",
    "caption_empty": "the caption is missing or blank",
    "caption_no_letters": "the caption has no letter (only numbers, signs)",
    "caption_too_long": "the caption is longer than any sentence (10 000 characters)",
    "caption_not_text": "the caption is neither a text nor a list of texts",
    "caption_bad_role": "the caption's role is none of audiovisual, visual, audio",
    "question_bad": "the question is blank or has no answer",
    "duplicate": "the same clip with the same caption, question or labels stood in an earlier row",
    "no_media": "the sample of a set has neither video nor sound, nor several pictures",
    "leak": "the video is in another split too and was kept there (--on-leak drop)",
}
"""Every reject code with its meaning. Codes are stable; those of captions begin with `caption_`."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One annotation row, or one caption of it, that cannot be used.

    Attributes:
        row: line (CSV, JSONL) or item (JSON, Parquet) in its file, counted from 1.
        raw: the row's text.
        reason: a code of `REJECT_CODES`.
        detail: the value found and what would be right.
    """

    row: int
    raw: str
    reason: str
    detail: str


class RowRefused(Exception):  # noqa: N818 - not an error of the program: it ends the reading of one row
    """The row being read cannot be used. Readers catch it and hand out a `Reject`."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)

    def reject(self, row: int, raw: str) -> Reject:
        """The refusal as a row of rejects.parquet."""
        return Reject(row, raw, self.reason, self.detail)


def printable(text: str, max_characters: int = MAX_RAW_CHARACTERS) -> str:
    r"""The text, bounded, with bytes that are not UTF-8 written as `\xNN`."""
    if len(text) > max_characters:
        text = f"{text[:max_characters]}… ({len(text)} characters)"
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that JSON wrote as \\udXXX
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(slots=True)
class RejectList:
    """The refused rows of a build, in order, as columns."""

    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    raws: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def add(self, file: str, reject: Reject) -> None:
        """Keeps one refused row; texts are bounded and made printable."""
        self.files.append(file)
        self.rows.append(reject.row)
        self.raws.append(printable(reject.raw.rstrip("\r\n")))
        self.reasons.append(reject.reason)
        self.details.append(printable(reject.detail))

    def leave_out(self, is_left_out: Callable[[str], bool]) -> None:
        """Forgets the rows whose text or detail is so."""
        kept = [
            number
            for number, texts in enumerate(zip(self.raws, self.details, strict=True))
            if not any(map(is_left_out, texts))
        ]
        self.files, self.raws = [self.files[i] for i in kept], [self.raws[i] for i in kept]
        self.reasons, self.details = [self.reasons[i] for i in kept], [self.details[i] for i in kept]
        self.rows = [self.rows[i] for i in kept]

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> dict[str, int]:
        """Number of rejects by reason, the most frequent first."""
        return dict(Counter(self.reasons).most_common())

    def table(self, fingerprint: str) -> pa.Table:
        """The columns of rejects.parquet.

        Args:
            fingerprint: the fingerprint of the manifest written beside it.
        """
        import pyarrow as pa

        schema = rejects_schema().with_metadata(
            {
                "valor_data.rejects_version": REJECTS_VERSION,
                "valor_data.manifest_fingerprint": fingerprint,
                "valor_data.reasons": json.dumps(REJECT_CODES),
            }
        )
        columns: list[Any] = [self.files, self.rows, self.raws, self.reasons, self.details]
        return pa.table(columns, schema=schema)


def rejects_schema() -> pa.Schema:
    """The columns of rejects.parquet, in order."""
    import pyarrow as pa

    kinds: dict[str, Any] = {
        "file": pa.string(),
        "row": pa.int64(),
        "raw": pa.string(),
        "reason": pa.string(),
        "detail": pa.string(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


def scrub_rejects(file: Path, is_left_out: Callable[[str], bool], fingerprint: str) -> int:
    """Takes rows out of a rejects.parquet; it is written anew only where there are such.

    Args:
        file: the file.
        is_left_out: asked of each row's text and detail.
        fingerprint: of the manifest that now lies beside it.

    Returns:
        How many rows went.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file, partitioning=None)
    texts = zip(table["raw"].to_pylist(), table["detail"].to_pylist(), strict=True)
    kept = [not any(is_left_out(str(text)) for text in pair) for pair in texts]
    if all(kept):
        return 0
    metadata = {**(table.schema.metadata or {}), b"valor_data.manifest_fingerprint": fingerprint.encode()}
    with written_aside(file) as path:
        pq.write_table(table.filter(pa.array(kept)).replace_schema_metadata(metadata), path, compression="zstd")
    return kept.count(False)
