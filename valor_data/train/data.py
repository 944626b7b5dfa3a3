"""The trainer's data: sets of shards in, batches out, in an order that a checkpoint can take up again.

    vocabulary = Vocabulary.of("bert-base-uncased")
    sets = [DataSet(shards="my-set", task="pt_contra%tva%tv%ta_caption%tva%tv%ta")]
    data = TrainingData(sets, LoaderSettings(batch_size=64, workers=8), vocabulary, rank=rank, world=world)
    for _ in range(num_epochs):
        for step in data:                  # the rest of the epoch
            loss = model(step.batch, step.task)
            checkpoint = data.state()      # a restored `data.load_state(checkpoint)` goes on behind this batch

Batches are made in the workers. Every rank gets the same number of batches: in training, samples that do not
fill a batch on every rank wait for another pass (each has another order); in an evaluation every sample is there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset

from valor_data.errors import ConfigError, ShardError, ValorDataError
from valor_data.train.batch import Batch
from valor_data.train.captions import TextSettings
from valor_data.train.mel_slices import MelSliceSettings
from valor_data.train.pictures import PictureSettings
from valor_data.train.plan import Share, Shuffle, batches_of_pass, evaluation_pieces
from valor_data.train.sets import DataSet as DataSet
from valor_data.train.sets import open_set
from valor_data.train.stream import Broken, EvaluationBatches, Loaded, Position, TrainingBatches
from valor_data.train.text import Vocabulary

log = logging.getLogger("valor_data.train")

STATE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSettings:
    """How batches are made.

    Attributes:
        batch_size: clips of a batch on one rank.
        workers: worker processes of a rank; 0: batches are made in the main process.
        seed: of everything that is drawn.
        buffer: samples that are mixed at a time in a worker.
        resampled: each worker draws whole shards at random again and again, instead of sharing exact passes.
        epoch_batches: batches of an epoch on one rank; 0: as many as one pass over all sets has.
        prefetch: batches that a worker makes ahead.
        pin_memory: hand over batches in page-locked memory, for copying to a GPU.
        max_broken_share: more broken samples among those read stop the run...
        min_broken: ...once there are so many.
        pictures: how pictures are chosen and sized.
        mel: how mel is cut and scaled.
        text: how words are chosen and cut.
    """

    batch_size: int = 64
    workers: int = 2
    seed: int = 0
    buffer: int = 1000
    resampled: bool = False
    epoch_batches: int = 0
    prefetch: int = 2
    pin_memory: bool = False
    max_broken_share: float = 0.01
    min_broken: int = 20
    pictures: PictureSettings = field(default_factory=PictureSettings)
    mel: MelSliceSettings = field(default_factory=MelSliceSettings)
    text: TextSettings = field(default_factory=TextSettings)

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "workers": 0, "seed": 0, "buffer": 1, "epoch_batches": 0, "prefetch": 1}
        problems = [
            f"{name} = {getattr(self, name)}: expected at least {minimum}"
            for name, minimum in least.items()
            if getattr(self, name) < minimum
        ]
        if not 0 <= self.max_broken_share <= 1:
            problems.append(f"max_broken_share = {self.max_broken_share}: expected 0 to 1")
        if problems:
            raise ConfigError(problems)


class Step(NamedTuple):
    """A batch, and the task string of the set it is from."""

    task: str
    batch: Batch


class _Watch:
    """Counts broken samples, names each once, and stops the run when there are too many."""

    def __init__(self, settings: LoaderSettings) -> None:
        self._share, self._least = settings.max_broken_share, settings.min_broken
        self.num_read = 0
        self.num_broken = 0
        self.num_removed = 0
        self.broken: dict[Broken, int] = {}

    def add(self, loaded: Loaded) -> None:
        """Takes note of a batch's samples.

        Raises:
            ShardError: too many are broken.
        """
        self.num_removed += loaded.num_removed
        self.num_read += loaded.num_read
        self.num_broken += len(loaded.broken)
        for one in loaded.broken:
            if one not in self.broken:
                log.warning("left out: %s", one)
            self.broken[one] = self.broken.get(one, 0) + 1
        if self.num_broken >= self._least and self.num_broken > self._share * self.num_read:
            first = next(iter(self.broken))
            raise ShardError(
                f"{self.num_broken} of {self.num_read} samples cannot be used (at most {self._share:.1%} may); "
                f"the first: {first}; run `valor-data verify`, or raise max_broken_share"
            )


def _loader(batches: IterableDataset[Loaded], settings: LoaderSettings, workers: int) -> Iterator[Loaded]:
    """Runs batches in worker processes, or here.

    Raises:
        ValorDataError: what stopped a worker.
    """
    several: dict[str, Any] = {"prefetch_factor": settings.prefetch} if workers else {}
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        pin_memory=settings.pin_memory,
        generator=torch.Generator(),  # its own: the trainer's random numbers do not depend on the loader
        **several,
    )
    try:
        for loaded in loader:
            if loaded.fault is not None:
                raise loaded.fault
            yield loaded
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValorDataError(
            f"a worker of the loader ended ({str(error).splitlines()[0]}); it may lack memory: "
            "lower workers, buffer or batch_size"
        ) from error


class TrainingData:
    """Batches for training, epoch after epoch.

    Args:
        sets: one set, or several that are mixed: each step takes one, the same on every rank.
        settings: how batches are made; the same on every rank.
        vocabulary: words to numbers.
        rank: number of this process, from 0.
        world: processes that train.

    Attributes:
        sets: the sets as they were found.
        epoch: the epoch that is going on, from 0.
        num_read, num_broken: samples read so far by this rank, and those of them that could not be used.

    Raises:
        ConfigError: settings that cannot be, or too few clips for a batch.
        ShardError: a set has no shards, or they do not hold what its task asks for.
    """

    def __init__(
        self,
        sets: Sequence[DataSet],
        settings: LoaderSettings,
        vocabulary: Vocabulary,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not sets or not all(data_set.weight > 0 for data_set in sets):
            raise ConfigError("sets: expected at least one, each with a weight above 0")
        self.settings, self.vocabulary = settings, vocabulary
        self.sets = tuple(open_set(one, settings.pictures, settings.mel, settings.text) for one in sets)
        passes = [batches_of_pass(s.num_samples, settings.batch_size, world, s.name) for s in self.sets]
        self._num_batches = settings.epoch_batches or sum(passes)
        self._workers = min(settings.workers, self._num_batches)
        if self._workers < settings.workers:
            log.info(
                "an epoch has %d batches: %d workers instead of %d", self._num_batches, self._workers, settings.workers
            )
        self._share = Share(rank, world, 0, max(1, self._workers))
        self._shuffle = Shuffle(seed=settings.seed, buffer=settings.buffer, resampled=settings.resampled)
        self.epoch, self._done = 0, 0
        self._positions: list[tuple[Position, ...]] = [((0, 0),) * len(self.sets)] * self._share.workers
        self._watch = _Watch(settings)

    def __len__(self) -> int:
        """Batches of an epoch; the same on every rank."""
        return self._num_batches

    @property
    def num_done(self) -> int:
        """Batches of this epoch that were handed out."""
        return self._done

    @property
    def num_read(self) -> int:
        """Samples read so far by this rank."""
        return self._watch.num_read

    @property
    def num_broken(self) -> int:
        """Samples read so far by this rank that could not be used."""
        return self._watch.num_broken

    @property
    def num_removed(self) -> int:
        """Samples left out so far by this rank because they were removed from the set."""
        return self._watch.num_removed

    @property
    def broken(self) -> list[Broken]:
        """The samples that could not be used, each once."""
        return list(self._watch.broken)

    def __iter__(self) -> Iterator[Step]:
        """The batches that are left of the epoch; after the last one the next epoch begins."""
        batches = TrainingBatches(
            self.sets,
            self.vocabulary,
            self.settings.batch_size,
            self._shuffle,
            self._share,
            self.epoch,
            self._done,
            self._num_batches,
            tuple(self._positions),
        )
        for loaded in _loader(batches, self.settings, self._workers):
            self._watch.add(loaded)
            self._positions[loaded.role] = loaded.positions
            self._done += 1
            if loaded.batch is not None:
                yield Step(self.sets[loaded.set_number].task, loaded.batch)
        self.epoch, self._done = self.epoch + 1, 0

    def state(self) -> dict[str, Any]:
        """The position behind the last batch that was handed out, as JSON types. Each rank has its own."""
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            "num_done": self._done,
            "positions": [[list(position) for position in part] for part in self._positions],
            "plan": self._plan(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state()` was called: the batches that follow are the same.

        Raises:
            ConfigError: the state is of other data, or was made with other settings that decide about the order.
        """
        plan = self._plan()
        then = state.get("plan", {})
        problems = [
            f"data: {name} was {then.get(name)!r} when the checkpoint was written and is {value!r}; "
            "give the same, or start without the checkpoint's position"
            for name, value in plan.items()
            if then.get(name) != value
        ]
        if state.get("version") != STATE_VERSION:
            problems = [
                f"data: the checkpoint's position has version {state.get('version')!r}, expected {STATE_VERSION}"
            ]
        if problems:
            raise ConfigError(problems)
        self.epoch, self._done = state["epoch"], state["num_done"]
        self._positions = [tuple((number, start) for number, start in part) for part in state["positions"]]

    def _plan(self) -> dict[str, Any]:
        """What decides about the order of the samples."""
        return {
            "rank": self._share.rank,
            "world": self._share.world,
            "workers": self._share.workers,
            "seed": self.settings.seed,
            "batch_size": self.settings.batch_size,
            "buffer": self.settings.buffer,
            "resampled": self.settings.resampled,
            "epoch_batches": self._num_batches,
            "samples": [source.num_samples for source in self.sets],
            "shards": [len(source.shards) for source in self.sets],
        }


