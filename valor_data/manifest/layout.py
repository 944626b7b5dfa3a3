"""The columns of a manifest, and the key of every row at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from valor_data.clip import escape_id, to_ms_array

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST_VERSION = "1"
"""Version of the manifest's columns and of their meaning."""


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
