"""The viewer in a real Chromium: searched, filtered, listened to, driven by keys alone."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from viewing import MIXED, SCRIPT, serving

from valor_data.clip import to_ms
from valor_data.ledger import Ledger
from valor_data.look.view.index import SetWatch
from valor_data.look.view.search import Question
from valor_data.look.view.server import ViewServer
from valor_data.workdir import WorkDir

if TYPE_CHECKING:
    from browser import Visitor
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def server(run: WorkDir) -> Iterator[ViewServer]:
    with serving(run.root, run.root.parent / "cache") as running:
        yield running


def until(page: Page, expression: str) -> None:
    """Waits for something to be so. Playwright's own waiting evaluates texts, which the page's policy forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression}: never so; {page.url}"
        page.wait_for_timeout(20)


def opened(visitor: Visitor, server: ViewServer, query: str = "", **window: object) -> Page:
    page = visitor.open(server.url + query, **window)  # type: ignore[arg-type]
    until(page, "/\\d/.test(document.getElementById('count').textContent)")
    return page


def keys_shown(page: Page) -> list[str]:
    return page.eval_on_selector_all(".card", "all => all.map(one => one.dataset.key)")


def count(page: Page, number: int) -> None:
    until(page, f"document.querySelector('#count strong')?.textContent === '{number}'")


def common_word(server: ViewServer) -> str:
    """A word of some captions of clips in shards, and not of all."""
    clips = server.index.ask(Question(limit=1000)).clips
    counts = Counter(word for clip in clips for word in set(re.findall(r"\b[a-z]{4,}\b", " ".join(clip["captions"]))))
    kept = {
        word for clip in clips if clip["shard"] for word in re.findall(r"\b[a-z]{4,}\b", " ".join(clip["captions"]))
    }
    return next(word for word, number in counts.most_common() if number < len(clips) / 2 and word in kept)


def refused_key(run: WorkDir, reason: str) -> str:
    with Ledger(run.ledger, read_only=True) as ledger:
        return next(row[0] for row in ledger.standings() if reason in (row[5], row[7]))


PICTURES_SEEN = "all => all.length > 0 && all.every(one => one.complete && one.naturalWidth > 0)"


def test_a_clip_is_searched_opened_seen_and_heard(visitor: Visitor, server: ViewServer) -> None:
    page = opened(visitor, server)
    word = common_word(server)
    page.fill("#q", word)
    until(page, "document.querySelector('#count').textContent.includes(' of ')")
    texts = page.eval_on_selector_all(".card .words", "all => all.map(one => one.textContent)")
    assert texts and all(re.search(rf"\b{word}", text, re.IGNORECASE) for text in texts)
    assert f"q={word}" in page.url
    page.click(".card:has(img)")
    page.wait_for_selector("#clip audio")
    until(page, f"({PICTURES_SEEN})([...document.querySelectorAll('#clip img')])")
    assert page.locator("#clip .strip img").count() == 3
    assert page.locator("#clip .mel img").count() == 1
    page.evaluate("document.querySelector('audio').play()")
    until(page, "document.querySelector('audio').currentTime > 0.1")
    assert page.evaluate("document.querySelector('.mel .head').hidden") is False
    assert all(page.eval_on_selector_all("#clip img", "all => all.map(one => one.alt)"))
    linked = page.url
    again = opened(visitor, server, linked.removeprefix(server.url))
    again.wait_for_selector("#clip audio")
    assert again.locator("#clip h2").text_content() == page.locator("#clip h2").text_content()
    page.click("#clip button:has-text('Close')")
    assert page.locator("#clip").is_hidden() and "clip=" not in page.url
    page.go_back()
    page.wait_for_selector("#clip audio")


