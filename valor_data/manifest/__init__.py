"""Annotation formats in, checked manifest out.

`build_manifest` reads and joins annotation files, `write_manifest` writes what came of it, and
`read_manifest(path).clips()` gives its clips one after another.
"""

from __future__ import annotations

from valor_data.manifest.build import ManifestResult, build_manifest, write_manifest
from valor_data.manifest.layout import manifest_schema
from valor_data.manifest.options import ManifestOptions, Progress
from valor_data.manifest.rejects import REJECT_CODES, Reject
from valor_data.manifest.table import Manifest, SourceInfo, draw_ranks, is_manifest, read_manifest

__all__ = [
    "REJECT_CODES",
    "Manifest",
    "ManifestOptions",
    "ManifestResult",
    "Progress",
    "Reject",
    "SourceInfo",
    "build_manifest",
    "draw_ranks",
    "is_manifest",
    "manifest_schema",
    "read_manifest",
    "write_manifest",
]
