"""Writing one shard in a worker: the tar, its row-per-clip Parquet and its JSON of counts.

The tar holds no clock, host name, path or attempt count: the same media, settings and package versions give
the same bytes, in whatever order shards are made and however many workers make them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from valor_data.errors import ClipError, ShardError, Status
from valor_data.guard import working_on
from valor_data.shard import shard_name
from valor_data.shard.sample import SampleRequest, SampleSettings, make_members, remake_members
from valor_data.workdir import WorkDir, flush_to_disk, publish, written_aside

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
    """The work of one call: a planned shard."""

    split: str
    shard: int
    slice_rows: tuple[SliceRow, ...]
    requests: tuple[SampleRequest, ...]
    settings: SampleSettings
    work: Path
    tmp: Path
    clip_deadline_seconds: float


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard.

    Attributes:
        dropped: clip id to (reason, detail), for clips that could not be decoded after all.
        lost: clips whose media file is gone; then nothing was written.
        digest: of what the shard was made of; see `shard_digest`.
    """

    split: str
    shard: int
    dropped: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    digest: str = ""
    num_samples: int = 0
    size_bytes: int = 0
    tar_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a tar: where its bytes are."""

    name: str
    offset: int
    size: int
    sha256: str


def shard_digest(settings: SampleSettings, clip_digests: Iterable[str]) -> str:
    """What a shard is made of: its kept clips, what they show, and the sample settings."""
    hasher = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())
    for digest in clip_digests:
        hasher.update(b"\n" + digest.encode())
    return hasher.hexdigest()


def build_shard(unit: ShardUnit) -> ShardResult:
    """Makes a planned shard and puts it in place: tar, Parquet, and the JSON last.

    Returns:
        What became of it. A clip that cannot be decoded is left out and reported; a media file that is gone
        stops the shard before anything is replaced.
    """
    work = WorkDir.at(unit.work)
    name = shard_name(unit.split, unit.shard)
    folder = unit.tmp / name
    folder.mkdir(parents=True, exist_ok=True)
    tar_path = folder / f"{name}.tar"
    former = FormerShard(work, name)
    dropped: dict[int, tuple[str, str]] = {}
    lost: list[int] = []
    members: dict[str, list[Member]] = {}
    with TarFile(tar_path) as tar:
        for request in unit.requests:
            with working_on(str(request.clip_id), unit.clip_deadline_seconds):
                try:
                    files = _members_of(request, unit.settings, former, folder)
                except ClipError as refusal:
                    dropped[request.clip_id] = (refusal.reason, refusal.detail)
                    continue
                except FileNotFoundError:
                    lost.append(request.clip_id)
                    continue
            members[request.key] = tar.add_sample(request.key, files)
    if lost:
        tar_path.unlink()
        return ShardResult(unit.split, unit.shard, dropped=dropped, lost=tuple(lost))
    kept = [request for request in unit.requests if request.clip_id not in dropped]
    result = ShardResult(
        unit.split,
        unit.shard,
        dropped=dropped,
        digest=shard_digest(unit.settings, (request.digest for request in kept)),
        num_samples=len(kept),
        size_bytes=tar.size if kept else 0,
        tar_sha256=tar.sha256 if kept else "",
    )
    _put_in_place(work, folder, unit, result, members)
    return result


def sample_size_bytes(work: tuple[SampleRequest, SampleSettings, Path]) -> int | None:
    """Bytes that a clip's sample takes in a tar; None when it cannot be made."""
    request, settings, scratch = work
    try:
        files = make_members(request, settings, scratch)
    except (ClipError, FileNotFoundError):
        return None
    return sum(tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE)) for data in files.values())


def _members_of(
    request: SampleRequest, settings: SampleSettings, former: FormerShard, scratch: Path
) -> dict[str, bytes]:
    if request.path is None:
        return remake_members(request, settings, former.members(request.key, settings))
    members = make_members(request, settings, scratch)
    if tuple(sorted(members)) != settings.member_names():
        raise ShardError(f"{request.key}: made {sorted(members)}, expected {settings.member_names()}")
    return members


def _put_in_place(
    work: WorkDir, folder: Path, unit: ShardUnit, result: ShardResult, members: Mapping[str, list[Member]]
) -> None:
    name = shard_name(unit.split, unit.shard)
    _write_index(folder / f"{name}.parquet", unit, result, members)
    flush_to_disk(folder / f"{name}.parquet")
    # The JSON is the mark that the folder is complete: from here on `finish_moves` ends what a kill interrupts.
    with written_aside(folder / f"{name}.json") as path:
        path.write_text(json.dumps(sidecar(unit, result), indent=1, sort_keys=True) + "\n")
    _move_in_place(work, folder, name, has_tar=result.num_samples > 0)


def finish_moves(work: WorkDir) -> list[str]:
    """Ends what killed runs began: shards that are complete in the temporary folder are put in place.

    Returns:
        Names of the shards that were.
    """
    finished = []
    for mark in sorted(work.tmp.glob("*/*/*.json")):
        if mark.parent.name == mark.stem:
            _move_in_place(work, mark.parent, mark.stem, has_tar=json.loads(mark.read_text())["num_samples"] > 0)
            finished.append(mark.stem)
    return finished