def test_filters(visitor: Visitor, server: ViewServer, run: WorkDir) -> None:
    page = opened(visitor, server)
    with Ledger(run.ledger, read_only=True) as ledger:
        rows = list(ledger.standings())
    dropped = [row[0] for row in rows if "dropped" in (row[4], row[6], row[8])]
    page.check("label[data-value='dropped'] input")
    count(page, len(dropped))
    assert set(keys_shown(page)) == set(dropped)
    silent = sum(row[7] == "silent" for row in rows)
    assert page.text_content("label[data-value='silent'] .number") == str(silent)
    page.check("label[data-value='silent'] input")
    count(page, silent)
    page.click("#clear")
    count(page, len(rows))
    longest = sorted(to_ms(clip["duration"]) for clip in server.index.ask(Question(limit=1000)).clips)[-3] / 1000
    page.fill("input[name='max_duration']", str(longest))
    until(page, "document.querySelector('#count').textContent.includes(' of ')")
    page.select_option("#sort", "-duration")
    until(page, "location.search.includes('sort=-duration')")
    page.wait_for_load_state("networkidle")
    lengths = [int(key[-8:]) - int(key[-17:-9]) for key in keys_shown(page)]
    assert lengths and max(lengths) <= to_ms(longest) and lengths == sorted(lengths, reverse=True)
    page.reload()
    until(page, "document.querySelector('#count').textContent.includes(' of ')")
    assert page.input_value("input[name='max_duration']") == str(longest)
    assert page.input_value("#sort") == "-duration"


@pytest.mark.parametrize(("word", "text"), [("quokkatoken", SCRIPT), ("wombattoken", MIXED)])
def test_captions_are_text(visitor: Visitor, server: ViewServer, word: str, text: str) -> None:
    page = opened(visitor, server, f"?q={word}")
    count(page, 1)
    page.click(".card")
    page.wait_for_selector("#clip blockquote")
    assert page.text_content(".card .words") == text
    assert (page.text_content("#clip blockquote") or "").startswith(text)
    assert "broken" not in page.title()
    assert page.locator(".words script, .words img, blockquote script, blockquote img").count() == 0
    assert page.text_content("#title") == "a <set>"


def test_words_of_languages_without_spaces(visitor: Visitor, server: ViewServer) -> None:
    page = opened(visitor, server, "?q=吠える")
    count(page, 1)


def test_a_refused_clip(visitor: Visitor, server: ViewServer, run: WorkDir) -> None:
    page = opened(visitor, server, f"?clip={refused_key(run, 'silent')}")
    page.wait_for_selector("#clip .why")
    told = page.text_content("#clip .why") or ""
    assert "dropped by filter: silent" in told and "What to do: lower the threshold." in told
    page.wait_for_selector("#clip audio")
    until(page, f"({PICTURES_SEEN})([...document.querySelectorAll('#clip .strip img')])")
    page.evaluate("document.querySelector('audio').play()")
    until(page, "document.querySelector('audio').currentTime > 0.1")
    page.goto(f"{server.url}?clip={refused_key(run, 'missing')}")
    page.wait_for_selector("#clip .note")
    assert "no media are at hand" in (page.text_content("#clip .note") or "")


def test_by_keys_alone(visitor: Visitor, server: ViewServer) -> None:
    page = opened(visitor, server)
    focused = "document.activeElement.id || document.activeElement.className"
    page.keyboard.press("/")
    assert page.evaluate(focused) == "q"
    page.keyboard.type("a")
    until(page, "location.search === '?q=a'")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.key") == keys_shown(page)[0]
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.dataset.key") == keys_shown(page)[1]
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('#clip h2')?.textContent === '{keys_shown(page)[1]}'")
    assert page.evaluate("document.activeElement.id") == "clip-title"
    page.keyboard.press("k")
    until(page, f"document.querySelector('#clip h2')?.textContent === '{keys_shown(page)[0]}'")
    assert page.get_attribute(".card[aria-current]", "data-key") == keys_shown(page)[0]
    page.keyboard.press("Escape")
    page.wait_for_selector("#clip", state="hidden")
    assert page.evaluate("document.activeElement.dataset.key") == keys_shown(page)[0]
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()


