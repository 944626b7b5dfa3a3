"""What runs in a worker of the loader: clips of the sets, read, decoded and made into batches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from torch.utils.data import IterableDataset, get_worker_info

from valor_data.errors import ShardError, ValorDataError
from valor_data.manifest.overrides import Overrides
from valor_data.tombstones import NOTHING_REMOVED, Tombstones
from valor_data.train.batch import Batch
from valor_data.train.choice import draw_weighted, rng_of
from valor_data.train.plan import Piece, Share, Shuffle, evaluation_pieces, training_piece
from valor_data.train.samples import BrokenSampleError, ClipSettings, Draw, ReadyClip, collate, hold, make_ready
from valor_data.train.shards import PieceReader, Raw, Shard
from valor_data.train.text import Vocabulary

Position = tuple[int, int]
"""How far a reader is in a set: its pass, and the samples of it that it has taken."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A sample that was left out: its key (empty where it cannot be read), its tar, and why."""

    key: str
    shard: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key or 'a sample'} in {self.shard}: {self.reason}"


@dataclass(frozen=True, slots=True)
class OpenSet:
    """A set as a worker needs it.

    Attributes:
        name: tells sets apart that are mixed.
        task: the task string its batches are for.
        weight: how often it is drawn.
        shards: its tars.
        clips: what becomes of its samples.
        overrides: words that take the place of those in the shards.
        tombstones: what was removed from the set since: never decoded.
    """

    name: str
    task: str
    weight: float
    shards: tuple[Shard, ...]
    clips: ClipSettings
    overrides: Overrides | None = None
    tombstones: Tombstones = NOTHING_REMOVED

    @property
    def counts(self) -> list[int]:
        """Samples of each shard."""
        return [shard.num_samples for shard in self.shards]

    @property
    def num_samples(self) -> int:
        """Samples of all shards."""
        return sum(self.counts)


@dataclass(slots=True)
class Loaded:
    """What a worker hands over.

    Attributes:
        batch: the clips; None when something stopped the worker.
        set_number: which of the sets they are from.
        role: which worker's part of the plan it was.
        positions: how far that part is in each set; empty in an evaluation.
        num_read: samples read for it, broken ones included.
        broken: samples that were left out on the way.
        num_removed: samples left out because they were removed from the set.
        fault: what stopped the worker; the main process raises it.
    """

    batch: Batch | None
    set_number: int = 0
    role: int = 0
    positions: tuple[Position, ...] = ()
    num_read: int = 0
    broken: tuple[Broken, ...] = ()
    num_removed: int = 0
    fault: Exception | None = None

    def pin_memory(self) -> Loaded:
        """The same with its batch in page-locked memory; called by torch's loader."""
        return replace(self, batch=None if self.batch is None else self.batch.pin_memory())


@dataclass(slots=True)
class Tally:
    """Samples read since it was last emptied, those among them that could not be used, and those that were removed."""

    num_read: int = 0
    broken: list[Broken] = field(default_factory=list)
    num_removed: int = 0

    def take(self) -> tuple[int, tuple[Broken, ...], int]:
        """Gives all three and starts anew."""
        taken = self.num_read, tuple(self.broken), self.num_removed
        self.num_read, self.broken, self.num_removed = 0, [], 0
        return taken

    def fault(self, source: OpenSet) -> ShardError | None:
        """Why a whole pass gave nothing; None when nothing was read."""
        if self.broken:
            return nothing_usable(source, str(self.broken[0]))
        return nothing_usable(source, "they were removed from the set (tombstones)") if self.num_removed else None


def usable(raw: Raw, source: OpenSet, draw: Draw | None, tally: Tally) -> ReadyClip | None:
    """Decodes a sample; one that cannot be used, or was removed, is counted, and None comes out."""
    if source.tombstones and raw.key in source.tombstones:
        tally.num_removed += 1
        return None
    tally.num_read += 1
    try:
        if raw.held is None:
            raise BrokenSampleError(raw.fault)
        return make_ready(raw.key, raw.held, source.clips, source.overrides, draw)
    except BrokenSampleError as error:
        tally.broken.append(Broken(raw.key, raw.shard, str(error)))
        return None


class TrainingReader:
    """One reader's clips of one set, pass after pass without end, from any position on.

    Args:
        source: the set.
        share: who reads.
        batch_size: clips of a batch on one rank.
        shuffle: how samples are mixed.
        position: where to begin.
    """

    def __init__(
        self, source: OpenSet, share: Share, batch_size: int, shuffle: Shuffle, position: Position = (0, 0)
    ) -> None:
        self._source, self._share = source, share
        self._batch_size, self._shuffle = batch_size, shuffle
        self.position = position
        self._clips: Iterator[ReadyClip] | None = None
        self.tally = Tally()

    def take(self, num: int) -> list[ReadyClip]:
        """The next so many clips; for each broken sample the one after it comes up.

        Raises:
            ShardError: a whole pass gave no clip that can be used.
        """
        if self._clips is None:
            self._clips = self._read()
        return list(itertools.islice(self._clips, num))

    def _read(self) -> Iterator[ReadyClip]:
        while True:
            number, start = self.position
            piece = training_piece(self._source.counts, self._batch_size, self._share, number, self._shuffle)
            draw = self._draw(piece)
            keep = functools.partial(hold, settings=self._source.clips, draw=draw)
            whole, num_good = start == 0, 0
            for raw in PieceReader(self._source.shards, piece, keep, start):
                start += 1
                self.position = (number, start)
                clip = usable(raw, self._source, draw, self.tally)
                if clip is not None:
                    num_good += 1
                    yield clip
            fault = None if num_good or not whole else self.tally.fault(self._source)
            if fault is not None:  # the rest of a pass says nothing about the set
                raise fault
            self.position = (number + 1, 0)

    def _draw(self, piece: Piece) -> Draw:
        seeds: tuple[int | str, ...] = (self._shuffle.seed, self._shuffle.name, "clip", piece.number)
        if self._shuffle.resampled:  # readers meet the same clip, and each draws for itself
            seeds += (self._share.rank, self._share.worker)
        return Draw(seeds)


