"""The manifest as a Parquet file: its columns, reading, writing, choosing rows."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.clip import Caption, Clip, Question, open_key
from valor_data.errors import ManifestError
from valor_data.manifest.check import check_columns, check_values
from valor_data.manifest.fingerprint import fingerprint
from valor_data.manifest.layout import MANIFEST_VERSION, manifest_schema
from valor_data.workdir import written_aside

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

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

    def without(self, removed: np.ndarray) -> Manifest:
        """The clips that are not removed, in their order; itself when none is.

        Args:
            removed: a truth value for each row.
        """
        import pyarrow as pa

        if not removed.any():
            return self
        return Manifest.of(self.table.filter(pa.array(~removed)).combine_chunks(), self.sources)

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

    columns = (table[name].to_pylist() for name in ("key", "video_id", "start_seconds"))
    names = (key or open_key(video_id, start) for key, video_id, start in zip(*columns, strict=True))
    ranks = draw_ranks(names, map(str, table["split"].to_pylist()), seed)
    return pa.array(np.sort(np.argsort(ranks, kind="stable")[:num]))


def draw_ranks(keys: Iterable[str], splits: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """A number for each clip, even over 0 to 2^64, from the seed and its key and split alone.

    Who draws the clips with the smallest draws the same ones on every machine, and mostly the same ones when clips
    were added.
    """
    import numpy as np

    texts = (f"{seed} {key} {split}".encode() for key, split in zip(keys, splits, strict=True))
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


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


def read_columns(path: str | Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a manifest, for those who only count and compare: the values are not checked again.

    Raises:
        ManifestError: no such file, no Parquet, no manifest, or another version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = Path(path)
    if not file.is_file():
        raise ManifestError(f"no manifest there; {_REMEDY}", file=file)
    try:
        schema = pq.read_schema(file)
        metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
        check_columns(schema, file, _REMEDY)
        _check_version(metadata, file)
        table = pq.read_table(file, columns=list(columns), partitioning=None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"not a readable Parquet file ({str(error)[:200]}); {_REMEDY}", file=file) from error
    wanted: list[Any] = [manifest_schema().field(name) for name in columns]
    return table.replace_schema_metadata(None).cast(pa.schema(wanted))


def is_manifest(path: Path) -> bool:
    """Whether a file says of itself that it is a manifest; it may still be damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _VERSION.encode() in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


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
