"""The clips that curation decides about, as columns. Shapes: N clips, C captions of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("video_id", "split", "captions", "labels")
"""What curation reads of the manifest."""

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class ClipTable:
    """Clips in the order of their ids.

    Attributes:
        clip_ids: their numbers in the ledger, int64 `[N]`.
        manifest_rows: their rows of the manifest, int64 `[N]`.
        keys: their keys, an Arrow column of texts.
        rows: the manifest's `COLUMNS` of them, an Arrow table; None when no rule looks at them.
        areas_px: width × height of the picture as shown, int64 `[N]`; 0 without one.
        licences: the uploader's licence field, an Arrow column of texts, empty where the source gives none;
            None when nobody asked.
    """

    clip_ids: NDArray[np.int64]
    manifest_rows: NDArray[np.int64]
    keys: Any
    rows: Any
    areas_px: NDArray[np.int64]
    licences: Any = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def key(self, clip: int) -> str:
        """The key of the clip at a position."""
        return str(self.keys[clip].as_py())

    @cached_property
    def caption_offsets(self) -> NDArray[np.int64]:
        """Where each clip's captions begin among all captions, int64 `[N + 1]`."""
        import pyarrow.compute as pc

        lengths = np.asarray(pc.list_value_length(self.rows["captions"]).fill_null(0), np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    @cached_property
    def caption_clips(self) -> NDArray[np.int64]:
        """The clip of each caption, int64 `[C]`."""
        return np.repeat(np.arange(len(self)), np.diff(self.caption_offsets))

    def texts(self) -> Iterator[Any]:
        """The captions of all clips, one after another, as Arrow arrays of texts."""
        yield from caption_texts(self.rows["captions"])

    def splits(self) -> tuple[NDArray[np.int32], list[str]]:
        """The split of each clip as a number, int32 `[N]`, and the names."""
        import pyarrow.compute as pc

        coded = pc.dictionary_encode(self.rows["split"]).combine_chunks()
        if not len(coded):
            return np.zeros(0, np.int32), []
        return np.asarray(coded.indices, np.int32), coded.dictionary.to_pylist()

    def in_splits(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Whether each clip is in one of these splits, `[N]`."""
        codes, known = self.splits()
        return np.isin(codes, [number for number, name in enumerate(known) if name in names])

    def spans_ms(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and end of each clip in milliseconds of its video, int64 `[N]` each."""
        return spans_of_keys(self.keys)

    def video_codes(self) -> NDArray[np.int64]:
        """A number for each clip's video, `[N]`."""
        import pyarrow.compute as pc

        coded = pc.dictionary_encode(self.rows["video_id"]).combine_chunks()
        return np.asarray(coded.indices, np.int64) if len(coded) else np.zeros(0, np.int64)


def spans_of_keys(keys: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end that an Arrow column of keys writes, milliseconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    starts = pc.cast(pc.utf8_slice_codeunits(keys, -17, -9), pa.int64())
    ends = pc.cast(pc.utf8_slice_codeunits(keys, -8), pa.int64())
    return np.asarray(starts, np.int64), np.asarray(ends, np.int64)


def caption_texts(captions: Any) -> Iterator[Any]:
    """The texts of a column of captions, one after another, as Arrow arrays.

    Args:
        captions: a chunked column of lists of captions, as a manifest has it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.table({"captions": captions})
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        yield pc.struct_field(pc.list_flatten(batch.column(0)), "text")
