"""The program as it is run: stopped by a person or a service, without a network, and with secrets to keep."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hostile import PLUGINS, QUICK, Origin, name_of, told, write_list

from valor_data.demo import Fault

COMMAND = Path(sys.executable).with_name("valor-data")


def begin(work: Path, *arguments: object, toml: str = "", **environment: str) -> subprocess.Popen[str]:
    """Starts the program in a process group of its own, with the stand-in for YouTube on its path."""
    work.mkdir(exist_ok=True)
    (work / "valor.toml").write_text(f"[fetch]\n{toml}")
    return subprocess.Popen(
        [COMMAND, *map(str, arguments), "--work", str(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(PLUGINS), **environment},
    )


def settings(origin: Origin) -> str:
    options = ", ".join(f'"{option}"' for option in QUICK)
    return (
        f'extractor_args = ["{origin.extractor_args[0]}"]\nyt_dlp_options = [{options}]\n'
        "requests_per_hour = 100000\nburst = 1000\n"
    )


def wait_for_outcomes(work: Path, number: int) -> None:
    for _ in range(600):
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"file:{work / 'ledger.sqlite'}?mode=ro", uri=True)) as db,
        ):
            if db.execute("SELECT count(*) FROM outcomes").fetchone()[0] >= number:
                return
        time.sleep(0.05)
    raise AssertionError("no outcome in half a minute")


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # who takes in orphans may not bury them
    except psutil.NoSuchProcess:
        return False


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_within_seconds_and_keeps_what_came(
    number: signal.Signals, code: int, origin: Origin, tmp_path: Path
) -> None:
    names = [name_of(f"v{n:02d}") for n in range(40)]
    for name in names[6:]:
        origin.media._files[name] = origin.file
        origin.media.faults[name] = Fault(delay_seconds=60)
    work = tmp_path / "work"
    manifest = write_list(tmp_path / "lists" / "m.parquet", names)
    process = begin(work, "fetch", manifest, "--source", "youtube", toml=settings(origin).replace('"2"', '"60"', 1))
    wait_for_outcomes(work, 6)
    tree = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    began = time.monotonic()
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == code
    assert err.splitlines()[-1].endswith("the same command goes on from here")
    left = [pid for pid in tree if is_running(pid)]
    time.sleep(0.5 if left else 0)
    assert [pid for pid in left if is_running(pid)] == [], "no worker is left"
    found = told(work)
    assert [found[name].status for name in names] == ["kept"] * 6 + ["pending"] * 34
    assert not (work / "tmp").exists()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("source", ["youtube", "http://127.0.0.1:9/{video_id}.mp4"])
def test_without_a_network_the_network_is_named(source: str, origin: Origin, tmp_path: Path) -> None:
    """A new user's first try: within a minute, what is wrong and what to do, and no clip is marked dead."""
    work = tmp_path / "work"
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of(f"v{n:02d}") for n in range(30)])
    began = time.monotonic()
    # A proxy where nobody is: whatever machine this is, nothing leaves it.
    dead = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    process = begin(work, "fetch", manifest, "--source", source, YTDLP_NO_PLUGINS="1", **dead)
    _, err = process.communicate(timeout=150)
    assert time.monotonic() - began < 60
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: the network is the problem, not the clips: ")
    assert "Check the connection (and the proxy, if one is set), then run the same command again" in last
    assert {clip.status for clip in told(work).values()} <= {"waiting", "pending"}
    assert origin.extractions == []


@pytest.mark.timeout(120)
def test_secrets_stay_where_they_are(origin: Origin, tmp_path: Path) -> None:
    """The password of a proxy, what a cookie file holds and a token among the extractor's arguments."""
    work = tmp_path / "work"
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t2147483647\tSID\tSECRETcookie\n")
    toml = settings(origin).replace('"]', ';po_token=web.gvs+SECRETtoken"]', 1)
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of("v0"), name_of("v1")])
    fetch = ("fetch", manifest, "--source", "youtube", "--cookies", cookies)
    # By a proxy that refuses first: errors are where a secret is most easily told.
    proxies = ("--proxy", "mine=http://somebody:SECRETpassword@127.0.0.1:9")
    refused = begin(work, *fetch, *proxies, toml=f"direct = false\n{toml}")
    refused_words = "".join(refused.communicate(timeout=60))
    assert refused.returncode == 1 and "network" in refused_words
    process = begin(work, *fetch, toml=toml)
    words = "".join(process.communicate(timeout=60))
    assert process.returncode == 0, words
    assert {clip.status for clip in told(work).values()} == {"kept"}
    for text in (words, refused_words):
        assert "SECRET" not in text
    (work / "valor.toml").unlink()  # the user's own file
    kept = [path for path in work.rglob("*") if path.is_file()]
    assert any(path.parent.name == "logs" for path in kept)
    assert [path for path in kept if b"SECRET" in path.read_bytes()] == []
