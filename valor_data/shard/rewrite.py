"""A finished shard written anew from its own bytes: some samples left out, or some of their members changed.

What is not changed keeps its bytes; schema and metadata of the Parquet stay; the shard keeps its name and number.
It comes into being as every shard does: complete under `tmp/` first, then moved, the JSON last.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from valor_data.errors import ShardError, Status
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, rows_of, tar_of
from valor_data.shard.tar import TarFile
from valor_data.shard.writer import move_in_place
from valor_data.workdir import flush_to_disk, of_this_machine, written_aside

Change = Callable[[str, dict[str, bytes]], Mapping[str, bytes]]
"""Given a sample's key and its members (extension to bytes): the members that take their place."""

REMOVED = "removed"
"""The reason of a row whose clip was removed; the row itself says no more."""

KEPT_COLUMNS = frozenset({"split", "status", "reason"})


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What becomes of a shard.

    Attributes:
        erase: of a row's key and video id: whether the clip is to vanish.
        digest: given the JSON as it was and the keys that stay: the digest of what the shard is made of now.
        change: what the samples that stay become; None: they stay as they are.
    """

    erase: Callable[[str, str], bool]
    digest: Callable[[dict[str, Any], list[str]], str]
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of it.

    Attributes:
        num_erased: rows that say no more; their samples are gone.
        num_changed: samples whose bytes are others now.
        has_new_tar: whether the tar is another one.
    """

    split: str
    shard: int
    digest: str
    num_samples: int
    size_bytes: int
    tar_sha256: str
    num_erased: int
    num_changed: int
    has_new_tar: bool

    @property
    def name(self) -> str:
        """The shard's name."""
        return shard_name(self.split, self.shard)


