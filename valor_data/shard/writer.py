"""Writing one shard in a worker: the tar, its row-per-clip Parquet and its JSON of counts.

The tar holds no clock, host name, path or attempt count: the same media, settings and package versions give
the same bytes, in whatever order shards are made and however many workers make them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.errors import ShardError, Status
from valor_data.guard import working_on
from valor_data.ledger import Outcome
from valor_data.shard import shard_name
from valor_data.shard.output import (
    EXTENSIONS,
    FolderOutput,
    Output,
    extension_of,
    json_of,
    open_output,
    rows_of,
    tar_of,
)
from valor_data.shard.sample import Judge, Made, SampleRequest, SampleSettings, make_members, remake_members
from valor_data.shard.tar import FormerShard, Member, TarFile
from valor_data.workdir import WorkDir, flush_to_disk, of_this_machine, written_aside

if TYPE_CHECKING:
    import pyarrow as pa

SIDECAR_SCHEMA_VERSION = 1

VERSIONED_PACKAGES = ("av", "numpy", "simplejpeg", "torch", "torchaudio", "valor-data")
"""Packages whose version can change the bytes of a sample."""


@dataclass(frozen=True, slots=True)
class SliceRow:
    """A clip of a shard's slice: how it stands before the shard is made."""

    clip_id: int
    name: str
    video_id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShardUnit:
    """The work of one call: a planned shard.

    Attributes:
        output: where the shard goes; empty: the work folder.
    """

    split: str
    shard: int
    slice_rows: tuple[SliceRow, ...]
    requests: tuple[SampleRequest, ...]
    settings: SampleSettings
    judge: Judge
    work: Path
    tmp: Path
    clip_deadline_seconds: float
    clip_memory_bytes: int = 0
    output: str = ""

    @property
    def requested(self) -> frozenset[int]:
        """Ids of the clips to make samples of."""
        return frozenset(request.clip_id for request in self.requests)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard.

    Attributes:
        measured: clip id to facts as JSON, for clips that were measured on the way.
        judged: clip id to what the judge said of them.
        dropped: clip id to (reason, detail), for clips that could not be decoded after all.
        lost: clips whose media file is gone; then nothing was written.
        digest: of what the shard was made of; see `shard_digest`.
    """

    split: str
    shard: int
    dropped: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    measured: Mapping[int, str] = field(default_factory=dict)
    judged: Mapping[int, Outcome] = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    digest: str = ""
    num_samples: int = 0
    size_bytes: int = 0
    tar_sha256: str = ""


def shard_digest(settings: SampleSettings, clip_digests: Iterable[str]) -> str:
    """What a shard is made of: its kept clips, what they show, and the sample settings."""
    return digest_with(settings.to_dict(), clip_digests)


def digest_with(settings: Mapping[str, Any], clip_digests: Iterable[str]) -> str:
    """`shard_digest` for sample settings as the shard's JSON holds them."""
    hasher = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for digest in clip_digests:
        hasher.update(b"\n" + digest.encode())
    return hasher.hexdigest()


def build_shard(unit: ShardUnit) -> ShardResult:
    """Makes a planned shard and puts it in place: tar, Parquet, and the JSON last.

    Returns:
        What became of it. A clip that cannot be decoded is left out and reported; a media file that is gone
        stops the shard before anything is replaced.

    Raises:
        StoreError: the shard is complete in the temporary folder, and could not be uploaded; `finish_moves` will.
    """
    output = open_output(unit.work, unit.output)
    name = shard_name(unit.split, unit.shard)
    folder = unit.tmp / of_this_machine(name)
    folder.mkdir(parents=True, exist_ok=True)
    tar_path = folder / f"{name}.tar"
    former = FormerShard(output, name)
    batch = _Batch()
    with TarFile(tar_path) as tar:
        for request in unit.requests:
            with working_on(str(request.clip_id), unit.clip_deadline_seconds, unit.clip_memory_bytes):
                try:
                    made = _make(request, unit, former, folder)
                except FileNotFoundError:
                    batch.lost.append(request.clip_id)
                    continue
            batch.add(request, made)
            if made.members is not None:
                batch.members[request.key] = tar.add_sample(request.key, made.members)
    if batch.lost:
        tar_path.unlink()
        return ShardResult(unit.split, unit.shard, dropped=batch.dropped, lost=tuple(batch.lost))
    size, sha256 = (tar.size, tar.sha256) if batch.digests else (0, "")
    result = batch.result(unit, shard_digest(unit.settings, batch.digests), size, sha256)
    _put_in_place(output, folder, unit, result, batch.members)
    return result


