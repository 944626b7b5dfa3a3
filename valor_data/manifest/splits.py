"""Which split a clip belongs to, and videos that stand in two of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.manifest.row import SPLIT_WORDS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

DEFAULT_SPLIT = "train"

_KEPT_FIRST = ("test", "val", "train")  # where a leaked video stays: a clean evaluation is worth more


def split_of_name(path: Path) -> str | None:
    """The split a file's name says, by a whole word such as `train`, `val` or `eval`; None without a clear word.

    >>> split_of_name(Path("audioset_eval_segments.csv"))
    'test'
    """
    words = re.findall(r"[a-z]+", path.name.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def leaked_videos(table: pa.Table) -> dict[str, list[str]]:
    """The videos whose clips are in more than one split, with these splits, in order of first appearance."""
    import pyarrow.compute as pc

    if len(pc.unique(table["split"])) < 2:
        return {}
    pairs: Any = table.select(["video_id", "split"]).group_by(["video_id", "split"], use_threads=False).aggregate([])
    splits: dict[str, list[str]] = {}
    for video_id, split in zip(pairs["video_id"].to_pylist(), pairs["split"].to_pylist(), strict=True):
        splits.setdefault(video_id, []).append(split)
    return {video_id: names for video_id, names in splits.items() if len(names) > 1}


def kept_split(splits: list[str]) -> str:
    """The one split in which a leaked video stays: test, then val, then other names, train last."""
    return min(splits, key=lambda name: (name == "train", _KEPT_FIRST.index(name) if name in _KEPT_FIRST else 2, name))


def rows_to_drop(table: pa.Table, leaks: dict[str, list[str]]) -> npt.NDArray[np.int64]:
    """The row numbers of leaked videos' clips outside the split in which they stay."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    leaked: Any = pa.array(list(leaks), pa.string())
    suspects: npt.NDArray[np.int64] = np.flatnonzero(pc.is_in(table["video_id"], value_set=leaked))
    chosen: Any = table.select(["video_id", "split"]).take(pa.array(suspects, pa.int64()))
    drop = [
        kept_split(leaks[video_id]) != split
        for video_id, split in zip(chosen["video_id"].to_pylist(), chosen["split"].to_pylist(), strict=True)
    ]
    dropped: npt.NDArray[np.int64] = suspects[np.array(drop, dtype=bool)]
    return dropped
