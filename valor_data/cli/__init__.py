"""The command line: parse, call, print. The only home of rich; nothing here decides anything.

Each command module imports only typer at its top, so that `valor-data --help` costs no more than it must.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

import valor_data
from valor_data.cli import demo, fetch, filter, look, manifest, run, shard
from valor_data.cli.output import State, report_error

app = typer.Typer(
    name="valor-data",
    help="Build VALOR-1M and data sets like it: annotations to verified WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("manifest")(manifest.manifest_command)
app.command("fetch")(fetch.fetch_command)
app.command("filter")(filter.filter_command)
app.command("shard")(shard.shard_command)
app.command("verify")(look.verify_command)
app.command("status")(look.status_command)
app.command("why", context_settings={"ignore_unknown_options": True})(look.why_command)
app.command("run")(run.run_command)
app.command("demo")(demo.demo_command)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"valor-data {valor_data.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    State.debug = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line: one line for an error, never a traceback (unless `--debug`), and an exit code."""
    try:
        app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except BaseException as error:  # noqa: BLE001 - the last stop of every error
        sys.exit(report_error(error))
