"""Plain Parquet: a row a clip, a file a shard, `<split>-000000.parquet`.

Columns always there: everything that a sample's JSON says, under the same names, with times called `start_seconds` and
`end_seconds`. What a clip does not have is an empty list, not one empty entry. Columns on request:

    frames   list of {bytes, path}: the JPEGs
    mel      the `.npy` file as it is in the shard: `np.load(io.BytesIO(row["mel"]))`
    audio    {bytes, path}: the flac
    video    {bytes, path}: the mp4

The pairs of bytes and path are what `datasets` knows as Image, Audio and Video; the files say so to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from valor_data.errors import ConfigError, ShardError
from valor_data.media.facts import Facts
from valor_data.media.mel import MelSettings
from valor_data.publish.exports import Exported, ExportOptions, Progress
from valor_data.publish.exports.target import Target
from valor_data.publish.exports.workers import run_units
from valor_data.publish.finished import FinishedSet, FinishedShard, ShardReader, StoredClip, open_shard
from valor_data.shard.output import FolderOutput, Output
from valor_data.shard.reader import clip_of
from valor_data.shard.sample import FACTS_IN_SAMPLE, SOURCE_FIELDS, SampleSettings

COLUMNS_ON_REQUEST = ("frames", "mel", "audio", "video")

GROUP_BYTES = 32 * 2**20
"""A row group is closed when it holds so much: what a reader must fetch to see one row."""

GROUP_ROWS = 5000

_VERSION = 1
_STAMP = b"valor_data.stamp"
_MEMBERS = {"audio": "flac", "video": "mp4", "mel": "mel.npy"}
_FILE = re.compile(r".+-\d{6,}\.parquet")


@dataclass(frozen=True, slots=True)
class Unit:
    """The work of one call: a shard becomes a Parquet file.

    Attributes:
        features: what `datasets` is told of the columns.
        stamp: of what is written.
    """

    shard: FinishedShard
    num_clips: int
    output: Output
    target: Target
    include: tuple[str, ...]
    settings: SampleSettings
    features: str
    stamp: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.shard.name}.parquet"


def check(finished: FinishedSet, target: Target, options: ExportOptions) -> None:
    """Refuses columns that cannot be.

    Raises:
        ConfigError: an unknown column.
        ShardError: the shards do not hold what a column is made of.
    """
    include, settings = options.include, finished.settings
    unknown = [name for name in include if name not in COLUMNS_ON_REQUEST]
    if unknown:
        raise ConfigError(f"--include {', '.join(unknown)}: expected some of {', '.join(COLUMNS_ON_REQUEST)}")
    held = {"frames": "v" in settings.modalities, "mel": "a" in settings.modalities,
            **{name: name in settings.include for name in ("audio", "video")}}  # fmt: skip
    missing = [name for name in include if not held[name]]
    if missing:
        advice = "" if set(missing) & {"frames", "mel"} else f"; build them with `shard --include {','.join(missing)}`"
        raise ShardError(f"--include {', '.join(missing)}: the shards do not hold it{advice}")


def write(finished: FinishedSet, target: Target, options: ExportOptions, progress: Progress) -> Exported:
    """Writes the layout; see `exports.run_export`."""
    chosen = finished.first(options.limit)
    features = hugging_face_features(options.include)
    units = [
        Unit(shard, number, finished.output, target, options.include, finished.settings, features,
             _stamp(shard, number, options.include))
        for shard, number in chosen
    ]  # fmt: skip
    target.output.remove(sorted(set(filter(_FILE.fullmatch, _top(target))) - {unit.name for unit in units}))
    exported = Exported(num_clips=sum(unit.num_clips for unit in units))
    progress.start("export", exported.num_clips, "clips")
    todo = []
    for unit in units:
        captions = _captions_written(unit)
        if captions is None:
            todo.append(unit)
            continue
        exported.num_captions += captions
        progress.advance("written", count=unit.num_clips)
    for unit, num_captions in run_units(write_file, todo, options.workers):
        exported.num_captions += num_captions
        progress.advance("written", count=unit.num_clips)
    for split in dict.fromkeys(unit.shard.split for unit in units):
        number = sum(unit.shard.split == split for unit in units)
        exported.files[f"{split}-*.parquet"] = f"{number:,} {'file' if number == 1 else 'files'}, a row a clip"
    return exported


def _stamp(shard: FinishedShard, number: int, include: Sequence[str]) -> str:
    told = json.dumps([_VERSION, shard.digest, number, sorted(include)])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _top(target: Target) -> list[str]:
    return [name for name in target.names() if "/" not in name]


def _captions_written(unit: Unit) -> int | None:
    """How many captions the file holds, if it is there as it would be written now."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    output = unit.target.output
    try:
        if isinstance(output, FolderOutput):
            metadata = pq.read_metadata(output.root / unit.name).metadata
        else:
            with output.stream(unit.name) as stream:
                metadata = pq.read_metadata(stream).metadata
    except (OSError, pa.ArrowInvalid):
        return None
    told = json.loads((metadata or {}).get(_STAMP, b"null"))
    return int(told["captions"]) if told and told["stamp"] == unit.stamp else None


