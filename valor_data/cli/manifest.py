"""`valor-data manifest`: annotation files in, a checked manifest out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from valor_data.errors import ConfigError

if TYPE_CHECKING:
    from valor_data.manifest import ManifestResult, Progress
    from valor_data.manifest.join import Report

_FIELDS = "Names in your files"
_CHOICE = "What to keep"
_LOG_EVERY_SECONDS = 10.0


def _field(meaning: str) -> Any:
    return typer.Option(help=f"The column or key that holds {meaning}.", metavar="NAME", rich_help_panel=_FIELDS)


def manifest_command(
    files: Annotated[
        list[str],
        typer.Argument(help="Annotation files: captions, labels, class names; or a set: tars, Parquet with media."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the manifest goes.")] = Path("manifest.parquet"),
    format: Annotated[
        list[str] | None,
        typer.Option(
            help="valor, mapping, annotations, jsonl, csv, parquet, audioset, audiocaps or vggsound, instead of "
            "looking at the content; FILE:NAME for one file of several.",
            metavar="[FILE:]NAME",
        ),
    ] = None,
    id_field: Annotated[str | None, _field("the video id")] = None,
    caption_field: Annotated[str | None, _field("the caption or captions")] = None,
    start_field: Annotated[str | None, _field("the first second")] = None,
    end_field: Annotated[str | None, _field("the second after the last")] = None,
    url_field: Annotated[str | None, _field("the video's address")] = None,
    ids: Annotated[
        str, typer.Option(help="youtube: 11 characters; any: every text; auto: as the format says.", metavar="RULE")
    ] = "auto",
    whole_videos: Annotated[
        bool, typer.Option("--whole-videos", help="An id without a span is a whole video.")
    ] = False,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="The split of all rows, instead of the file's name; FILE:NAME for one.", metavar="[FILE:]NAME"
        ),
    ] = None,
    member: Annotated[
        str, typer.Option(help="Of a set's samples, the member or column that is the video.", metavar="NAME")
    ] = "",
    join: Annotated[
        str, typer.Option(help="left: files with captions define the clips; outer: label files too.", metavar="HOW")
    ] = "left",
    on_leak: Annotated[
        str, typer.Option(help="A video in two splits: error, or drop it from all but one.", metavar="WHAT")
    ] = "error",
    limit: Annotated[
        int | None, typer.Option(help="Only the first N clips.", metavar="N", rich_help_panel=_CHOICE)
    ] = None,
    sample: Annotated[int | None, typer.Option(help="N clips at random.", metavar="N", rich_help_panel=_CHOICE)] = None,
    seed: Annotated[int, typer.Option(help="Which draw.", metavar="S", rich_help_panel=_CHOICE)] = 0,
    tombstones: Annotated[
        Path | None,
        typer.Option(
            help="A list of what was removed from the set: it stays out.",
            show_default="tombstones.parquet beside the manifest",
            rich_help_panel=_CHOICE,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Check annotation files and write them as one manifest; rows that cannot be used go to rejects.parquet."""
    from valor_data.cli.output import print_json
    from valor_data.manifest import ManifestOptions, build_manifest, write_manifest
    from valor_data.tombstones import FILE_NAME

    formats, splits = _by_file(format, "--format"), _by_file(split, "--split")
    beside = output.absolute().parent / FILE_NAME
    removed = tombstones or (beside if beside.exists() else "")
    options = ManifestOptions(
        format=formats.pop("", None),
        file_formats=formats,
        id_field=id_field,
        caption_field=caption_field,
        start_field=start_field,
        end_field=end_field,
        url_field=url_field,
        member=member,
        split=splits.pop("", None),
        file_splits=splits,
        join=cast("Literal['left', 'outer']", join),
        on_leak=cast("Literal['error', 'drop']", on_leak),
        ids=cast("Literal['auto', 'youtube', 'any']", ids),
        whole_videos=whole_videos,
        limit=limit,
        sample=sample,
        seed=seed,
        tombstones=str(removed),
    )
    with _progress() as report:
        result = build_manifest(files, options=options, progress=report)
        rejects = write_manifest(result, output)
    if as_json:
        print_json(_as_json(result, output, rejects))
    else:
        _print_summary(result, files, output, rejects)