@dataclass(slots=True)
class _Batch:
    """What is gathered while a shard is made."""

    dropped: dict[int, tuple[str, str]] = field(default_factory=dict)
    measured: dict[int, str] = field(default_factory=dict)
    judged: dict[int, Outcome] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    members: dict[str, list[Member]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)

    def add(self, request: SampleRequest, made: Made) -> None:
        """Takes note of one clip."""
        if made.judged is not None:
            self.judged[request.clip_id] = made.judged
            if made.facts is not None:
                self.measured[request.clip_id] = made.facts
        if made.refusal is not None:
            self.dropped[request.clip_id] = (made.refusal.reason, made.refusal.detail)
        if made.members is not None:
            self.digests.append(clip_digest(request.key, request.content, made.facts or "", request.source))

    def result(self, unit: ShardUnit, digest: str, size_bytes: int, sha256: str) -> ShardResult:
        """The shard's result."""
        return ShardResult(
            unit.split,
            unit.shard,
            dropped=self.dropped,
            measured=self.measured,
            judged=self.judged,
            lost=tuple(self.lost),
            digest=digest,
            num_samples=len(self.digests),
            size_bytes=size_bytes,
            tar_sha256=sha256,
        )


def clip_digest(key: str, content: str, facts: str, source: str) -> str:
    """Everything of a clip that its sample shows, besides the media themselves."""
    return hashlib.blake2b("\x1f".join((key, content, facts, source)).encode(), digest_size=16).hexdigest()


def sample_size_bytes(work: tuple[SampleRequest, SampleSettings, Judge, Path]) -> int | None:
    """Bytes that a clip's sample takes in a tar; None when it cannot be made."""
    try:
        made = make_members(*work)
    except FileNotFoundError:
        return None
    if made.members is None:
        return None
    return sum(tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE)) for data in made.members.values())


def _make(request: SampleRequest, unit: ShardUnit, former: FormerShard, scratch: Path) -> Made:
    if request.path is None:
        members = remake_members(request, unit.settings, former.members(request.key, unit.settings))
        return Made(members, request.facts)
    made = make_members(request, unit.settings, unit.judge, scratch)
    if made.members is not None and tuple(sorted(made.members)) != unit.settings.member_names():
        raise ShardError(f"{request.key}: made {sorted(made.members)}, expected {unit.settings.member_names()}")
    return made


def _put_in_place(
    output: Output, folder: Path, unit: ShardUnit, result: ShardResult, members: Mapping[str, list[Member]]
) -> None:
    name = shard_name(unit.split, unit.shard)
    _write_index(folder / f"{name}.parquet", unit, result, members)
    flush_to_disk(folder / f"{name}.parquet")
    # The JSON is the mark that the folder is complete: from here on `finish_moves` ends what a kill interrupts.
    with written_aside(folder / f"{name}.json") as path:
        path.write_text(json.dumps(sidecar(unit, result), indent=1, sort_keys=True) + "\n")
    move_in_place(output, folder, name, has_tar=result.num_samples > 0)


def finish_moves(work: WorkDir, output: Output | None = None) -> list[str]:
    """Ends what killed runs began: shards that are complete in the temporary folders are put in place.

    Args:
        work: the work folder.
        output: where its shards go; None: the work folder.

    Returns:
        Names of the shards that were.

    Raises:
        StoreError: one could not be uploaded; it stays for the next time.
    """
    finished = []
    for mark in complete_shards(work):
        place = output or FolderOutput(work.root)
        if mark.parents[2].name == EXTENSIONS:
            place = extension_of(place, mark.parents[1].name)
        has_tar = json.loads(mark.read_text())["num_samples"] > 0
        move_in_place(place, mark.parent, mark.stem, has_tar=has_tar)
        finished.append(mark.stem)
    return finished


