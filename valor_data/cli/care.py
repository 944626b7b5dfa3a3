"""`valor-data doctor`, `plan`, `deadlinks` and `ledger`: before, beside and after a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from valor_data.cli.options import Json, Work

deadlinks_app = typer.Typer(help="Lists of videos that are lost for good.", no_args_is_help=True, rich_markup_mode=None)
ledger_app = typer.Typer(help="What the ledger knows.", no_args_is_help=True, rich_markup_mode=None)


def doctor_command(work: Work = Path(), as_json: Json = False) -> None:
    """Look at this machine before a run does; each fault comes with the line that mends it."""
    from rich.markup import escape

    from valor_data.cli.output import console, plain_table, print_json
    from valor_data.look.doctor import examine
    from valor_data.workdir import WorkDir

    checks = examine(WorkDir.at(work))
    if as_json:
        print_json([check.to_dict() for check in checks])
    else:
        colours = {"ok": "green", "warn": "yellow", "bad": "red"}
        table = plain_table("", "", "")
        for column in table.columns:
            column.justify = "left"
        table.columns[2].overflow = "fold"
        for check in checks:
            table.add_row(f"[{colours[check.verdict]}]{check.verdict:<4}", check.name, escape(check.found))
            if check.mend:
                table.add_row("", "", f"[bold]mend:[/] {escape(check.mend)}")
        console().print(table)
    if any(check.verdict == "bad" for check in checks):
        raise typer.Exit(1)


def plan_command(
    manifest: Annotated[
        Path | None, typer.Argument(help="The list of clips; without it, the one that the work folder holds.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="As for fetch.")] = None,
    work: Work = Path(),
    requests_per_hour: Annotated[float | None, typer.Option(help="As for fetch.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a run will take: requests, hours at the quota, gigabytes. The exit code is 1 when it cannot fit."""
    from dataclasses import replace

    from valor_data.cli.output import console, print_json
    from valor_data.cli.settings import stage_settings
    from valor_data.fetch.sources import open_source
    from valor_data.look.plan import plan_run, read_listed, remembered_source
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    options = {"source": source, "requests_per_hour": requests_per_hour}
    settings = stage_settings(folder, "fetch", options)
    listed = read_listed(folder, manifest)
    fetch = settings.section
    if "source" not in settings.explicit:
        fetch = replace(fetch, source=remembered_source(folder) or fetch.source)
    opened = open_source(fetch.source, fetch.member)
    plan = plan_run(folder, listed, opened, fetch, settings.config.shard, time.time())
    if as_json:
        print_json(plan.to_dict())
    else:
        out = console()
        out.print(
            f"{plan.num_clips:,} clips in the manifest, {plan.num_pending:,} to fetch from {plan.num_videos:,} videos"
        )
        if plan.num_offered is not None:
            out.print(f"the folder has files of {plan.num_offered:,} of these videos")
        elif plan.requests_per_hour:
            out.print(f"{plan.num_videos:,} requests at {plan.requests_per_hour:,.0f} an hour: {_hours(plan.hours)}")
        else:
            out.print(f"no limit is set for this source; at a video a second and worker {_hours(plan.hours)}")
        out.print(f"media {plan.media_bytes / 1e9:,.1f} GB, shards {plan.shard_bytes / 1e9:,.1f} GB "
                  f"in {plan.num_shards:,} tars; {plan.free_bytes / 1e9:,.1f} GB are free")  # fmt: skip
        if not plan.fits:
            out.print("[red]it does not fit:[/] free some space, use a larger disk, or shard as you fetch with "
                      "--discard-media")  # fmt: skip
    if not plan.fits:
        raise typer.Exit(1)


def _hours(hours: float) -> str:
    return f"about {hours:,.1f} hours" if hours < 48 else f"about {hours / 24:,.0f} days"


@deadlinks_app.command("export")
def export_deadlinks_command(
    target: Annotated[Path, typer.Argument(help="The Parquet file to write.")], work: Work = Path()
) -> None:
    """Write the videos that are lost for good, to give to others."""
    from valor_data.road.deadlinks import export_deadlinks
    from valor_data.workdir import WorkDir

    number = export_deadlinks(WorkDir.at(work), target)
    typer.echo(f"{number:,} dead links in {target}")


@deadlinks_app.command("import")
def import_deadlinks_command(
    origin: Annotated[Path, typer.Argument(help="A file that `deadlinks export` wrote.")], work: Work = Path()
) -> None:
    """Take somebody's list, so that the same videos are not asked for again."""
    from valor_data.road.deadlinks import import_deadlinks
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    number = import_deadlinks(folder, origin)
    typer.echo(f"{number:,} dead links in {folder.deadlinks}; the next `fetch` does not ask for them")


@ledger_app.command("merge")
def merge_command(work: Work = Path(), as_json: Json = False) -> None:
    """Bring what `filter --part` and `shard --part` recorded into the work folder's ledger."""
    from valor_data.cli.output import print_json
    from valor_data.road.parts import merge_parts
    from valor_data.workdir import WorkDir

    merged = merge_parts(WorkDir.at(work))
    if as_json:
        print_json(merged.to_dict())
        return
    if not merged.parts:
        typer.echo("no part is to be merged")
    else:
        typer.echo(f"merged {len(merged.parts)} parts; {merged.num_shards:,} shards are finished")
    if merged.missing:
        typer.echo(f"not there: parts {', '.join(map(str, merged.missing))}")
    typer.echo(f"next: valor-data status --work {work}")


@ledger_app.command("export")
def export_ledger_command(
    target: Annotated[Path, typer.Argument(help="The Parquet file to write.")], work: Work = Path()
) -> None:
    """Write everything the ledger knows as one table, a row a clip."""
    from valor_data.look.export import export_ledger
    from valor_data.workdir import WorkDir

    number = export_ledger(WorkDir.at(work), target)
    typer.echo(f"{number:,} clips in {target}")
