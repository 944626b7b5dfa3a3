"""`valor-data status`, `why` and `verify`: commands that only look."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from valor_data.cli.options import Json, Work

if TYPE_CHECKING:
    from valor_data.look.status import RunStatus
    from valor_data.look.verify import Verification
    from valor_data.workdir import WorkDir


def status_command(work: Work = Path(), as_json: Json = False) -> None:
    """Show the funnel: manifest, fetched, kept, in shards; per split, with the losses by reason."""
    from valor_data.cli.output import print_json
    from valor_data.ledger import Ledger
    from valor_data.look.status import read_status
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    with Ledger(folder.ledger, read_only=True) as ledger:
        status = read_status(ledger)
    if as_json:
        print_json(status.to_dict())
        return
    print_status(status)
    if folder.part_ledgers():
        typer.echo(f"not counted: {len(folder.part_ledgers())} parts that `valor-data ledger merge` would bring in")


def print_status(status: RunStatus) -> None:
    """The funnel as a table, the losses by reason, and what to do next."""
    from valor_data.cli.output import console, plain_table, reason_text
    from valor_data.look.status import next_step

    out = console()
    table = plain_table("split", "manifest", "fetched", "kept", "in shards", "yield")
    for funnel in [*status.splits, status.all] if len(status.splits) > 1 else status.splits:
        stages = [f"{funnel.kept[stage]:,}" for stage in ("fetch", "filter", "shard")]
        table.add_row(funnel.split, f"{funnel.num_clips:,}", *stages, f"{funnel.yield_share:.1%}")
    out.print(table)
    if status.num_shards:
        where = f" at {status.output}" if status.output else ""
        size = f"{status.shard_bytes / 1e6:,.1f} MB"
        out.print(f"\n{status.num_shards:,} shards, {status.num_samples:,} samples, {size}{where}")
    if status.all.losses:
        out.print("\n[bold]losses[/]")
        losses = plain_table("", "clips", "", "", "")
        losses.columns[2].justify = losses.columns[3].justify = losses.columns[4].justify = "left"
        for (stage, name, reason), number in sorted(status.all.losses.items(), key=lambda item: -item[1]):
            losses.add_row(f"  {stage}", f"{number:,}", name, reason, reason_text(reason))
        out.print(losses)
    out.print(f"\nnext: {next_step(status)}")


def why_command(
    key: Annotated[str, typer.Argument(help="A clip's key, or a video id. May begin with -.")],
    work: Work = Path(),
    as_json: Json = False,
) -> None:
    """Explain what became of a clip: each stage, its reason and the raw text behind it."""
    from valor_data.cli.output import print_json
    from valor_data.errors import ValorDataError
    from valor_data.ledger import Ledger
    from valor_data.look.why import explain, rejected_rows
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    with Ledger(folder.ledger, read_only=True) as ledger:
        try:
            answers = [why.to_dict() for why in explain(ledger, key)]
        except ValorDataError:
            rejects = rejected_rows(folder.rejects, key)
            if not rejects:
                raise
            answers = [{"key": key, "rejected": rejects}]
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        if "rejected" in answer:
            print_rejected(answer)
        else:
            _print_why(answer)


def print_rejected(answer: dict[str, Any]) -> None:
    """Annotation rows of a clip that never entered the manifest."""
    from rich.markup import escape

    from valor_data.cli.output import console

    out = console()
    out.print(f"[bold]{escape(answer['key'])}[/]  never entered the manifest")
    for row in answer["rejected"]:
        out.print(f"  {escape(row['file'])}, row {row['row']}: [bold]{row['reason']}[/] {escape(row['detail'])}")
        out.print(f"    in full: {escape(row['raw'])}")


def _print_why(answer: dict[str, Any]) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console

    out = console()
    out.print(f"[bold]{escape(answer['key'])}[/]  split {escape(answer['split'])}")
    if not answer["in_manifest"]:
        out.print("  no longer in the manifest")
    if not answer["stages"]:
        out.print("  not tried yet: run `valor-data fetch`")
    for stage, told in answer["stages"].items():
        tries = f" after {told['attempts']} attempts" if told["attempts"] > 1 else ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(told["seen"]))
        reason = f" [bold]{told['reason']}[/]" if told["reason"] else ""
        out.print(f"  {stage}: {told['status']}{reason}{tries}, {when}")
        if told["reason"]:
            out.print(f"    meaning: {told['meaning']}")
            out.print(f"    what to do: {told['action']}")
        if told["detail"]:
            out.print(f"    in full: {escape(told['detail'])}")
    media, facts = answer["media"], answer["facts"]
    if media:
        out.print(
            f"  media: {escape(media['path'])}, {media['size_bytes']:,} bytes, from {media['source']['extractor']}"
        )
    if facts:
        out.print(
            f"  facts: {facts['width_px']}x{facts['height_px']} {facts['video_codec']}, {facts['audio_codec']} "
            f"{facts['sample_rate_hz']} Hz, RMS {facts['rms_dbfs']:.1f} dBFS, peak {facts['peak_dbfs']:.1f} dBFS, "
            f"picture covers {facts['video_coverage']:.0%}, sound {facts['audio_coverage']:.0%}"
        )
    content = answer["content"]
    if content:
        moves = f"changes by {content['picture_change']:.1f} of 255 from picture to picture, " if (
            content["picture_change"] >= 0) else ""  # fmt: skip
        out.print(
            f"  content: {moves}{max(0.0, content['moving_share']):.0%} of the picture moves, "
            f"{content['border_share']:.0%} is black borders; {content['num_pictures_that_tell']} pictures and "
            f"{content['seconds_of_sound_that_tell']:.1f} s of sound to compare"
        )
    if answer["shard"]:
        out.print(f"  in shard {answer['shard']}")
    if len(answer["attempts"]) > 1:
        out.print("  attempts to fetch it:")
        for attempt in answer["attempts"]:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(attempt["seen"]))
            words = f"{attempt['status']} {attempt['reason']} {attempt['detail']}".rstrip()
            out.print(f"    {when} {escape(attempt['address'])}: {escape(words)}")
    out.print(f"  next: {answer['next']}")


def verify_command(
    work: Work = Path(),
    output: Annotated[
        str | None,
        typer.Option(help="Where the shards are: a folder, or s3://BUCKET/SET.", show_default="as the ledger says"),
    ] = None,
    removed: Annotated[
        bool,
        typer.Option(
            "--removed", help="Search every file for clips that were removed, by the hashes of the tombstones."
        ),
    ] = False,
    ids: Annotated[
        Path | None, typer.Option(help="With --removed: search for these keys and video ids as bytes, a line each.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every shard as a stranger would, and list what is wrong; the exit code tells whether anything is."""
    from valor_data.cli.output import print_json, progress
    from valor_data.look.verify import ShardCheck, output_of_work, verify
    from valor_data.shard.output import open_output
    from valor_data.storage import absolute_place, check_address
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    if removed or ids is not None:
        _verify_removed(folder, ids, as_json=as_json)
        return
    check_address(output or "", "--output")
    place = open_output(folder.root, absolute_place(output)) if output else output_of_work(folder)
    bar = progress(as_json)
    bar.start("verify", sum(name.endswith(".json") for name in place.sizes()), "shards")

    def advance(check: ShardCheck) -> None:
        bar.advance("faulty" if check.problems else "sound")

    found = verify(folder, output=place, on_shard=advance)
    bar.finish()
    if as_json:
        print_json(found.to_dict())
    else:
        print_verification(found)
    if found.problems:
        raise typer.Exit(1)


