"""A finished set of shards, clip by clip: what everything that publishes one begins with."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from valor_data.errors import ShardError, Status
from valor_data.ledger import Ledger, ShardRow
from valor_data.look.verify import output_of_work
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings
from valor_data.road.shard_states import digest_of
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, rows_of, tar_of
from valor_data.shard.sample import SampleSettings
from valor_data.shard.writer import shard_digest
from valor_data.tombstones import local_tombstones, tombstones_beside
from valor_data.workdir import WorkDir

_NUM_SHOWN = 3


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip inside a shard.

    Attributes:
        key: its key.
        members: extension to (offset, bytes) in the tar.
    """

    key: str
    members: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A shard that stands complete; picklable.

    Attributes:
        digest: of what it was made of, and of what was removed from it since.
        num_samples: clips in it, without the removed ones.
        removed: keys of clips in its tar that are to be left out: those with a tombstone.
    """

    split: str
    shard: int
    digest: str
    num_samples: int
    removed: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The shard's name."""
        return shard_name(self.split, self.shard)


@dataclass(frozen=True, slots=True)
class FinishedSet:
    """The shards of a work folder, all of them finished and made with the same settings.

    Attributes:
        work: the work folder.
        output: where the shards stand.
        shards: those that hold clips, by split and number.
        settings: what the samples were made with.
    """

    work: WorkDir
    output: Output
    shards: tuple[FinishedShard, ...]
    settings: SampleSettings

    @property
    def num_samples(self) -> int:
        """Clips in all shards."""
        return sum(shard.num_samples for shard in self.shards)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in order."""
        return tuple(dict.fromkeys(shard.split for shard in self.shards))

    def first(self, limit: int | None) -> list[tuple[FinishedShard, int]]:
        """The shards with the first so many clips, and how many of each."""
        chosen: list[tuple[FinishedShard, int]] = []
        left = self.num_samples if limit is None else limit
        for shard in self.shards:
            number = min(left, shard.num_samples)
            if number:
                chosen.append((shard, number))
            left -= number
        return chosen


@dataclass(slots=True)
class ShardReader:
    """The clips of one shard, and the bytes of their members. Use `open_shard`."""

    clips: list[StoredClip]
    name: str
    path: Path
    _stream: IO[bytes] = field(repr=False)

    def read(self, clip: StoredClip, extension: str) -> bytes:
        """The bytes of a member.

        Raises:
            ShardError: the clip has no such member, or the tar ends before it.
        """
        if extension not in clip.members:
            raise ShardError(f"{self.name}/{clip.key}: has no member {extension}")
        offset, size = clip.members[extension]
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise ShardError(f"{self.name}.tar: ends before {clip.key}.{extension}; run `valor-data verify`")
        return data


@contextmanager
def open_shard(output: Output, shard: FinishedShard, num_clips: int | None = None) -> Iterator[ShardReader]:
    """Opens a shard by its index; of an object the whole tar is copied to a temporary folder meanwhile.

    Args:
        output: where it stands.
        shard: which.
        num_clips: only its first so many clips; None: all.

    Raises:
        ShardError: its files are not there, or do not agree.
    """
    clips = [clip for clip in stored_clips(output, shard.name) if clip.key not in shard.removed][:num_clips]
    with tempfile.TemporaryDirectory(prefix="valor-data-") as folder:
        try:
            tar = output.local(tar_of(shard.name), Path(folder))
        except FileNotFoundError:
            raise ShardError(f"{shard.name}.tar: is missing at {output.place}; run `shard` again") from None
        with tar.open("rb") as stream:
            yield ShardReader(clips, shard.name, tar, stream)


def stored_clips(output: Output, name: str) -> Iterator[StoredClip]:
    """The kept clips of a shard, in the order of its tar.

    Raises:
        ShardError: its index cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(output.read(rows_of(name))), columns=["key", "status", "members"])
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardError(f"{name}.parquet: cannot be read ({error}); run `shard` again") from error
    for batch in table.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            if row["status"] == Status.KEPT.value:
                yield StoredClip(
                    row["key"], {m["name"][len(row["key"]) + 1 :]: (m["offset"], m["size"]) for m in row["members"]}
                )


def open_finished(work: WorkDir, *, split: str = "") -> FinishedSet:
    """The finished set of a work folder, or of a folder with `shards/` and `index/` alone.

    Args:
        work: the work folder.
        split: only this split; empty: all.

    Raises:
        ShardError: there are no shards, some are missing or stale, or they were made with several settings.
        ConfigError: the shards stand at an address that cannot be used.
        StoreError: the store there does not answer.
    """
    output = output_of_work(work)
    sizes = output.sizes()
    beside = {name: _sidecar(output, name) for name in _names(sizes, split)}
    if work.ledger.exists():
        _refuse_half_built(work, set(beside), split)
    named = f" of split {split!r}" if split else ""
    if not beside:
        raise ShardError(f"{output.place}: no finished shards{named}; build them with `valor-data shard`")
    unfinished = [name for name in _tars(sizes, split) if name not in beside]
    sizes_told = {name: told["tar_bytes"] for name, told in beside.items() if told["num_samples"]}
    unfinished += [name for name, size_bytes in sizes_told.items() if sizes.get(tar_of(name)) != size_bytes]
    if unfinished:
        raise ShardError(f"{output.place}: {_some(sorted(unfinished))} not complete; run `valor-data shard` first")
    standing = [
        FinishedShard(told["split"], told["shard"], told["digest"], told["num_samples"])
        for _, told in sorted(beside.items())
        if told["num_samples"]
    ]
    shards = tuple(shard for shard in _without_removed(work, output, standing) if shard.num_samples)
    if not shards:
        raise ShardError(f"{output.place}: the shards{named} hold no clip; `valor-data status` tells why")
    return FinishedSet(work, output, shards, _one_setting(output, beside))


