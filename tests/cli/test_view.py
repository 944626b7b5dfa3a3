"""`view` as a program: it says where it is, answers, and Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from cli.commands import COMMAND, call

from valor_data.look.shard_set import find_set
from valor_data.look.view.index import default_cache, ready_index
from valor_data.look.view.search import Index, Question


@contextlib.contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever fails, nothing is left running."""
    try:
        yield
    finally:
        process.kill()


def test_from_the_start_to_ctrl_c(finished: Path, tmp_path: Path) -> None:
    command = [COMMAND, "view", finished, "--port", "0", "--cache", tmp_path]
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job does not
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, preexec_fn=listens, **pipes) as process, killed_at_last(process):
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"\d+ clips: (http://127\.0\.0\.1:\d+/) ", line)
        assert found, line
        with urllib.request.urlopen(found[1], timeout=20) as answer:
            assert b"<title>valor-data view</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "ended\n")
    assert "Traceback" not in err and "index: " in err
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_served(finished: Path, tmp_path: Path) -> None:
    assert "no shards here; expected a work folder" in call("view", tmp_path, code=1).errors[0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = call("view", finished, "--port", port, "--cache", tmp_path, code=1)
    assert refused.err.splitlines()[-1].startswith(f"error: --port {port}: Address already in use; choose another")


def test_the_index_tells_nothing_of_what_was_removed(work: Path) -> None:
    found = find_set(work)
    path = ready_index(found, default_cache(found))
    index = Index(path)
    kept = next(clip for clip in index.ask(Question(choices={"standing": ("kept",)})).clips)
    index.close()
    assert kept["key"].encode() in path.read_bytes()
    call("remove", "--key", kept["key"], "--work", work, "--why", "asked by mail", "--yes")
    assert not path.exists()
    again = Index(ready_index(find_set(work), path.parent))
    assert again.row_of(kept["key"]) is None
    again.close()
    assert kept["key"].encode() not in path.read_bytes()
