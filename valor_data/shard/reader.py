"""Reading shards: samples as they were written, with what a clip does not have taken away again.

This is the one module of the room that the trainer may use.
"""

from __future__ import annotations

import fnmatch
import io
import json
import logging
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from valor_data.clip import Caption, Clip, Question
from valor_data.errors import ShardError, ValorDataError
from valor_data.storage import Store, check_address, is_address
from valor_data.tombstones import NOTHING_REMOVED, Tombstones

log = logging.getLogger("valor_data")


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip read from a shard.

    Attributes:
        clip: the annotation.
        jpegs: the pictures as JPEG files, in order; empty in a set without picture.
        mel: float16 `[T, n_mels]`, natural log, not normalised; None in a set without sound.
        details: the whole of the sample's JSON.
        media: bytes of `flac` and `mp4` members, where the set includes them.
    """

    clip: Clip
    jpegs: tuple[bytes, ...]
    mel: np.ndarray[Any, np.dtype[np.float16]] | None
    details: dict[str, Any]
    media: dict[str, bytes]

    @property
    def key(self) -> str:
        """The clip's key."""
        return str(self.details["key"])


def find_shards(place: str, split: str | None = None) -> list[str]:
    """The tars at a place, in order: a folder or an address with `NAME-000000.tar` in it, or one tar.

    Args:
        place: a path or an address.
        split: only shards named `<split>-*.tar`.

    Raises:
        ConfigError: the address cannot be used.
        StoreError: the store there does not answer.
    """
    pattern = f"{split or '*'}-[0-9]*.tar"
    if not is_address(place):
        path = Path(place)
        return [place] if path.is_file() else sorted(map(str, path.glob(pattern)))
    check_address(place, "shards")
    if place.endswith(".tar"):
        return [place]
    try:
        names = [name for name, _ in Store(place).listing()]
    except FileNotFoundError:
        return []
    return [Store(place).at(name) for name in sorted(names) if fnmatch.fnmatchcase(name, pattern) and "/" not in name]


def read_samples(
    tars: Iterable[str | Path], tombstones: Tombstones = NOTHING_REMOVED, extension: str = ""
) -> Iterator[Sample]:
    """Reads every sample of some tars, in order, through webdataset.

    Args:
        tars: paths of shards, or their addresses (`s3://…`), which are read as they come.
        tombstones: what was removed from the set since: left out, and counted in the log.
        extension: a second set, joined by key; see `extension_tar`.

    Raises:
        ShardError: a tar is damaged, or is no shard of this package; the message names it.
        ConfigError: an address cannot be used.
        StoreError: the store there does not answer.
    """
    for tar in tars:
        num_removed = 0
        try:
            members = _members(str(tar))
            if extension:
                other = extension_tar(str(tar), extension)
                members = joined(members, _members(other), keys_in(other))
            for files in members:
                if tombstones and str(files["__key__"]) in tombstones:
                    num_removed += 1
                    continue
                yield decode_sample(files)
        except (OSError, ValueError, KeyError, tarfile.TarError) as error:
            raise ShardError(f"{tar}: {read_fault(error)}; run `valor-data verify` on its work folder") from error
        if num_removed:
            log.info("%s: %d samples left out: they were removed from the set", tar, num_removed)


def _members(tar: str) -> Iterator[dict[str, Any]]:
    """The samples of a tar as webdataset groups them."""
    import webdataset

    if not is_address(tar):
        yield from webdataset.WebDataset(tar, shardshuffle=False, empty_check=False)
        return
    from webdataset.tariterators import group_by_keys, tar_file_expander

    try:
        with Store(tar).stream("") as stream:
            yield from group_by_keys(tar_file_expander([{"url": tar, "stream": stream}]))
    except ValorDataError as error:
        error.args = (read_fault(error),)
        raise


_OWN_FIELDS = {"mel.npy": ("mel",), "frames": ("frame_moments", "frame_times", "num_frames_clamped")}
"""What the JSON says of members that an extension replaces."""


