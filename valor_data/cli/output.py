"""What the commands share: errors in one line, progress on a terminal or in log lines, the log file, tables."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from valor_data.errors import REASONS, ConfigError, ValorDataError, hide_passwords

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from valor_data.road import StageReport
    from valor_data.workdir import WorkDir

LOG_EVERY_SECONDS = 15.0
"""Off a terminal a stage says how far it is this often."""

_DISK_ERRORS = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}

log = logging.getLogger("valor_data")


class State:
    """What the commands of this process share."""

    log_file: Path | None = None


def report_error(error: BaseException) -> int:
    """Prints an error as a person should see it.

    Returns:
        The exit code: 2 for wrong usage or settings, 130 after Ctrl-C, else 1.
    """
    if isinstance(error, (typer.Abort, KeyboardInterrupt)):
        _print_error("stopped; the same command goes on from here")
        return 130
    if isinstance(error, SystemExit):
        if error.code == 128 + signal.SIGTERM:
            _print_error("told to stop; the same command goes on from here")
        return error.code if isinstance(error.code, int) else 1
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # wrong usage, in the words of the option parser
        error.show()
        return int(error.exit_code)
    if os.environ.get("VALOR_DATA_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    for line in _error_lines(error):
        _print_error(line)
    return error.exit_code if isinstance(error, ValorDataError) else 1


def _error_lines(error: BaseException) -> list[str]:
    """An error in one line; wrong settings in one line each."""
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, ValorDataError):
        return [str(error)]
    if isinstance(error, OSError):
        where = error.filename or "this machine"
        return [f"{where}: {error.strerror or error}; mend it and run the command again"]
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in _DISK_ERRORS:
        return [f"the ledger: {error}; see to the disk it lies on and run the command again"]
    if State.log_file:
        log.error("unexpected error", exc_info=error)
    where = f"the traceback is in {State.log_file}" if State.log_file else "--debug before the command shows where"
    return [f"unexpected {type(error).__name__}: {error}; {where}"]


def _print_error(text: str) -> None:
    if State.log_file:  # why a run ended is looked for there when nobody was watching it
        log.error("%s", hide_passwords(text))
    prefix = "\x1b[31merror:\x1b[0m" if sys.stderr.isatty() and "NO_COLOR" not in os.environ else "error:"
    typer.echo(f"{prefix} {text}", err=True)


def console(*, stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width and never cuts a key or a path into pieces off it."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(tree: object) -> None:
    """Machine-readable output of a command."""
    typer.echo(json.dumps(tree, indent=2, ensure_ascii=False))


def begin_log(work: WorkDir, command: str, arguments: list[str] | None = None) -> None:
    """Opens this run's log file, `logs/<time>-<command>.log`.

    Args:
        work: the work folder.
        command: its name.
        arguments: what the log says that was given; None: the command line as it is.
    """
    work.logs.mkdir(parents=True, exist_ok=True)
    State.log_file = work.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{os.getpid()}.log"
    handler = logging.FileHandler(State.log_file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("valor_data")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
    log.info("valor-data %s", hide_passwords(" ".join([command, *(sys.argv[2:] if arguments is None else arguments)])))


class LogProgress:
    """Progress off a terminal: a line on standard error now and then."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._stage, self._unit, self._total = "", "clips", 0
        self._began = self._said = 0.0

    def start(self, stage: str, total: int, unit: str) -> None:
        """A stage begins."""
        self._stage, self._total, self._unit = stage, total, unit
        self._counts.clear()
        self._reasons.clear()
        self._began = self._said = time.monotonic()

    def advance(self, status: str, reason: str = "", count: int = 1) -> None:
        """Counts, and says so now and then."""
        self._counts[status] += count
        if reason:
            self._reasons[reason] += count
        if time.monotonic() - self._said >= LOG_EVERY_SECONDS:
            self._said = time.monotonic()
            self._say()

    def note(self, text: str) -> None:
        """Says it at once."""
        log.info(text)
        typer.echo(f"{self._stage}: {text}", err=True)

    def finish(self) -> None:
        """The stage is over."""
        if self._stage and self._total:
            self._say()
        self._stage = ""

    def _say(self) -> None:
        done = sum(self._counts.values())
        counts = ", ".join(f"{number} {status}" for status, number in sorted(self._counts.items()))
        text = f"{self._stage}: {done}/{self._total} {self._unit} ({counts or 'none yet'}) {self._eta(done)}"
        log.info(text)
        typer.echo(text.rstrip(), err=True)

    def _eta(self, done: int) -> str:
        if not done or done >= self._total:
            return f"in {time.monotonic() - self._began:.1f} s"
        left = (time.monotonic() - self._began) / done * (self._total - done)
        return f"about {_duration(left)} left"


class TerminalProgress(LogProgress):
    """Progress on a terminal: a bar with counts of kept, dropped and waiting, and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._task: Any = None

    def start(self, stage: str, total: int, unit: str) -> None:
        """Opens the bar."""
        super().start(stage, total, unit)
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console(stderr=True),
            expand=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(stage, total=total, counts="")

    def advance(self, status: str, reason: str = "", count: int = 1) -> None:
        """Moves the bar."""
        self._counts[status] += count
        colours = {"kept": "green", "measured": "green", "dropped": "yellow", "waiting": "cyan"}
        counts = " ".join(
            f"[{colours.get(name, 'default')}]{number} {name}" for name, number in sorted(self._counts.items())
        )
        self._bar.update(self._task, advance=count, counts=counts)

    def note(self, text: str) -> None:
        """Says it above the bar."""
        log.info(text)
        self._bar.console.print(f"[cyan]{self._stage}:[/] {text}")

    def finish(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress(quiet: bool = False) -> Any:
    """A bar on a terminal, lines off it, nothing when quiet."""
    from valor_data.road import NoProgress

    if quiet:
        return NoProgress()
    return TerminalProgress() if sys.stderr.isatty() else LogProgress()


def print_report(report: StageReport, *, as_json: bool) -> None:
    """Shows what a stage did: counts by status and reason, and what to know besides."""
    if as_json:
        print_json(report.to_dict())
        return
    from rich.markup import escape
    from rich.table import Table

    out = console()
    unit = "shards" if report.stage == "shard" else "clips"
    if not report.outcomes:
        out.print(f"{report.stage}: nothing to do")
    table = Table(box=None, pad_edge=False, show_header=False)
    for (status, reason), number in sorted(report.outcomes.items(), key=_order):
        table.add_row(f"[bold]{number:>9,}", f"{unit} {status}", reason, reason_text(reason))
    if report.outcomes:
        out.print(table)
    for notice in report.notices:
        out.print(f"[cyan]note:[/] {escape(notice)}")


def reason_text(reason: str) -> str:
    """What a reason means, dimmed."""
    return f"[dim]{REASONS[reason].meaning}" if reason in REASONS else ""


def _order(item: tuple[tuple[str, str], int]) -> tuple[int, int]:
    (status, _), number = item
    return (("kept", "dropped", "waiting").index(status), -number)


def plain_table(*headings: str) -> Table:
    """A table without a frame; every heading after the first is right-aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    return table


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
