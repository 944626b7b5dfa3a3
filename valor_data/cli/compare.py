"""`valor-data compare`: two builds or two lists of clips side by side, and a hash of what both have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from valor_data.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from valor_data.look.compare import Change, Comparison, Lack
    from valor_data.look.sides import Side

SHOWN = 16
"""Hex digits of a certificate beside other figures."""

_SIDE = "A work folder, a manifest, shards (a folder, a tar, s3://BUCKET/SET), or an annotation file."


def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    split: Annotated[str, typer.Option(help="Only clips of this split.", show_default="all")] = "",
    stage: Annotated[
        str,
        typer.Option(
            help="Of a work folder, which clips count: manifest, or kept by fetch, filter or shard.",
            show_default="the last stage that has kept any",
        ),
    ] = "",
    captions: Annotated[
        bool | None,
        typer.Option("--captions/--no-captions", help="Compare the captions of shards.", show_default="on a disk"),
    ] = None,
    keys_out: Annotated[
        Path | None, typer.Option(help="Write the keys that both have, sorted, one a line; `eval --keys` takes it.")
    ] = None,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="Print the certificates alone, as sha256sum does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what one has that the other has not and why, what differs, and whether two sets are the same.

    The certificate of a set is the SHA-256 of its keys, each once, sorted by bytes, each with a newline behind it:
    `LC_ALL=C sort -u keys.txt | sha256sum`. Sets with the same certificate are the same clips.
    """
    from valor_data.cli.output import console, print_json
    from valor_data.look.compare import compare, write_keys
    from valor_data.look.sides import read_side

    sides = [read_side(place, stage=stage, split=split, captions=captions) for place in (a, b)]
    found = compare(*sides)
    if keys_out is not None:
        write_keys(found.both, keys_out)
    if as_json:
        print_json(found.to_dict())
    elif certificate:
        _print_certificates(found)
    else:
        _print_comparison(console(), found)
        if keys_out is not None:
            typer.echo(f"\n{len(found.both):,} keys that both have: {keys_out}")


def _print_certificates(found: Comparison) -> None:
    """A line each: the hash and what it is of."""
    names = {"a": found.a.name, "b": found.b.name, "both": "both"}
    for side, splits in found.certificates.items():
        for split, digest in splits.items():
            typer.echo(f"{digest}  {names[side]}, {split}")


def _print_comparison(out: Console, found: Comparison) -> None:
    from rich.markup import escape

    for letter, side in (("A", found.a), ("B", found.b)):
        out.print(f"[bold]{letter}[/]  {escape(side.name)}  [dim]{_counted(side)}[/]")
        if side.num_doubled:
            out.print(f"   {side.num_doubled:,} rows whose key is there twice were left out")
    _print_counts(out, found)
    if found.is_equal:
        out.print("\n[green]the same clips[/]" + ("" if found.captions is None else ", with the same captions"))
    _print_lacks(out, "only in A: why B has not got them", found.b_lacks)
    _print_lacks(out, "only in B: why A has not got them", found.a_lacks)
    _print_change(out, "in another split", found.split)
    if found.captions is not None:
        _print_change(out, "with other captions", found.captions)
    else:
        out.print("\n[dim]captions were not compared: they would be read from every sample; --captions does it[/]")


def _counted(side: Side) -> str:
    words = {"fetch": "fetched", "filter": "kept by filter", "shard": "in shards"}.get(side.counted, "listed")
    return f"{side.kind}: clips {words}"


def _print_counts(out: Console, found: Comparison) -> None:
    from valor_data.cli.output import plain_table

    table = plain_table("split", "A", "B", "both", "only A", "only B", "certificate of both")
    rows = found.splits if len(found.splits) > 2 else found.splits[-1:]
    for row in rows:
        counts = (row.in_a, row.in_b, row.both, row.only_a, row.only_b)
        digest = found.certificates["both"].get(row.split, "")[:SHOWN]
        table.add_row(row.split, *(f"{number:,}" for number in counts), digest if row.both else "")
    out.print()
    out.print(table)


def _print_lacks(out: Console, heading: str, lacks: tuple[Lack, ...]) -> None:
    from rich.markup import escape

    if not lacks:
        return
    out.print(f"\n[bold]{heading}[/]")
    for lack in lacks:
        tree = lack.to_dict()
        cause = {"other span": "the video is listed there with another span", "not listed": "not listed there"}
        what = cause.get(lack.cause) or f"{lack.stage}: {lack.cause} {lack.reason}".rstrip()
        if lack.cause == "not tried":
            what = f"{lack.stage} has not come to them yet"
        out.print(f"{lack.number:>9,}  {what}" + (f"  [dim]{tree['meaning']}[/]" if tree["meaning"] else ""))
        more = ", …" if lack.number > len(lack.examples) else ""
        out.print(f"           [dim]{escape(', '.join(lack.examples))}{more}[/]")


def _print_change(out: Console, words: str, change: Change) -> None:
    from rich.markup import escape

    if not change.number:
        return
    out.print(f"\n[bold]{change.number:,} {words}[/]")
    for key, in_a, in_b in change.examples:
        out.print(f"  {key}")
        for letter, text in (("A", in_a), ("B", in_b)):
            shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text) or "(none)"
            out.print(f"    {letter}: {escape(shown)}")