def _without_removed(work: WorkDir, output: Output, shards: list[FinishedShard]) -> Iterator[FinishedShard]:
    """The shards as they are without what has a tombstone, in the work folder or beside the shards."""
    removed = local_tombstones(work.tombstones).joined(tombstones_beside(f"{output.place.rstrip('/')}/shards"))
    for shard in shards:
        gone = [clip.key for clip in stored_clips(output, shard.name) if clip.key in removed] if removed else []
        if not gone:
            yield shard
            continue
        digest = hashlib.sha256("\n".join([shard.digest, *sorted(gone)]).encode()).hexdigest()
        yield replace(shard, digest=digest, num_samples=shard.num_samples - len(gone), removed=frozenset(gone))


def settings_of(told: Mapping[str, Any]) -> SampleSettings:
    """The sample settings that a shard's JSON tells."""
    return SampleSettings(
        modalities=told["modalities"],
        frames=FrameSettings.from_dict(told["frames"]) if told["frames"] else FrameSettings(),
        mel=MelSettings.from_dict(told["mel"]) if told["mel"] else MelSettings.valor(),
        include=tuple(told["include"]),
    )


def _one_setting(output: Output, beside: Mapping[str, Mapping[str, Any]]) -> SampleSettings:
    made: dict[str, str] = {}
    for name, told in beside.items():
        made.setdefault(json.dumps(told["settings"], sort_keys=True), name)
    if len(made) > 1:
        names = ", ".join(sorted(made.values()))
        raise ShardError(
            f"{output.place}: shards were made with different settings ({names}); run `valor-data shard` once, it "
            "builds the old ones anew"
        )
    return settings_of(json.loads(next(iter(made))))


def _names(sizes: Mapping[str, int], split: str) -> list[str]:
    names = (Path(name).stem for name in sizes if name.startswith("index/") and name.endswith(".json"))
    return sorted(name for name in names if not split or name.rpartition("-")[0] == split)


def _tars(sizes: Mapping[str, int], split: str) -> list[str]:
    names = (Path(name).stem for name in sizes if name.startswith("shards/") and name.endswith(".tar"))
    return sorted(name for name in names if not split or name.rpartition("-")[0] == split)


def _sidecar(output: Output, name: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(output.read(json_of(name)))
        if told.keys() >= {"split", "shard", "digest", "num_samples", "tar_bytes", "settings"}:
            return told
        problem = "values are missing"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise ShardError(f"{name}.json: cannot be read ({problem}); run `valor-data shard` again")


def _refuse_half_built(work: WorkDir, standing: set[str], split: str) -> None:
    """Looks at the plan: every shard of it must be finished, and what it should be."""
    missing, stale = [], []
    with Ledger(work.ledger, read_only=True) as ledger:
        finished = ledger.finished_shards()
        planned = [place for place in ledger.planned_shards() if not split or place[0] == split]
        for place in planned:
            name, known = shard_name(*place), finished.get(place)
            if known is None or name not in standing:
                missing.append(name)
            elif known.touched and _is_stale(ledger, known, work):
                stale.append(name)
    total = len(planned)
    if missing:
        raise ShardError(
            f"{len(missing)} of {total} shards are not built ({_some(missing, verb=False)}): run `valor-data shard`, "
            "with --partial if clips still wait, and then again"
        )
    if stale:
        raise ShardError(
            f"{len(stale)} of {total} shards are stale ({_some(stale, verb=False)}): clips, captions or settings "
            "changed since; run `valor-data shard`, and then again"
        )


def _is_stale(ledger: Ledger, known: ShardRow, work: WorkDir) -> bool:
    """Whether a shard that something has touched is no longer what should stand there."""
    told = _sidecar(output_of_work(work), shard_name(known.split, known.shard))
    wanted = [clip for clip in ledger.planned(known.split, known.shard) if clip.wanted or clip.unmeasured]
    if any(clip.unmeasured for clip in wanted):
        return True
    return shard_digest(settings_of(told["settings"]), map(digest_of, wanted)) != known.digest


def _some(names: list[str], *, verb: bool = True) -> str:
    shown = ", ".join(names[:_NUM_SHOWN]) + (", …" if len(names) > _NUM_SHOWN else "")
    return shown if not verb else f"{shown} {'is' if len(names) == 1 else 'are'}"