def rows_to_erase(output: Output, name: str, erase: Callable[[str, str], bool]) -> int:
    """How many rows of a shard's Parquet are to vanish; 0 where there is no Parquet.

    Args:
        output: where the shard stands.
        name: its name.
        erase: see `Rewriting`.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(output.read(rows_of(name))), columns=["key", "video_id"])
    except FileNotFoundError:
        return 0
    names = (table[column].to_pylist() for column in ("key", "video_id"))
    return sum(erase(str(key), str(video_id)) for key, video_id in zip(*names, strict=True))


def rewrite_shard(output: Output, name: str, tmp: Path, work: Rewriting, into: Output | None = None) -> Rewritten:
    """Writes a shard anew and puts it in place.

    Args:
        output: where it stands.
        name: its name.
        tmp: the temporary folder of this process.
        work: what becomes of it.
        into: where the new one goes, the old one stays; None: in its place.

    Raises:
        ShardError: it is not finished, or its bytes are not those of its Parquet.
        StoreError: it could not be uploaded; it is complete in the temporary folder, and `finish_moves` will.
    """
    folder = tmp / of_this_machine(name)
    folder.mkdir(parents=True, exist_ok=True)
    sidecar, schema, rows = _read_sidecars(output, name)
    erased = [work.erase(row["key"], row["video_id"]) for row in rows]
    kept = [row for row, gone in zip(rows, erased, strict=True) if not gone and _is_kept(row)]
    lost_samples = sum(_is_kept(row) for row, gone in zip(rows, erased, strict=True) if gone)
    names = {row["key"] for row, gone in zip(rows, erased, strict=True) if gone}
    num_changed, size, sha256 = 0, sidecar["tar_bytes"], sidecar["tar_sha256"]
    has_new_tar = bool(lost_samples or work.change or into)
    if has_new_tar and kept:
        num_changed, size, sha256 = _write_tar(output, name, folder, kept, work.change)
        has_new_tar = bool(lost_samples or num_changed or into)
    elif has_new_tar:
        size, sha256 = 0, ""
    if not has_new_tar:
        (folder / f"{name}.tar").unlink(missing_ok=True)
    rows = [_emptied(row) if gone else row for row, gone in zip(rows, erased, strict=True)]
    sidecar |= {
        "num_samples": len(kept),
        "counts": dict(Counter(f"{r['status']}:{r['reason']}" if r["reason"] else r["status"] for r in rows)),
        "dropped_here": {key: why for key, why in sidecar["dropped_here"].items() if key not in names},
        "digest": work.digest(sidecar, [row["key"] for row in kept]),
        "tar_bytes": size,
        "tar_sha256": sha256,
    }
    _write_sidecars(folder, name, sidecar, schema, rows)
    move_in_place(into or output, folder, name, has_tar=bool(kept))
    return Rewritten(
        sidecar["split"], sidecar["shard"], sidecar["digest"], len(kept), size, sha256, sum(erased), num_changed,
        has_new_tar,
    )  # fmt: skip


def _is_kept(row: Mapping[str, Any]) -> bool:
    return bool(row["status"] == Status.KEPT.value)


def _read_sidecars(output: Output, name: str) -> tuple[dict[str, Any], Any, list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        sidecar = json.loads(output.read(json_of(name)))
        table = pq.read_table(io.BytesIO(output.read(rows_of(name))))
        if not {"num_samples", "tar_bytes", "tar_sha256", "digest", "dropped_here"} <= sidecar.keys():
            raise ValueError("fields are missing")
    except (OSError, ValueError, pa.ArrowException) as error:
        told = f"{name}: its JSON or Parquet cannot be read ({error}); run `valor-data shard` first"
        raise ShardError(told) from None
    return sidecar, table.schema, table.to_pylist()


def read_members(stream: IO[bytes], name: str, row: Mapping[str, Any]) -> dict[str, bytes]:
    """The members of one sample of a tar, by extension, each with the bytes that its row promises.

    Args:
        stream: the tar.
        name: the shard's name, for messages.
        row: of the shard's Parquet; a kept clip's.

    Raises:
        ShardError: other bytes stand there.
    """
    files = {}
    for member in row["members"]:
        stream.seek(member["offset"])
        data = stream.read(member["size"])
        if hashlib.sha256(data).hexdigest() != member["sha256"]:
            raise ShardError(
                f"{name}/{member['name']}: its bytes are not those of {name}.parquet; build it again first"
            )
        files[member["name"][len(row["key"]) + 1 :]] = data
    return files


def _write_tar(
    output: Output, name: str, folder: Path, kept: Sequence[dict[str, Any]], change: Change | None
) -> tuple[int, int, str]:
    """Writes the tar of the samples that stay and notes their new places; how many changed, its size, its hash."""
    num_changed = 0
    old = folder / "former"
    old.mkdir(exist_ok=True)
    with output.local(tar_of(name), old).open("rb") as stream, TarFile(folder / f"{name}.tar") as tar:
        for row in kept:
            files = read_members(stream, name, row)
            new = files if change is None else change(row["key"], files)
            num_changed += new != files
            row["members"] = [asdict(member) for member in tar.add_sample(row["key"], new)]
            row["size_bytes"] = sum(member["size"] for member in row["members"])
    return num_changed, tar.size, tar.sha256


def _emptied(row: dict[str, Any]) -> dict[str, Any]:
    """A row that only says that there was a clip: its name is drawn, everything else is empty."""
    blank = {column: value if column in KEPT_COLUMNS else _empty(value) for column, value in row.items()}
    told = {"key": f"removed-{secrets.token_hex(8)}", "status": Status.DROPPED.value, "reason": REMOVED}
    return {**blank, **told}


def _empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _empty(one) for name, one in value.items()}
    return None if value is None else type(value)()


def _write_sidecars(
    folder: Path, name: str, sidecar: Mapping[str, Any], schema: Any, rows: list[dict[str, Any]]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet", compression="zstd")
    flush_to_disk(folder / f"{name}.parquet")
    with written_aside(folder / f"{name}.json") as path:
        path.write_text(json.dumps(sidecar, indent=1, sort_keys=True) + "\n")


def shards_at(output: Output) -> Iterator[str]:
    """Names of the shards that have a JSON, in order."""
    for name in sorted(output.sizes()):
        if name.startswith("index/") and name.endswith(".json"):
            yield Path(name).stem