def test_playing_with_a_key(visitor: Visitor, server: ViewServer, run: WorkDir) -> None:
    with Ledger(run.ledger, read_only=True) as ledger:
        key = sorted(ledger.keys_in_shards())[0]
    page = opened(visitor, server, f"?clip={key}")
    page.wait_for_selector("#clip audio")
    page.keyboard.press("p")
    until(page, "!document.querySelector('audio').paused")
    page.keyboard.press("p")
    until(page, "document.querySelector('audio').paused")


def test_the_tab_key_reaches_everything(visitor: Visitor, server: ViewServer, run: WorkDir) -> None:
    page = opened(visitor, server, f"?clip={refused_key(run, 'silent')}")
    page.wait_for_selector("#clip audio")
    controls = page.evaluate(
        "[...document.querySelectorAll('a[href], button:not(:disabled), input, select, audio')]"
        ".filter(one => one.checkVisibility()).length"
    )
    seen = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(controls * 3):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("(() => { const all = [...document.querySelectorAll('*')];"
                               "return all.indexOf(document.activeElement); })()"))  # fmt: skip
        if len(seen) > controls + 2:
            break
    assert len(seen) >= controls


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_readable(visitor: Visitor, server: ViewServer, run: WorkDir, dark: bool, width: int) -> None:
    """Contrast of every text, names for every control, and nothing beside the window."""
    page = opened(visitor, server, f"?q=a&clip={refused_key(run, 'silent')}", dark=dark, width=width)
    page.wait_for_selector("#clip audio")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CONTRAST) == []
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, audio, a')].filter(one => one.checkVisibility() && "
        "!(one.textContent.trim() || one.labels?.length || one.getAttribute('aria-label'))).map(one => one.outerHTML)"
    )
    assert unnamed == []
    assert page.evaluate("[...document.querySelectorAll('img')].every(one => one.hasAttribute('alt'))")
    levels = page.eval_on_selector_all("#clip h2, #clip h3, h1", "all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for landmark in ("header", "main", "nav[aria-label]", "aside[aria-labelledby]", "[role=search]", "[aria-live]"):
        assert page.locator(landmark).count() == 1


CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.checkVisibility()) continue;
    if (one.closest('.quiet, .skip, :disabled')) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) weak.push(`${one.tagName}.${one.className} ${ratio.toFixed(2)}`);
  }
  return weak;
}"""


def test_pages(visitor: Visitor, server: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from valor_data.look.view import server as module

    monkeypatch.setattr(module, "PAGE", 10)
    page = opened(visitor, server)
    total = server.index.num_clips
    assert page.evaluate("fetch('/api/about').then(one => one.json()).then(one => one.page)") == 10
    if total > 10:
        seen = keys_shown(page)
        while not page.locator("#after").is_disabled():
            page.click("#after")
            until(page, f"document.querySelector('.card').dataset.key !== '{seen[-len(keys_shown(page))]}'")
            page.wait_for_load_state("networkidle")
            seen += keys_shown(page)
        assert len(seen) == len(set(seen)) == total


def test_a_set_that_has_changed_is_said(visitor: Visitor, run: WorkDir) -> None:
    with serving(run.root, run.root.parent / "cache") as server:
        page = opened(visitor, server)
        assert page.locator("#changed").is_hidden()
        server.watch = SetWatch(server.catalogue.shards, "of another set", clock=itertools.count(step=100).__next__)
        page.fill("#q", "a")
        page.locator("#changed").wait_for(state="visible")
        assert "The set has changed since" in page.locator("#changed").inner_text()


def test_a_server_that_has_gone_is_said(visitor: Visitor, run: WorkDir) -> None:
    with serving(run.root, run.root.parent / "cache") as server:
        page = opened(visitor, server)
    page.fill("#q", "x")
    until(page, "document.querySelector('#count').textContent.includes('is valor-data view still running?')")
    page.wait_for_timeout(200)
    visitor.complaints.clear()  # the browser itself says that the connection was refused
