"""The command line: parse, call, print. The only home of rich; nothing here decides anything.

Each command module imports only typer at its top, so that `valor-data --help` costs no more than it must.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

import typer

import valor_data
from valor_data.cli import care, demo, evaluate, export, fetch, filter, look, manifest, run, shard, show, stats, train

app = typer.Typer(
    name="valor-data",
    help="Build VALOR-1M and data sets like it: annotations to verified WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing the help in boxes would more than double what it costs
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("manifest", short_help="Annotation files in, one checked list of clips out.")(manifest.manifest_command)
app.command("fetch", short_help="Bring the videos of a manifest into a work folder.")(fetch.fetch_command)
app.command("filter", short_help="Measure each clip once, decide which are kept.")(filter.filter_command)
app.command("shard", short_help="Build the shards that are missing or stale.")(shard.shard_command)
app.command("verify", short_help="Read every shard as a stranger would.")(look.verify_command)
app.command("status", short_help="Show the funnel, and the losses by reason.")(look.status_command)
# An id may begin with a dash, and even with -h.
_ids_as_they_are = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
app.command("why", short_help="Explain what became of a clip.", context_settings=_ids_as_they_are)(look.why_command)
app.command("show", short_help="Show everything about a clip.", context_settings=_ids_as_they_are)(show.show_command)
app.command("export", short_help="Write a finished set in the form that other code reads.")(export.export_command)
app.command("stats", short_help="Compute figures of a finished set.")(stats.stats_command)
app.command("train", short_help="Train VALOR on shards.")(train.train_command)
app.command("eval", short_help="Measure a trained model.")(evaluate.eval_command)
app.command("caption", short_help="Write captions for video files.")(evaluate.caption_command)
app.command("convert", short_help="Take over a released VALOR checkpoint.")(train.convert_command)
app.command("run", short_help="Go the whole road that a TOML file describes.")(run.run_command)
app.command("plan", short_help="Say what a run will take.")(care.plan_command)
app.command("doctor", short_help="Look at this machine before a run does.")(care.doctor_command)
app.add_typer(care.deadlinks_app, name="deadlinks")
app.add_typer(care.ledger_app, name="ledger")
app.command("demo", short_help="Go the whole road over a synthetic world.")(demo.demo_command)


CTRL_C = 130
"""The exit code that typer makes of Ctrl-C, and a shell as well: 128 and the number of the signal."""


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"valor-data {valor_data.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    if debug:
        os.environ["VALOR_DATA_DEBUG"] = "1"


def _stop(number: int, frame: object) -> None:
    """What stops a service stops a run as Ctrl-C does: workers first, and what came back is kept."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line: one line for an error, never a traceback (unless `--debug`), and an exit code."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _stop)
    try:
        # What `typer.Exit` carries comes back as a value here.
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - the last stop of every error
        from valor_data.cli.output import report_error

        sys.exit(report_error(error))
    if code == CTRL_C:
        from valor_data.cli.output import report_error

        report_error(KeyboardInterrupt())
    if code:
        sys.exit(code)
