"""What a run tells while it goes: metrics to a file, to TensorBoard and Weights & Biases, a picture of the loss."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from valor_data.config import TrainSection
from valor_data.workdir import written_aside

METRICS, PICTURE = "metrics.jsonl", "loss.png"


class Watcher(Protocol):
    """Who watches a run. The command line draws it; scripts and tests may leave it out."""

    def start(self, step: int, steps: int, epoch_batches: int) -> None:
        """The run begins behind `step`."""
        ...

    def learned(self, step: int, figures: Mapping[str, float]) -> None:
        """A step is done."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know now."""
        ...

    def finish(self) -> None:
        """The run is over, whatever way."""
        ...


class NoWatcher:
    """Shows nothing."""

    def start(self, step: int, steps: int, epoch_batches: int) -> None:
        """Nothing to show."""

    def learned(self, step: int, figures: Mapping[str, float]) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""

    def finish(self) -> None:
        """Nothing to show."""


class Metrics:
    """The figures of a run, a line each time, on the first process alone.

    Lines behind the step that a resumed run goes on from are taken away: they are written again.

    Args:
        run: the run's folder.
        section: which reports are wanted.
        step: that the run goes on from.
    """

    def __init__(self, run: Path, section: TrainSection, step: int) -> None:
        self._path = run / METRICS
        lines = [line for line in read_metrics(run) if line["step"] <= step]
        with written_aside(self._path) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._board: Any = None
        if section.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
        self._wandb: Any = None
        if section.wandb:
            import wandb

            same = hashlib.blake2b(str(run).encode(), digest_size=8).hexdigest()  # the run goes on there, too
            self._wandb = wandb.init(project="valor", name=section.name, id=same, dir=str(run), resume="allow")

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Keeps the figures of a step."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(figures), step=step)

    def close(self) -> None:
        """Closes what is open."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines that a run has written; a last one that a kill cut off is left out."""
    found = []
    try:
        lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def draw_losses(run: Path) -> Path | None:
    """Draws the loss and its parts over the steps into `loss.png`; None where nothing was measured."""
    lines = read_metrics(run)
    names = ["loss", *sorted({name for line in lines for name in line if "/" in name and "validation" not in name})]
    if not any("loss" in line for line in lines):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in [*names, "validation/loss"]:
        points = [(line["step"], line[name]) for line in lines if name in line]
        if points:
            marked = name.startswith("validation")
            axes.plot(*zip(*points, strict=True), label=name, lw=2.2 if name == "loss" else 1.2,
                      marker="o" if marked or len(points) == 1 else None, ls="--" if marked else "-")  # fmt: skip
    axes.set(xlabel="step", ylabel="loss", title=run.name)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    with written_aside(run / PICTURE) as path:
        figure.savefig(path, format="png", dpi=110)
    return run / PICTURE
