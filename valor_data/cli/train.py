"""`valor-data train` and `valor-data convert`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from valor_data.cli.options import Json, Work

NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "torchvision", "matplotlib")
"""Packages of the extra `train` without which nothing of it works."""


def train_command(
    work: Work = Path(),
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with [train].", show_default="valor.toml of the work folder")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A benchmark of the paper, such as valor32k-ret: its settings.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the run: runs/NAME.", show_default="first")] = None,
    preset: Annotated[str | None, typer.Option(help="tiny, base, base-swin or large.", show_default="base")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Task string, such as ret%tva.", show_default="pt_contra%tva%tv%ta_caption%tva%tv%ta"),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Shards to train on; may be repeated.", show_default="the work folder")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="published (encoders from the Hub), or a run or checkpoint to begin from.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(help="vocab.txt, a model on the Hub, or learn.", show_default="the preset's")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.", show_default="from --epochs")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.", show_default="10")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips of a batch on one process.", show_default="64")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches of a step.", show_default="1")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="the preset's")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Pictures of a clip.", show_default="the preset's")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.", show_default="0")] = None,
    workers: Annotated[int | None, typer.Option(help="Loader processes.", show_default="2")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    parallel: Annotated[str | None, typer.Option(help="ddp or fsdp, under torchrun.", show_default="ddp")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.", show_default="auto")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="Use torch.compile.")] = None,
    checkpoint_activations: Annotated[
        bool | None, typer.Option("--checkpoint-activations", help="Less memory, a third more time.")
    ] = None,
    reference_exact: Annotated[
        bool | None, typer.Option("--reference-exact", help="The published code's arithmetic, mistakes included.")
    ] = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.", show_default="500")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Remove the run and begin it anew.")] = False,
    as_json: Json = False,
) -> None:
    """Train VALOR on shards; the same command again goes on from the last checkpoint.

    Several GPUs: torchrun --nproc-per-node 8 -m valor_data train ...
    Every other setting of [train] goes into valor.toml.
    """
    check_packages()
    from valor_data.cli.output import begin_log, console, print_json
    from valor_data.config import TrainDataSection, override
    from valor_data.errors import ConfigError
    from valor_data.train.loop import train
    from valor_data.train.parallel import rank_of_environment
    from valor_data.train.recipes import assumption
    from valor_data.train.settings import completed, placed
    from valor_data.train.shards import locate
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    options = {
        "name": name, "preset": preset, "task": task, "init": init, "vocabulary": vocabulary, "steps": steps,
        "epochs": epochs, "batch_size": batch_size, "accumulate": accumulate, "lr": lr, "num_frames": num_frames,
        "seed": seed, "workers": workers, "device": device, "parallel": parallel, "precision": precision,
        "compile": compile_, "checkpoint_activations": checkpoint_activations, "reference_exact": reference_exact,
        "save_every": save_every,
    }  # fmt: skip
    section = override(train_section(folder, config, recipe, preset), options)
    if data:
        section = replace(section, data=tuple(TrainDataSection(shards=place) for place in data))
    section = placed(section, Path.cwd())
    first = rank_of_environment() == 0
    if first:
        for one in completed(section, str(folder.root)).data:
            locate(one.shards, one.split)  # before a mistyped --work makes a folder, and before the Hub is asked
        begin_log(folder, "train")
        if recipe is not None and assumption(recipe):
            typer.echo(assumption(recipe), err=True)
    try:
        report = train(section, folder.root, watcher=watcher(as_json or not first), restart=restart)
    except ConfigError as error:
        if first:
            raise
        raise typer.Exit(error.exit_code) from None  # the first process says it
    if not first:
        return
    if as_json:
        print_json(report.to_dict())
        return
    out = console()
    out.print(f"{report.steps} steps, loss {report.figures['loss']:.3f}" if report.figures else "nothing to do")
    if report.best:
        out.print(f"best on validation: step {report.best['step']}, {report.best['metric']} {report.best['value']:.3f}")
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
    typer.echo(f"the run is in {report.run}: loss.png, metrics.jsonl, checkpoints/\n"
               f"next: valor-data eval {report.run} --data {work} --task ret%tva --split test")  # fmt: skip


def convert_command(
    checkpoint: Annotated[Path, typer.Argument(help="A released VALOR checkpoint, model_step_N.pt.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    vocabulary: Annotated[
        str, typer.Option(help="Its words: vocab.txt, its folder, or a model on the Hub.")
    ] = "bert-base-uncased",
    as_json: Json = False,
) -> None:
    """Make a released VALOR-B or VALOR-L checkpoint one that train, eval and caption take."""
    check_packages()
    from valor_data.cli.output import print_json
    from valor_data.train.checkpoint import write_converted
    from valor_data.train.convert import convert_state, read_checkpoint
    from valor_data.train.text import Vocabulary

    converted = convert_state(read_checkpoint(checkpoint))
    write_converted(converted, Vocabulary.of(vocabulary), output)
    if as_json:
        print_json({"folder": str(output), "num_tensors": len(converted.state), "left_out": converted.left_out})
        return
    typer.echo(f"{len(converted.state)} tensors in {output}; left out, each for its reason:")
    for left, why in converted.left_out.items():
        typer.echo(f"  {left}: {why}")


def check_packages() -> None:
    """Says what to install where the extra is missing.

    Raises:
        ConfigError: a package of the extra `train` is not there.
    """
    from importlib.util import find_spec

    from valor_data.errors import ConfigError

    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install 'valor-data[train]'")


def train_section(folder: Any, config: Path | None, recipe: str | None = None, preset: str | None = None) -> Any:
    """The `[train]` of a TOML file, or of the work folder's valor.toml, over a benchmark's settings or the defaults.

    Raises:
        ConfigError: every problem at once.
    """
    from valor_data.config import config_from_dict, read_toml
    from valor_data.train.recipes import recipe_settings
    from valor_data.train.settings import placed

    path = config or folder.config
    tree = {} if config is None and not path.exists() else read_toml(path)
    if recipe is not None:
        given = tree.get("train", {})
        size = preset or str(given.get("preset", "base"))
        tree = {**tree, "train": {**recipe_settings(recipe, size), **given}}
    return placed(config_from_dict(tree, where=path.name if tree else "options").train, path.absolute().parent)


def watcher(quiet: bool) -> Any:
    """A bar on a terminal, a line now and then off it, nothing when quiet."""
    from valor_data.cli.output import progress
    from valor_data.train.report import NoWatcher

    return NoWatcher() if quiet else _Shown(progress())


class _Shown:
    """Draws a run with the bar of the other stages."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._said = bar, 0.0

    def start(self, step: int, steps: int, epoch_batches: int) -> None:
        self._bar.start("train", steps - step, "steps")
        self._bar.note(f"{steps} steps, {epoch_batches} batches an epoch" + (f"; {step} are done" if step else ""))

    def learned(self, step: int, figures: Mapping[str, float]) -> None:
        self._bar.advance("done")
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            parts = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
            self._bar.note(f"step {step}: {parts}")

    def note(self, text: str) -> None:
        self._bar.note(text)

    def finish(self) -> None:
        self._bar.finish()
