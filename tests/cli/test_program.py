"""The command as a program: no traceback, the right exit code, a clean end after Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cli.commands import COMMAND, call, program

from valor_data.cli.table import COMMANDS
from valor_data.demo import Fault, World, serve


def test_an_error_is_one_line(tmp_path: Path) -> None:
    answer = program("status", "--work", tmp_path, code=1)
    assert answer.out == ""
    (line,) = answer.errors
    assert line.startswith("no ledger at ")


def test_debug_shows_where(tmp_path: Path) -> None:
    answer = program("--debug", "status", "--work", tmp_path, code=1)
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.splitlines()[-1].startswith("error: no ledger at ")


def test_version_and_help() -> None:
    import valor_data

    assert program("--version").out == f"valor-data {valor_data.__version__}\n"
    text = program("--help", COLUMNS="80").out
    for command in ("manifest", "fetch", "filter", "shard", "verify", "status", "why", "run", "demo"):
        assert re.search(rf"^\W*{command}\s+\w", text, re.MULTILINE), command
    assert max(map(len, text.splitlines())) <= 80
    assert "Usage" in program(code=2).out + program(code=2).err


def test_a_module_is_the_same_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "valor_data", "status", "--work", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.startswith("error: no ledger at ")) == (1, True)


def test_a_reader_that_goes_away(finished: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{COMMAND}' status --json --work '{finished}' | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_in_order_and_the_same_command_goes_on(world: World, manifest: Path, tmp_path: Path) -> None:
    slow = {path.stem: Fault(bytes_per_second=2000) for path in world.media.iterdir()}
    with serve(world.media, slow) as server:
        command = [str(COMMAND), "fetch", str(manifest), "--source", server.url_template, "--work", str(tmp_path / "w")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        end = time.monotonic() + 60
        while not server.count() and time.monotonic() < end:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the job
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.splitlines()[-1] == "error: stopped; the same command goes on from here"
        assert "Traceback" not in err
        psutil.wait_procs(children, timeout=10)
        assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
        server.faults.clear()
        program("fetch", "--work", tmp_path / "w", "--limit", 2)


def on_a_terminal(columns: int, *arguments: object) -> str:
    """What a person sees on a terminal of a width."""
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen([COMMAND, *map(str, arguments)], stdout=side, stderr=side, stdin=side, env=environment)
    seen = b""
    # Our end of the other side stays open: closed with the process, it may take along what was not read yet.
    while select.select([main], [], [], 0.2)[0] or process.poll() is None:
        if select.select([main], [], [], 0)[0]:
            seen += os.read(main, 65536)
    os.close(side)
    os.close(main)
    assert process.wait(timeout=60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal(finished: Path, world: World, columns: int) -> None:
    text = on_a_terminal(columns, "status", "--work", finished)
    assert max(map(len, text.splitlines())) <= columns
    for word in ("split", "manifest", "fetched", "in shards", "losses", "silent", "no_audio", "next: "):
        assert word in text
    kept = next(t for t in world.truth if t.expect == "kept")
    text = on_a_terminal(columns, "why", kept.key, "--work", finished)
    assert kept.key in text
    text = on_a_terminal(columns, "verify", "--work", finished)
    assert "all is well" in text


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_table_can_be_asked_for_help(name: str) -> None:
    """They are loaded one by one, when they are used: each must be where the table says."""
    said = call(name, "--help")
    assert f" {name} [OPTIONS]" in said.out.splitlines()[0]
    assert len(COMMANDS[name].about) <= 65  # fits a terminal of 80 columns
