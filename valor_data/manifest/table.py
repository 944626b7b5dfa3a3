"""The manifest as a Parquet file: its columns, reading, writing, choosing rows."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.clip import Caption, Clip, Question, escape_id, open_key, to_ms_array
from valor_data.errors import ManifestError
from valor_data.manifest.fingerprint import fingerprint
from valor_data.workdir import written_aside

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST_VERSION = "1"
"""Version of the manifest's columns and of their meaning."""

_PREFIX = "valor_data."
_VERSION, _FINGERPRINT = _PREFIX + "manifest_version", _PREFIX + "fingerprint"
_SOURCES, _PACKAGE = _PREFIX + "sources", _PREFIX + "package_version"
_ROW_GROUP_ROWS = 50_000
_BATCH_ROWS = 4096
_REMEDY = "make a manifest of annotation files with: valor-data manifest FILES… -o manifest.parquet"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """An annotation file that a manifest was made of: name, format, hash of its bytes, rows read."""

    name: str
    format: str
    sha256: str
    num_rows: int


def manifest_schema() -> pa.Schema:
    """The manifest's columns, in order."""
    import pyarrow as pa

    text = pa.string()
    caption = pa.struct([pa.field("text", text, nullable=False), pa.field("role", text, nullable=False)])
    question = pa.struct(
        [
            pa.field("question_id", text, nullable=False),
            pa.field("question", text, nullable=False),
            pa.field("answers", pa.list_(text), nullable=False),
        ]
    )
    fields: list[Any] = [
        pa.field("key", text),
        pa.field("video_id", text, nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64()),
        pa.field("split", text, nullable=False),
        pa.field("captions", pa.list_(caption), nullable=False),
        pa.field("labels", pa.list_(text), nullable=False),
        pa.field("label_names", pa.list_(text), nullable=False),
        pa.field("questions", pa.list_(question), nullable=False),
        pa.field("url", text),
    ]
    return pa.schema(fields)


