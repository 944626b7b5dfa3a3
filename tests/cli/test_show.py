"""What a person sees of a clip, on a terminal, off it, and as JSON."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from cli.commands import COMMAND, call
from rich.console import Console

from valor_data.cli.show import print_shown
from valor_data.clip import Caption, Clip
from valor_data.ledger import Ledger
from valor_data.look.show import Shown, show_from_work
from valor_data.workdir import WorkDir


def keys(work: Path, status: str = "kept") -> list[str]:
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        return [row[0] for row in ledger.standings() if status in (row[4], row[6], row[8]) and (
            status != "kept" or row[8] == "kept")]  # fmt: skip


def test_off_a_terminal_plain_characters(finished: Path) -> None:
    key = keys(finished)[0]
    told = call("show", key, "--work", finished)
    assert told.out.startswith(f"{key}\nsplit ")
    assert "\x1b" not in told.out
    assert re.search(r"\n  audiovisual +\S", told.out)
    drawing = [line for line in told.out.splitlines() if line.startswith(" |") and line.endswith("|")]
    assert len(drawing) == 12 and {len(line) for line in drawing} <= set(range(3, 81)) and "@" in "".join(drawing)
    assert re.search(r"mel\.npy +[\d,]+ bytes at [\d,]+", told.out)


def test_the_same_as_json_and_from_shards(finished: Path) -> None:
    key = keys(finished)[0]
    (from_work,) = call("show", key, "--work", finished, "--json").json
    (from_shards,) = call("show", key, "--shards", finished / "shards", "--json").json
    assert from_work["sample"]["json"] == from_shards["sample"]["json"]
    assert from_work["annotation"] == from_shards["annotation"]
    assert from_shards["in_shard"]["status"] == "kept"


def test_a_refused_clip_and_one_that_begins_with_a_dash(finished: Path) -> None:
    for key in keys(finished, "dropped")[:3]:
        told = call("show", key, "--work", finished).out
        assert "dropped" in told and "what to do: " in told
    dashed = [key for key in keys(finished) + keys(finished, "dropped") if key.startswith("-")]
    assert call("show", dashed[0], "--work", finished).out.startswith(dashed[0])


def test_a_clip_that_is_not_there(finished: Path) -> None:
    key = keys(finished)[0]
    told = call("show", key[:-1] + "x", "--work", finished, code=1)
    assert f"expected a key or a video id; keys like it: {key}" in told.errors[0]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal(finished: Path, columns: int, no_color: bool) -> None:
    """A real pseudo-terminal: colours and half blocks, none with NO_COLOR, and no line wider than it."""
    key = keys(finished)[0]
    reader, writer = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    environment.pop("NO_COLOR", None)
    if no_color:
        environment["NO_COLOR"] = "1"
    with subprocess.Popen([COMMAND, "show", key, "--work", finished], stdout=writer, env=environment) as process:
        os.close(writer)
        data = b""
        while chunk := read(reader):
            data += chunk
    os.close(reader)
    assert process.returncode == 0
    text = data.decode()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, shown)) <= columns
    assert ("▀" in text) is not no_color
    assert bool(re.search(r"\x1b\[[0-9;]*48;5;", text)) is not no_color
    assert (" |" in text) is no_color
    assert text.count("▀") > 500 or no_color


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


def test_captions_are_data(finished: Path) -> None:
    """Neither mark-up nor a terminal's control characters in a caption do anything."""
    (one,) = show_from_work(WorkDir.at(finished), keys(finished)[0])
    assert one.clip is not None
    clip = Clip(
        "x", 0.0, 1.0, captions=(Caption("[red]see[/red] \x1b[2J\x07 [link=http://x]here[/]"),), labels=("[b]",)
    )
    out = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor", highlight=False)
    print_shown(out, Shown("x_00000000_00001000", clip, None, ("kept", ""), None, {}))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]see[/red] �[2J� [link=http://x]here[/]" in text
    assert "[b]" in text
    assert "\x1b[2J" not in text and "\x07" not in text
    json.dumps(one.to_dict())
