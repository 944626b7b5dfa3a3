"""A real Chromium for what is shown in a browser: pages are opened, looked at, listened to and driven by keys.

Nothing but the disk and this machine may be asked: any other request fails the test, and so does every
error in the console (a breach of a page's Content-Security-Policy is one), unless the test takes it out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

HOW_TO_ADD = "install Chromium (apt-get install chromium), or name one in VALOR_DATA_CHROMIUM, and run `make env`"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_ARGUMENTS = (
    "--no-sandbox",  # a container's root has none
    "--disable-dev-shm-usage",  # its /dev/shm is small
    "--disable-background-networking",
    "--disable-component-update",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--force-prefers-reduced-motion",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find_chromium() -> str | None:
    """The browser's program, or None."""
    named = os.environ.get("VALOR_DATA_CHROMIUM")
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


def is_of_this_machine(url: str) -> bool:
    """Whether a request stays here: a file, something inside of the page, or a server on 127.0.0.1."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss"):
        return parts.hostname == "127.0.0.1"
    return parts.scheme in ("file", "data", "blob", "about")


class Visitor:
    """Somebody with a browser. Everything that its pages ask for and complain of is kept.

    Attributes:
        requests: the URL of every request, of all pages, in order.
        complaints: errors and warnings in the console (a request that failed is one), exceptions of scripts;
            a test that wants some takes them out, what is left fails it.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def open(
        self,
        place: str | Path,
        *,
        dark: bool = False,
        width: int = 1400,
        height: int = 900,
        javascript: bool = True,
        **context: Any,
    ) -> Page:
        """Opens a file or a URL in a window of its own.

        Args:
            place: a path, or a URL.
            dark: the reader prefers dark pages.
            width: of the window, pixels.
            height: of the window, pixels.
            javascript: whether scripts run.
            context: more settings of Playwright's `new_context`, such as `forced_colors="active"`.
        """
        window = self._browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": height},
            java_script_enabled=javascript,
            **context,
        )
        self._contexts.append(window)
        window.route("**/*", self._decide)
        page: Page = window.new_page()
        page.set_default_timeout(15_000)
        page.on("request", self._note_request)
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.goto(place.absolute().as_uri() if isinstance(place, Path) else place)
        return page

    def foreign_requests(self) -> list[str]:
        """Requests to anything but this machine."""
        return [url for url in self.requests if not is_of_this_machine(url)]

    def close(self) -> None:
        """Closes every window."""
        for window in self._contexts:
            window.close()

    def _decide(self, route: Route) -> None:
        if is_of_this_machine(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a file; without one they are skipped on a person's machine and fail in CI.

    It is not shared by more: while it runs, its event loop is this thread's.
    """
    program = find_chromium()
    missing = "" if program else "no Chromium"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "no playwright"
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{missing} to look at pages with: {HOW_TO_ADD}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Browser) -> Iterator[Visitor]:
    """Somebody who opens pages: `visitor.open(path)`; a foreign request or an error in the console fails the test."""
    someone = Visitor(chromium)
    yield someone
    someone.close()
    assert someone.foreign_requests() == [], "requests to other machines"
    assert someone.complaints == [], "complaints in the browser's console"
