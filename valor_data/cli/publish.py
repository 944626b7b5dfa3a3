"""`valor-data push` and `card`: a finished set becomes a dataset repository on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from valor_data.cli.options import Json, Work

if TYPE_CHECKING:
    from valor_data.config import PublishSection
    from valor_data.publish.lint import Finding
    from valor_data.publish.outcome import Pushed
    from valor_data.workdir import WorkDir

Edition = Annotated[
    str | None,
    typer.Option(
        help="ids: no media; features: pictures and mel; media: video and sound too.", show_default="features"
    ),
]


def push_command(
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The dataset repository on the Hub.")],
    work: Work = Path(),
    edition: Edition = None,
    private: Annotated[bool | None, typer.Option("--private", help="Only you and your organisation see it.")] = None,
    gated: Annotated[bool | None, typer.Option("--gated", help="People ask before they may download.")] = None,
    branch: Annotated[str, typer.Option(help="The branch to write; versions are tagged on main only.")] = "main",
    bump: Annotated[
        str | None, typer.Option(help="major, minor or patch: the next version, where the data have changed.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List every file and byte, and send nothing.")] = False,
    lint: Annotated[
        bool, typer.Option("--lint", help="Only say what the Hub's viewer will and will not show; asks nobody.")
    ] = False,
    card_only: Annotated[
        Path | None, typer.Option("--card-only", metavar="FOLDER", help="Only write the card into a folder.")
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not read the shards first; `verify` has just done it.")
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not load what arrived through `datasets` at the end.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another edition, or of files that no push made.")
    ] = False,
    squash: Annotated[
        bool, typer.Option("--squash", help="Let go of the branch's history and of older versions' tags afterwards.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a finished set on the Hugging Face Hub: shards, card, rows. Given again, it goes on where it stopped."""
    from valor_data.cli.output import begin_log, print_json, progress
    from valor_data.cli.settings import require_ledger, stage_settings
    from valor_data.publish.outcome import PushOptions
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    section = stage_settings(folder, "publish", {"edition": edition, "private": private, "gated": gated}).section
    if card_only is not None:
        _write_card(folder, section, repository, card_only, as_json)
        return
    if lint:
        _lint(folder, section, repository, as_json)
        return
    from valor_data.publish.push import push

    require_ledger(folder)
    if not dry_run:
        begin_log(folder, "push")
    options = PushOptions(
        repository, branch, dry_run, verify=not no_verify, check=not no_check, replace=replace, bump=bump or "",
        squash=squash,
    )  # fmt: skip
    pushed = push(folder, section, options, progress(as_json))
    if as_json:
        print_json(pushed.to_dict())
    else:
        _print_pushed(pushed, dry_run)


def card_command(
    out: Annotated[Path, typer.Argument(help="The folder to write README.md, croissant.json and card/ into.")],
    work: Work = Path(),
    repository: Annotated[
        str | None, typer.Option(help="ORG/NAME that it is for.", show_default="the work folder's name")
    ] = None,
    edition: Edition = None,
    as_json: Json = False,
) -> None:
    """Write a set's card from the real numbers of its run, to look at; your own text in an older one is kept."""
    from valor_data.cli.settings import stage_settings
    from valor_data.workdir import WorkDir

    folder = WorkDir.at(work)
    section = stage_settings(folder, "publish", {"edition": edition}).section
    _write_card(folder, section, repository or f"your-name/{folder.root.name}", out, as_json)


def _write_card(folder: WorkDir, section: PublishSection, repository: str, out: Path, as_json: bool) -> None:
    from valor_data.cli.output import print_json
    from valor_data.publish.preview import card_only

    files = [str(path) for path in card_only(folder, section, repository, out)]
    if as_json:
        print_json({"files": files})
    else:
        typer.echo("\n".join(files))


def _lint(folder: WorkDir, section: PublishSection, repository: str, as_json: bool) -> None:
    from valor_data.cli.output import print_json
    from valor_data.publish.preview import lint_only

    findings = lint_only(folder, section, repository)
    if as_json:
        print_json([{"level": finding.level, "text": finding.text} for finding in findings])
    else:
        _print_findings(findings)
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(1)


def _print_findings(findings: list[Finding]) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console

    colours = {"wrong": "red", "limited": "yellow", "shown": "green"}
    order = list(colours)
    for finding in sorted(findings, key=lambda each: order.index(each.level)):
        console().print(f"[{colours[finding.level]}]{finding.level}:[/] {escape(finding.text)}")


def _print_pushed(pushed: Pushed, dry_run: bool) -> None:
    from rich.markup import escape

    from valor_data.cli.output import console

    out = console()
    if dry_run:
        for word, files in (("send", pushed.sent), ("there", pushed.there)):
            for name, size in sorted(files.items()):
                out.print(f"{word:<6} {size:>15,}  {escape(name)}")
        for name in pushed.deleted:
            out.print(f"{'delete':<6} {'':>15}  {escape(name)}")
    _print_findings(pushed.findings)
    sent, there = sum(pushed.sent.values()), sum(pushed.there.values())
    words = "would send" if dry_run else "sent"
    deleted = f", {'would delete' if dry_run else 'deleted'} {len(pushed.deleted):,}" if pushed.deleted else ""
    out.print(
        f"{words} {len(pushed.sent):,} files, {sent:,} bytes; {len(pushed.there):,} files, {there:,} bytes were "
        f"there{deleted}"
    )
    for notice in pushed.notices:
        out.print(f"[cyan]note:[/] {escape(notice)}")
    if not dry_run:
        out.print(f"version {pushed.version} of the {pushed.edition} edition, all of it checked: {pushed.url}")
