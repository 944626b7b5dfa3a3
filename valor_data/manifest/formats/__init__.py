"""Every annotation format, and which of them a file is in.

A new format is a `Format` in a module of this folder and a line in `FORMATS`.
"""

from __future__ import annotations

from valor_data.errors import ManifestError
from valor_data.manifest.formats.audio_lists import AUDIOSET, VGGSOUND
from valor_data.manifest.formats.base import Format, Head, Plan
from valor_data.manifest.formats.json_formats import ANNOTATIONS, LINES, LIST, MAPPING, refuse_scalar
from valor_data.manifest.formats.records import find_fields
from valor_data.manifest.formats.tables import AUDIOCAPS, CSV, PARQUET
from valor_data.manifest.options import ManifestOptions

FORMATS: tuple[Format, ...] = (PARQUET, LIST, LINES, ANNOTATIONS, MAPPING, AUDIOSET, AUDIOCAPS, VGGSOUND, CSV)
"""In the order in which they are tried: the particular before the general."""


def recognise(head: Head, options: ManifestOptions) -> Format:
    """The format of a file: the one that was named for it, else the first that recognises its head.

    Raises:
        ManifestError: an unknown name, or a file of no known format; the message says what was seen.
    """
    named = options.file_formats.get(head.source.path.name, options.format)
    by_name = {format.name: format for format in FORMATS}
    if named is not None:
        if named not in by_name:
            raise ManifestError(f"unknown format {named!r}: expected one of {', '.join(sorted(by_name))}")
        if (named == "parquet") != head.is_parquet:
            seen = "Parquet" if head.is_parquet else "text"
            raise ManifestError(f"named as {named}, but the file is {seen}; drop --format", file=head.source.path)
        return by_name[named]
    for format in FORMATS:
        if format.recognises(head):
            return format
    if options.fields.get("id") in head.header:
        return CSV
    raise ManifestError(_unknown(head), file=head.source.path)


def plan_reading(format: Format, head: Head, options: ManifestOptions) -> Plan:
    """How a file's rows are read: its fields, found by name, and the rule for its ids.

    Raises:
        ManifestError: no column or key holds the video id.
    """
    youtube = format.youtube_ids if options.ids == "auto" else options.ids == "youtube"
    if format.field_names is None:
        return Plan(format.fixed_fields, youtube, format.has_captions, head.delimiter, format.role, format.clip_seconds)
    if format is LIST:
        refuse_scalar(head)
    names = format.field_names(head)
    if not names:
        raise ManifestError("no rows in the file with named values; expected at least one clip", file=head.source.path)
    fields = find_fields(names, options.fields)
    if "id" not in fields:
        found = ", ".join(map(repr, names[:12]))
        raise ManifestError(
            f"no column or key holds the video id; found {found}; name it with --id-field "
            "(and the others with --caption-field, --start-field, --end-field, --url-field)",
            file=head.source.path,
        )
    return Plan(fields, youtube, "caption" in fields or "questions" in fields, head.delimiter, names=tuple(names))


def _unknown(head: Head) -> str:
    seen = ", ".join(repr(name[:40]) for name in head.header[:8]) or repr(head.text.strip()[:80])
    known = "; ".join(f"{format.name}: {format.about}" for format in FORMATS)
    return (
        f"the format cannot be told; the first line holds {seen}. Known formats: {known}. Name one with "
        "--format, or the columns with --id-field, --caption-field, --start-field, --end-field, --url-field"
    )


__all__ = ["FORMATS", "Format", "Head", "Plan", "plan_reading", "recognise"]
