"""Reads every shard as a stranger would, and compares what it finds with its sidecars and the ledger."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from valor_data.clip import parse_key
from valor_data.errors import ManifestError, Status
from valor_data.ledger import Ledger
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, open_output, output_of, rows_of, tar_of
from valor_data.shard.reader import read_fault
from valor_data.tombstones import local_tombstones
from valor_data.workdir import WorkDir

CHUNK_BYTES = 1 << 20

MEMBERS_SHOWN = 5
"""Changed members of a shard that are named; of a damaged tar it could be all."""

_SIDECAR_FIELDS = {"num_samples", "num_clips", "counts", "tar_sha256"}
_INDEX_COLUMNS = ["key", "status", "reason", "members"]


@dataclass(slots=True)
class Verification:
    """What was read and what is wrong.

    Attributes:
        num_shards: shards read.
        num_samples: samples read.
        problems: a line for each fault, beginning with the file's name.
    """

    num_shards: int = 0
    num_samples: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {"shards": self.num_shards, "samples": self.num_samples, "problems": self.problems}


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """What the reading of one shard found."""

    name: str
    keys: tuple[str, ...]
    member_names: tuple[str, ...]
    problems: tuple[str, ...]


def output_of_work(work: WorkDir) -> Output:
    """Where the shards of a work folder stand, as its ledger says."""
    if not work.ledger.exists():
        return open_output(work.root, "")
    with Ledger(work.ledger, read_only=True) as ledger:
        return open_output(work.root, output_of(ledger))


def verify(
    work: WorkDir, *, output: Output | None = None, on_shard: Callable[[ShardCheck], None] | None = None
) -> Verification:
    """Reads the shards of a work folder.

    Checked: the tar opens in webdataset; names, equal member sets; the JSON against its schema; every JPEG
    and array decoded; sha256 of the tar and of each member; sidecars and ledger count the same; no clip
    is in two places; nothing is left over that belongs to no shard.

    Args:
        work: the work folder.
        output: where its shards stand; None: as the ledger says. Of objects each tar is copied to a temporary
            folder while it is read.
        on_shard: called after each shard, for progress.

    Raises:
        ConfigError: the shards stand at an address that cannot be used.
        StoreError: the store there does not answer.
    """
    found = Verification()
    output = output or output_of_work(work)
    sizes = output.sizes()
    names = _shard_names(sizes)
    if not names:
        found.problems.append(f"{output.place}/shards: no shards here; run `valor-data shard` first")
    seen: dict[str, str] = {}
    member_sets: dict[tuple[str, ...], str] = {}
    for name in names:
        check = check_shard(output, name, sizes)
        found.num_shards += 1
        found.num_samples += len(check.keys)
        found.problems += check.problems
        found.problems += _doubled(check, seen)
        if check.member_names and check.member_names not in member_sets:
            member_sets[check.member_names] = name
        if on_shard is not None:
            on_shard(check)
    if len(member_sets) > 1:
        sets = "; ".join(f"{name}: {', '.join(members)}" for members, name in member_sets.items())
        found.problems.append(f"samples of different shards have different members: {sets}")
    found.problems += _leftovers(output, sizes, set(names))
    found.problems += _removed_problems(work, seen)
    if work.ledger.exists() and output == output_of_work(work):
        found.problems += _ledger_problems(work, seen)
    return found


def _removed_problems(work: WorkDir, seen: Mapping[str, str]) -> Iterator[str]:
    """A line for each clip that was removed and is there all the same, and for a removal that was interrupted."""
    tombstones = local_tombstones(work.tombstones)
    again = f"run `valor-data remove --tombstones {work.tombstones}`"
    back = [key for key in seen if key in tombstones] if tombstones else []
    for key in back[:MEMBERS_SHOWN]:
        yield f"{seen[key]}: clip {key} was removed from the set, and is in it; {again}"
    if len(back) > MEMBERS_SHOWN:
        yield f"{len(back) - MEMBERS_SHOWN} more clips were removed from the set, and are in it; {again}"
    if work.removal.exists():
        yield f"a removal was interrupted here: run `valor-data remove --work {work.root}`"


def _doubled(check: ShardCheck, seen: dict[str, str]) -> Iterator[str]:
    """A line for each clip that was seen before, in this shard or in another; takes note of all of them."""
    for key in check.keys:
        if key in seen:
            yield f"{check.name}: clip {key} is also in {seen[key]}"
        seen[key] = check.name


def _shard_names(sizes: Mapping[str, int]) -> list[str]:
    """The shards of which the tar or the JSON stands."""
    stems = {Path(name).stem for name in sizes}
    return sorted(name for name in stems if tar_of(name) in sizes or json_of(name) in sizes)


def check_shard(output: Output, name: str, sizes: Mapping[str, int]) -> ShardCheck:
    """Reads one shard with its sidecars; whatever is wrong becomes a line.

    Args:
        output: where it stands.
        name: of the shard.
        sizes: what stands there.
    """
    try:
        sidecar = _read_sidecar(output.read(json_of(name)))
    except (OSError, ValueError) as error:
        return ShardCheck(
            name, (), (), (f"{name}: not finished, its JSON cannot be read ({error}); run `shard` again",)
        )
    if sidecar["num_samples"] == 0:
        return ShardCheck(name, (), (), (f"{name}.tar: should not be there",) if tar_of(name) in sizes else ())
    with tempfile.TemporaryDirectory(prefix="valor-data-verify-") as folder:
        try:
            tar = output.local(tar_of(name), Path(folder))
        except FileNotFoundError:
            return ShardCheck(name, (), (), (f"{name}.tar: is missing; run `shard` again",))
        return _check_tar(output, tar, name, sidecar)


def _check_tar(output: Output, tar: Path, name: str, sidecar: dict[str, Any]) -> ShardCheck:
    problems: list[str] = []
    if _file_sha256(tar) != sidecar["tar_sha256"]:
        problems.append(f"{name}.tar: its sha256 is not the one in {name}.json; the file was changed or damaged")
    keys, members = _read_as_stranger(tar, name, problems)
    if len(keys) != sidecar["num_samples"]:
        problems.append(f"{name}.tar: holds {len(keys)} samples, {name}.json says {sidecar['num_samples']}")
    problems += _index_problems(output, tar, name, keys, sidecar)
    return ShardCheck(name, tuple(keys), members, tuple(problems))


def _read_sidecar(data: bytes) -> dict[str, Any]:
    sidecar = json.loads(data)
    if not isinstance(sidecar, dict) or not sidecar.keys() >= _SIDECAR_FIELDS:
        raise ValueError(f"expected an object with {', '.join(sorted(_SIDECAR_FIELDS))}")
    return sidecar


def _leftovers(output: Output, sizes: Mapping[str, int], names: set[str]) -> list[str]:
    """A line for each file in the folders of shards that is none of a shard's own."""
    own = {kind(name) for name in names for kind in (tar_of, rows_of, json_of)}
    return [f"{output.place}/{name}: belongs to no shard" for name in sorted(sizes) if name not in own]


