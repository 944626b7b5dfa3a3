"""Sets that somebody has already as annotations: tars of samples, Parquet with media, the published trainer's folders.

Each sample is a clip. Its row says where it is (`archives.Place`, in the manifest's `url`), so that `fetch` finds it.

The id is, in this order: the field or column that was named (`__key__`: the sample's whole name), one called
`video_id`, `youtube_id`, `ytid`, `yt_id` or `videoid`, the last part of the sample's name. A span comes from fields
called `start`, `end` and the like, from a key of this package, or from a name such as `<id>_30.000_40.000`; a sample
without one is a whole video, whose length `fetch` finds out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from valor_data.archives import ArchiveError, Place
from valor_data.archives.holdings import MAPPERS, QA_MAPPER, Holding, find_holding
from valor_data.archives.parquet import is_pair, media_columns, read_schema
from valor_data.archives.parts import media_parts
from valor_data.archives.tar import TarSample, walk_samples
from valor_data.clip import parse_key, to_ms, unescape_id
from valor_data.errors import ManifestError, ValorDataError
from valor_data.manifest.formats.base import Format, Plan, plain_name
from valor_data.manifest.formats.json_formats import read_mapping
from valor_data.manifest.formats.records import find_fields, row_of_record
from valor_data.manifest.options import ManifestOptions
from valor_data.manifest.rejects import Reject, RowRefused
from valor_data.manifest.row import Row, read_captions
from valor_data.manifest.source import Source

KEY_FIELD = "__key__"
"""What `--id-field` calls a sample's whole name, folders included."""

_NAME_FIELD = "__name__"

_ID_NAMES = ("videoid", "youtubeid", "ytid")
_NUM_LOOKED_AT = 50
_MAX_JSON_BYTES = 16 * 2**20
_FOREIGN = ("id", "caption", "start", "end", "questions", "answer", "question_id")
"""What the JSON of others is asked for; `split`, `label` and `url` mean many things there."""

_BATCH_ROWS = 1000


class SetFile(Source):
    """A file of a set, in place of an annotation file.

    Args:
        holding: the set.
        file: one of its files; empty for a folder of the published trainer.
        options: as for the manifest.
    """

    def __init__(self, holding: Holding, file: str, options: ManifestOptions) -> None:
        self.path = Path(holding.root, file)
        self.name = file or Path(holding.root).name
        self.holding, self.file, self.options = holding, file, options
        self.size_bytes = holding.size_bytes(file) if file else 0
        self.is_gzip = self.is_parquet = False
        self.position_bytes = 0
        self._raw = None
        self._hasher = hashlib.sha256()

    @property
    def shown(self) -> str:
        """Its place, for messages."""
        return f"{self.holding.root}/{self.file}" if self.file else self.holding.root

    def note(self, *told: object) -> None:
        """Adds to the hash: names and places of what was read, for the bytes of media are too many."""
        self._hasher.update("\x1f".join(map(str, told)).encode("utf-8", "surrogateescape") + b"\n")

    def sha256(self) -> str:
        """The hash of what was read of it: names, places and texts."""
        return self._hasher.hexdigest()


def open_set(place: str | Path, options: ManifestOptions) -> list[tuple[Source, Format, Plan]]:
    """The files of a set, each with how its rows are read; empty when the place is no set.

    Raises:
        ManifestError: a file of it cannot be used.
    """
    try:
        holding = find_holding(str(place))
        if holding is None:
            return []
        if holding.kind == "valor":
            return [(SetFile(holding, "", options), VALOR_FOLDER, _valor_plan(options))]
        files = [SetFile(holding, file, options) for file in holding.files]
        plan = _tar_plan(files[0]) if holding.kind == "tars" else _parquet_plan(files[0])
    except ValorDataError as error:
        raise ManifestError(str(error)) from error
    format = WEBDATASET if holding.kind == "tars" else MEDIA_PARQUET
    return [(file, format, plan) for file in files]


# Tars


