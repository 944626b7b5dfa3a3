"""Finds the files that ship beside the code: JSON Schemas and clip lists.

In a checkout they lie in `schemas/` and `manifests/` at the top; in an installed wheel they lie in
`valor_data/_data/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from valor_data.errors import ValorDataError

_PACKAGE = Path(__file__).resolve().parent


def shipped_file(folder: str, name: str) -> Path:
    """The path of a file that ships with the package.

    Args:
        folder: `schemas` or `manifests`.
        name: the file's name.

    Raises:
        ValorDataError: no such file ships; the message lists those that do.
    """
    places = (_PACKAGE / "_data" / folder, _PACKAGE.parent / folder)
    for place in places:
        if (place / name).is_file():
            return place / name
    there = sorted(path.name for place in places if place.is_dir() for path in place.iterdir())
    raise ValorDataError(f"no file {name!r} ships in {folder}/; there are: {', '.join(there) or 'none'}")


def load_schema(name: str) -> dict[str, Any]:
    """A JSON Schema that ships, such as `manifest` or `sample`.

    Raises:
        ValorDataError: no such schema ships.
    """
    schema: dict[str, Any] = json.loads(shipped_file("schemas", f"{name}.schema.json").read_text("utf-8"))
    return schema
