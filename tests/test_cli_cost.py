"""What the command line costs before it does anything: it is typed often, and scripts call it in loops."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from valor_data.demo import WorldSettings, make_world
from valor_data.demo.plan import plan_world

COMMAND = Path(sys.executable).with_name("valor-data")
NUM_RUNS = 7
NUM_TRIES = 4
"""Machines are noisy: the best of so many medians counts."""

MAX_HELP_RATIO = 1.8
MAX_ANSWER_CPU_SECONDS = 0.4


def cpu_seconds(command: Sequence[str | Path]) -> float:
    """User and system time of one run of a program, its output thrown away."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        arguments = [str(part) for part in command]
        actions = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in (0, 1, 2)]
        pid = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=actions)
        _, status, used = os.wait4(pid, 0)
    finally:
        os.close(null)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return used.ru_utime + used.ru_stime


def test_help_costs_little_more_than_typer() -> None:
    ratios = []
    for _ in range(NUM_TRIES):
        pairs = [
            (cpu_seconds([COMMAND, "--help"]), cpu_seconds([sys.executable, "-c", "import typer"]))
            for _ in range(NUM_RUNS)
        ]
        ours, typers = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios.append(ours / typers)
        if ratios[-1] <= MAX_HELP_RATIO:
            break
    assert min(ratios) <= MAX_HELP_RATIO, f"--help costs {ratios} times `import typer`: something heavy is imported"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a small world fetched (from a folder) and filtered."""
    folder = tmp_path_factory.mktemp("cost")
    world = make_world(folder / "world", WorldSettings.small(), workers=1)
    for command in (
        ["manifest", *world.annotations, "-o", folder / "manifest.parquet"],
        ["fetch", folder / "manifest.parquet", "--source", world.media, "--work", folder / "work"],
        ["filter", "--work", folder / "work"],
    ):
        answer = subprocess.run([COMMAND, *command], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder / "work"


@pytest.mark.parametrize("command", ["status", "why"])
def test_questions_are_answered_at_once(work: Path, command: str) -> None:
    plan = plan_world(WorldSettings.small())
    key = next(t.key for t in plan.truth if t.expect == "kept" and not t.key.startswith("-"))
    arguments = [COMMAND, command, *([key] if command == "why" else []), "--work", work]
    medians = []
    for _ in range(NUM_TRIES):
        medians.append(statistics.median(cpu_seconds(arguments) for _ in range(NUM_RUNS)))
        if medians[-1] <= MAX_ANSWER_CPU_SECONDS:
            break
    assert min(medians) <= MAX_ANSWER_CPU_SECONDS, f"{command} costs {medians} s of CPU"
