"""`valor-data shard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from valor_data.cli.options import Address, Executor, Json, Modalities, PartOption, Work, Workers


def shard_command(
    work: Work = Path(),
    workers: Workers = None,
    executor: Executor = None,
    address: Address = None,
    max_clips: Annotated[int | None, typer.Option(help="Clips of the manifest a shard.", show_default="1000")] = None,
    max_bytes: Annotated[
        int | None, typer.Option(help="Size of a shard; becomes a count, estimated from a sample.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the order of the clips.", show_default="0")] = None,
    partial: Annotated[bool | None, typer.Option("--partial", help="Build shards that still wait for clips.")] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Where shards go: a folder, or s3://BUCKET/SET.", show_default="the work folder"),
    ] = None,
    include: Annotated[str | None, typer.Option(help="Media members to add: audio, video, or audio,video.")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Pictures a clip.", show_default="10")] = None,
    frame_short_side_px: Annotated[
        int | None, typer.Option(help="Short side of a picture.", show_default="256")
    ] = None,
    jpeg_quality: Annotated[int | None, typer.Option(help="JPEG quality.", show_default="90")] = None,
    snap_keyframes: Annotated[
        bool | None,
        typer.Option(
            "--snap-keyframes/--exact-frames",
            help="Take the key picture nearest to each moment: cheaper, and the sample says how far it moved.",
            show_default="--exact-frames",
        ),
    ] = None,
    mel: Annotated[
        str | None, typer.Option(help="Front end of the log-mel: valor or ast.", show_default="valor")
    ] = None,
    discard_media: Annotated[
        bool | None, typer.Option("--discard-media", help="Delete a clip's media once its shard is finished.")
    ] = None,
    replan: Annotated[bool, typer.Option("--replan", help="Give up the plan and every shard made from it.")] = False,
    part: PartOption = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Fix the plan and the settings, and build nothing.")
    ] = False,
    modalities: Modalities = None,
    as_json: Json = False,
) -> None:
    """Build the shards that are missing or stale: frames, log-mel and captions of every kept clip."""
    from valor_data.cli.output import begin_log, print_report, progress
    from valor_data.cli.settings import pinned_modalities, require_ledger, stage_settings, where_to_run
    from valor_data.road import Driver, run_shard
    from valor_data.road.filter import REMEMBERED as FILTER_FIELDS
    from valor_data.storage import absolute_place
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work).of_part(part)
    options = {
        "workers": workers,
        "max_clips": max_clips,
        "max_bytes": max_bytes,
        "seed": seed,
        "partial": partial,
        "output": None if output is None else absolute_place(output),
        "include": None if include is None else tuple(name.strip() for name in include.split(",") if name.strip()),
        "num_frames": num_frames,
        "frame_short_side_px": frame_short_side_px,
        "jpeg_quality": jpeg_quality,
        "frame_snap": None if snap_keyframes is None else "key" if snap_keyframes else "exact",
        "mel": mel,
        "discard_media": discard_media,
    }
    settings = stage_settings(folder, "shard", options, modalities)
    execute = where_to_run(settings.config, executor, address)
    require_ledger(folder.whole)
    with Driver(folder, progress(as_json), stages=["shard"], execute=execute) as driver:
        begin_log(folder, "shard")
        held = pinned_modalities(driver.ledger, settings.modalities)
        thresholds = driver.remember("filter", settings.config.filter, settings.explicit_of("filter"), FILTER_FIELDS)
        report = run_shard(
            driver, settings.section, held, thresholds=thresholds, explicit=settings.explicit, replan=replan,
            plan_only=plan_only,
        )  # fmt: skip
    print_report(report, as_json=as_json)
    if not as_json:
        step = "shard" if plan_only else "verify" if part is None else "ledger merge"
        typer.echo(f"next: valor-data {step} --work {work}")
