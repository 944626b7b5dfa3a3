"""Reading shards: samples as they were written, with what a clip does not have taken away again.

This is the one module of the room that the trainer may use.
"""

from __future__ import annotations

import fnmatch
import io
import json
import logging
import tarfile
from collections.abc import Iterable, Iterator
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


def read_samples(tars: Iterable[str | Path], tombstones: Tombstones = NOTHING_REMOVED) -> Iterator[Sample]:
    """Reads every sample of some tars, in order, through webdataset.

    Args:
        tars: paths of shards, or their addresses (`s3://…`), which are read as they come.
        tombstones: what was removed from the set since: left out, and counted in the log.

    Raises:
        ShardError: a tar is damaged, or is no shard of this package; the message names it.
        ConfigError: an address cannot be used.
        StoreError: the store there does not answer.
    """
    for tar in tars:
        num_removed = 0
        try:
            for files in _members(str(tar)):
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
