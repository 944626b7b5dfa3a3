"""The captions of a set as Arrow columns: of a manifest, or of annotation files as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valor_data.look.histogram import counts_of
from valor_data.manifest import ManifestOptions
from valor_data.manifest.raw import raw_captions

CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class CaptionColumns:
    """Captions as columns of one length.

    Attributes:
        texts: Arrow strings, none of them null.
        splits: the split of each.
        kinds: the role of each.
    """

    texts: Any
    splits: Any
    kinds: Any

    @classmethod
    def of_table(cls, table: Any) -> CaptionColumns:
        """The captions of a manifest's clips: a table with `split` and `captions`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts, splits, kinds = [], [], []
        for batch in table.select(["split", "captions"]).to_batches():
            flat = pc.list_flatten(batch["captions"])
            texts.append(flat.field("text"))
            kinds.append(flat.field("role"))
            splits.append(batch["split"].take(pc.list_parent_indices(batch["captions"])))
        return cls(*(pa.chunked_array(chunks, pa.string()) for chunks in (texts, splits, kinds)))

    @classmethod
    def of_rows(cls, files: Sequence[Path], options: ManifestOptions) -> CaptionColumns:
        """The captions of annotation files, unchecked."""
        import pyarrow as pa

        columns: list[list[str]] = [[], [], []]
        chunks: list[list[Any]] = [[], [], []]

        def flush() -> None:
            for column, done in zip(columns, chunks, strict=True):
                done.append(pa.array(column, pa.string()))
                column.clear()

        for split, text, role in raw_captions(files, options):
            for column, value in zip(columns, (text, split, role), strict=True):
                column.append(value)
            if len(columns[0]) >= CHUNK_ROWS:
                flush()
        flush()
        return cls(*(pa.chunked_array(done, pa.string()) for done in chunks))

    def names(self) -> list[str]:
        """The splits, in order of their names."""
        import pyarrow.compute as pc

        return sorted(str(name) for name in pc.unique(self.splits).to_pylist())

    def of_split(self, split: str) -> Any:
        """The texts of a split."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return self.texts.filter(pc.equal(self.splits, pa.scalar(split)))

    def roles(self) -> dict[str, int]:
        """Captions by role."""
        return counts_of(self.kinds)