def schema(include: Sequence[str]) -> Any:
    """The columns of a file, a `pyarrow.Schema`.

    Args:
        include: columns on request.
    """
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    texts, numbers = pa.list_(text), pa.list_(number)
    caption = pa.struct([("text", text), ("role", text)])
    question = pa.struct([("question_id", text), ("question", text), ("answers", texts)])
    facts, mel = Facts().to_dict(), MelSettings.valor().to_dict()
    file = pa.struct([("bytes", pa.binary()), ("path", text)])
    fields: list[Any] = [
        ("key", text), ("video_id", text), ("start_seconds", number), ("end_seconds", number), ("split", text),
        ("captions", pa.list_(caption)), ("labels", texts), ("label_names", texts), ("questions", pa.list_(question)),
        ("frame_moments", numbers), ("frame_times", numbers), ("num_frames_clamped", pa.int64()),
        ("audio_spans", pa.list_(numbers)), ("modalities", text),
        ("mel_settings", pa.struct([(name, _type_of(value)) for name, value in mel.items()])),
        ("facts", pa.struct([(name, _type_of(facts[name])) for name in FACTS_IN_SAMPLE])),
        ("source", pa.struct([(name, text) for name in SOURCE_FIELDS])),
    ]  # fmt: skip
    more = {"frames": pa.list_(file), "mel": pa.binary(), "audio": file, "video": file}
    return pa.schema([*fields, *((name, more[name]) for name in COLUMNS_ON_REQUEST if name in include)])


def _type_of(value: object) -> Any:
    import pyarrow as pa

    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, list):
        return pa.list_(_type_of(value[0]))
    return {int: pa.int64(), float: pa.float64(), str: pa.string()}[type(value)]


def hugging_face_features(include: Sequence[str]) -> str:
    """What a file tells `datasets` of its columns, so that pictures, sound and video are decoded as such."""
    from datasets import Audio, Features, Image, Video

    features = Features.from_arrow_schema(schema(include))
    if "frames" in include:
        features["frames"] = [Image()]
    features.update({name: kind() for name, kind in (("audio", Audio), ("video", Video)) if name in include})
    return str(features.arrow_schema.metadata[b"huggingface"].decode())


def write_file(unit: Unit) -> int:
    """Writes the file of a shard; gives how many captions it holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = schema(unit.include)
    num_captions = 0
    with open_shard(unit.output, unit.shard, unit.num_clips) as reader, unit.target.written(unit.name) as path:
        columns = plain.with_metadata({b"huggingface": unit.features.encode()})
        with pq.ParquetWriter(str(path), columns, **_encoding(plain)) as writer:
            for rows in _groups(unit, reader):
                num_captions += sum(len(row["captions"]) for row in rows)
                table = pa.Table.from_pylist(rows, schema=plain).replace_schema_metadata(columns.metadata)
                writer.write_table(table, row_group_size=len(rows))
            stamp = {"stamp": unit.stamp, "captions": num_captions}
            writer.add_key_value_metadata({_STAMP.decode(): json.dumps(stamp)})
    return num_captions


def _encoding(plain: Any) -> dict[str, Any]:
    """What is compressed already is neither compressed again nor looked up in a dictionary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(plain.empty_table(), sink)
    leaves = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    paths = [leaves.column(i).path for i in range(len(leaves))]
    media = {path for path in paths if path == "mel" or path.endswith(".bytes")}
    return {
        "compression": {path: "none" if path in media else "zstd" for path in paths},
        "use_dictionary": [path for path in paths if path not in media],
    }


def _groups(unit: Unit, reader: ShardReader) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    held = 0
    for stored in reader.clips:
        row, num_bytes = _row(unit, reader, stored)
        rows.append(row)
        held += num_bytes
        if held >= GROUP_BYTES or len(rows) >= GROUP_ROWS:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows


def _row(unit: Unit, reader: ShardReader, stored: StoredClip) -> tuple[dict[str, Any], int]:
    """A clip's row, and about how many bytes it takes."""
    data = reader.read(stored, "json")
    told = json.loads(data)
    clip, has_pictures = clip_of(told), "v" in unit.settings.modalities
    row = {
        "key": told["key"],
        "video_id": clip.video_id,
        "start_seconds": clip.start,
        "end_seconds": clip.end,
        "split": clip.split,
        "captions": [asdict(caption) for caption in clip.captions],
        "labels": clip.labels,
        "label_names": clip.label_names,
        "questions": [asdict(question) for question in clip.questions],
        "frame_moments": told["frame_moments"] if has_pictures else [],
        "frame_times": told["frame_times"] if has_pictures else [],
        "num_frames_clamped": told["num_frames_clamped"],
        "audio_spans": [span for span in told["audio_spans"] if span[1] > span[0]],
        "modalities": told["modalities"],
        "mel_settings": told["mel"],
        "facts": told["facts"],
        "source": told["source"],
    }
    held = len(data)
    if "frames" in unit.include:
        names = [f"frame_{i:02d}.jpg" for i in range(unit.settings.frames.count)]
        row["frames"] = [_file(reader, stored, name) for name in names]
        held += sum(stored.members[name][1] for name in names)
    for column, member in _MEMBERS.items():
        if column in unit.include:
            row[column] = reader.read(stored, member) if column == "mel" else _file(reader, stored, member)
            held += stored.members[member][1]
    return row, held


def _file(reader: ShardReader, stored: StoredClip, extension: str) -> dict[str, Any]:
    return {"bytes": reader.read(stored, extension), "path": f"{stored.key}.{extension}"}