def nothing_usable(source: OpenSet, why: str) -> ShardError:
    """No sample of a whole pass was good."""
    return ShardError(
        f"{source.name}: no sample of {len(source.shards)} shards can be used; {why}; run `valor-data verify`"
    )


def _role(workers: int) -> tuple[int, int]:
    """Number of this worker and of all; in the main process it is the only one."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, min(workers, info.num_workers))


@dataclass(slots=True)
class TrainingBatches(IterableDataset[Loaded]):
    """The batches of an epoch, or of what is left of it.

    Batch number n is made by part n mod `workers` of the plan, whatever worker that is; so an epoch that is
    taken up in its middle gives the same batches.

    Attributes:
        sets: what is mixed.
        vocabulary: words to numbers.
        batch_size: clips of a batch on one rank.
        shuffle: how samples are mixed.
        share: rank and world; its `workers` are the parts of the plan.
        epoch: number of the epoch, from 0.
        first: batches of it that are done.
        stop: batches it has.
        positions: for each part of the plan, its position in each set.
    """

    sets: tuple[OpenSet, ...]
    vocabulary: Vocabulary
    batch_size: int
    shuffle: Shuffle
    share: Share
    epoch: int
    first: int
    stop: int
    positions: tuple[tuple[Position, ...], ...]

    def __iter__(self) -> Iterator[Loaded]:
        worker, workers = _role(self.share.workers)
        role = (self.first + worker) % workers
        share = replace(self.share, worker=role)
        readers = [
            # the order is the same wherever the set lies, so its place has no part in it
            TrainingReader(source, share, self.batch_size, replace(self.shuffle, name=f"set {number}"), position)
            for number, (source, position) in enumerate(zip(self.sets, self.positions[role], strict=True))
        ]
        try:
            for number in range(self.first + worker, self.stop, workers):
                chosen = set_of_step(self.sets, self.shuffle.seed, self.epoch, number)
                reader = readers[chosen]
                clips = reader.take(self.batch_size)
                batch = collate(clips, self.sets[chosen].clips, self.vocabulary)
                positions = tuple(r.position for r in readers)
                yield Loaded(batch, chosen, role, positions, *reader.tally.take())
        except (ValorDataError, OSError) as error:  # raised by the main process, without a worker's traceback
            yield Loaded(None, role=role, fault=error)


def set_of_step(sets: Sequence[OpenSet], seed: int, epoch: int, step: int) -> int:
    """Which set a step's batches are from: the same on every rank and worker."""
    if len(sets) == 1:
        return 0
    return draw_weighted([source.weight for source in sets], rng_of(seed, "set", epoch, step))


@dataclass(slots=True)
class EvaluationBatches(IterableDataset[Loaded]):
    """Every sample of a set once, as `evaluation_pieces` deals them out.

    Attributes:
        source: the set.
        vocabulary: words to numbers.
        batch_size: clips of a batch on one rank.
        share: rank, world and number of workers.
        only: the clips that are asked for; None: all. Then a batch may be None.
    """

    source: OpenSet
    vocabulary: Vocabulary
    batch_size: int
    share: Share
    only: frozenset[str] | None = None

    def __iter__(self) -> Iterator[Loaded]:
        worker, workers = _role(self.share.workers)
        share = replace(self.share, worker=worker, workers=workers)
        pieces = evaluation_pieces(self.source.counts, self.batch_size, share)
        tally = Tally()
        try:
            for clips in self._clips(pieces, tally):
                batch = collate(clips, self.source.clips, self.vocabulary) if clips else None
                yield Loaded(batch, 0, worker, (), *tally.take())
        except (ValorDataError, OSError) as error:
            yield Loaded(None, role=worker, fault=error)

    def _clips(self, pieces: Sequence[Piece], tally: Tally) -> Iterator[list[ReadyClip]]:
        """The clips of each batch; where all are broken, one of another batch, so that no rank falls behind."""
        whole = joined(pieces)
        keep = functools.partial(hold, settings=self.source.clips, draw=None)
        raws = iter(PieceReader(self.source.shards, whole, keep))
        for piece in pieces:
            wanted = (raw for raw in itertools.islice(raws, len(piece.order)) if self._is_asked(raw))
            some = (usable(raw, self.source, None, tally) for raw in wanted)
            clips = [clip for clip in some if clip is not None]
            yield clips if clips or self.only is not None else [self._any(tally)]

    def _is_asked(self, raw: Raw) -> bool:
        return self.only is None or raw.key in self.only or not raw.key  # without a key it is broken, and counted

    def _any(self, tally: Tally) -> ReadyClip:
        share = Share()
        whole = joined(evaluation_pieces(self.source.counts, self.source.num_samples, share))
        keep = functools.partial(hold, settings=self.source.clips, draw=None)
        for raw in PieceReader(self.source.shards, whole, keep):
            clip = usable(raw, self.source, None, Tally())
            if clip is not None:
                return clip
        raise tally.fault(self.source) or nothing_usable(self.source, "there is none")


def joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces that are read one after another, as one."""
    spans = tuple(span for piece in pieces for span in piece.spans)
    return Piece(0, spans, tuple(range(sum(map(len, spans)))))