def _by_file(values: list[str] | None, option: str) -> dict[str, str]:
    """`NAME` for every file (under the empty name) and `FILE:NAME` for single ones.

    Raises:
        ConfigError: the same file, or all files, named twice.
    """
    named: dict[str, str] = {}
    for value in values or []:
        file, _, name = value.rpartition(":")
        file = Path(file).name if file else ""
        if file in named:
            whom = f"for {file}" if file else "for all files"
            raise ConfigError(f"{option} is given twice {whom}: {named[file]!r} and {name!r}; give one")
        named[file] = name
    return named


def _as_json(result: ManifestResult, output: Path, rejects: Path) -> dict[str, Any]:
    return {
        "manifest": str(output),
        "rejects": str(rejects),
        "fingerprint": result.manifest.fingerprint,
        "rows": result.num_rows,
        **result.counts,
        "clips_by_split": result.clips_by_split,
        "num_rejects": len(result.rejects),
        "rejects_by_reason": result.rejects_by_reason,
        "notices": list(result.notices),
    }


def _print_summary(result: ManifestResult, files: list[str], output: Path, rejects: Path) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console, plain_table
    from valor_data.manifest import REJECT_CODES
    from valor_data.manifest.sets import SET_FORMATS

    out = console()
    counts = result.counts
    splits = ", ".join(f"{split} {number:,}" for split, number in result.clips_by_split.items())
    out.print(f"[bold]{counts['clips']:,} clips[/] ({escape(splits)}) from {result.num_rows:,} annotation rows")
    for line in _contents(counts):
        out.print(f"  {line}")
    if result.rejects_by_reason:
        rejected = "1 reject" if len(result.rejects) == 1 else f"{len(result.rejects):,} rejects"
        out.print(f"[bold]{rejected}[/] in {escape(str(rejects))}, with file, row and text:")
        table = plain_table("reason", "rows", "meaning")
        table.columns[2].justify = "left"
        for reason, number in result.rejects_by_reason.items():
            table.add_row(reason, f"{number:,}", REJECT_CODES[reason])
        out.print(table)
    for notice in result.notices:
        out.print(f"[cyan]note:[/] {escape(notice)}")
    out.print(f"manifest: {escape(str(output))} (fingerprint {result.manifest.fingerprint[:12]})")
    is_set = len(files) == 1 and all(source.format in SET_FORMATS for source in result.manifest.sources)
    source = escape(files[0]) if is_set else "youtube"
    out.print(f"next: valor-data fetch {escape(str(output))} --source {source} --work DIR", soft_wrap=True)


def _contents(counts: dict[str, int]) -> Iterator[str]:
    """What the clips have, a line each; nothing is said of what none of them has."""
    if counts["clips_before_selection"] > counts["clips"]:
        yield f"chosen from {counts['clips_before_selection']:,} clips"
    if counts["captions"]:
        yield f"{counts['captions']:,} captions"
        if counts["clips_without_captions"]:
            yield f"{counts['clips_without_captions']:,} clips have no caption"
    if counts["questions"]:
        yield f"{counts['questions']:,} questions"
    if counts["clips_with_labels"]:
        yield f"{counts['clips_with_labels']:,} clips with labels"
    if counts["clips_without_label_row"]:
        yield f"{counts['clips_without_label_row']:,} clips are in no joined label list"
    if counts["label_rows_unused"]:
        yield f"{counts['label_rows_unused']:,} label rows belong to no caption"
    if counts["clips_without_end"]:
        yield f"{counts['clips_without_end']:,} clips without an end (whole videos); fetch fills it in"


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on a terminal, a line now and then off it."""
    if not sys.stderr.isatty():
        yield _LogLines()
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from valor_data.cli.output import console

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[found]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, found="")

        def report(now: Progress) -> None:
            found = f"[green]{now.num_clips:,} clips[/] [yellow]{now.num_rejects:,} rejects[/]"
            if now.bytes_done == now.bytes_total:
                found += " [dim]writing[/]"
            bar.update(task, completed=now.bytes_done, total=now.bytes_total, found=found)

        yield report


class _LogLines:
    """Says on standard error how far reading has come, every ten seconds."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def __call__(self, now: Progress) -> None:
        if time.monotonic() - self._said < _LOG_EVERY_SECONDS:
            return
        self._said = time.monotonic()
        share = now.bytes_done / max(1, now.bytes_total)
        left = (self._said - self._began) * (1 - share) / max(share, 1e-6)
        typer.echo(
            f"manifest: {now.num_rows:,} rows ({share:.0%}), {now.num_clips:,} clips, {now.num_rejects:,} rejects, "
            f"about {left:.0f} s left",
            err=True,
        )
