"""What every stage's driver shares: the ledger opened and repaired, settings remembered, progress, executors."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, TypeVar

from valor_data.config import ExecuteSection
from valor_data.errors import ConfigError, Status, ValorDataError
from valor_data.execute import Executor
from valor_data.execute.local import LocalExecutor, available_cores
from valor_data.ledger import STAGES, Ledger, MediaRow, Outcome
from valor_data.road.parts import open_ledger_to_write
from valor_data.shard.output import Output, open_output, output_of
from valor_data.tombstones import Tombstones, local_tombstones
from valor_data.workdir import WorkDir

SectionT = TypeVar("SectionT")

PRELOAD: dict[str, tuple[str, ...]] = {
    "fetch": ("valor_data.fetch.video", "valor_data.fetch.web"),
    "filter": ("valor_data.filter.measure",),
    "shard": ("valor_data.shard.writer", "torchaudio.compliance.kaldi", "pyarrow.parquet", "pandas"),
}
"""What the workers of a stage need imported. The server they are forked from imports it once.

pyarrow (which loads pandas when it makes a table) starts two idle threads; it and its allocator renew theirs in
a forked process. Without it here, each worker would spend half a second on importing the two.
"""

COMMIT_EVERY_SECONDS = 0.5
"""What a kill can cost: results that came back in this time are made again."""

log = logging.getLogger("valor_data")


class Progress(Protocol):
    """Shown while a stage runs. The command line draws it; tests and scripts may leave it out."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """A stage begins with so many units (`clips`, `shards`) to do."""
        ...

    def advance(self, status: str, reason: str = "", count: int = 1) -> None:
        """So many units are done, with this status."""
        ...

    def note(self, text: str) -> None:
        """Something a person who watches should know now: a pause, a full disk."""
        ...

    def finish(self) -> None:
        """The stage is over."""
        ...


class NoProgress:
    """Shows nothing."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Nothing to show."""

    def advance(self, status: str, reason: str = "", count: int = 1) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Goes to the log file alone."""
        log.info(text)

    def finish(self) -> None:
        """Nothing to show."""


@dataclass(slots=True)
class StageReport:
    """What a stage did in this run.

    Attributes:
        stage: its name.
        outcomes: how many clips (or shards) ended with each (status, reason).
        notices: what a person should know besides.
    """

    stage: str
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome, number: int = 1) -> None:
        """Counts an outcome."""
        self.outcomes[(outcome.status.value, outcome.reason)] += number

    @property
    def done(self) -> int:
        """How many units ended, whatever way."""
        return sum(self.outcomes.values())

    def total(self, status: Status) -> int:
        """How many ended with a status."""
        return sum(number for (name, _), number in self.outcomes.items() if name == status.value)

    def to_dict(self) -> dict[str, object]:
        """JSON-able form, for `--json`."""
        return {
            "stage": self.stage,
            "outcomes": [
                {"status": status, "reason": reason, "count": number}
                for (status, reason), number in sorted(self.outcomes.items())
            ],
            "notices": self.notices,
        }


def _removal_interrupted(work: WorkDir) -> bool:
    """Whether `remove` was killed here; one that had come to overwriting its note was over."""
    if work.removal.exists() and not work.removal.read_bytes().strip(b"\0"):
        work.removal.unlink()
    return work.removal.exists()


class Driver:
    """The one writer of a work folder, as a context manager.

    On entering it takes the ledger's lock, finishes what a killed run left complete, and removes the rest.

    Args:
        work: the work folder.
        progress: shown while stages run.
        stages: those that this process will run: its workers are forked from a server that has imported
            what all of them need.
        execute: where the workers run.
        removing: it is the one that ends a removal which was interrupted; any other is refused until then.

    Raises:
        ConfigError: a cluster's address without the executor that would join it.
        ValorDataError: another driver holds the work folder, or parts of it are not merged.
        ConfigError: there is no plan to do a part of.
    """

    def __init__(
        self,
        work: WorkDir,
        progress: Progress | None = None,
        *,
        stages: Sequence[str] = STAGES,
        execute: ExecuteSection | None = None,
        removing: bool = False,
    ) -> None:
        if _removal_interrupted(work) and not removing:
            raise ValorDataError(
                f"{work.root}: a removal was interrupted here and must be finished first: "
                f"valor-data remove --work {work.root}"
            )
        self._execute = execute or ExecuteSection()
        if self._execute.address and self._execute.executor != "ray":
            raise ConfigError(
                f"execute.address is {self._execute.address} and execute.executor is {self._execute.executor}: "
                "a cluster's address goes with --executor ray"
            )
        self.work = work
        self.tombstones: Tombstones = local_tombstones(work.tombstones)
        self.progress: Progress = progress or NoProgress()
        self.ledger: Ledger = open_ledger_to_write(work)
        self._preload = tuple(name for stage in stages for name in PRELOAD[stage])
        self._last_commit = time.monotonic()

    def __enter__(self) -> Driver:
        self._repair()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit, ValorDataError)):
                self._repair(is_end=True)  # workers are gone: what they had finished is adopted
        finally:
            self.ledger.close()
        if kind is None:
            self.work.clean_tmp()

    def _repair(self, *, is_end: bool = False) -> None:
        """Adopts what is complete under `tmp/`, then empties it.

        At the end of a run that was stopped, shards that go to an object store wait there for the next command: the
        store may be what failed.
        """
        folders = self.work.tmp_folders()
        if any(path for folder in folders for path in folder.glob("*.journal.json")):
            from valor_data.fetch.video import recover

            for clip in recover(self.work):
                self.record_fetched(clip.clip_id, clip.outcome, clip.key, clip.media)
            self.ledger.commit()
        if any(path for folder in folders for path in folder.glob("**/*.json")):
            from valor_data.shard.writer import finish_moves

            output = self.output()
            if is_end and output.is_remote:
                return
            for name in finish_moves(self.work, output):
                log.info("finished the interrupted move of %s", name)
        self.work.clean_tmp()

    def output(self) -> Output:
        """Where the shards of this work folder were last sent."""
        return open_output(self.work.root, output_of(self.ledger))

    def record_fetched(
        self,
        clip_id: int,
        outcome: Outcome,
        key: str | None,
        media: MediaRow | None,
        *,
        counts: bool = True,
        now: float | None = None,
    ) -> Outcome:
        """Writes what fetch made of a clip: its media first, then the outcome.

        Args:
            clip_id: the clip.
            outcome: what fetch made of it.
            key: its key, once it has one.
            media: where its media lies, when it was kept.
            counts: whether this was an attempt (False: nobody blames the clip).
            now: when, in seconds since 1970; None: this moment.

        Returns:
            The outcome written: a whole video may turn out to be another clip of the manifest.
        """
        if key is not None and key in self.tombstones:  # a whole video turned out to be a clip that was removed
            self._forget_media(media)
            outcome, key, media = Outcome.refused("removed"), None, None
        if key is not None and not self.ledger.set_key(clip_id, key):
            outcome, media = Outcome.refused("duplicate", f"{key} is another clip of the manifest"), None
        if media is not None:
            self.ledger.record_media(clip_id, media)
        self.ledger.record(clip_id, "fetch", outcome, counts=counts, now=now)
        return outcome

    def _forget_media(self, media: MediaRow | None) -> None:
        """Deletes a file that fetch has brought; one that lies elsewhere is not ours."""
        if media is not None and media.path and (self.work.root / media.path).is_relative_to(self.work.media):
            (self.work.root / media.path).unlink(missing_ok=True)

    def remember(self, stage: str, section: SectionT, explicit: Collection[str], names: Sequence[str]) -> SectionT:
        """Settings once chosen for a work folder stay chosen until others are given.

        Args:
            stage: whose settings they are.
            section: the settings of this run.
            explicit: names that were given for this run, on the command line or in `valor.toml`.
            names: the settings to remember.

        Returns:
            The section with former choices in place of defaults.
        """
        section = self.recall(stage, section, explicit, names)
        self.note_settings(stage, section, names)
        return section

    def recall(self, stage: str, section: SectionT, explicit: Collection[str], names: Sequence[str]) -> SectionT:
        """The first half of `remember`: former choices in place of defaults, and nothing written yet."""
        return recall_settings(self.ledger, stage, section, explicit, names)

    def note_settings(self, stage: str, section: object, names: Sequence[str]) -> None:
        """The second half of `remember`, for settings that turned out to be good.

        Raises:
            ConfigError: this is a part, and the settings are not those that all parts have from the work folder.
        """
        now = {name: getattr(section, name) for name in names}
        if self.work.part is not None:
            before = json.loads(self.ledger.get_meta(f"settings.{stage}") or "{}")
            other = [
                f"{name} is {before[name]}, not {value}"
                for name, value in json.loads(json.dumps(now)).items()
                if name in before and before[name] != value
            ]
            if other:
                raise ConfigError(
                    f"--part {self.work.part}: every part has the {stage} settings of the work folder: "
                    f"{', '.join(other)}; `valor-data shard --plan-only` sets them, from options and valor.toml"
                )
            return
        self.ledger.set_meta(f"settings.{stage}", json.dumps(now))

    def executor(self, workers: int) -> Executor:
        """Workers here or on a cluster, as `[execute]` says; 0 means one for each core.

        Raises:
            ConfigError: Ray is asked for and not installed, or its address is none.
            ValorDataError: nothing answers at the address.
        """
        if self._execute.executor == "ray":
            from valor_data.execute.ray import RayExecutor

            return RayExecutor(workers, self._execute.address, self.work.own_tmp(), preload=self._preload)
        return LocalExecutor(workers or available_cores(), self.work.own_tmp(), preload=self._preload)

    def commit_now_and_then(self) -> bool:
        """Commits when the last time is long enough ago; tells whether it did."""
        if time.monotonic() - self._last_commit < COMMIT_EVERY_SECONDS:
            return False
        self.ledger.commit()
        self._last_commit = time.monotonic()
        return True


def recall_settings(
    ledger: Ledger, stage: str, section: SectionT, explicit: Collection[str], names: Sequence[str]
) -> SectionT:
    """Settings with the former choices of a work folder in place of defaults; see `Driver.remember`."""
    before = json.loads(ledger.get_meta(f"settings.{stage}") or "{}")
    kept = {name: value for name, value in before.items() if name in names and name not in explicit}
    kept = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    return dataclasses.replace(section, **kept)  # type: ignore[type-var]
