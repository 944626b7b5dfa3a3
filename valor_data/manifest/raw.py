"""The captions of annotation files as they stand there, those that a manifest refuses among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from valor_data.manifest.build import open_inputs
from valor_data.manifest.options import ManifestOptions
from valor_data.manifest.rejects import Reject
from valor_data.manifest.splits import DEFAULT_SPLIT


def raw_captions(files: Sequence[str | Path], options: ManifestOptions | None = None) -> Iterator[tuple[str, str, str]]:
    """(split, text, role) of every caption of some annotation files, unchecked and in order.

    Args:
        files: as `build_manifest` takes them; label files have no captions and are passed over.
        options: the same as for building.

    Raises:
        ManifestError: a file cannot be read or recognised.
    """
    for file in open_inputs(files, options or ManifestOptions())[0]:
        if not file.plan.has_captions:
            continue
        for row in file.format.read(file.source, file.plan):
            if isinstance(row, Reject):  # cannot be read, so nobody knows its caption
                continue
            split = file.forced_split or row.split or file.split or DEFAULT_SPLIT
            for text, role in row.captions:
                yield split, text.encode(errors="replace").decode(), role
