"""Everything about one clip in one place: its annotation, its story, its sample, its media."""

from __future__ import annotations

import difflib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.clip import Clip
from valor_data.errors import REASONS, ShardError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.look.shard_set import ShardSet, Stored, find_set, sample_in, stored_of
from valor_data.look.why import Why, explain
from valor_data.shard.reader import clip_of
from valor_data.workdir import WorkDir

_KEY = re.compile(r".*_\d{8}_(?:\d{8}|open)", re.ASCII | re.DOTALL)

MAX_CLIPS = 20
"""A video id shows its clips up to so many in full; beyond, their keys alone."""

NO_CLIP = "expected a key or a video id"


@dataclass(frozen=True, slots=True)
class Shown:
    """One clip.

    Attributes:
        key: its name; the open key while its end is unknown.
        clip: the annotation, of its sample or of the manifest; None where neither is at hand.
        why: what the ledger knows; None where only shards were looked at.
        standing: how the shard's listing has it, (status, reason), where it has.
        stored: where its sample lies; None when it is in no shard.
        details: the sample's JSON; empty without a sample.
        note: why its sample cannot be read although it should be there; else empty.
    """

    key: str
    clip: Clip | None
    why: Why | None
    standing: tuple[str, str] | None
    stored: Stored | None
    details: dict[str, Any]
    note: str = ""

    def mel(self) -> NDArray[Any] | None:
        """Its log-mel as it is stored, float16 `[T, n_mels]`; None without one.

        Raises:
            ShardError: it cannot be read.
        """
        if self.stored is None or "mel.npy" not in self.stored.members:
            return None
        try:
            mel: NDArray[Any] = np.load(io.BytesIO(self.stored.read("mel.npy")), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ShardError(f"{self.stored.shard.tar}: {self.key}.mel.npy is no array ({error})") from error
        return mel

    def pictures(self) -> list[bytes]:
        """Its frames as JPEG files, in order."""
        return [] if self.stored is None else [self.stored.read(name) for name in self.stored.frames()]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        status, reason = self.standing or ("", "")
        told = self.why.to_dict() if self.why is not None else {"key": self.key}
        return {
            **told,
            "annotation": None if self.clip is None else asdict(self.clip),
            "in_shard": None if self.standing is None else {"status": status, **_reason(reason)},
            "sample": None if self.stored is None else self._sample(self.stored),
            "note": self.note,
        }

    def _sample(self, stored: Stored) -> dict[str, Any]:
        members = {name: {"offset": offset, "size": size} for name, (offset, size) in sorted(stored.members.items())}
        return {"tar": stored.shard.tar, "members": members, "json": self.details}


def _reason(reason: str) -> dict[str, str]:
    known = REASONS.get(reason)
    return {"reason": reason, "meaning": known.meaning if known else "", "action": known.action if known else ""}


def show_from_work(work: WorkDir, text: str) -> list[Shown]:
    """The clip of a key, or the clips of a video, from a work folder.

    Raises:
        ValorDataError: no such clip; the message names keys that look alike.
    """
    with Ledger(work.ledger, read_only=True) as ledger:
        answers = explain(ledger, text)
    return [_of_work(work, why) for why in answers[:MAX_CLIPS]]


def _of_work(work: WorkDir, why: Why) -> Shown:
    key = why.clip.key or why.clip.identity
    stored, note = None, ""
    details: dict[str, Any] = {}
    try:
        stored = None if why.shard is None else _sample_of_work(work, why.shard, key)
        details = {} if stored is None else json.loads(stored.read("json"))
    except (ShardError, ValueError) as error:
        stored, note = None, str(error)
    clip = clip_of(details) if details else manifest_row(work.manifest, why.clip.manifest_row)
    return Shown(key, clip, why, None, stored, details, note)


def _sample_of_work(work: WorkDir, name: str, key: str) -> Stored:
    shard = next((one for one in find_set(work.root).shards if one.name == name), None)
    stored = None if shard is None else sample_in(shard, key)
    if stored is None:
        raise ShardError(f"{name}: does not hold {key}, as the ledger says; run `valor-data shard`")
    return stored


def show_from_shards(shards: ShardSet, text: str) -> list[Shown]:
    """The same from shards alone, wherever they are.

    Raises:
        ValorDataError: no such clip; the message names keys that look alike.
        ShardError: a listing or a tar cannot be read.
    """
    shown, near = [], []
    for shard, row in _rows_like(shards, text):
        if text not in (row["key"], row["video_id"]):
            near.append(row["key"])
            continue
        stored = stored_of(shard, row) if row["members"] else None
        details = {} if stored is None else json.loads(stored.read("json"))
        standing = (row["status"], row["reason"])
        shown.append(Shown(row["key"], clip_of(details) if details else None, None, standing, stored, details))
        if row["key"] == text:
            break
    if not shown:
        places = ", ".join(shards.places)
        raise ValorDataError(f"no clip {text!r} in {places}: {NO_CLIP}{near_hint(text, near)}")
    return shown


def _rows_like(shards: ShardSet, text: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Rows of the listings that are asked for, or begin like them."""
    import pyarrow.compute as pc

    for shard in shards.shards:
        table = shards.listing(shard)
        yield from ((shard, row) for row in table.filter(pc.starts_with(table["key"], text[:4])).to_pylist())


def near_hint(text: str, keys: list[str]) -> str:
    """The keys that look most alike, as the end of a message; empty where none does."""
    near = difflib.get_close_matches(text, keys, n=3, cutoff=0.5)
    return f"; keys like it: {', '.join(near)}" if near else ""


def manifest_row(path: Path, number: int | None) -> Clip | None:
    """One clip of a manifest, its row group alone read; None when it is not there."""
    if number is None or not path.exists():
        return None
    import pyarrow.parquet as pq

    from valor_data.manifest.table import clip_of_row

    file = pq.ParquetFile(path)
    for group in range(file.metadata.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if number < size:
            return clip_of_row(file.read_row_group(group).slice(number, 1).to_pylist()[0])
        number -= size
    return None
