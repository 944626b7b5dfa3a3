"""Annotation formats in, checked manifest out.

    result = build_manifest(["desc_train.json", "eval_segments.csv"])
    write_manifest(result, "manifest.parquet")
    for clip in read_manifest("manifest.parquet").clips():
        ...
"""

from __future__ import annotations

from valor_data.manifest.build import ManifestResult, build_manifest, write_manifest
from valor_data.manifest.options import ManifestOptions, Progress
from valor_data.manifest.rejects import REJECT_CODES, Reject
from valor_data.manifest.table import Manifest, SourceInfo, manifest_schema, read_manifest

__all__ = [
    "REJECT_CODES",
    "Manifest",
    "ManifestOptions",
    "ManifestResult",
    "Progress",
    "Reject",
    "SourceInfo",
    "build_manifest",
    "manifest_schema",
    "read_manifest",
    "write_manifest",
]
