"""`valor-data export`: a finished set in the forms that other people's code reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from valor_data.cli.options import Json, Limit, Work, Workers

if TYPE_CHECKING:
    from valor_data.publish.exports import Exported


def export_command(
    target: Annotated[str, typer.Argument(help="Where it goes: a new folder, or s3://BUCKET/SET.")],
    layout: Annotated[
        str, typer.Option(help="valor (the published trainer's folders), parquet, csv (captions), or energon.")
    ],
    work: Work = Path(),
    split: Annotated[str, typer.Option(help="Only this split.", show_default="all")] = "",
    limit: Limit = None,
    workers: Workers = None,
    fps: Annotated[
        float | None,
        typer.Option(help="valor: pictures a second, from the media.", show_default="the pictures of the shards"),
    ] = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="valor: write wavs.")] = True,
    include: Annotated[
        str | None, typer.Option(help="parquet: binary columns to add, of frames,mel,audio,video.")
    ] = None,
    spreadsheet: Annotated[
        bool,
        typer.Option(
            "--spreadsheet",
            help="csv: put ' before cells that Excel would take for a formula (those that begin with = + - @).",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a finished set in the form that other code reads. Given again, it goes on where it was."""
    from valor_data.cli.output import print_json, progress
    from valor_data.publish.exports import ExportOptions, run_export
    from valor_data.workdir import WorkDir

    options = ExportOptions(
        split=split,
        limit=limit,
        workers=0 if workers is None else workers,
        fps=0.0 if fps is None else fps,
        sound=sound,
        include=tuple(sorted({name.strip() for name in (include or "").split(",") if name.strip()})),
        spreadsheet=spreadsheet,
    )
    exported = run_export(WorkDir.at(work), layout, target, options, progress(as_json))
    if as_json:
        print_json(exported.to_dict())
    else:
        print_exported(exported, target)


def print_exported(exported: Exported, target: str) -> None:
    """What is there now, and where it came from."""
    from rich.markup import escape

    from valor_data.cli.output import console, plain_table

    out = console()
    out.print(f"{exported.num_clips:,} clips, {exported.num_captions:,} captions in {escape(target)}", soft_wrap=True)
    table = plain_table("", "")
    table.show_header, table.columns[1].justify = False, "left"
    for name, about in sorted(exported.files.items()):
        table.add_row(escape(name), escape(about))
    if exported.files:
        out.print(table)
    for words, number in sorted(exported.counts.items()):
        if number:
            out.print(f"{number:>9,} {escape(words)}")
    for notice in exported.notices:
        out.print(f"[cyan]note:[/] {escape(notice)}")
