"""`valor-data run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from valor_data.cli.options import Address, Executor, Json


def run_command(
    config: Annotated[Path, typer.Argument(help="The settings.")] = Path("valor.toml"),
    work: Annotated[
        Path | None, typer.Option(help="The work folder.", show_default="as the file says, else its folder")
    ] = None,
    executor: Executor = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Go the whole road that a TOML file describes, from where it stands: manifest to verified shards."""
    from valor_data.cli.output import begin_log, print_json, print_report, progress
    from valor_data.cli.settings import where_to_run
    from valor_data.config import config_from_dict, read_toml
    from valor_data.look.verify import verify
    from valor_data.road import Driver, run_road
    from valor_data.workdir import WorkDir

    tree = read_toml(config)
    settings = config_from_dict(tree, where=str(config))
    base = config.absolute().parent
    folder = WorkDir.at(work or base / settings.work)
    reports = []
    execute = where_to_run(settings, executor, address)
    with Driver(folder, progress(as_json), execute=execute) as driver:
        begin_log(folder, "run")
        for report in run_road(driver, tree, base):
            reports.append(report.to_dict())
            if not as_json:
                typer.echo(f"\n{report.stage}")
                print_report(report, as_json=False)
    found = verify(folder)
    if as_json:
        print_json({"stages": reports, "verify": found.to_dict()})
    else:
        from valor_data.cli.look import print_verification

        typer.echo("\nverify")
        print_verification(found)
        typer.echo(f"next: valor-data status --work {folder.root}")
    if found.problems:
        raise typer.Exit(1)
