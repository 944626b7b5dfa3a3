"""`valor-data remove`, `audit`, `recaption` and `extend`: a set that was finished, looked after and changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from valor_data.cli.options import Address, Executor, Json, Limit, Sample, Seed, Work, Workers

if TYPE_CHECKING:
    from valor_data.publish.pending import Pending
    from valor_data.publish.removal import Removal
    from valor_data.road import Driver
    from valor_data.road.audit import AuditReport
    from valor_data.workdir import WorkDir


def remove_command(
    ids: Annotated[
        Path | None, typer.Option(help="A file with a key or a video id a line; - for standard input.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="A key or a video id. Repeatable.")] = None,
    tombstones: Annotated[
        str | None, typer.Option(help="Somebody's tombstones.parquet: take them over, and remove what they name here.")
    ] = None,
    why: Annotated[str, typer.Option(help="In a line of words, without ids: it is published.")] = "",
    reason: Annotated[str, typer.Option(help="request, gone, legal, quality or other.")] = "request",
    work: Work = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    proof: Annotated[
        bool, typer.Option("--proof/--no-proof", help="Search every file at the end.", show_default="--proof")
    ] = True,
    as_json: Json = False,
) -> None:
    """Take clips out for good: shards, media, manifest, ledger, logs; and let nothing bring them back."""
    from valor_data.cli.output import begin_log, print_json, progress
    from valor_data.publish.removal import plan_removal, remove
    from valor_data.publish.wanted import read_entries
    from valor_data.road import Driver
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    _check(folder, reason, why, tombstones, is_new=bool(ids or key or tombstones))
    entries = read_entries(ids, key or [])
    with Driver(folder, progress(as_json), stages=[], removing=True) as driver:
        if not dry_run:
            begin_log(folder, "remove", [])  # without the ids
        if tombstones is not None:
            entries += _take_over(driver, tombstones, dry_run=dry_run)
            why = why or "removed from the set that this one was made from"
        if not entries and not folder.removal.exists():
            told = f"no clip of {work} is named by {tombstones}" if tombstones else "the removal was over already"
            typer.echo(told)
            return
        pending = plan_removal(driver, entries, reason=reason, why=why)
        if dry_run:
            _print_plan(driver, pending, as_json=as_json)
            return
        if not yes and not as_json and sys.stdin.isatty():
            _print_plan(driver, pending, as_json=False)
            typer.confirm("remove them for good?", abort=True)
        done = remove(driver, pending, is_proven=proof)
    if as_json:
        print_json(done.to_dict())
    else:
        _print_done(done, work)
    if done.proof is not None and done.proof.problems:
        raise typer.Exit(1)


def _check(folder: WorkDir, reason: str, why: str, tombstones: str | None, *, is_new: bool) -> None:
    from valor_data.cli.settings import require_ledger
    from valor_data.errors import ConfigError
    from valor_data.tombstones import REASON_CLASSES

    require_ledger(folder)
    problems = []
    if reason not in REASON_CLASSES:
        problems.append(f"--reason {reason}: expected one of {', '.join(REASON_CLASSES)}")
    if not is_new and not folder.removal.exists():
        problems.append("nothing to remove: name clips with --ids FILE or --key KEY")
    if is_new and not why.strip() and tombstones is None and not folder.removal.exists():
        problems.append("--why is missing: say in a line of words why (it is published; no ids)")
    if problems:
        raise ConfigError(problems)


def _take_over(driver: Driver, place: str, *, dry_run: bool) -> list[str]:
    """Adds a list of tombstones to the work folder's, and gives the keys of clips here that it names."""
    from valor_data.publish.wanted import covered_clips
    from valor_data.tombstones import merge_tombstones, read_tombstones

    if not dry_run:
        merge_tombstones(driver.work.tombstones, place)
    return covered_clips(driver.ledger, read_tombstones(place))


def _print_plan(driver: Driver, pending: Pending, *, as_json: bool) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console, print_json
    from valor_data.publish.removal import shards_concerned

    wanted = pending.wanted
    shards = [prefix + name for prefix, _, name in shards_concerned(driver, wanted)]
    media = driver.ledger.media_paths(wanted.clip_ids)
    if as_json:
        print_json(
            {"clips": len(wanted.clip_ids), "videos": len(wanted.videos), "not_in_the_set": list(wanted.unknown),
             "shards_to_rewrite": shards, "media_files": len(media), "version": pending.version}
        )  # fmt: skip
        return
    out = console()
    videos = f", {len(wanted.videos):,} videos as a whole" if wanted.videos else ""
    out.print(f"[bold]{len(wanted.clip_ids):,} clips[/] of {driver.ledger.num_clips():,}{videos}")
    shown = ", ".join(shards[:6]) + (", …" if len(shards) > 6 else "")
    out.print(f"  {len(shards):,} shards to write anew{': ' + shown if shown else ''}; {len(media):,} media files")
    out.print(f"  the version becomes {pending.version}")
    _print_unknown(wanted.unknown)
    for name in sorted(wanted.names | wanted.videos)[:10]:
        out.print(f"  [dim]{escape(name)}")


