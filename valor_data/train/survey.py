"""A look at the first sample of a set before anything is trained on it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from valor_data.errors import ConfigError, ShardError
from valor_data.shard.reader import read_fault
from valor_data.train.shards import Shard, read_joined

_LACKS = {
    "a": ("no mel.npy", "sound", "v", "pt_contra%tv_caption%tv"),
    "v": ("no frame_*.jpg", "pictures", "a", "pt_contra%ta_caption%ta"),
}


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first sample of a set holds.

    Attributes:
        num_frames: pictures.
        num_mel_bins: bands of its mel; 0 without one.
        mel: settings of its mel, as the sample writes them.
    """

    num_frames: int
    num_mel_bins: int
    mel: dict[str, Any]


def survey(shards: Sequence[Shard], modalities: str, name: str) -> Survey:
    """Looks at the first sample of some shards.

    Args:
        shards: the set's.
        modalities: letters of what its task takes: `a` sound, `v` pictures.
        name: of the set, for messages.

    Raises:
        ShardError: there is no sample, or the first cannot be read.
        ConfigError: it does not hold what the task takes.
    """
    shard, files = _first(shards, name)
    key = str(files["__key__"])
    try:
        details = json.loads(files["json"])
        mel = dict(details["mel"])
        num_mel_bins = int(mel["num_mel_bins"]) if "mel.npy" in files else 0
    except (KeyError, ValueError, TypeError):
        members = ", ".join(sorted(member for member in files if not member.startswith("__")))
        raise ShardError(
            f"{shard.url}: {key} is no sample of valor-data (members: {members}); expected a json that "
            "describes it, as `valor-data shard` writes it"
        ) from None
    num_frames = sum(member.startswith("frame_") and member.endswith(".jpg") for member in files)
    there = {"a": num_mel_bins, "v": num_frames}
    problems = [_problem(letter, shard.url, name) for letter in modalities if not there[letter]]
    if problems:
        raise ConfigError(problems)
    return Survey(num_frames, num_mel_bins, mel)


def _first(shards: Sequence[Shard], name: str) -> tuple[Shard, dict[str, Any]]:
    for shard in shards:
        if shard.num_samples:
            try:
                with closing(read_joined(shard)) as samples:
                    for files in samples:
                        return shard, files
            except (OSError, ValueError, tarfile.TarError) as error:
                raise ShardError(
                    f"{shard.url}: {read_fault(error)}; run `valor-data verify` on its work folder"
                ) from error
    raise ShardError(f"{name}: {len(shards)} shards and no sample in them; build more, or name another split")


def _problem(letter: str, url: str, name: str) -> str:
    missing, words, other, task = _LACKS[letter]
    return (
        f"{name}: the task takes {words}, but the samples have {missing} (seen in {url}; made with modalities = "
        f"{other}); build shards with modalities = av, or give a task without {words}, such as {task}"
    )
