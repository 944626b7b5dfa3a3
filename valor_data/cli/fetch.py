"""`valor-data fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from valor_data.cli.options import Address, Executor, Json, Limit, Modalities, Sample, Seed, Work


def fetch_command(
    manifest: Annotated[
        Path | None, typer.Argument(help="The list of clips; without it, the one that the work folder holds.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="youtube, a URL template with {video_id}, column (URLs of the manifest), a folder or s3://BUCKET/DIR, "
            "or a set: tars, Parquet with media, the published trainer's folders."
        ),
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="Of a set's samples, the member or column that is the video.")
    ] = None,
    work: Work = Path(),
    workers: Annotated[int | None, typer.Option(help="Videos fetched at the same time.")] = None,
    executor: Executor = None,
    address: Address = None,
    copy: Annotated[
        bool | None, typer.Option("--copy/--in-place", help="Copy the files of a folder, or use them where they are.")
    ] = None,
    max_short_side_px: Annotated[int | None, typer.Option(help="Largest short side of the picture.")] = None,
    cookies: Annotated[Path | None, typer.Option(help="Your own cookie file.")] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="A proxy of yours, an address of its own: URL or name=URL. Repeatable.")
    ] = None,
    requests_per_hour: Annotated[
        float | None, typer.Option(help="Extractions an hour and address.", show_default="250 from YouTube")
    ] = None,
    pieces: Annotated[
        str | None, typer.Option(help="What of a video to download: auto, whole, section, ranges.")
    ] = None,
    wait: Annotated[
        bool | None, typer.Option("--wait/--no-wait", help="Wait out pauses, or end the run.", show_default="wait")
    ] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="Try clips again that ended with this reason, final ones too. Repeatable.")
    ] = None,
    part: Annotated[str | None, typer.Option("--part", hidden=True)] = None,
    modalities: Modalities = None,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Bring the videos of a manifest into a work folder; go on where the last run stopped."""
    from valor_data.cli.output import begin_log, print_report, progress
    from valor_data.cli.settings import known_reasons, pinned_modalities, stage_settings, where_to_run
    from valor_data.errors import ConfigError
    from valor_data.road import Driver, run_fetch
    from valor_data.road.asking import Selection
    from valor_data.workdir import WorkDir

    if part is not None:
        raise ConfigError(
            f"--part {part}: fetching stays one driver's, so that each network address keeps one budget, however many "
            "machines there are; `filter` and `shard` take --part"
        )
    folder = WorkDir.at(work)
    options = {
        "source": source,
        "member": member,
        "workers": workers,
        "copy": copy,
        "max_short_side_px": max_short_side_px,
        "cookies": str(cookies.absolute()) if cookies else None,
        "proxies": tuple(proxy) if proxy else None,
        "requests_per_hour": requests_per_hour,
        "pieces": pieces,
        "wait": wait,
    }
    settings = stage_settings(folder, "fetch", options, modalities)
    execute = where_to_run(settings.config, executor, address)
    with Driver(folder, progress(as_json), stages=["fetch"], execute=execute) as driver:
        begin_log(folder, "fetch")
        pinned_modalities(driver.ledger, settings.modalities)
        report = run_fetch(
            driver,
            settings.section,
            manifest=manifest,
            explicit=settings.explicit,
            selection=Selection(limit, sample, seed, known_reasons(retry or [])),
        )
    print_report(report, as_json=as_json)
    if not as_json:
        typer.echo(f"next: valor-data filter --work {work}")