def joined(
    samples: Iterable[dict[str, Any]], more: Iterable[dict[str, Any]], keys: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Samples of a shard with the members of an extension's shard in the place of their own, by key.

    Pictures are replaced as a whole. A sample that the extension does not have comes without the members that it
    replaces, never with those of another making.

    Args:
        samples: of the first set's shard, as webdataset groups them.
        more: of the extension's shard of the same name; in the same order, but for clips that one of them lacks.
        keys: of all of `more`.
    """
    stream = iter(more)
    other = next(stream, None)
    replaced = frozenset(map(_kind, other or ())) - {"json", "txt", ""}
    for files in samples:
        mine = {name: data for name, data in files.items() if _kind(name) not in replaced}
        if str(files["__key__"]) not in keys:
            yield mine
            continue
        while other is not None and other["__key__"] != files["__key__"]:
            other = next(stream, None)
        if other is None:
            yield mine
            continue
        theirs = {name: data for name, data in other.items() if _kind(name) in replaced}
        yield mine | theirs | {"json": _joined_json(files.get("json", b""), other.get("json", b""), replaced)}


def keys_in(tar: str) -> frozenset[str]:
    """Keys of a tar's samples: as the Parquet in `index/` beside its folder says, else by its headers.

    Raises:
        FileNotFoundError: no such tar.
        StoreError: the store there does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, _, name = tar.rpartition("/")
    above = folder.rpartition("/")[0] if "/" in folder else ".." if not folder else "."
    rows = f"{above}/index/{name.removesuffix('.tar')}.parquet"
    try:
        origin: Any = pa.BufferReader(Store(rows).read("")) if is_address(rows) else rows
        listed = pq.read_table(origin, columns=["key", "status"]).to_pylist()
        return frozenset(row["key"] for row in listed if row["status"] == "kept")
    except (FileNotFoundError, pa.ArrowInvalid, KeyError):
        log.info("%s: no list of its clips beside it, so its headers are read", tar)
    with (
        Store(tar).stream("") if is_address(tar) else Path(tar).open("rb") as stream,
        tarfile.open(fileobj=stream, mode="r|") as opened,
    ):
        return frozenset(member.name.rpartition("/")[2].split(".")[0] for member in opened)


def _kind(member: str) -> str:
    """What a member is: all pictures are one kind; empty for what webdataset adds."""
    return "" if member.startswith("__") else "frames" if member.startswith("frame_") else member


def _joined_json(mine: bytes, theirs: bytes, replaced: frozenset[str]) -> bytes:
    try:
        details, more = json.loads(mine), json.loads(theirs)
        fields = [name for kind in replaced for name in _OWN_FIELDS.get(kind, ())]
        return json.dumps(details | {name: more[name] for name in fields}, ensure_ascii=False).encode()
    except (ValueError, KeyError, TypeError):
        return mine  # a damaged sample is found where it is decoded


def extension_tar(tar: str, extension: str) -> str:
    """Where the tar of an extension is that goes with a tar of the first set.

    Args:
        tar: path or address of the first set's.
        extension: its name (then it lies in `extensions/NAME/` beside the folder of tars), or its folder or address.
    """
    folder, _, name = tar.rpartition("/")
    if "/" in extension:
        place = extension.rstrip("/")
        return f"{place}/{name}" if place.endswith("/shards") else f"{place}/shards/{name}"
    above = folder.rpartition("/")[0] if "/" in folder else "." if folder else ".."
    return f"{above}/extensions/{extension}/shards/{name}"


def read_fault(error: Exception) -> str:
    """What was wrong, in words; webdataset adds open files and addresses to what it passes on."""
    if isinstance(error, KeyError):
        return f"a sample has no member {error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error.args[0]).split(" @ ")[0] if error.args else type(error).__name__


def decode_sample(files: dict[str, Any]) -> Sample:
    """A sample from its members, as webdataset groups them (extension to bytes)."""
    details = json.loads(files["json"])
    frames = sorted(name for name in files if name.startswith("frame_") and name.endswith(".jpg"))
    mel = None
    if "mel.npy" in files:
        mel = np.load(io.BytesIO(files["mel.npy"]), allow_pickle=False)
    return Sample(
        clip=clip_of(details),
        jpegs=tuple(files[name] for name in frames),
        mel=mel,
        details=details,
        media={name: files[name] for name in ("flac", "mp4") if name in files},
    )


def clip_of(details: dict[str, Any]) -> Clip:
    """The annotation inside a sample's JSON; entries that stand for nothing are left out."""
    return Clip(
        video_id=details["video_id"],
        start=details["start"],
        end=details["end"],
        split=details["split"],
        captions=tuple(Caption(c["text"], c["role"]) for c in details["captions"] if c["text"]),
        labels=tuple(label for label in details["labels"] if label),
        label_names=tuple(label for label in details["label_names"] if label),
        questions=tuple(
            Question(q["question_id"], q["question"], tuple(a for a in q["answers"] if a))
            for q in details["questions"]
            if q["question"]
        ),
    )
