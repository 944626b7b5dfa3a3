"""Label lists of ten-second YouTube clips: AudioSet's segments, VGGSound, and AudioSet's class names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from valor_data.errors import ManifestError
from valor_data.manifest.csv_records import csv_records
from valor_data.manifest.formats.base import Format, Head, Plan, plain_name
from valor_data.manifest.rejects import Reject, RowRefused
from valor_data.manifest.row import Row, read_id, read_labels, read_span, read_split
from valor_data.manifest.source import Source

VGGSOUND_CLIP_SECONDS = 10
"""VGGSound writes no end: its clips are ten seconds long."""

_AUDIOSET_ROW = re.compile(r'[A-Za-z0-9_-]{11}, *[0-9.]+, *[0-9.]+, *"?/[a-z]/')
_AUDIOSET_HEADER = re.compile(r"YTID\W+start_seconds\W+end_seconds\W+positive_labels", re.IGNORECASE)
_VGGSOUND_FILE = re.compile(r"(?P<id>.+)_(?P<start>[0-9]{6})(?:\.\w+)?")
_VGGSOUND_ROW = re.compile(r"[A-Za-z0-9_-]{11}(?:_[0-9]{6}(?:\.\w+)?,|,[0-9]+,.+,(?:train|test)\s*$)")


def read_audioset(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """`YTID, start_seconds, end_seconds, positive_labels`, its header commented out, plain or missing."""
    for line, fields, raw, problem in csv_records(source.lines(), skip_spaces=True, multi_line=False):
        if raw.startswith("#") or _is_audioset_header(fields):
            continue
        try:
            if fields is None or len(fields) < 4:
                found = problem or f"found {len(fields or ())} fields"
                raise RowRefused("bad_row", f"{found}: expected id, start, end, labels")
            # a list saved without quotes falls apart at its commas
            labels = read_labels(",".join(fields[3:]))
            video_id = read_id(fields[0], youtube=plan.youtube)
            start_ms, end_ms = read_span(fields[1], fields[2])
            yield Row(line, raw, video_id, start_ms, end_ms, labels=labels)
        except RowRefused as refused:
            yield refused.reject(line, raw)


def read_vggsound(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """`<id>_<start, 6 digits>.mp4,label` or `id,start,label,split`; no header."""
    for line, fields, raw, problem in csv_records(source.lines(), multi_line=False):
        try:
            if fields is None or len(fields) not in (2, 4):
                found = problem or f"found {len(fields or ())} fields"
                raise RowRefused("bad_row", f"{found}: expected <id>_<start>.mp4,label or id,start,label,split")
            yield _vggsound_row(line, fields, raw, plan)
        except RowRefused as refused:
            yield refused.reject(line, raw)


def _vggsound_row(line: int, fields: list[str], raw: str, plan: Plan) -> Row:
    split = None
    if len(fields) == 4:
        name, start, label, split = fields[0], fields[1], fields[2], read_split(fields[3])
    else:
        match = _VGGSOUND_FILE.fullmatch(fields[0].strip())
        if match is None:
            raise RowRefused("bad_id", f"name {fields[0]!r}: expected <id>_<start, 6 digits>.mp4")
        name, start, label = match["id"], match["start"], fields[1]
    video_id = read_id(name, youtube=plan.youtube)
    start_ms, _ = read_span(start, None)
    if start_ms is None:
        raise RowRefused("bad_span", f"start {start!r}: expected whole seconds")
    start_ms, end_ms = read_span(start_ms / 1000, start_ms / 1000 + VGGSOUND_CLIP_SECONDS)
    return Row(line, raw, video_id, start_ms, end_ms, labels=read_labels(label), split=split)


def read_class_names(source: Source) -> dict[str, str]:
    """AudioSet's `index,mid,display_name`: the name of each label.

    Raises:
        ManifestError: a row that has not three fields.
    """
    names: dict[str, str] = {}
    for line, fields, raw, problem in csv_records(source.lines()):
        if fields is None or len(fields) != 3:
            found = problem or repr(raw.strip())
            raise ManifestError(f"{found}: expected index,mid,display_name", file=source.path, row=line)
        names[fields[1].strip()] = fields[2].strip()
    names.pop("mid", None)
    return names


def is_class_list(head: Head) -> bool:
    """Whether the file is AudioSet's list of class names."""
    return [plain_name(name) for name in head.header] == ["index", "mid", "displayname"]


def _is_audioset_header(fields: list[str] | None) -> bool:
    return fields is not None and len(fields) > 2 and plain_name(fields[0]) == "ytid"


def _is_audioset(head: Head) -> bool:
    first = next((line for line in head.lines if not line.startswith("#")), "")
    named = any(_AUDIOSET_HEADER.search(line) for line in head.lines[:5])
    return named or bool(_AUDIOSET_ROW.match(first))


AUDIOSET = Format(
    "audioset",
    "CSV with YTID, start_seconds, end_seconds, positive_labels",
    _is_audioset,
    read_audioset,
    has_captions=False,
)
VGGSOUND = Format(
    "vggsound",
    "CSV without header: <id>_<start>.mp4,label or id,start,label,split",
    lambda head: bool(head.lines) and bool(_VGGSOUND_ROW.match(head.lines[0])),
    read_vggsound,
    has_captions=False,
)
