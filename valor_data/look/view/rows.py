"""A row for every clip of a set, for the index: from a work folder's ledger and manifest, or from shards alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from valor_data.clip import parse_key
from valor_data.errors import ManifestError, ShardError, Status
from valor_data.ledger import STAGES, STANDING_COLUMNS, Ledger
from valor_data.look.shard_set import Shard, ShardSet, read_range, stored_of
from valor_data.storage import is_address
from valor_data.workdir import WorkDir

NOT_TRIED = "not tried"
"""In place of a status: the road has not come to the clip yet."""

REQUESTS_AT_ONCE = 16
"""JSON members that are asked of a store at the same time."""

_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class ClipRow:
    """What the index holds of a clip.

    Attributes:
        standing: `kept`, `dropped`, `waiting` or `not tried`.
        stage: the stage that dropped it or lets it wait; empty when kept.
        shard: name of the shard its sample is in; empty without one.
        captions: texts.
        labels: names where there are names, and codes.
        facts: what was measured; empty where nothing was.
    """

    key: str
    split: str
    standing: str
    stage: str
    reason: str
    shard: str
    captions: tuple[str, ...]
    labels: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def duration_seconds(self) -> float:
        """Its length as its key says; NaN while its end is unknown."""
        try:
            _, start, end = parse_key(self.key)
        except ManifestError:
            return float("nan")
        return end - start


def num_rows(shards: ShardSet) -> int:
    """How many rows there will be, or shards where the clips were not counted."""
    if shards.work is not None:
        with Ledger(shards.work.ledger, read_only=True) as ledger:
            return ledger.num_clips()
    return len(shards.shards)


def rows_of(shards: ShardSet) -> Iterator[tuple[ClipRow, int]]:
    """Every clip, and by how much the work to be done has shrunk (see `num_rows`).

    Raises:
        ShardError: a listing or a sample cannot be read.
        ManifestError: the manifest of the work folder cannot be read.
    """
    if shards.work is not None:
        yield from ((row, 1) for row in _rows_of_work(shards.work))
        return
    for name, shard in shards.by_name().items():
        step = 1
        for row in _rows_of_shard(shards, shard, name):
            yield row, step
            step = 0


def _rows_of_work(work: WorkDir) -> Iterator[ClipRow]:
    """The ledger's clips beside the manifest's words, both in the manifest's order."""
    with Ledger(work.ledger, read_only=True) as ledger:
        words = _words(work.manifest)
        number = -1
        told: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        for row in ledger.standings(with_facts=True):
            known = dict(zip(STANDING_COLUMNS, row, strict=True))
            while number < known["manifest_row"]:
                number, told = next(words, (known["manifest_row"], ((), ())))
            yield _row_of_work(known, *told)


def _words(manifest: Path) -> Iterator[tuple[int, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Row number, captions and labels of each clip of a manifest; nothing when it is not there."""
    if not manifest.exists():
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        batches = pq.ParquetFile(manifest).iter_batches(_BATCH_ROWS, columns=["captions", "labels", "label_names"])
        for batch in batches:
            for row in batch.to_pylist():
                captions = tuple(caption["text"] for caption in row["captions"])
                yield number, (captions, _labels(row["labels"], row["label_names"]))
                number += 1
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ManifestError(f"cannot be read ({str(error)[:200]}); make it again", file=manifest) from error


def _labels(labels: list[str], names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in (*names, *labels) if text))


def _row_of_work(known: dict[str, Any], captions: tuple[str, ...], labels: tuple[str, ...]) -> ClipRow:
    standing, at, reason = Status.KEPT.value, "", ""
    for stage in STAGES:
        status = known[f"{stage}_status"]
        if status != Status.KEPT.value:
            standing, at, reason = status or NOT_TRIED, stage, known[f"{stage}_reason"] or ""
            break
    facts = json.loads(known["facts"]) if known["facts"] else {}
    shard = known["shard"] or ""
    return ClipRow(known["key"], known["split"], standing, at, reason, shard, captions, labels, facts)


def _rows_of_shard(shards: ShardSet, shard: Shard, name: str) -> Iterator[ClipRow]:
    listed = shards.listing(shard).to_pylist()
    places = {row["key"]: stored_of(shard, row).members for row in listed if row["members"]}
    details = dict(zip(places, _details(shard, [place["json"] for place in places.values()]), strict=True))
    for row in listed:
        told = details.get(row["key"])
        captions: tuple[str, ...] = ()
        labels: tuple[str, ...] = ()
        if told is not None:
            captions = tuple(caption["text"] for caption in told["captions"] if caption["text"])
            labels = _labels(told["labels"], told["label_names"])
        stage = "" if row["status"] == Status.KEPT.value else "listed"
        yield ClipRow(
            row["key"], row["split"], row["status"], stage, row["reason"], name if told is not None else "",
            captions, labels, told["facts"] if told is not None else {},
        )  # fmt: skip


def _details(shard: Shard, places: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """The parsed JSON of samples, in order; from a store several are asked for at the same time."""
    try:
        if is_address(shard.tar):
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
                texts = pool.map(lambda place: read_range(shard.tar, place[0], sum(place)), places)
                yield from map(_parsed, texts)
            return
        if not places:
            return
        with Path(shard.tar).open("rb") as stream:
            yield from (_parsed(_at(stream, place)) for place in places)
    except (OSError, ValueError, KeyError) as error:
        raise ShardError(f"{shard.tar}: {error}; run `valor-data verify` on its work folder") from error


def _at(stream: IO[bytes], place: tuple[int, int]) -> bytes:
    stream.seek(place[0])
    return stream.read(place[1])


def _parsed(text: bytes) -> dict[str, Any]:
    tree = json.loads(text)
    if not isinstance(tree, dict) or not tree.keys() >= {"captions", "labels", "label_names", "facts"}:
        raise ValueError("a sample's JSON lacks captions, labels or facts")
    return tree