def complete_shards(work: WorkDir) -> list[Path]:
    """JSON files of shards that are complete in the temporary folders, of the set's and of its extensions'."""
    found = [
        path
        for folder in work.tmp_folders()
        for pattern in ("*/*.json", f"{EXTENSIONS}/*/*/*.json")
        for path in folder.glob(pattern)
    ]
    return sorted(path for path in found if path.parent.name.rpartition("@")[0] == path.stem)


def move_in_place(output: Output, folder: Path, name: str, *, has_tar: bool) -> None:
    """Moves a shard that is complete in a folder to its place; a tar that is not in the folder stays as it is."""
    # Without its JSON a shard is not finished: the old one goes first, the new one comes last.
    output.remove([json_of(name)])
    if not has_tar:
        output.remove([tar_of(name)])
    elif (folder / f"{name}.tar").exists():
        output.put(folder / f"{name}.tar", tar_of(name))
    if (folder / f"{name}.parquet").exists():
        output.put(folder / f"{name}.parquet", rows_of(name))
    output.put(folder / f"{name}.json", json_of(name))
    shutil.rmtree(folder, ignore_errors=True)


def sidecar(unit: ShardUnit, result: ShardResult) -> dict[str, Any]:
    """The JSON beside a shard: counts, digest, settings, versions, and the tar's hash."""
    counts: Counter[str] = Counter()
    requested = unit.requested
    for row in unit.slice_rows:
        status, reason = _standing(row, requested, result)
        counts[f"{status}:{reason}" if reason else status] += 1
    names = {row.clip_id: row.name for row in unit.slice_rows}
    return {
        "schema_version": SIDECAR_SCHEMA_VERSION,
        "split": unit.split,
        "shard": unit.shard,
        "num_clips": len(unit.slice_rows),
        "num_samples": result.num_samples,
        "counts": dict(counts),
        "dropped_here": {names[number]: list(why) for number, why in result.dropped.items()},
        "digest": result.digest,
        "tar_sha256": result.tar_sha256,
        "tar_bytes": result.size_bytes,
        "settings": unit.settings.to_dict(),
        "versions": package_versions(),
    }


def _standing(row: SliceRow, requested: frozenset[int], result: ShardResult) -> tuple[str, str]:
    """How a clip of the slice stands once the shard is made."""
    if row.clip_id in result.dropped:
        return Status.DROPPED.value, result.dropped[row.clip_id][0]
    judged = result.judged.get(row.clip_id)
    if judged is not None and judged.status is not Status.KEPT:
        return judged.status.value, judged.reason
    if row.clip_id in requested:
        return Status.KEPT.value, ""
    return row.status, row.reason


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change the bytes of a sample."""
    return {name: metadata.version(name) for name in VERSIONED_PACKAGES}


def index_schema() -> pa.Schema:
    """The columns of a shard's Parquet."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    member = pa.struct([("name", text), ("offset", number), ("size", number), ("sha256", text)])
    texts = [(name, text) for name in ("key", "video_id", "split", "status", "reason")]
    columns: Any = [*texts, ("size_bytes", number), ("members", pa.list_(member))]
    return pa.schema(columns)


def _write_index(path: Path, unit: ShardUnit, result: ShardResult, members: Mapping[str, list[Member]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = {request.clip_id: request.key for request in unit.requests}
    rows, requested = [], unit.requested
    for row in unit.slice_rows:
        status, reason = _standing(row, requested, result)
        files = members.get(keys.get(row.clip_id, ""), [])
        rows.append(
            {
                "key": keys.get(row.clip_id, row.name),
                "video_id": row.video_id,
                "split": unit.split,
                "status": status,
                "reason": reason,
                "size_bytes": sum(member.size for member in files),
                "members": [{"name": m.name, "offset": m.offset, "size": m.size, "sha256": m.sha256} for m in files],
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema()), path, compression="zstd")
