"""Mean and standard deviation of a set's log-mel: what the trainer normalises with.

Shapes: T mel frames of a clip, M bands.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.errors import ShardError, Status
from valor_data.media.mel import MelSettings
from valor_data.shard.output import Output, rows_of, tar_of

REMOTE_RANGES_SHARE = 0.25
"""From a store a shard is fetched whole where more than this share of its clips is asked for."""


@dataclass(slots=True)
class MelStatistics:
    """Sums over a set's mel, in double precision; the figures follow from them.

    Attributes:
        settings: the front end all of it was made with; None before the first clip.
        num_clips: clips that were read.
        num_silent_clips: those among them whose sound track has nothing where the clip is.
        num_frames: mel frames that hold sound: those whose middle lies in the clip's `audio_spans`.
        sums: of each band, `[M]`.
        squares: sums of squares of each band, `[M]`.
    """

    settings: MelSettings | None = None
    num_clips: int = 0
    num_silent_clips: int = 0
    num_frames: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, mel: NDArray[Any], settings: MelSettings, spans: list[list[float]]) -> None:
        """Adds a clip.

        Args:
            mel: floating `[T, M]`.
            settings: the front end it was made with.
            spans: where the clip has sound, seconds from its start.

        Raises:
            ShardError: another front end than the clips before.
        """
        if self.settings is None:
            self.settings = settings
            self.sums, self.squares = np.zeros(mel.shape[1]), np.zeros(mel.shape[1])
        if settings != self.settings or mel.shape[1] != len(self.sums):
            raise ShardError(
                f"mel of two front ends: {self.settings.to_dict()} and {settings.to_dict()} with {mel.shape[1]} bands; "
                "count sets of one front end, or build the shards again with one [shard] mel"
            )
        heard = frames_with_sound(len(mel), settings, spans)
        values = mel[heard].astype(np.float64)
        self.num_clips += 1
        self.num_silent_clips += not len(values)
        self.num_frames += len(values)
        self.sums += values.sum(axis=0)
        self.squares += np.square(values).sum(axis=0)

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return float(self.sums.sum() / (self.num_frames * len(self.sums)))

    @property
    def std(self) -> float:
        """Standard deviation of all values (of the whole population, not of a sample of it)."""
        square = self.squares.sum() / (self.num_frames * len(self.sums))
        return float(np.sqrt(max(square - self.mean**2, 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        means = self.sums / self.num_frames
        deviations = np.sqrt(np.maximum(self.squares / self.num_frames - np.square(means), 0.0))
        return {
            "mean": self.mean,
            "std": self.std,
            "clips": self.num_clips,
            "silent_clips": self.num_silent_clips,
            "frames": self.num_frames,
            "settings": None if self.settings is None else self.settings.to_dict(),
            "bands": [{"mean": float(m), "std": float(s)} for m, s in zip(means, deviations, strict=True)],
        }


def frames_with_sound(num_frames: int, settings: MelSettings, spans: list[list[float]]) -> NDArray[np.bool_]:
    """Which mel frames of a clip lie, with their middle, where it has sound: bool `[T]`."""
    middles = np.arange(num_frames) * settings.hop_samples + settings.window_samples / 2
    seconds = middles / settings.sample_rate_hz
    heard = np.zeros(num_frames, dtype=bool)
    for start, end in spans:
        heard |= (start <= seconds) & (seconds < end)
    return heard


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a clip's mel and JSON are in a tar: offset and size of each."""

    key: str
    mel: tuple[int, int]
    details: tuple[int, int]


def mel_statistics(
    output: Output,
    *,
    split: str = "",
    sample: int | None = None,
    seed: int = 0,
    on_shard: Callable[[str], None] | None = None,
) -> MelStatistics:
    """Reads the mel of finished shards, and nothing else of them.

    Args:
        output: where the shards stand.
        split: only shards of this split; empty: all.
        sample: only so many clips, drawn by a hash of their keys; None: all.
        seed: which draw.
        on_shard: is told the name of each shard that was read.

    Raises:
        ShardError: no finished shards, none with sound, or mel of two front ends.
    """
    places = {name: list(_places(output, name)) for name in finished_shards(output, split)}
    if not places:
        named = f" of split {split!r}" if split else ""
        raise ShardError(f"{output.place}: no finished shards{named}; build some with `valor-data shard`")
    if not any(places.values()):
        raise ShardError(f"{output.place}: {len(places)} shards and no mel in them; they were made without sound")
    chosen = places if sample is None else _drawn(places, sample, seed)
    found = MelStatistics()
    for name, wanted in chosen.items():
        is_whole = not output.is_remote or len(wanted) > REMOTE_RANGES_SHARE * len(places[name])
        for mel, details in _read(output, name, wanted, is_whole=is_whole):
            found.add(mel, MelSettings.from_dict(details["mel"]), details["audio_spans"])
        if on_shard is not None:
            on_shard(name)
    if not found.num_frames:
        raise ShardError(f"{output.place}: {found.num_clips} clips, and none of them has sound")
    return found


def finished_shards(output: Output, split: str = "") -> list[str]:
    """Names of the shards that have their JSON, in order; those of one split, or all."""
    names = (Path(name).stem for name in output.sizes() if name.startswith("index/") and name.endswith(".json"))
    return sorted(name for name in names if not split or name.rpartition("-")[0] == split)


def _places(output: Output, name: str) -> Iterator[_Place]:
    """The clips of a shard that have mel."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(output.read(rows_of(name))), columns=["key", "status", "members"])
    for row in table.to_pylist():
        if row["status"] != Status.KEPT.value:
            continue
        at = {m["name"][len(row["key"]) + 1 :]: (m["offset"], m["size"]) for m in row["members"]}
        if "mel.npy" in at:
            yield _Place(row["key"], at["mel.npy"], at["json"])


def _drawn(places: dict[str, list[_Place]], num: int, seed: int) -> dict[str, list[_Place]]:
    """So many of the clips, the same for the same seed whatever the shards are."""

    def rank(item: tuple[str, _Place]) -> bytes:
        return hashlib.blake2b(f"{seed} {item[1].key}".encode(), digest_size=8).digest()

    chosen: dict[str, list[_Place]] = {}
    for name, place in heapq.nsmallest(num, ((n, p) for n, several in places.items() for p in several), key=rank):
        chosen.setdefault(name, []).append(place)
    return {name: sorted(chosen[name], key=lambda place: place.mel) for name in places if name in chosen}


def _read(
    output: Output, name: str, places: list[_Place], *, is_whole: bool
) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
    """Mel and JSON of some clips of a shard; from a store by requests for them, or from a copy of the whole."""
    tar = tar_of(name)
    with tempfile.TemporaryDirectory() as folder:
        path = output.local(tar, Path(folder)) if is_whole else None
        for place in places:
            parts = []
            for offset, size in (place.mel, place.details):
                if path is None:
                    parts.append(output.read(tar, offset, offset + size))
                else:
                    with path.open("rb") as stream:
                        stream.seek(offset)
                        parts.append(stream.read(size))
            try:
                yield np.load(io.BytesIO(parts[0]), allow_pickle=False), json.loads(parts[1])
            except (ValueError, OSError, EOFError) as error:
                raise ShardError(f"{name}/{place.key}: {error}; run `valor-data verify`") from error
