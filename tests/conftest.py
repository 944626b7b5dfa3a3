"""What every test may use: the folder of real files, and a clean environment."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, visitor  # noqa: F401 - fixtures for every room

PROJECT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder with real media, annotations and golden numbers: `VALOR_DATA_SHARED`, else `../shared`."""
    return Path(os.environ.get("VALOR_DATA_SHARED") or PROJECT.parent / "shared").absolute()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; without it the test is skipped on a person's machine and fails in CI."""
    folder = shared_folder()
    if not folder.is_dir():
        text = f"no folder {folder}: set VALOR_DATA_SHARED to the folder with media/, annotations/ and golden/"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return folder


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says at the end what was left out, why, and how to add it; the last line stays pytest's own."""
    left_out = Counter(_skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    slow = config.option.markexpr == "not slow"
    if not left_out and not slow:
        return
    terminalreporter.section("left out")
    for reason, count in left_out.most_common():
        terminalreporter.line(f"{count} check{'s' if count > 1 else ''}: {reason}")
    if slow:
        terminalreporter.line("the slow checks: run make test-slow")


def _skip_reason(report: pytest.TestReport) -> str:
    """The words given to `pytest.skip`, without the place they were said at."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command run in this process sends the package's log to its file alone; the next test reads it again."""
    log = logging.getLogger("valor_data")
    before = (log.propagate, log.level, log.handlers[:])
    yield
    for handler in log.handlers:
        if handler not in before[2]:
            handler.close()
    log.propagate, log.handlers[:] = before[0], before[2]
    log.setLevel(before[1])
