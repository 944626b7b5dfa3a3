"""The exception tree and the reason codes: what they say, and that they survive the way between processes."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from valor_data.errors import (
    CURATION,
    PRECEDENCE,
    REASONS,
    ClipError,
    ConfigError,
    ManifestError,
    ReasonClass,
    ShardError,
    Status,
    ValorDataError,
)

PACKAGE = Path(__file__).resolve().parent.parent / "valor_data"


def test_exit_codes() -> None:
    assert ConfigError("x").exit_code == 2
    assert [
        kind("gone" if kind is ClipError else "x").exit_code for kind in (ManifestError, ShardError, ClipError)
    ] == [
        1,
        1,
        1,
    ]
    for kind in (ConfigError, ManifestError, ShardError, ClipError):
        assert issubclass(kind, ValorDataError)


def test_a_config_error_holds_every_problem() -> None:
    assert ConfigError("one").problems == ["one"]
    error = ConfigError(["one", "two"])
    assert (error.problems, str(error)) == (["one", "two"], "one\ntwo")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({}, "is wrong"),
        ({"file": "a.csv"}, "a.csv: is wrong"),
        ({"file": Path("a.csv"), "row": 3}, "a.csv, row 3: is wrong"),
        ({"file": "a.csv", "row": 3, "column": "id"}, "a.csv, row 3, column 'id': is wrong"),
        ({"column": "id"}, "column 'id': is wrong"),
    ],
)
def test_a_manifest_error_says_where(where: dict[str, object], text: str) -> None:
    assert str(ManifestError("is wrong", **where)) == text  # type: ignore[arg-type]


def test_a_clip_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ClipError("geo", "HTTP 451")))
    assert (error.reason, error.detail, str(error)) == ("geo", "HTTP 451", "geo: HTTP 451")
    assert str(ClipError("geo")) == "geo"


def test_an_unknown_reason_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="unknown reason code 'lost'; known codes: gone, private"):
        ClipError("lost")


def test_reasons() -> None:
    for code, reason in REASONS.items():
        assert reason.code == code
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert reason.meaning and reason.action
        final = reason.reason_class is ReasonClass.FINAL
        assert reason.status is (Status.DROPPED if final else Status.WAITING)


def test_nobody_is_dropped_for_what_is_not_the_clips_fault() -> None:
    for code in ("bot_check", "session_limited", "rate_limited", "ip_blocked", "disk", "js_runtime", "configuration"):
        assert REASONS[code].status is Status.WAITING
        assert REASONS[code].reason_class not in (ReasonClass.FINAL, ReasonClass.WAITING)


def test_the_order_of_precedence_is_of_final_reasons() -> None:
    assert ("undecodable", "no_video", "no_audio", "short", "silent", *CURATION) == PRECEDENCE
    assert all(REASONS[code].status is Status.DROPPED for code in PRECEDENCE)


def test_every_code_that_the_package_writes_is_on_the_list() -> None:
    said = set()
    for path in PACKAGE.rglob("*.py"):
        said |= set(re.findall(r"(?:ClipError|Outcome\.refused)\(\s*\"(\w+)\"", path.read_text()))
    assert said <= REASONS.keys()
    assert len(said) > 10