def _print_unknown(unknown: tuple[str, ...]) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console

    if unknown:
        shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        told = "names are not in the set (any more), and have tombstones all the same"
        console().print(f"[cyan]note:[/] {len(unknown):,} {told}: {escape(shown)}")


def _print_done(done: Removal, work: Path) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console

    out = console()
    out.print(
        f"[bold]{done.num_clips:,} clips removed[/]: {len(done.shards):,} shards written anew, "
        f"{done.num_media:,} media files deleted ({done.media_bytes / 1e6:,.1f} MB), "
        f"{done.num_tombstones:,} new tombstones, version {done.version}"
    )
    if done.scrubbed:
        out.print(f"  cleaned: {escape(', '.join(done.scrubbed))}")
    _print_unknown(done.unknown)
    if done.num_outside:
        out.print(
            f"[cyan]note:[/] {done.num_outside:,} media files lie outside the work folder and were left alone; "
            "they are yours to delete"
        )
    if done.proof is None:
        out.print(f"not searched; later: valor-data verify --removed --work {escape(str(work))}")
        return
    for problem in done.proof.problems:
        out.print(f"[red]wrong:[/] {escape(problem)}")
    verdict = "nothing of them is left" if not done.proof.problems else "mend or move these files: they are yours"
    out.print(f"searched {done.proof.num_files:,} files ({done.proof.size_bytes / 1e6:,.1f} MB): {verdict}")
    out.print("[dim]where it was published before, the Hub's history still holds them: README, Taking clips out")


