"""`valor-data eval` and `valor-data caption`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from valor_data.cli.options import Json
from valor_data.cli.train import check_packages


def eval_command(
    checkpoint: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or a converted model.")],
    data: Annotated[str, typer.Option(help="Shards: a work folder, a pattern, an address.")],
    task: Annotated[
        str | None,
        typer.Option(help="ret%tva, cap%tva, qa%tva, or several groups: ret%tva%tv%ta.", show_default="ret%tva"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A benchmark of the paper: its task and sizes, published figures beside yours.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a folder: the tars of this split.")] = "test",
    captions: Annotated[
        str | None, typer.Option(help="An annotation file whose captions take the place of those in the shards.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Measure on these clips alone: a file of keys, as `compare --keys-out` writes.")
    ] = None,
    certificate: Annotated[
        str, typer.Option(help="Refuse the result of any other clips than those of this certificate.")
    ] = "",
    extension: Annotated[
        str, typer.Option(help="A second set that extend made, by name or place: its members are taken instead.")
    ] = "",
    num_frames: Annotated[int | None, typer.Option(help="Pictures of a clip.", show_default="as trained")] = None,
    num_slices: Annotated[int | None, typer.Option(help="Slices of a clip's mel.", show_default="as trained")] = None,
    dsl: Annotated[bool, typer.Option("--dsl", help="Retrieval with dual softmax besides.")] = False,
    beams: Annotated[int, typer.Option(min=1, help="For captions; 1 is greedy.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips of a batch.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write everything as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained model: retrieval both ways, captions, answers."""
    check_packages()
    from valor_data.cli.output import print_json
    from valor_data.look.compare import read_keys
    from valor_data.train.bench import measure
    from valor_data.train.data import DataSet
    from valor_data.train.evaluate import EvalSettings
    from valor_data.train.recipes import benchmark

    settings = EvalSettings(dsl=dsl, num_beams=beams)
    asked = benchmark(recipe) if recipe is not None else None
    sizes: dict[str, Any] = dict(asked.evaluate) if asked is not None else {}
    given = {"num_frames": num_frames, "num_slices": num_slices, "batch_size": batch_size, "workers": workers}
    sizes |= {name: value for name, value in given.items() if value is not None}
    task = task or (asked.train["task"] if asked is not None else "ret%tva")
    _check_certificate(certificate)
    asked_of = DataSet(shards=data, task=task, split=split, captions=captions or "", extension=extension)
    only = None if keys is None else read_keys(keys)
    tree = measure(checkpoint, asked_of, only=only, settings=settings, changes=sizes, device=device)
    if tree is None:
        return  # another process of torchrun's prints
    if output is not None:
        _write(output, tree)
    if as_json:
        print_json(tree)
        _refuse_others(tree, certificate)
        return
    _print_scores(tree)
    _refuse_others(tree, certificate)
    if recipe is not None:
        _print_published(recipe, tree["scores"])
    if output is not None:
        typer.echo(f"everything, with each prediction: {output}")


def caption_command(
    files: Annotated[list[Path], typer.Argument(help="Videos: any file that has a picture or sound.")],
    checkpoint: Annotated[Path, typer.Option(help="A run, one of its checkpoints, or a converted model.")],
    start: Annotated[float, typer.Option(min=0, help="Second to begin at.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Second to end at.", show_default="ten after the start")] = None,
    modalities: Annotated[str, typer.Option(help="What to look at and listen to: av, v or a.")] = "av",
    beams: Annotated[int, typer.Option(min=1, help="1 is greedy.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Write a caption for each file, from its pictures and its sound."""
    check_packages()
    from valor_data.cli.output import print_json
    from valor_data.train.describe import describe_files

    found = describe_files(
        files, checkpoint, span=(start, end), modalities=modalities, num_beams=beams, device=device, isolated=True
    )
    if as_json:
        print_json([one.to_dict() for one in found])
    else:
        for one in found:
            text = one.caption if one.caption is not None else f"no caption: {one.problem}"
            typer.echo(f"{one.file}: {text}" + (f" ({one.note})" if one.note else ""))
    if any(one.caption is None for one in found):
        raise typer.Exit(1)


def _check_certificate(text: str) -> None:
    from valor_data.errors import ConfigError

    if text and not re.fullmatch(r"[0-9a-f]{16,64}", text):
        raise ConfigError(f"--certificate {text}: expected 64 hex digits, or their first 16, as `compare` prints them")


def _refuse_others(tree: dict[str, Any], wanted: str) -> None:
    """Says that other clips were measured than those that were to be; what was measured has been told."""
    from valor_data.errors import ValorDataError

    if not tree["certificate"].startswith(wanted):
        raise ValorDataError(
            f"these are other clips: their certificate is {tree['certificate']}, --certificate asks for {wanted}; "
            "`valor-data compare` says which clips differ, --keys takes a list of them"
        )


def _print_published(recipe: str, scores: dict[str, float]) -> None:
    from valor_data.cli.output import console, plain_table
    from valor_data.train.recipes import assumption, benchmark, published_beside

    rows = published_beside(recipe, scores)
    models = list(dict.fromkeys(model for _, _, figures in rows for model in figures))
    table = plain_table(benchmark(recipe).title, "here", *models)
    for measure, ours, figures in rows:
        told = [f"{figures[model]:.1f}" if model in figures else "" for model in models]
        table.add_row(measure, "" if ours is None else f"{ours:.1f}", *told)
    console().print(table)
    if assumption(recipe):
        console().print(f"note: {assumption(recipe)}", markup=False)


def _write(output: Path, tree: dict[str, Any]) -> None:
    import json

    from valor_data.workdir import written_aside

    with written_aside(output) as path:
        path.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _print_scores(tree: dict[str, Any]) -> None:
    from valor_data.cli.output import console, plain_table

    retrieval = {name: value for name, value in tree["scores"].items() if "_to_" in name}
    rows: dict[str, dict[str, float]] = {}
    for name, value in retrieval.items():
        where, _, measure = name.rpartition("/")
        rows.setdefault(where.removeprefix("retrieval/"), {})[measure] = value
    out = console()
    if rows:
        table = plain_table("retrieval", "R@1", "R@5", "R@10", "median rank", "mean rank")
        for where, found in rows.items():
            names = ("r1", "r5", "r10", "median_rank", "mean_rank")
            table.add_row(where.replace("_", " ").replace("/", ", "), *(f"{found[name]:.1f}" for name in names))
        out.print(table)
    for task in ("caption", "qa"):
        written: dict[str, list[str]] = {}
        for name, value in tree["scores"].items():
            if name.startswith(f"{task}/"):
                _, group, measure = name.split("/")
                written.setdefault(group, []).append(f"{measure} {value:.1f}")
        for group, figures in written.items():
            out.print(f"{task}, {group}:  {'  '.join(figures)}", highlight=False)
    counted = ", ".join(f"{number} for {name}" for name, number in tree["num_clips"].items())
    out.print(f"clips: {counted}", highlight=False)
    out.print(f"certificate: {tree['certificate']}", highlight=False)
    for note in tree["notes"]:
        out.print(f"note: {note}", markup=False)
