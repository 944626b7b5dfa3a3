"""`valor-data report`: one page about a set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from valor_data.cli.options import Json, Seed, Work

if TYPE_CHECKING:
    from valor_data.look.report import Report


def report_command(
    work: Work = Path(),
    out: Annotated[
        Path | None, typer.Option(help="Where to write the page.", show_default="report/index.html in the work folder")
    ] = None,
    kept: Annotated[int, typer.Option(min=0, help="Kept clips to show.")] = 24,
    refused: Annotated[int, typer.Option(min=0, help="Refused clips to show; one of each reason at least.")] = 24,
    seed: Seed = 0,
    concepts: Annotated[
        Path | None,
        typer.Option(
            help="Audio concepts to count: AudioSet's ontology.json, or one name a line.",
            show_default="AudioSet's class names",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one page about a work folder: its figures, and clips to see and hear. It opens from disk."""
    from valor_data.cli.output import print_json
    from valor_data.workdir import WorkDir

    found = make_report(WorkDir.at(work), out, kept=kept, refused=refused, seed=seed, concepts=concepts, quiet=as_json)
    if as_json:
        print_json({"path": str(found.path.absolute()), "bytes": found.num_bytes, "clips": found.num_clips})
    else:
        typer.echo(f"{found.path.absolute()}, {found.num_bytes / 1e6:.1f} MB, {found.num_clips} clips to see and hear")


def make_report(
    work: Any, out: Path | None = None, *, kept: int, refused: int, seed: int, concepts: Path | None, quiet: bool
) -> Report:
    """Writes the page of a work folder and shows how far it is."""
    from valor_data.cli.output import progress
    from valor_data.cli.stats import told_steps
    from valor_data.look.report import Watcher, write_report

    bar: Any = progress(quiet)
    say = told_steps(quiet=quiet)

    class Shown(Watcher):
        def step(self, name: str) -> None:
            say(name)

        def start(self, num_clips: int) -> None:
            bar.start("report", num_clips, "clips")

        def clip(self, status: str) -> None:
            bar.advance(status)

    try:
        return write_report(
            work, out, num_kept=kept, num_refused=refused, seed=seed, concepts=concepts, watcher=Shown()
        )
    finally:
        bar.finish()
