"""One hash for the content of a table, whatever its path, chunks, compression and library version."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def fingerprint(table: pa.Table, version: str) -> str:
    """The content's fingerprint: 64 hex digits.

    Each column is hashed as its lengths and its bytes, row after row, so that how Arrow or Parquet cut
    it into chunks does not matter.

    Args:
        table: columns of texts, doubles, whole numbers, structs and lists of these.
        version: the version of the columns' meaning; part of the hash.
    """
    hashes: dict[str, hashlib._Hash] = {}
    for name in table.column_names:
        for chunk in table[name].chunks:
            _feed(hashes, name, chunk)
    whole = hashlib.sha256(f"{version} {table.num_rows}".encode())
    for path in sorted(hashes):
        whole.update(f"\n{path} ".encode() + hashes[path].digest())
    return whole.hexdigest()


def _feed(hashes: dict[str, hashlib._Hash], path: str, array: Any) -> None:
    """Adds an array's content to the hashes of its path and of the paths below it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    def add(part: str, data: Any) -> None:
        hashes.setdefault(f"{path}.{part}", hashlib.sha256()).update(data)

    if array.null_count:
        add("null", np.asarray(pc.is_null(array)).tobytes())
    else:
        add("null", bytes(len(array)))
    kind = array.type
    if pa.types.is_struct(kind):
        for field in kind:
            _feed(hashes, f"{path}.{field.name}", pc.struct_field(array, field.name))
    elif pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        add("lengths", np.asarray(lengths).astype("<i4").tobytes())
        _feed(hashes, f"{path}[]", array.flatten())
    elif pa.types.is_string(kind):
        filled = pc.fill_null(array, "")
        add("lengths", np.asarray(pc.binary_length(filled)).astype("<i4").tobytes())
        _, offsets, data = filled.buffers()
        if len(filled):
            ends = np.frombuffer(offsets, dtype=np.int32)[filled.offset : filled.offset + len(filled) + 1]
            if ends[-1] > ends[0]:
                add("bytes", memoryview(data)[int(ends[0]) : int(ends[-1])])
    else:
        add("values", np.asarray(pc.fill_null(array, 0)).astype("<f8").tobytes())