class EvaluationData:
    """Every sample of a set once; pictures and slices are the middle ones, nothing is drawn.

    All ranks get the same number of batches. Where there are fewer samples than that takes, or all samples of a
    batch are broken, a sample comes twice: count by key.

    Args:
        data_set: the set.
        settings: how batches are made.
        vocabulary: words to numbers.
        rank: number of this process, from 0.
        world: processes that evaluate.
        only: keys of the clips that are asked for; None: all.

    Raises:
        ConfigError, ShardError: as for `TrainingData`.
    """

    def __init__(
        self,
        data_set: DataSet,
        settings: LoaderSettings,
        vocabulary: Vocabulary,
        *,
        rank: int = 0,
        world: int = 1,
        only: frozenset[str] | None = None,
    ) -> None:
        self.settings, self.vocabulary, self.only = settings, vocabulary, only
        self.source = open_set(data_set, settings.pictures, settings.mel, settings.text)
        self._num_batches = len(evaluation_pieces(self.source.counts, settings.batch_size, Share(rank, world)))
        self._workers = min(settings.workers, self._num_batches)
        self._share = Share(rank, world, 0, max(1, self._workers))
        self._watch = _Watch(settings)

    def __len__(self) -> int:
        """Batches; the same on every rank."""
        return self._num_batches

    @property
    def num_removed(self) -> int:
        """Samples left out so far because they were removed from the set."""
        return self._watch.num_removed

    @property
    def broken(self) -> list[Broken]:
        """The samples that could not be used, each once."""
        return list(self._watch.broken)

    def __iter__(self) -> Iterator[Step]:
        batches = EvaluationBatches(self.source, self.vocabulary, self.settings.batch_size, self._share, self.only)
        for loaded in _loader(batches, self.settings, self._workers):
            self._watch.add(loaded)
            if loaded.batch is not None:
                yield Step(self.source.task, loaded.batch)
