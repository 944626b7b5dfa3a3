"""Build VALOR-1M and data sets like it.

The public interface, stable and typed; everything else may change between versions:

    from valor_data import open_ledger, open_shards, read_manifest

    manifest = read_manifest("manifest.parquet")          # the checked list of clips
    for sample in open_shards("my-set/shards", split="train"):
        sample.clip.captions, sample.jpegs, sample.mel    # mel: float16 [T, n_mels], natural log
    with open_ledger("my-set") as ledger:                 # what became of every clip
        ledger.counts()

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from valor_data.clip import Caption, Clip, Question, make_key, parse_key
    from valor_data.errors import REASONS, ClipError, ConfigError, ManifestError, ShardError, ValorDataError
    from valor_data.ledger import Ledger
    from valor_data.manifest import read_manifest
    from valor_data.shard.reader import Sample
    from valor_data.tombstones import Tombstones, read_tombstones

__version__ = "0.1.0"

__all__ = [
    "REASONS",
    "Caption",
    "Clip",
    "ClipError",
    "ConfigError",
    "ManifestError",
    "Question",
    "ShardError",
    "ValorDataError",
    "__version__",
    "make_key",
    "open_ledger",
    "open_shards",
    "parse_key",
    "read_manifest",
    "read_tombstones",
]


def open_shards(
    folder: str | Path, *, split: str | None = None, tombstones: Tombstones | None = None, extension: str = ""
) -> Iterator[Sample]:
    """Reads the samples of finished shards, shard by shard, in the order they were written.

    Args:
        folder: a folder of tars (`WORK/shards`, `s3://bucket/set/shards`), or one tar.
        split: only shards named `<split>-*.tar`.
        tombstones: what was removed from the set: left out. None: the list that lies beside the tars or one folder
            above, if there is one; see `read_tombstones`.
        extension: a second set that `valor-data extend` made, by its name or place: its members, joined by key, take
            the place of the first set's.

    Returns:
        An iterator of samples: the clip with its captions, the pictures as JPEG bytes, the log-mel as
        float16 `[T, n_mels]`, and the whole JSON as `details`.

    Raises:
        ShardError: there is no such shard, or a tar is damaged.
        ConfigError: the address cannot be used (no such bucket, no credentials, …).
    """
    from valor_data.errors import ShardError
    from valor_data.shard.reader import find_shards, read_samples
    from valor_data.tombstones import tombstones_beside

    tars = find_shards(str(folder), split)
    if not tars:
        raise ShardError(f"{folder}: no shards{f' of split {split!r}' if split else ''} here; expected NAME-000000.tar")
    return read_samples(tars, tombstones_beside(tars[0]) if tombstones is None else tombstones, extension)


def open_ledger(work: str | Path) -> Ledger:
    """Opens the ledger of a work folder for reading. Use it as a context manager.

    Args:
        work: the work folder, or the SQLite file itself.

    Raises:
        ValorDataError: there is no ledger.
    """
    from pathlib import Path

    from valor_data.ledger import Ledger
    from valor_data.workdir import WorkDir

    place = Path(work)
    return Ledger(place if place.suffix == ".sqlite" else WorkDir.at(place).ledger, read_only=True)


_HOMES = {
    "valor_data.clip": ("Caption", "Clip", "Question", "make_key", "parse_key"),
    "valor_data.errors": ("REASONS", "ClipError", "ConfigError", "ManifestError", "ShardError", "ValorDataError"),
    "valor_data.manifest": ("read_manifest",),
    "valor_data.tombstones": ("read_tombstones",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