def recaption_command(
    captions: Annotated[
        Path,
        typer.Option(help="An annotation file, as for train: captions and questions by key, or by video id and span."),
    ],
    work: Work = Path(),
    out: Annotated[
        str | None, typer.Option(help="Where the new set goes; the first stays as it is.", show_default="in place")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put other captions into a finished set: text and JSON of its samples anew, pictures and sound untouched."""
    from rich.markup import escape

    from valor_data.cli.output import begin_log, console, print_json, progress
    from valor_data.cli.settings import require_ledger
    from valor_data.manifest.overrides import Overrides
    from valor_data.publish.recaption import recaption
    from valor_data.road import Driver
    from valor_data.shard.output import open_output
    from valor_data.storage import absolute_place, check_address
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    check_address(out or "", "--out")
    overrides = Overrides.read(captions)
    into = open_output(folder.root, absolute_place(out)) if out else None
    require_ledger(folder)
    with Driver(folder, progress(as_json), stages=[]) as driver:
        begin_log(folder, "recaption")
        done = recaption(driver, overrides, into)
    if as_json:
        print_json(done.to_dict())
        return
    shell = console()
    shell.print(
        f"[bold]{done.num_clips:,} clips[/] have other captions or questions: {done.num_samples:,} samples of "
        f"{done.num_shards:,} shards written" + (f", version {done.version}" if not out else f" to {escape(out)}")
    )
    if done.unknown:
        shown = ", ".join(done.unknown[:5]) + (", …" if len(done.unknown) > 5 else "")
        shell.print(
            f"[cyan]note:[/] {len(done.unknown):,} clips of {escape(str(captions))} are not in the set: {shown}"
        )
    shell.print(f"next: valor-data verify --work {escape(out or str(work))}")


def audit_command(
    work: Work = Path(),
    source: Annotated[str | None, typer.Option(help="As for fetch.", show_default="as it was fetched from")] = None,
    out: Annotated[Path | None, typer.Option(help="Write what is lost, a line each, for remove --ids.")] = None,
    max_age: Annotated[float, typer.Option(min=0, help="Days for which an answer holds.")] = 30.0,
    requests_per_hour: Annotated[
        float | None, typer.Option(help="Extractions an hour and address.", show_default="250 from YouTube")
    ] = None,
    proxy: Annotated[list[str] | None, typer.Option(help="As for fetch. Repeatable.")] = None,
    cookies: Annotated[Path | None, typer.Option(help="As for fetch.")] = None,
    workers: Annotated[int | None, typer.Option(help="Videos asked for at the same time.")] = None,
    wait: Annotated[
        bool | None, typer.Option("--wait/--no-wait", help="Wait out pauses, or end the run.", show_default="wait")
    ] = None,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Ask at fetch's own pace whether the sources are still there; nothing is downloaded, nothing is removed."""
    from valor_data.cli.output import begin_log, print_json, progress
    from valor_data.cli.settings import require_ledger, stage_settings
    from valor_data.road import Driver
    from valor_data.road.asking import Selection
    from valor_data.road.audit import run_audit, write_lost
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    require_ledger(folder)
    options = {
        "source": source,
        "requests_per_hour": requests_per_hour,
        "proxies": tuple(proxy) if proxy else None,
        "cookies": str(cookies.absolute()) if cookies else None,
        "workers": workers,
        "wait": wait,
    }
    settings = stage_settings(folder, "fetch", options)
    with Driver(folder, progress(as_json), stages=["fetch"]) as driver:
        begin_log(folder, "audit")
        report = run_audit(
            driver,
            settings.section,
            max_age_days=max_age,
            explicit=settings.explicit,
            selection=Selection(limit, sample, seed),
        )
    if out is not None:
        write_lost(report, out)
    if as_json:
        print_json(report.to_dict())
    else:
        _print_audit(report, work, out)


def _print_audit(report: AuditReport, work: Path, out: Path | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    from valor_data.cli.output import console, reason_text

    shell = console()
    shell.print(f"{report.num_asked:,} clips looked for in this run")
    words = {"kept": "still there", "dropped": "lost", "waiting": "not known"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for (status, reason), number in sorted(
        report.found.items(), key=lambda item: (list(words).index(item[0][0]), item)
    ):
        table.add_row(f"[bold]{number:>9,}", f"clips {words[status]}", reason, reason_text(reason))
    shell.print(table)
    if report.num_unaudited:
        shell.print(f"{report.num_unaudited:,} clips were never looked for: run `audit` again")
    if not report.lost:
        return
    if out is None:
        shown = ", ".join(name for name, _ in report.lost[:5]) + (", …" if len(report.lost) > 5 else "")
        shell.print(f"lost: {escape(shown)}; --out FILE writes the list")
        return
    where = f"--ids {escape(str(out))} --reason gone --why 'no longer at the source'"
    shell.print(f"next, if they are to go: valor-data remove {where} --work {escape(str(work))}", soft_wrap=True)


def extend_command(
    mel: Annotated[str | None, typer.Option(help="Another front end of the log-mel: valor or ast.")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, max=100, help="Another number of pictures a clip.")] = None,
    frame_short_side_px: Annotated[
        int | None, typer.Option(min=16, max=4096, help="Their short side.", show_default="as in the first set")
    ] = None,
    include: Annotated[str | None, typer.Option(help="Media members: audio, video, or audio,video.")] = None,
    name: Annotated[str, typer.Option(help="What it is called.", show_default="such as mel-ast or frames-32")] = "",
    work: Work = Path(),
    workers: Workers = None,
    executor: Executor = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make further members of a finished set's clips, as a second set of tars aligned with the first."""
    from rich.markup import escape

    from valor_data.cli.output import begin_log, console, print_json, progress
    from valor_data.cli.settings import require_ledger, stage_settings, where_to_run
    from valor_data.publish.extend import Growth, extend
    from valor_data.road import Driver
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    require_ledger(folder)
    growth = Growth(
        mel=mel or "",
        num_frames=num_frames or 0,
        frame_short_side_px=frame_short_side_px or 0,
        include=tuple(sorted({one.strip() for one in (include or "").split(",") if one.strip()})),
    )
    settings = stage_settings(folder, "shard", {"workers": workers, "mel": mel, "include": growth.include or None})
    execute = where_to_run(settings.config, executor, address)
    with Driver(folder, progress(as_json), stages=["shard"], execute=execute) as driver:
        begin_log(folder, "extend")
        done = extend(driver, growth, name=name, workers=settings.section.workers)
    if as_json:
        print_json(done.to_dict())
    else:
        shell = console()
        shell.print(
            f"[bold]{done.num_shards:,} shards[/] of {escape(done.name)} are finished ({done.num_built:,} built now), "
            f"{done.num_samples:,} samples in {escape(done.place)}"
        )
        if done.num_left_out:
            shell.print(f"[cyan]note:[/] {done.num_left_out:,} clips of the first set cannot be decoded this way")
        for line in done.waiting[:10]:
            shell.print(f"[cyan]note:[/] {escape(line)}")
        if len(done.waiting) > 10:
            shell.print(f"[cyan]note:[/] {len(done.waiting) - 10:,} more shards wait")
        typer.echo(
            f'read it with: extension = "{done.name}" in [[train.data]], or open_shards(…, extension="{done.name}")'
        )
    if done.waiting:
        raise typer.Exit(1)