def _read_as_stranger(tar: Path, name: str, problems: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Iterates with webdataset; checks each sample; gives back the keys and the common member names."""
    import webdataset

    validate = _validator()
    keys: list[str] = []
    members: tuple[str, ...] = ()
    try:
        for files in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False):
            key = str(files["__key__"])
            names = tuple(sorted(extension for extension in files if not extension.startswith("__")))
            members = members or names
            if names != members:
                problems.append(f"{name}/{key}: members {', '.join(names)}; other samples have {', '.join(members)}")
            if key in keys[-1:]:
                problems.append(f"{name}/{key}: is there twice")
            keys.append(key)
            problems.extend(f"{name}/{key}: {fault}" for fault in _sample_faults(key, files, validate))
    except (OSError, ValueError, RuntimeError, tarfile.TarError) as error:
        problems.append(f"{name}.tar: cannot be read to its end: {read_fault(error)}")
    return keys, members


def _validator() -> Callable[[Any], Iterator[str]]:
    from jsonschema import Draft202012Validator

    from valor_data.shard.schema import sample_schema

    validator = Draft202012Validator(sample_schema())

    def faults(tree: Any) -> Iterator[str]:
        for error in validator.iter_errors(tree):
            yield f"json: {'/'.join(map(str, error.absolute_path)) or 'top'}: {error.message[:200]}"

    return faults


def _sample_faults(key: str, files: dict[str, Any], validate: Callable[[Any], Iterator[str]]) -> Iterator[str]:
    missing = [name for name in ("json", "txt") if name not in files]
    if missing:
        yield f"{' and '.join(missing)}: missing"
        return
    try:
        video_id, start, end = parse_key(key)
        details = json.loads(files["json"])
    except (ManifestError, ValueError) as error:
        yield f"json: {error}" if isinstance(error, ValueError) else str(error)
        return
    schema_faults = list(validate(details))
    yield from schema_faults
    if schema_faults:
        return
    if (details["key"], details["video_id"]) != (key, video_id):
        yield f"json: says it is {details['key']} of {details['video_id']}"
    if (details["start"], details["end"]) != (start, end):
        yield f"json: span [{details['start']}, {details['end']}) is not the key's"
    if files["txt"].decode(errors="replace") != details["captions"][0]["text"]:
        yield "txt: is not the first caption"
    yield from _picture_faults(files, details)
    if "mel.npy" in files:
        yield from _mel_faults(files["mel.npy"], details)


def _picture_faults(files: dict[str, Any], details: dict[str, Any]) -> Iterator[str]:
    import simplejpeg

    pictures = sorted(name for name in files if name.endswith(".jpg"))
    if pictures and len(pictures) != len(details["frame_moments"]):
        yield f"{len(pictures)} pictures, the JSON names {len(details['frame_moments'])} moments"
    sizes = set()
    for name in pictures:
        try:
            sizes.add(simplejpeg.decode_jpeg(files[name]).shape)
        except ValueError as error:
            yield f"{name}: no JPEG that decodes ({error})"
    if len(sizes) > 1:
        yield f"pictures of different sizes: {sorted(sizes)}"


def _mel_faults(data: bytes, details: dict[str, Any]) -> Iterator[str]:
    try:
        mel = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        yield f"mel.npy: no array ({error})"
        return
    bands = details["mel"]["num_mel_bins"]
    if mel.dtype != np.float16 or mel.ndim != 2 or mel.shape[1] != bands or not len(mel):
        yield f"mel.npy: {mel.dtype} of shape {mel.shape}; expected float16 [T, {bands}]"
    elif not np.isfinite(mel).all():
        yield "mel.npy: holds values that are no numbers"


def _index_problems(output: Output, tar: Path, name: str, keys: list[str], sidecar: dict[str, Any]) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(output.read(rows_of(name))), columns=_INDEX_COLUMNS).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        return [f"{name}.parquet: cannot be read ({error})"]
    problems = []
    kept = [row for row in rows if row["status"] == Status.KEPT.value]
    if [row["key"] for row in kept] != keys:
        problems.append(f"{name}.parquet: lists {len(kept)} kept clips, the tar holds {len(keys)}, or in another order")
    counts = Counter(row["status"] if not row["reason"] else f"{row['status']}:{row['reason']}" for row in rows)
    if dict(counts) != sidecar["counts"] or len(rows) != sidecar["num_clips"]:
        problems.append(f"{name}.parquet: counts {dict(counts)}, {name}.json says {sidecar['counts']}")
    return problems + _member_problems(tar, name, [member for row in kept for member in row["members"]])


def _member_problems(tar: Path, name: str, members: list[dict[str, Any]]) -> list[str]:
    """A line for each member whose bytes are not those of the index; for very many, the first and their number."""
    changed = []
    with tar.open("rb") as stream:
        for member in members:
            stream.seek(member["offset"])
            if hashlib.sha256(stream.read(member["size"])).hexdigest() != member["sha256"]:
                changed.append(member["name"])
    shown = changed[:MEMBERS_SHOWN]
    problems = [f"{name}/{member}: its bytes are not those of {name}.parquet" for member in shown]
    if len(changed) > len(shown):
        problems.append(f"{name}.tar: {len(changed) - len(shown)} more members are not those of {name}.parquet")
    return problems


def _ledger_problems(work: WorkDir, seen: dict[str, str]) -> list[str]:
    problems = []
    with Ledger(work.ledger, read_only=True) as ledger:
        held = Counter(seen.values())
        for row in ledger.finished_shards().values():
            name = shard_name(row.split, row.shard)
            if held[name] != row.num_samples:
                problems.append(f"{name}: the ledger says {row.num_samples} samples, the tar holds {held[name]}")
        in_shards = ledger.keys_in_shards()
        problems += [
            f"{key}: in {seen[key]}, but not kept in the ledger" for key in sorted(seen.keys() - in_shards)[:20]
        ]
        problems += [f"{key}: kept in the ledger, but in no shard" for key in sorted(in_shards - seen.keys())[:20]]
    return problems


def _file_sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
