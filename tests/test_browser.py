"""The browser that other tests look with: what it must notice, it notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import HOW_TO_ADD, Visitor, find_chromium, is_of_this_machine

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<body>%s"""


def page(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(PAGE % body, encoding="utf-8")
    return path


def test_a_page_of_its_own_is_no_complaint(visitor: Visitor, tmp_path: Path) -> None:
    tab = visitor.open(page(tmp_path, '<img alt="x" src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'))
    assert tab.title() == "t"
    assert visitor.foreign_requests() == []
    assert [url.split(":")[0] for url in visitor.requests][:1] == ["file"]


def test_a_request_to_another_machine_is_noticed_and_goes_nowhere(visitor: Visitor, tmp_path: Path) -> None:
    visitor.open(page(tmp_path, '<img alt="x" src="http://example.com/a.png">'))
    assert visitor.foreign_requests() == ["http://example.com/a.png"]
    assert "ERR_FAILED" in visitor.complaints.pop()
    visitor.requests.clear()


def test_errors_of_scripts_and_breaches_of_policy_are_noticed(visitor: Visitor, tmp_path: Path) -> None:
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    visitor.open(page(tmp_path, "<script>throw new Error('planted')</script>"))
    assert "planted" in visitor.complaints.pop()
    visitor.open(page(tmp_path, policy + "<script>1</script>"))
    assert "Content Security Policy" in visitor.complaints.pop()


@pytest.mark.parametrize(("dark", "colour"), [(False, "rgb(255, 255, 255)"), (True, "rgb(0, 0, 0)")])
def test_theme_and_size_are_the_tests_choice(visitor: Visitor, tmp_path: Path, dark: bool, colour: str) -> None:
    tab = visitor.open(page(tmp_path, "x"), dark=dark, width=400, height=700)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == colour
    assert tab.evaluate("[innerWidth, innerHeight]") == [400, 700]


def test_what_is_of_this_machine() -> None:
    assert all(map(is_of_this_machine, ("file:///a", "data:x", "http://127.0.0.1:8/a", "about:blank", "blob:x")))
    assert not any(map(is_of_this_machine, ("http://127.0.0.1.example.com/", "https://example.com", "ftp://a/b")))


def test_without_a_browser_it_is_said_how_to_add_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VALOR_DATA_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_chromium() is None
    assert "apt-get install chromium" in HOW_TO_ADD
