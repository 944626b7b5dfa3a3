"""Editions: what of a build is published. `features` is made of a `media` build by leaving members out of its tars.

A tar that was made so has the bytes that a build without video and sound would have written, and so have its Parquet
and its JSON: what is published does not tell from which build it came.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from valor_data.errors import PublishError, Status
from valor_data.ledger import Ledger
from valor_data.publish.built import Built, Shard, local_tar
from valor_data.road.shard_states import digest_of
from valor_data.shard.sample import SampleSettings
from valor_data.shard.tar import TarFile, member_header
from valor_data.shard.writer import index_schema, shard_digest

MEDIA_MEMBERS = ("flac", "mp4")
"""Extensions of the members that only the `media` edition carries."""

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE


def check_edition(built: Built, edition: str) -> None:
    """Whether a build has what an edition carries.

    Raises:
        PublishError: it does not; the message says how to build it.
    """
    if edition == "media" and not built.settings.include:
        wanted = {"av": "video,audio", "v": "video", "a": "audio"}[built.settings.modalities]
        raise PublishError(
            "edition media: the shards hold no video and no sound, only pictures, mel and text; build them with "
            f"`valor-data shard --include {wanted} --work {built.work.root}`, or push --edition features"
        )


def is_derived(built: Built, edition: str) -> bool:
    """Whether the edition's tars have to be made of those that stand."""
    return edition == "features" and bool(built.settings.include)


def edition_settings(built: Built, edition: str) -> SampleSettings:
    """What the samples of the edition hold."""
    return replace(built.settings, include=()) if edition == "features" else built.settings


@dataclass(frozen=True, slots=True)
class Derived:
    """A shard of an edition that holds less, as it will be.

    Attributes:
        rows: its Parquet.
        sidecar: its JSON; `tar_sha256` is empty until the tar was made.
        size_bytes: of its tar; 0 where it has no samples.
    """

    rows: bytes
    sidecar: dict[str, Any]
    size_bytes: int

    def json(self, tar_sha256: str) -> bytes:
        """The bytes of its JSON."""
        return (json.dumps({**self.sidecar, "tar_sha256": tar_sha256}, indent=1, sort_keys=True) + "\n").encode()


def derive_index(built: Built, shard: Shard, ledger: Ledger) -> Derived:
    """Works out a shard without its media members, from its index alone: no tar is read.

    Raises:
        PublishError: the index cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(built.index(shard.name)))
    except (OSError, pa.ArrowInvalid) as error:
        raise PublishError(f"index/{shard.name}.parquet: cannot be read ({error}); run `valor-data shard`") from None
    rows = table.to_pylist()
    position = 0
    for row in rows:
        members = []
        for member in _kept_members(row["key"], row["members"]):
            position += len(member_header(member["name"], member["size"]))
            members.append({**member, "offset": position})
            position += _padded(member["size"], BLOCK)
        row["members"], row["size_bytes"] = members, sum(member["size"] for member in members)
    size = _padded(position + 2 * BLOCK, RECORD) if position else 0
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema()), buffer, compression="zstd")
    settings = edition_settings(built, "features")
    sidecar = {
        **shard.sidecar,
        "settings": settings.to_dict(),
        "tar_bytes": size,
        "digest": _digest(shard, settings, ledger),
        "tar_sha256": "",
    }
    return Derived(buffer.getvalue(), sidecar, size)


def _digest(shard: Shard, settings: SampleSettings, ledger: Ledger) -> str:
    left_out = shard.sidecar["dropped_here"]
    clips = ledger.planned(shard.split, int(shard.sidecar["shard"]))
    made_of = (clip for clip in clips if clip.wanted and (clip.key or clip.identity) not in left_out)
    return shard_digest(settings, map(digest_of, made_of))


def _padded(size: int, to: int) -> int:
    return -(-size // to) * to


def _kept_members(key: str, members: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for member in members:
        if member["name"][len(key) + 1 :] not in MEDIA_MEMBERS:
            yield dict(member)


def derive_tar(built: Built, shard: Shard, target: Path) -> str:
    """Writes a shard's tar without its media members.

    Args:
        built: the build.
        shard: one of its shards, with samples.
        target: the file to write.

    Returns:
        Its sha256.

    Raises:
        PublishError: the tar does not hold what its index says.
    """
    import pyarrow.parquet as pq

    rows = pq.read_table(io.BytesIO(built.index(shard.name)), columns=["key", "status", "members"]).to_pylist()
    source = local_tar(built, shard.name, target.parent / "source")
    with source.open("rb") as stream, TarFile(target) as tar:
        for row in rows:
            if row["status"] == Status.KEPT.value:
                tar.add_sample(row["key"], _read_members(stream, row, shard.name))
    if source.parent == target.parent / "source":
        source.unlink()
    return tar.sha256


def _read_members(stream: IO[bytes], row: dict[str, Any], name: str) -> dict[str, bytes]:
    files = {}
    for member in _kept_members(row["key"], row["members"]):
        stream.seek(member["offset"])
        data = stream.read(member["size"])
        if hashlib.sha256(data).hexdigest() != member["sha256"]:
            raise PublishError(
                f"{name}.tar: {member['name']} is not what its index says; run `valor-data verify`, then `shard`"
            )
        files[member["name"][len(row["key"]) + 1 :]] = data
    return files
