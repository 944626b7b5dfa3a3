"""The command line: parse, call, print. The only home of rich; nothing here decides anything.

The commands are listed in `table.py`. Each command module imports only typer at its top, so that an answer costs no
more than it must.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

import typer

import valor_data
from valor_data.cli.table import Commands

app = typer.Typer(
    name="valor-data",
    cls=Commands,
    help="Build VALOR-1M and data sets like it: annotations to verified WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing the help in boxes would more than double what it costs
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
