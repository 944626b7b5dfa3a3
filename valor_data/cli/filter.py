"""`valor-data filter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from valor_data.cli.options import Address, Executor, Json, Modalities, PartOption, Work, Workers


def filter_command(
    work: Work = Path(),
    workers: Workers = None,
    executor: Executor = None,
    address: Address = None,
    min_rms_dbfs: Annotated[float | None, typer.Option(help="Quietest clip to keep, by RMS level.")] = None,
    min_peak_dbfs: Annotated[float | None, typer.Option(help="Quietest clip to keep, by peak.")] = None,
    min_coverage: Annotated[
        float | None, typer.Option(help="Least share of the span that sound and picture cover, 0 to 1.")
    ] = None,
    part: PartOption = None,
    modalities: Modalities = None,
    as_json: Json = False,
) -> None:
    """Measure each clip once, and decide which are kept. Moving a threshold touches no media."""
    from valor_data.cli.output import begin_log, print_report, progress
    from valor_data.cli.settings import pinned_modalities, stage_settings, where_to_run
    from valor_data.road import Driver, run_filter
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work).of_part(part)
    options = {
        "workers": workers,
        "min_rms_dbfs": min_rms_dbfs,
        "min_peak_dbfs": min_peak_dbfs,
        "min_coverage": min_coverage,
    }
    settings = stage_settings(folder, "filter", options, modalities)
    execute = where_to_run(settings.config, executor, address)
    with Driver(folder, progress(as_json), stages=["filter"], execute=execute) as driver:
        begin_log(folder, "filter")
        held = pinned_modalities(driver.ledger, settings.modalities)
        report = run_filter(driver, settings.section, held, explicit=settings.explicit)
    print_report(report, as_json=as_json)
    if not as_json:
        typer.echo(f"next: valor-data shard --work {work}{f' --part {part}' if part else ''}")