def _verify_removed(folder: WorkDir, ids: Path | None, *, as_json: bool) -> None:
    """Whether anything of what was removed is left in any file."""
    from rich.markup import escape

    from valor_data.cli.output import console, print_json, progress
    from valor_data.publish.proof import files_to_search, search_by_hash, search_folder
    from valor_data.publish.search import ByteSearch, needles_of
    from valor_data.publish.wanted import read_entries
    from valor_data.tombstones import local_tombstones, video_of_key

    bar = progress(as_json)
    bar.start("search", len(files_to_search(folder)), "files")
    proof = search_by_hash(folder, local_tombstones(folder.tombstones), lambda _: bar.advance("searched"))
    if ids is not None:
        entries = read_entries(ids, [])
        keys = [entry for entry in entries if video_of_key(entry) is not None]
        search = ByteSearch(needles_of(keys, set(entries) - set(keys), []))
        proof.problems += search_folder(folder, search).problems
    bar.finish()
    if as_json:
        print_json({"files": proof.num_files, "problems": proof.problems})
    else:
        out = console()
        for problem in proof.problems:
            out.print(f"[red]wrong:[/] {escape(problem)}")
        verdict = "nothing of what was removed is left" if not proof.problems else f"{len(proof.problems)} problems"
        out.print(f"{proof.num_files:,} files searched: {verdict}")
    if proof.problems:
        raise typer.Exit(1)


def print_verification(found: Verification) -> None:
    """What is wrong, a line each, and how much was read."""
    from rich.markup import escape

    from valor_data.cli.output import console

    out = console()
    for problem in found.problems:
        out.print(f"[red]wrong:[/] {escape(problem)}")
    verdict = "all is well" if not found.problems else f"{len(found.problems)} problems"
    out.print(f"{found.num_shards:,} shards, {found.num_samples:,} samples read: {verdict}")
