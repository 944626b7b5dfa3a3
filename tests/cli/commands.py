"""Calls the command line in this process, or as a program, and gives back what a person would see."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valor_data.cli import main

COMMAND = Path(sys.executable).with_name("valor-data")


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The error lines, without their prefix."""
        lines = self.err.splitlines()
        assert all(line.startswith("error: ") for line in lines), self.err
        return [line.removeprefix("error: ") for line in lines]


def call(*arguments: object, code: int = 0) -> Answer:
    """Runs a command in this process; the exit code must be the one expected."""
    out, err = io.StringIO(), io.StringIO()
    found = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leave:
            found = leave.code if isinstance(leave.code, int) else 0
    answer = Answer(found, out.getvalue(), err.getvalue())
    assert answer.code == code, f"{arguments}: {answer}"
    return answer


def program(*arguments: object, code: int = 0, **environment: str) -> Answer:
    """Runs a command as a program of its own."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )
    answer = Answer(done.returncode, done.stdout, done.stderr)
    assert answer.code == code, f"{arguments}: {answer}"
    return answer