def key_column(video_ids: Any, starts: Any, ends: Any) -> Any:
    """`clip.make_key` for Arrow arrays: the same keys; null where the end is.

    Args:
        video_ids: checked ids.
        starts: seconds.
        ends: seconds; null while unknown.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain: Any = pc.match_substring_regex(video_ids, "^[A-Za-z0-9_-]*$")
    if not pc.all(plain).as_py():
        escaped = [escape_id(video_id) for video_id in video_ids.filter(pc.invert(plain)).to_pylist()]
        video_ids = pc.replace_with_mask(video_ids, pc.invert(plain), pa.array(escaped, pa.string()))

    def digits(seconds: Any) -> Any:
        whole: Any = pa.array(to_ms_array(np.asarray(pc.fill_null(seconds, 0.0))))
        return pc.utf8_lpad(pc.cast(whole, pa.string()), 8, "0")

    keys = pc.binary_join_element_wise(video_ids, digits(starts), digits(ends), "_")
    return pc.if_else(pc.is_valid(ends), keys, pa.scalar(None, pa.string()))


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """A checked list of clips.

    Attributes:
        table: the rows, as `manifest_schema` says; captions and labels are lists, never null.
        fingerprint: hash of the rows, whatever the file's path, time and compression; 64 hex digits.
        sources: the annotation files it was made of.
        package_version: the version of valor-data that made it.
    """

    table: pa.Table
    fingerprint: str
    sources: tuple[SourceInfo, ...] = ()
    package_version: str = ""

    @classmethod
    def of(cls, table: pa.Table, sources: Sequence[SourceInfo] = ()) -> Manifest:
        """A manifest of rows that are known to be right, with their fingerprint."""
        version = importlib.metadata.version("valor-data")
        return cls(table, fingerprint(table, MANIFEST_VERSION), tuple(sources), version)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def clips(self, rows: Sequence[int] | range | None = None) -> Iterator[Clip]:
        """Clips one after another, a few thousand in memory at a time.

        Args:
            rows: row numbers, from 0, in any order; all of them by default.
        """
        import pyarrow as pa

        table = self.table if rows is None else self.table.take(pa.array(rows, pa.int64()))
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            for row in batch.to_pylist():
                yield clip_of_row(row)

    def split_counts(self) -> dict[str, int]:
        """Number of clips by split, in order of first appearance."""
        import pyarrow.compute as pc

        counts: Any = pc.value_counts(self.table["split"])
        return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}

    def select(self, *, limit: int | None = None, sample: int | None = None, seed: int = 0) -> Manifest:
        """The first `limit` clips, or `sample` clips drawn at random; order is kept.

        The draw depends on the seed and the clips' keys alone: the same seed draws the same clips on every
        machine, and a smaller sample is part of a larger one.

        Args:
            limit: how many clips to keep from the top.
            sample: how many clips to draw; with `limit`, from those.
            seed: which draw.
        """
        table = self.table if limit is None else self.table.slice(0, limit)
        if sample is not None and sample < table.num_rows:
            table = table.take(_drawn(table, sample, seed))
        return self if table is self.table else Manifest.of(table, self.sources)

    def write(self, path: Path) -> None:
        """Writes the Parquet file at exactly this path; not atomic, see `write_manifest`."""
        import pyarrow.parquet as pq

        sources = [
            {"name": s.name, "format": s.format, "sha256": s.sha256, "num_rows": s.num_rows} for s in self.sources
        ]
        metadata = {
            _VERSION: MANIFEST_VERSION,
            _FINGERPRINT: self.fingerprint,
            _SOURCES: json.dumps(sources, ensure_ascii=False),
            _PACKAGE: self.package_version,
        }
        table = self.table.cast(manifest_schema()).replace_schema_metadata(metadata)
        pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP_ROWS)

    def save(self, path: str | Path) -> None:
        """Writes the Parquet file; it takes the place of an older one whole or not at all."""
        with written_aside(Path(path)) as temporary:
            self.write(temporary)


def clip_of_row(row: dict[str, Any]) -> Clip:
    """A manifest row as a clip."""
    return Clip(
        video_id=row["video_id"],
        start=row["start_seconds"],
        end=row["end_seconds"],
        split=row["split"],
        captions=tuple(Caption(c["text"], c["role"]) for c in row["captions"]),
        labels=tuple(row["labels"]),
        label_names=tuple(row["label_names"]),
        questions=tuple(Question(q["question_id"], q["question"], tuple(q["answers"])) for q in row["questions"]),
        url=row["url"],
    )


def _drawn(table: pa.Table, num: int, seed: int) -> pa.Array[Any]:
    """Row numbers of the clips with the smallest hashes of seed and key, in order."""
    import numpy as np
    import pyarrow as pa

    columns = (table[name].to_pylist() for name in ("key", "video_id", "start_seconds", "split"))
    ranks = np.array(
        [
            int.from_bytes(
                hashlib.blake2b(f"{seed} {key or open_key(video_id, start)} {split}".encode(), digest_size=8).digest(),
                "big",
            )
            for key, video_id, start, split in zip(*columns, strict=True)
        ],
        dtype=np.uint64,
    )
    return pa.array(np.sort(np.argsort(ranks, kind="stable")[:num]))


def read_manifest(path: str | Path) -> Manifest:
    """Reads and checks a manifest.

    Args:
        path: a Parquet file that `valor-data manifest` or `Manifest.save` wrote.

    Raises:
        ManifestError: no such file, no Parquet, no manifest, another version, a value that breaks a rule, or
            rows that are not those that the fingerprint was made of; the message says which and what to do.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from valor_data.manifest.check import check_columns, check_values

    file = Path(path)
    if not file.is_file():
        raise ManifestError(f"no manifest there; {_REMEDY}", file=file)
    try:
        schema = pq.read_schema(file)
        metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
        check_columns(schema, file, _REMEDY)
        _check_version(metadata, file)
        table = pq.read_table(file, use_threads=False, partitioning=None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"not a readable Parquet file ({str(error)[:200]}); {_REMEDY}", file=file) from error
    table = table.replace_schema_metadata(None).cast(manifest_schema())
    check_values(table, file)
    try:
        sources = tuple(SourceInfo(**entry) for entry in json.loads(metadata.get(_SOURCES, "[]")))
    except (ValueError, TypeError) as error:
        raise ManifestError(f"its metadata {_SOURCES!r} cannot be read; {_REMEDY}", file=file) from error
    content = fingerprint(table, MANIFEST_VERSION)
    if content != metadata.get(_FINGERPRINT):
        raise ManifestError(
            "the rows are not those it was written with (the fingerprint differs); make it again, or "
            "if the change is meant: Manifest.of(table).save(path)",
            file=file,
        )
    return Manifest(table, content, sources, metadata.get(_PACKAGE, ""))


def _check_version(metadata: dict[str, str], file: Path) -> None:
    version = metadata.get(_VERSION)
    if version is None:
        raise ManifestError(f"no manifest: its metadata has no {_VERSION!r}; {_REMEDY}", file=file)
    if version != MANIFEST_VERSION:
        raise ManifestError(
            f"manifest version {version!r}: this valor-data reads {MANIFEST_VERSION!r}; make it again "
            "from its annotation files, or update valor-data",
            file=file,
        )