def _move_in_place(work: WorkDir, folder: Path, name: str, *, has_tar: bool) -> None:
    # Without its JSON a shard is not finished: the old one goes first, the new one comes last.
    (work.index / f"{name}.json").unlink(missing_ok=True)
    if not has_tar:
        (work.shards / f"{name}.tar").unlink(missing_ok=True)
    elif (folder / f"{name}.tar").exists():
        publish(folder / f"{name}.tar", work.shards / f"{name}.tar")
    if (folder / f"{name}.parquet").exists():
        publish(folder / f"{name}.parquet", work.index / f"{name}.parquet")
    publish(folder / f"{name}.json", work.index / f"{name}.json")
    shutil.rmtree(folder, ignore_errors=True)


def sidecar(unit: ShardUnit, result: ShardResult) -> dict[str, Any]:
    """The JSON beside a shard: counts, digest, settings, versions, and the tar's hash."""
    kept = {request.clip_id for request in unit.requests} - set(result.dropped)
    counts: Counter[str] = Counter()
    for row in unit.slice_rows:
        if row.clip_id in kept:
            counts["kept"] += 1
        elif row.clip_id in result.dropped:
            counts[f"dropped:{result.dropped[row.clip_id][0]}"] += 1
        else:
            counts[f"{row.status}:{row.reason}"] += 1
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


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change the bytes of a sample."""
    return {name: metadata.version(name) for name in VERSIONED_PACKAGES}


def _write_index(path: Path, unit: ShardUnit, result: ShardResult, members: Mapping[str, list[Member]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = {request.clip_id: request.key for request in unit.requests if request.clip_id not in result.dropped}
    rows = []
    for row in unit.slice_rows:
        status, reason = row.status, row.reason
        if row.clip_id in result.dropped:
            status, reason = Status.DROPPED.value, result.dropped[row.clip_id][0]
        files = members[kept[row.clip_id]] if row.clip_id in kept else []
        rows.append(
            {
                "key": kept.get(row.clip_id, row.name),
                "video_id": row.video_id,
                "split": unit.split,
                "status": Status.KEPT.value if row.clip_id in kept else status,
                "reason": "" if row.clip_id in kept else reason,
                "size_bytes": sum(member.size for member in files),
                "members": [{"name": m.name, "offset": m.offset, "size": m.size, "sha256": m.sha256} for m in files],
            }
        )
    text, number = pa.string(), pa.int64()
    member = pa.struct([("name", text), ("offset", number), ("size", number), ("sha256", text)])
    texts = [(name, text) for name in ("key", "video_id", "split", "status", "reason")]
    columns: Any = [*texts, ("size_bytes", number), ("members", pa.list_(member))]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), path, compression="zstd")


class TarFile:
    """A tar written member by member, hashed on the way. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._hasher = hashlib.sha256()
        self.size = 0
        # GNU form: like plain ustar for names up to 100 characters, and sound for longer ones.
        self._tar = tarfile.TarFile(mode="w", fileobj=self, format=tarfile.GNU_FORMAT)  # type: ignore[arg-type]

    def write(self, data: bytes) -> int:
        """Takes the tar's bytes, in order."""
        self._hasher.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def add_sample(self, key: str, files: Mapping[str, bytes]) -> list[Member]:
        """Adds the members of a sample, sorted by name, side by side.

        Returns:
            Where the bytes of each member are.
        """
        members = []
        for extension in sorted(files):
            data = files[extension]
            info = tarfile.TarInfo(f"{key}.{extension}")
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            self._tar.addfile(info, _Bytes(data))
            padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            digest = hashlib.sha256(data).hexdigest()
            members.append(Member(info.name, self.size - padded, len(data), digest))
        return members

    def __enter__(self) -> TarFile:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    @property
    def sha256(self) -> str:
        """Hash of the whole tar; final once it is closed."""
        return self._hasher.hexdigest()


class _Bytes:
    """The least that `tarfile` asks of a file to read from."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        part = self._data[self._at : end]
        self._at += len(part)
        return part


class FormerShard:
    """The shard that stands where a new one will come: members of clips whose media were discarded."""

    def __init__(self, work: WorkDir, name: str) -> None:
        self._tar = work.shards / f"{name}.tar"
        self._index = work.index / f"{name}.parquet"
        self._members: dict[str, list[dict[str, Any]]] | None = None

    def members(self, key: str, settings: SampleSettings) -> dict[str, bytes]:
        """Extension to bytes of a clip.

        Raises:
            FileNotFoundError: the former shard does not hold the clip, or with other settings.
        """
        if self._members is None:
            self._members = self._read_index(settings)
        if key not in self._members:
            raise FileNotFoundError(f"{key}: its media were discarded, and {self._tar.name} does not hold it")
        files = {}
        with self._tar.open("rb") as stream:
            for member in self._members[key]:
                stream.seek(member["offset"])
                data = stream.read(member["size"])
                if hashlib.sha256(data).hexdigest() != member["sha256"]:
                    raise FileNotFoundError(f"{member['name']} in {self._tar.name} is damaged")
                files[member["name"][len(key) + 1 :]] = data
        return files

    def _read_index(self, settings: SampleSettings) -> dict[str, list[dict[str, Any]]]:
        import pyarrow.parquet as pq

        sidecar_path = self._index.with_suffix(".json")
        if not (self._index.is_file() and self._tar.is_file() and sidecar_path.is_file()):
            return {}
        if json.loads(sidecar_path.read_text())["settings"] != settings.to_dict():
            return {}
        rows = pq.read_table(self._index, columns=["key", "status", "members"]).to_pylist()
        return {row["key"]: row["members"] for row in rows if row["status"] == Status.KEPT.value}
