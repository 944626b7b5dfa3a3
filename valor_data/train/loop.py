"""Training, from settings to a model: one loop, that a kill only interrupts.

    report = train(section, "my-set")          # again: goes on from the last checkpoint

Under torchrun every process calls `train`; the first one writes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from valor_data.config import TrainSection
from valor_data.errors import ConfigError
from valor_data.train.checkpoint import VOCABULARY, Checkpoints
from valor_data.train.data import EvaluationData, Step, TrainingData
from valor_data.train.learner import Learned, Learner
from valor_data.train.parallel import Ranks, plain, together, whole_state
from valor_data.train.report import Metrics, NoWatcher, Watcher, draw_losses
from valor_data.train.settings import completed, data_sets, loader_settings, model_config, validation_set
from valor_data.train.start import alone, make_model, open_run, open_vocabulary, read_state, resumed, write_settings
from valor_data.train.text import Vocabulary
from valor_data.train.validate import is_better, validate
from valor_data.train.weights import save_model
from valor_data.workdir import WorkDir

OPTIMISER, RANKS = "optimiser.pt", "ranks.pt"


@dataclass(slots=True)
class TrainReport:
    """What a run came to.

    Attributes:
        run: its folder.
        steps: done in all.
        figures: of the last step.
        best: `step`, `metric` and `value` of the best checkpoint, where something was validated.
        notes: what a person should know.
    """

    run: Path
    steps: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "run": str(self.run), "steps": self.steps, "figures": self.figures, "best": self.best, "notes": self.notes,
        }  # fmt: skip


def train(
    section: TrainSection, work: str | Path, *, watcher: Watcher | None = None, restart: bool = False
) -> TrainReport:
    """Trains, or goes on training, until the run has all its steps.

    Args:
        section: the `[train]` settings.
        work: the work folder: of the data, where the section names none, and of the run, `runs/NAME`.
        watcher: is told how it goes, on the first process.
        restart: begin anew what has been begun.

    Raises:
        ConfigError: settings that cannot be, or other ones than the run was begun with.
        ShardError: the data do not hold what the task asks for, or too much of them is broken.
        ValorDataError: a loss is no number, or memory is short.
    """
    folder = WorkDir.at(work)
    section = completed(section, str(folder.root))
    place = folder.runs / section.name
    with together(section.device) as ranks, alone(place, ranks):
        run = _Run(section, place, ranks, watcher or NoWatcher())
        open_run(run.folder, section, ranks, restart=restart)
        try:
            return run.go()
        finally:
            if ranks.is_first:
                run.watcher.finish()


@dataclass(slots=True)
class _Run:
    """One run on one process."""

    section: TrainSection
    folder: Path
    ranks: Ranks
    watcher: Watcher
    checkpoints: Checkpoints = field(init=False)
    vocabulary: Vocabulary = field(init=False)
    data: TrainingData = field(init=False)
    validation: EvaluationData | None = field(init=False)
    learner: Learner = field(init=False)
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.folder, self.section.keep_last)

    def go(self) -> TrainReport:
        """Prepares, trains, and says what came of it."""
        report = TrainReport(self.folder)
        done = self._prepare(report)
        if self.ranks.is_first:
            self.metrics = Metrics(self.folder, self.section, done)
            self.watcher.start(done, self.learner.steps, len(self.data))
            for note in report.notes:
                self.watcher.note(note)
        try:
            self._loop(done, report)
        finally:
            if self.metrics is not None:
                self.metrics.close()
        if self.data.num_broken:
            first = self.data.broken[0]
            report.notes.append(f"{self.data.num_broken} broken samples were left out; the first: {first}")
        if self.data.num_removed:
            report.notes.append(f"{self.data.num_removed} samples were left out: they were removed from the set")
        report.steps, report.best = self.learner.steps, self.checkpoints.best_score()
        if self.ranks.is_first:
            draw_losses(self.folder)
        return report

    def _prepare(self, report: TrainReport) -> int:
        """Data, model and optimiser, new or as they were left; gives the number of steps done."""
        section, ranks = self.section, self.ranks
        self.vocabulary = open_vocabulary(self.folder, section, ranks)
        settings = loader_settings(
            section, model_config(section, self.vocabulary.size), pin_memory=ranks.device.type == "cuda"
        )
        seen: dict[str, Any] = {"rank": ranks.rank, "world": ranks.world}
        self.data = TrainingData(data_sets(section), settings, self.vocabulary, **seen)
        held_out = validation_set(section)
        self.validation = None if held_out is None else EvaluationData(held_out, settings, self.vocabulary, **seen)
        steps = section.steps or max(1, section.epochs * len(self.data) // section.accumulate)
        left = resumed(self.folder, section.keep_last)
        if left is None:
            model, notes = make_model(section, self.vocabulary)
            report.notes += notes
        else:
            model = left[1]
            report.notes.append(f"goes on behind step {left[0]}")
        self.learner = Learner(model.to(ranks.device), section, ranks, steps)
        torch.manual_seed(section.seed * 1_000_003 + ranks.rank + 1)  # dropout differs from process to process
        if left is None:
            return 0
        self._take_up(left[2])
        return left[0]

    def _take_up(self, folder: Path) -> None:
        """Optimiser, randomness and place in the data as a checkpoint has them."""
        self.learner.load_state(read_state(folder, OPTIMISER))
        kept = read_state(folder, RANKS)
        if len(kept) != self.ranks.world:
            raise ConfigError(
                f"the run was trained by {len(kept)} processes and now there are {self.ranks.world}: start as many, or "
                f"begin another run from its weights with --init {self.folder} --name NAME"
            )
        own = kept[self.ranks.rank]
        self.data.load_state(own["data"])
        self.learner.generator.set_state(own["masking"])
        torch.set_rng_state(own["torch"])
        if self.ranks.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.ranks.device)

    def _loop(self, done: int, report: TrainReport) -> None:
        section, steps = self.section, self.learner.steps
        batches = self._batches()
        began, clips, waited = time.perf_counter(), 0, 0.0
        for step in range(done + 1, steps + 1):
            asked = time.perf_counter()
            group = list(itertools.islice(batches, section.accumulate))
            waited += time.perf_counter() - asked
            learned = self.learner.learn(group, step)
            clips += sum(len(batch) for _, batch in group) * self.ranks.world
            if self.ranks.is_first:
                self.watcher.learned(step, learned.losses)
            last = step == steps
            if step % section.log_every == 0 or last:
                now = time.perf_counter()
                speed = {"clips_per_second": clips / (now - began), "share_waiting": waited / (now - began)}
                report.figures = self._write(step, learned, speed)
                began, clips, waited = now, 0, 0.0
            if step % section.save_every == 0 or step % section.validate_every == 0 or last:
                self._save(step, step % section.validate_every == 0 or last)
                began, clips, waited = time.perf_counter(), 0, 0.0

    def _batches(self) -> Iterator[Step]:
        """Epoch after epoch."""
        while True:
            yield from self.data

    def _write(self, step: int, learned: Learned, speed: Mapping[str, float]) -> dict[str, float]:
        figures = {
            **learned.losses,
            "lr": learned.lr,
            "grad_norm": learned.grad_norm,
            "temperature": learned.temperature,
            "epoch": float(self.data.epoch),
            "num_broken": float(self.data.num_broken),
            "num_removed": float(self.data.num_removed),
            **speed,
        }
        if self.metrics is not None:
            self.metrics.write(step, figures)
        return figures

    def _save(self, step: int, measure: bool) -> None:
        """A checkpoint, and what the validation set says of it."""
        best = self._measure(step) if measure and self.validation is not None else None
        weights = whole_state(self.learner.model)
        optimiser = self.learner.state()
        device = self.ranks.device
        own = {
            "data": self.data.state(),
            "masking": self.learner.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        everybody = self.ranks.collect(own)
        if self.ranks.is_first:

            def fill(folder: Path) -> None:
                save_model(plain(self.learner.model), folder, weights)
                self.vocabulary.save(folder / VOCABULARY)
                write_settings(folder, self.section)
                torch.save(optimiser, folder / OPTIMISER)
                torch.save(everybody, folder / RANKS)

            self.checkpoints.write(step, fill, best)
        self.ranks.wait()

    def _measure(self, step: int) -> Mapping[str, Any] | None:
        """Scores on the validation set; what makes this checkpoint the best, where it is."""
        if self.validation is None:
            return None
        scores = validate(self.learner, self.validation, self.section)
        if self.ranks.is_first and self.metrics is not None:
            self.metrics.write(step, {f"validation/{name}": value for name, value in scores.items()})
            told = [name for name in scores if name == "loss" or (name.endswith("/r1") and name.count("/") == 2)]
            shown = ", ".join(f"{name} {scores[name]:.3f}" for name in told)
            self.watcher.note(f"step {step}: validation {shown}")
        metric = self.section.best_by
        if metric not in scores:
            raise ConfigError(f"train.best_by is {metric!r}; the validation gives {', '.join(sorted(scores))}")
        before = self.checkpoints.best_score()
        if before is not None and before["metric"] == metric and not is_better(metric, scores[metric], before["value"]):
            return None
        return {"step": step, "metric": metric, "value": scores[metric]}
