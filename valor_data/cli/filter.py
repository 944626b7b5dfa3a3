"""`valor-data filter`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from valor_data.cli.options import Address, Executor, Json, Modalities, PartOption, Work, Workers

if TYPE_CHECKING:
    from valor_data.road.filter import Preview

_OFF = "off"


def _option(help_text: str, *names: str, default: str = _OFF) -> Any:
    return typer.Option(*names, help=help_text, show_default=default)


def filter_command(
    work: Work = Path(),
    workers: Workers = None,
    executor: Executor = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what each filter would remove, and write nothing.")
    ] = False,
    min_rms_dbfs: Annotated[float | None, typer.Option(help="Quietest clip to keep, by RMS level.")] = None,
    min_peak_dbfs: Annotated[float | None, typer.Option(help="Quietest clip to keep, by peak.")] = None,
    min_coverage: Annotated[
        float | None, typer.Option(help="Least share of the span that sound and picture cover, 0 to 1.")
    ] = None,
    licences_allowed: Annotated[
        list[str] | None, _option("Licence field to keep; * is any text, unknown none. Repeatable.", default="all")
    ] = None,
    licences_denied: Annotated[list[str] | None, _option("Licence field to drop. Repeatable.", default="none")] = None,
    caption_junk: Annotated[
        bool | None,
        _option("Drop captions that are a number, a URL, or no words.", "--caption-junk/--no-caption-junk"),
    ] = None,
    caption_min_words: Annotated[int | None, _option("Least words of a caption.")] = None,
    caption_max_words: Annotated[int | None, _option("Most words of a caption; 0: any.")] = None,
    caption_languages: Annotated[
        list[str] | None, _option("Language of captions to keep, such as en. Repeatable.", default="all")
    ] = None,
    caption_certainty: Annotated[
        float | None, _option("How certain another language must be, 0.5 to 1.", default="0.9")
    ] = None,
    caption_repeats: Annotated[int | None, _option("Drop captions that occur so often, but for one word.")] = None,
    min_picture_change: Annotated[
        float | None, _option("Least change from picture to picture, 0 to 255; 1 drops stills.")
    ] = None,
    min_moving_share: Annotated[float | None, _option("Least share of the picture that moves, 0 to 1.")] = None,
    max_border_share: Annotated[float | None, _option("Largest share of black borders, 0 to 1.")] = None,
    leak: Annotated[
        list[str] | None,
        _option("What training clips must not be in: manifest, annotation file, work folder, splits. Repeatable."),
    ] = None,
    leak_match: Annotated[
        str | None, _option("span: overlapping clips of a video; video: all of it.", default="span")
    ] = None,
    duplicates: Annotated[
        bool | None, _option("Keep one of clips that show the same footage.", "--duplicates/--no-duplicates")
    ] = None,
    duplicate_overlap: Annotated[
        float | None, _option("Overlap of two clips of a video that makes duplicates.", default="0.5")
    ] = None,
    max_picture_bits: Annotated[int | None, _option("Bits of 64 in which alike pictures differ.", default="12")] = None,
    max_sound_error: Annotated[
        float | None, _option("Share of bits in which alike sound differs.", default="0.33")
    ] = None,
    content: Annotated[
        bool | None, _option("Measure what these filters look at, even when none is on.", "--content/--no-content")
    ] = None,
    balance: Annotated[int | None, _option("Most training clips of a label; 0: any.")] = None,
    sample_share: Annotated[float | None, _option("Share of the training clips to draw, 0 to 1.", default="1")] = None,
    sample_count: Annotated[int | None, _option("Training clips to draw; 0: all.", default="all")] = None,
    seed: Annotated[int | None, _option("Seed of --balance and of drawing.", default="0")] = None,
    part: PartOption = None,
    modalities: Modalities = None,
    as_json: Json = False,
) -> None:
    """Measure each clip once, and decide which are kept. Moving a threshold touches no media."""
    given = dict(locals())
    from valor_data.cli.output import begin_log, print_report, progress
    from valor_data.cli.settings import pinned_modalities, require_ledger, stage_settings, where_to_run
    from valor_data.filter.leak import absolute_sets
    from valor_data.filter.recipe import CURATION_FIELDS
    from valor_data.road import Driver, run_filter
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work).of_part(part)
    names = ("workers", "min_rms_dbfs", "min_peak_dbfs", "min_coverage", *CURATION_FIELDS)
    options = {name: _as_setting(given[name]) for name in names if name in given}
    if options["leak"]:
        options["leak"] = absolute_sets(options["leak"], Path.cwd())
    settings = stage_settings(folder, "filter", options, modalities)
    if dry_run:
        _preview(folder, settings, as_json=as_json)
        return
    execute = where_to_run(settings.config, executor, address)
    require_ledger(folder.whole)
    with Driver(folder, progress(as_json), stages=["filter"], execute=execute) as driver:
        begin_log(folder, "filter")
        held = pinned_modalities(driver.ledger, settings.modalities)
        report = run_filter(driver, settings.section, held, explicit=settings.explicit)
    print_report(report, as_json=as_json)
    if not as_json:
        typer.echo(f"next: valor-data shard --work {work}{f' --part {part}' if part else ''}")


def _as_setting(value: Any) -> Any:
    """A list of options as a setting; one empty text empties it."""
    return tuple(item for item in value if item) if isinstance(value, list) else value


def _preview(folder: Any, settings: Any, *, as_json: bool) -> None:
    """`--dry-run`: the ledger is only read."""
    from valor_data.cli.output import print_json
    from valor_data.ledger import Ledger
    from valor_data.road.driver import recall_settings
    from valor_data.road.filter import REMEMBERED, preview_filter

    with Ledger(folder.ledger, read_only=True) as ledger:
        section = recall_settings(ledger, "filter", settings.section, settings.explicit, REMEMBERED)
        preview = preview_filter(folder, ledger, section, settings.modalities or ledger.get_meta("modalities") or "av")
    if as_json:
        print_json(preview.to_dict())
    else:
        _print_preview(preview)


def _print_preview(preview: Preview) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console, plain_table

    out = console()
    table = plain_table("filter", "alone", "in order", "left", "setting")
    table.columns[4].justify = "left"
    table.add_row("[dim]measured", "", "", f"{preview.num_clips:,}", "")
    for rule in preview.rules:
        if rule.alone or rule.in_order or rule.setting:
            counts = (f"{number:,}" for number in (rule.alone, rule.in_order, rule.left))
            table.add_row(rule.reason, *counts, f"[dim]{escape(rule.setting)}")
    out.print(table)
    for notice in preview.notices:
        out.print(f"[cyan]note:[/] {escape(notice)}")
    if preview.num_unmeasured:
        out.print(f"not measured yet, and not counted: {preview.num_unmeasured:,} clips")
    out.print(f"\nnothing was written: {preview.kept:,} clips would be kept, {preview.kept_now:,} are now")
