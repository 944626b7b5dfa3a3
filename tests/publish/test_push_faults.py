"""A Hub that fails in the middle: what passes is waited for, what does not is one line, and the next push goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli.commands import COMMAND, call
from hub_server import Hub
from publish.conftest import NAME, TOKEN, publish

from valor_data.errors import PublishError
from valor_data.publish import sender
from valor_data.publish.hub_errors import Judge, PassingError
from valor_data.workdir import WorkDir


def tars(hub: Hub) -> dict[str, bytes]:
    return {name: data for name, data in hub.files(NAME).items() if name.startswith("shards/")}


def built(work: WorkDir) -> dict[str, bytes]:
    return {f"shards/{path.name}": path.read_bytes() for path in work.shards.iterdir()}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between attempts, by us and by the client; nobody really waits."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


PASSING: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/whoami-v2", {}),
    ("POST", "/validate-yaml", {}),
    ("POST", "/repos/create", {}),
    ("POST", "/preupload/", {"status": 500}),
    ("POST", "/objects/batch", {"status": 502}),
    ("POST", "/objects/batch", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("PUT", "/lfs/", {"status": 503}),
    ("PUT", "/lfs/", {"kind": "cut", "skip": 2}),
    ("POST", "/verify", {"status": 504}),
    ("POST", "/commit/", {"status": 503}),
    ("POST", "/commit/", {"status": 429, "headers": {"Retry-After": "2"}}),
    ("POST", "/commit/", {"kind": "cut"}),
    ("POST", "/commit/", {"kind": "after"}),
    ("GET", "/tree/", {"status": 503}),
    ("POST", "/tag/", {"kind": "cut"}),
]


@pytest.mark.parametrize(("method", "path", "fault"), PASSING, ids=lambda value: str(value))
def test_what_passes_is_waited_for(
    plain: WorkDir, hub: Hub, waits: list[float], method: str, path: str, fault: dict[str, Any]
) -> None:
    played = hub.plays(method, path, **fault)
    pushed = publish(plain)
    assert played.seen.is_set()
    assert waits
    assert tars(hub) == built(plain)
    assert hub.repos[NAME].tags == {"v1.0.0": pushed.commit}
    assert max(Counter(hub.sent).values()) == 1


def test_a_commit_whose_answer_was_lost_is_not_made_twice(plain: WorkDir, hub: Hub, waits: list[float]) -> None:
    hub.plays("POST", "/commit/", "after")
    publish(plain)
    assert hub.count("POST", "/commit/") == 1
    assert len(hub.repos[NAME].history("main")) == 2


def test_the_hub_says_how_long_to_wait(plain: WorkDir, hub: Hub, waits: list[float]) -> None:
    hub.plays("POST", "/commit/", status=429, headers={"Retry-After": "37"})
    publish(plain)
    assert 37.0 in waits


def test_too_long_a_wait_is_told(plain: WorkDir, hub: Hub, waits: list[float]) -> None:
    hub.plays("POST", "/commit/", status=429, headers={"Retry-After": "7200"}, times=9)
    with pytest.raises(PublishError, match=r"429.*asks to wait 120 minutes; the same command goes on from here"):
        publish(plain)
    assert not any(seconds > 100 for seconds in waits)


@pytest.mark.parametrize(
    ("method", "path", "fault", "words"),
    [
        (
            "POST",
            "/commit/",
            {"status": 503},
            r"committing: the Hub answered 503 It was told to\.; the same",
        ),
        ("POST", "/commit/", {"kind": "cut"}, r"committing: the connection failed \(\w+.*the same command goes on"),
        ("PUT", "/lfs/", {"status": 500}, "uploading: the Hub answered 500"),
        ("PUT", "/lfs/", {"kind": "cut"}, r"uploading: the connection failed"),
        ("PUT", "/lfs/", {"status": 413, "text": "Entity too large"}, r"no room left \(Entity too large\)"),
        (
            "POST",
            "/objects/batch",
            {"status": 403, "text": "Private storage limit reached"},
            "no room left.*not sent twice",
        ),
        ("POST", "/preupload/", {"status": 403, "text": "Forbidden"}, r"this token may not do that \(Forbidden\)"),
        ("POST", "/commit/", {"status": 412, "text": "Moved"}, "somebody else changed the branch main.*run this"),
        ("POST", "/commit/", {"status": 400, "text": "Odd name"}, r"the Hub refused with 400 \(Odd name\)"),
        ("POST", "/repos/create", {"status": 401, "text": "No"}, "does not know this token.*hf auth login"),
        ("GET", "/tree/", {"status": 500, "skip": 1}, "listing its files: the Hub answered 500"),
    ],
)
def test_what_does_not_pass_is_one_line_and_the_next_push_goes_on(
    plain: WorkDir, hub: Hub, waits: list[float], method: str, path: str, fault: dict[str, Any], words: str
) -> None:
    hub.plays(method, path, times=9999, **fault)
    if path == "/tree/":
        publish(plain, "ids", "org/first")  # so that there is a repository to list
        hub.repos[NAME] = hub.repos.pop("org/first")
    with pytest.raises(PublishError, match=words) as error:
        publish(plain, "ids" if path == "/tree/" else "features")
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    hub.faults.clear()
    if path != "/tree/":
        publish(plain)
        assert tars(hub) == built(plain)
        assert max(Counter(hub.sent).values()) == 1


def test_commits_that_happened_are_not_made_again(
    plain: WorkDir, hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "COMMIT_FILES", 4)
    hub.plays("POST", "/commit/", status=503, skip=2, times=99)
    with pytest.raises(PublishError, match="goes on from here"):
        publish(plain)
    assert len(hub.repos[NAME].history("main")) == 3
    hub.faults.clear()
    hub.requests.clear()
    pushed = publish(plain)
    assert tars(hub) == built(plain)
    assert "shards/test-000000.tar" in pushed.there
    assert max(Counter(hub.sent).values()) == 1
    assert len(hub.repos[NAME].history("main")) == 5


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("hf_unknownToken", "asking who you are: the Hub does not know this token.*hf auth login"),
        ("hf_otherToken", r"making the repository: this token may not do that .* it needs write access to org"),
        ("", "no token for the Hub: run `hf auth login`, or set HF_TOKEN"),
    ],
)
def test_a_wrong_token_is_told_and_never_shown(
    plain: WorkDir, hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str, words: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishError, match=words) as error:
        publish(plain)
    assert not token or token not in str(error.value)
    assert hub.repos == {}


def test_the_token_is_in_no_file_and_on_no_screen(plain: WorkDir, hub: Hub, waits: list[float]) -> None:
    address = f"see {hub.url}/lfs/x?X-Amz-Signature=secretSignature with {TOKEN}"
    hub.plays("POST", "/commit/", status=503, text=address)
    answers = [call("push", NAME, "--work", plain.root, "--no-verify", "--no-check")]
    hub.plays("POST", "/commit/", status=403, text=address)
    (plain.root / "valor.toml").write_text('[publish]\nsummary = "New."\n')
    answers.append(call("push", NAME, "--work", plain.root, "--no-verify", "--no-check", code=1))
    shown = "".join(answer.out + answer.err for answer in answers)
    shown += "".join(path.read_bytes().decode("latin-1") for path in plain.root.rglob("*") if path.is_file())
    assert "***" in shown
    assert TOKEN not in shown
    assert "secretSignature" not in shown


@pytest.mark.parametrize(("method", "path", "skip"), [("PUT", "/lfs/", 7), ("POST", "/commit/", 0)])
def test_killed_in_the_middle_it_goes_on(full: WorkDir, hub: Hub, method: str, path: str, skip: int) -> None:
    """kill -9 while a file, or the commit, is under way: what had arrived by then is not sent again."""
    fault = hub.plays(method, path, "hold", skip=skip)
    command = [COMMAND, "push", NAME, "--work", full.root, "--no-verify", "--no-check"]
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert fault.seen.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    arrived = list(hub.sent)
    assert len(arrived) >= 5
    assert set(hub.files(NAME)) == {".gitattributes"}
    publish(full)
    assert max(Counter(hub.sent).values()) == 1
    assert hub.sent[: len(arrived)] == arrived
    assert publish(full).sent == {}
    sums = hub.files(NAME)["SHA256SUMS"].decode()
    assert all(name in sums for name in tars(hub))


def test_a_slow_hub_is_only_slow(plain: WorkDir, hub: Hub) -> None:
    hub.plays("POST", "/commit/", "slow")
    assert publish(plain, "ids").commit


def test_a_folder_of_their_own_is_not_needed(plain: WorkDir, hub: Hub, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    publish(plain, "ids")
    new = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert new <= {"plain", "hf-home"}


def test_a_fault_of_this_machine_is_not_waited_for() -> None:
    judged = Judge(NAME, "https://h", "main", TOKEN).judge(
        "uploading", PermissionError(13, "Permission denied", "/x.tar")
    )
    assert not isinstance(judged, PassingError)
    assert str(judged) == "org/my-set: uploading: /x.tar: Permission denied"