def read_tar(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """The samples of a tar as rows."""
    file = _of_set(source)
    try:
        with file.holding.open(file.file) as stream:
            for number, sample in enumerate(walk_samples(stream, file.shown), 1):
                file.note(sample.key, sample.start, sample.end)
                file.position_bytes = sample.end
                yield _tar_row(file, plan, number, sample, stream)
    except ArchiveError as error:
        raise ManifestError(str(error)) from error


def _tar_row(file: SetFile, plan: Plan, number: int, sample: TarSample, stream: Any) -> Row | Reject:
    raw = f"{file.name}: {sample.key}"
    if sample.problem:
        return Reject(number, raw, "bad_row", sample.problem)
    try:
        if not media_parts(sample.members, file.options.member):
            members = ", ".join(sample.members)
            raise RowRefused("no_media", f"members {members}: expected a video, sound, or several pictures")
        record = _record(sample, stream)
        row = _row(record, sample.key, plan, number, raw)
        if plan.has_captions and "caption" not in plan.fields and "txt" in sample.members:
            row.captions = read_captions(_read(sample, "txt", stream).decode("utf-8", "surrogateescape").strip())
    except ArchiveError as error:
        return Reject(number, raw, "no_media", str(error))
    except RowRefused as refused:
        return refused.reject(number, raw)
    row.captions = [caption for caption in row.captions if caption[0].strip()]
    row.url = str(Place("tar", file.file, sample.start, sample.end, sample.key))
    return row


def _record(sample: TarSample, stream: Any) -> dict[str, Any]:
    """The JSON of a sample; of one of this package's, without the entries that stand for nothing."""
    if "json" not in sample.members:
        return {}
    if sample.members["json"].size > _MAX_JSON_BYTES:
        raise RowRefused(
            "bad_row", f"its JSON has {sample.members['json'].size} bytes: expected at most {_MAX_JSON_BYTES}"
        )
    try:
        told = json.loads(_read(sample, "json", stream))
    except (ValueError, RecursionError) as error:
        raise RowRefused("bad_row", f"its JSON cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise RowRefused("bad_row", f"its JSON is a {type(told).__name__}: expected an object")
    if is_ours(told):
        told["questions"] = [q for q in told["questions"] if q["question"]]
        told["labels"] = [label for label in told["labels"] if label]
    return told


def is_ours(told: Mapping[str, Any]) -> bool:
    """Whether a sample's JSON is of this package's schema."""
    lists = ("captions", "questions", "labels")
    return isinstance(told.get("schema_version"), int) and all(isinstance(told.get(name), list) for name in lists)


def _read(sample: TarSample, extension: str, stream: Any) -> bytes:
    member = sample.members[extension]
    stream.seek(member.offset)
    return bytes(stream.read(member.size))


def _tar_plan(file: SetFile) -> Plan:
    """How the samples are read: by the JSON of the first ones."""
    names: dict[str, None] = {}
    extensions: set[str] = set()
    ours = False
    with file.holding.open(file.file) as stream:
        for sample in islice(walk_samples(stream, file.shown), _NUM_LOOKED_AT):
            extensions |= sample.members.keys()
            try:
                told = _record(sample, stream)
            except RowRefused:
                continue
            ours = ours or is_ours(told)
            names |= dict.fromkeys(told)
    return _plan(list(names), file.options, ours=ours, has_text="txt" in extensions)


def _plan(names: list[str], options: ManifestOptions, *, ours: bool, has_text: bool) -> Plan:
    """Which key or column means what.

    Raises:
        ManifestError: a field that was named is not there.
    """
    named = {meaning: name for meaning, name in options.fields.items() if name != KEY_FIELD}
    missing = [f"{name!r} (--{meaning}-field)" for meaning, name in named.items() if name not in names]
    if missing:
        found = ", ".join(map(repr, names[:20])) or "none"
        raise ManifestError(f"the samples have no {', '.join(missing)}; fields found: {found}")
    fields = find_fields(names, named)
    if not ours:
        fields = {meaning: name for meaning, name in fields.items() if meaning in _FOREIGN or meaning in named}
    usual = [name for name in names if plain_name(name) in _ID_NAMES]
    if options.id_field is None:
        fields["id"] = usual[0] if usual else _NAME_FIELD
    elif options.id_field == KEY_FIELD:
        fields["id"] = KEY_FIELD
    return Plan(fields, options.ids == "youtube", "caption" in fields or "questions" in fields or has_text,
                names=(*names, KEY_FIELD))  # fmt: skip


def _row(record: Mapping[str, Any], key: str, plan: Plan, number: int, raw: str) -> Row:
    """A record as a row; one without an id is called as its sample is.

    Raises:
        RowRefused: a value that cannot be what its name says.
    """
    name, last = plan.fields["id"], key.rpartition("/")[2]
    told = {KEY_FIELD: key, _NAME_FIELD: last}.get(name, record.get(name))
    is_name = told in (None, "", key, last)
    row = row_of_record({**record, name: last if told in (None, "") else told}, number, raw, plan)
    return _spanned_by_key(row, last) if is_name else row


def _spanned_by_key(row: Row, name: str) -> Row:
    """The row with the span that a key of this package tells, where nothing else does."""
    if row.start_ms is None:
        try:
            row.video_id, start, end = parse_key(name)
        except ManifestError:
            return row
        row.start_ms, row.end_ms = to_ms(start), to_ms(end)
    return row


# Parquet with media


def read_media_parquet(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """The rows of a Parquet file with media: everything but the media is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _of_set(source)
    number = 0
    try:
        with file.holding.open(file.file) as stream:
            parquet = pq.ParquetFile(stream)
            media = media_columns(parquet.schema_arrow, file.options.member)
            column = media.video or media.sound
            paths = f"{column}.path" if is_pair(parquet.schema_arrow, column) else ""
            wanted = [name for name in dict.fromkeys(plan.fields.values()) if name in parquet.schema_arrow.names]
            columns = [*wanted, *([paths] if paths else [])]
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                for record in batch.to_pylist():
                    path = (record.pop(column, None) or {}).get("path") if paths else None
                    yield _parquet_row(file, plan, number, record, path or "")
                    number += 1
                file.position_bytes = file.size_bytes * number // max(1, parquet.metadata.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file.shown}: cannot be read after row {number} ({error}); get it again") from error
    except ArchiveError as error:
        raise ManifestError(f"{file.shown}: {error}") from error


def _parquet_row(file: SetFile, plan: Plan, number: int, record: dict[str, Any], path: str) -> Row | Reject:
    name = path.rpartition("/")[2]
    key = name.rpartition(".")[0] or name or f"{Path(file.file).stem}_{number}"
    raw = f"{file.name}: row {number + 1} {path}"
    file.note(key, record)
    try:
        row = _row(record, key, plan, number + 1, raw)
    except RowRefused as refused:
        return refused.reject(number + 1, raw)
    row.captions = [caption for caption in row.captions if caption[0].strip()]
    row.url = str(Place("parquet", file.file, number, 0, key))
    return row


def _parquet_plan(file: SetFile) -> Plan:
    schema = read_schema(file.holding, file.file)
    media = media_columns(schema, file.options.member)
    names = [name for name in schema.names if name not in (media.video, media.sound)]
    return _plan(names, file.options, ours="key" in names and "mel_settings" in names, has_text=False)


# The published trainer's folders


def read_valor_folder(source: Source, plan: Plan) -> Iterator[Row | Reject]:
    """The clips of the lists `<split>_id.json`, with their texts; without lists, those of the mapping."""
    file = _of_set(source)
    folder = Path(file.holding.root)
    split_of: dict[str, str] = {}
    for path in sorted(folder.glob("*_id*.json")):
        split = re.sub(r"(_qa)?_ids?\.json$", "", path.name)
        split_of.update(dict.fromkeys(_id_list(path), split))
    listed = bool(split_of)
    for name in (next((name for name in MAPPERS if (folder / name).is_file()), ""), QA_MAPPER):
        if not name or not (folder / name).is_file():
            continue
        for row in read_mapping(Source(folder / name, name), plan):
            file.note(name, row.raw)
            if isinstance(row, Row):
                row.split = split_of.get(_id_of(row)) if listed else None
                if listed and row.split is None:
                    continue
                row.video_id = _unescaped(row.video_id)
            yield row


def _id_list(path: Path) -> list[str]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot be read: {error}", file=path) from error
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise ManifestError("expected a JSON list of ids", file=path)
    return told


def _id_of(row: Row) -> str:
    """The id as the lists have it: the row's id and span are what was made of it."""
    if row.start_ms is None or row.end_ms is None:
        return row.video_id
    return f"{row.video_id}_{row.start_ms / 1000:.3f}_{row.end_ms / 1000:.3f}"


def _unescaped(video_id: str) -> str:
    """An id of another corpus as it was before an export escaped it."""
    try:
        return unescape_id(video_id) if "=" in video_id else video_id
    except ManifestError:
        return video_id


def _valor_plan(options: ManifestOptions) -> Plan:
    return Plan({"split": "its lists"}, options.ids == "youtube")


def _of_set(source: Source) -> SetFile:
    if not isinstance(source, SetFile):
        raise ManifestError("is a file of no set; leave out --format", file=source.path)
    return source


WEBDATASET = Format(
    "webdataset", "tars of samples with media", lambda head: False, read_tar, youtube_ids=False, is_set=True
)
MEDIA_PARQUET = Format(
    "media-parquet", "Parquet with media", lambda head: False, read_media_parquet, youtube_ids=False, is_set=True
)
VALOR_FOLDER = Format(
    "valor-folder", "the published trainer's folders", lambda head: False, read_valor_folder, youtube_ids=False
)

SET_FORMATS = frozenset(format.name for format in (WEBDATASET, MEDIA_PARQUET, VALOR_FOLDER))
"""Names of the formats of sets."""
