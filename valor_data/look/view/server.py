"""The server of `view`: a small read-only one for one person on this machine.

It listens on 127.0.0.1 alone, answers GET and HEAD, and refuses requests that a page of another origin makes or that
come under another name (DNS rebinding). No file is opened by a name from a request.
"""

from __future__ import annotations

import json
import logging
import math
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from valor_data.errors import REASONS, ShardError, ValorDataError
from valor_data.look.view.catalogue import Catalogue
from valor_data.look.view.index import RANGES, SetWatch
from valor_data.look.view.search import FACETS, ORDERS, PAGE, Index, Question

log = logging.getLogger("valor_data")

HOST = "127.0.0.1"
DEFAULT_PORT = 8642
IDLE_SECONDS = 60
"""A connection that says nothing for so long is closed."""

_PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
    "/clip.js": ("clip.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

_CLIP = re.compile(r"/(api/clip|api/inside|media)/([A-Za-z0-9_=-]+)(?:/([a-z0-9_]+(?:\.[a-z]+)?))?", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: a status, a type and bytes; media may be asked for in part."""

    status: HTTPStatus
    mime: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    in_parts: bool = False


def refusal(status: HTTPStatus, words: str, **headers: str) -> Reply:
    """A refusal in one line of JSON."""
    body = json.dumps({"error": words}).encode()
    return Reply(status, "application/json", body, {name.replace("_", "-"): text for name, text in headers.items()})


class ViewServer(ThreadingHTTPServer):
    """Serves one set until it is told to stop.

    Args:
        catalogue: the clips.
        index: to search in.
        title: what the set is called on the page.
        port: 0: any that is free.

    Raises:
        OSError: the port is in use.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, catalogue: Catalogue, index: Index, title: str, port: int = 0) -> None:
        self.catalogue, self.index, self.title = catalogue, index, title
        self.watch = SetWatch(catalogue.shards, index.stamp)
        self._links: set[Any] = set()
        folder = Path(__file__).parent / "page"
        self.page = {path: ((folder / name).read_bytes(), mime) for path, (name, mime) in _PAGE_FILES.items()}
        super().__init__((HOST, port), _Handler)
        own = int(self.server_address[1])
        self.hosts = {f"{name}:{own}" for name in (HOST, "localhost")}
        self.hosts |= {HOST, "localhost"} if own == 80 else set()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread of its own."""
        self._links.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        self._links.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Ends every connection: a browser holds some of them open."""
        super().server_close()
        for link in list(self._links):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is nothing to tell."""
        log.debug("view: a connection broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def parse_request(self) -> bool:
        """Reads a request; what is not for us is refused here, whatever it asks for."""
        if not super().parse_request():
            return False
        problem = self._refused()
        if problem is not None:
            self.close_connection = True
            self._send(problem)
        return problem is None

    def _refused(self) -> Reply | None:
        if self.command not in ("GET", "HEAD"):
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this server only shows: GET or HEAD", Allow="GET, HEAD")
        names = self.headers.get_all("Host") or []
        if len(names) != 1 or names[0].lower() not in self.server.hosts:
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, f"not the name of this server; open {self.server.url}")
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            return refusal(HTTPStatus.BAD_REQUEST, "a request with a body")
        origins = self.headers.get_all("Origin") or []
        if any(origin not in {f"http://{host}" for host in self.server.hosts} for origin in origins):
            return refusal(HTTPStatus.FORBIDDEN, "a page of another origin must not ask here")
        is_visit = self.headers.get("Sec-Fetch-Mode") == "navigate" and urlsplit(self.path).path == "/"
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not is_visit:
            return refusal(HTTPStatus.FORBIDDEN, "a page of another site must not ask here")
        return None

    def do_GET(self) -> None:
        """Answers."""
        try:
            reply = self._reply()
        except ValueError as error:
            reply = refusal(HTTPStatus.BAD_REQUEST, str(error))
        except (ShardError, OSError) as error:
            reply = refusal(HTTPStatus.CONFLICT, str(error))
        except ValorDataError as error:
            reply = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        self._send(reply)

    def do_HEAD(self) -> None:
        """The same without the body."""
        self.do_GET()

    def _reply(self) -> Reply:
        if not self.path.startswith("/") or self.path.startswith("//"):
            return refusal(HTTPStatus.BAD_REQUEST, "expected a path")
        target = urlsplit(self.path)
        path = unquote(target.path, errors="strict")
        if path in self.server.page:
            body, mime = self.server.page[path]
            return Reply(HTTPStatus.OK, mime, body, {"Cache-Control": "no-cache"})
        if path == "/api/about":
            return _json(about(self.server))
        if path == "/api/clips":
            return _json(found(self.server.index, target) | {"changed": self.server.watch.changed()})
        asked = _CLIP.fullmatch(path)
        if asked is not None and (asked[1] == "media") is (asked[3] is not None):
            return self._of_clip(*asked.groups())
        return refusal(HTTPStatus.NOT_FOUND, "nothing here")

    def _of_clip(self, kind: str, key: str, name: str | None) -> Reply:
        catalogue = self.server.catalogue
        if kind == "api/clip":
            clip = catalogue.clip(key)
            return refusal(HTTPStatus.NOT_FOUND, f"no clip {key}") if clip is None else _json(clip)
        if self.server.index.shard_of(key) is None:
            return refusal(HTTPStatus.NOT_FOUND, f"no clip {key}")
        if kind == "api/inside":
            inside = catalogue.look_inside(key)
            return refusal(HTTPStatus.NOT_FOUND, f"no media of {key}") if inside is None else _json(inside)
        makers: dict[str, Callable[[], tuple[bytes, str] | None]] = {
            "sound": lambda: catalogue.sound(key),
            "thumbnail": lambda: catalogue.thumbnail(key),
            "mel.png": lambda: _typed(catalogue.mel(key), "image/png"),
        }
        make = makers.get(name or "", lambda: _typed(catalogue.picture(key, name or ""), "image/jpeg"))
        made = make()
        if made is None:
            return refusal(HTTPStatus.NOT_FOUND, f"{key} has no {name}")
        return Reply(HTTPStatus.OK, made[1], made[0], {"Cache-Control": "private, max-age=60"}, name == "sound")

    def _send(self, reply: Reply) -> None:
        body, status, headers = reply.body, reply.status, dict(reply.headers)
        if reply.in_parts:
            status, part, more = in_part(self.headers.get("Range"), len(body))
            body, headers = body[part], {**headers, **more, "Accept-Ranges": "bytes"}
        self.send_response(status)
        for name, text in {**_HEADERS, **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Type", reply.mime)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses (a line too long, too many headers, no HTTP), in our words and with our headers."""
        self.close_connection = True
        if not hasattr(self, "headers") or self.headers is None:
            self.headers = self.MessageClass()
        if not getattr(self, "command", None):
            self.command, self.request_version = "GET", "HTTP/1.1"
        self._send(refusal(HTTPStatus(code), message or HTTPStatus(code).phrase))

    def version_string(self) -> str:
        """Names no versions."""
        return "valor-data"

    def log_message(self, format: str, *args: Any) -> None:
        """A line in the log where one wants all of them."""
        log.debug("view: " + format, *args)


def _typed(body: bytes | None, mime: str) -> tuple[bytes, str] | None:
    return None if body is None else (body, mime)


def _json(tree: object) -> Reply:
    body = json.dumps(tree, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Reply(HTTPStatus.OK, "application/json; charset=utf-8", body, {"Cache-Control": "no-store"})


def about(server: ViewServer) -> dict[str, Any]:
    """What the page needs once: the set's name, its size, and what can be chosen."""
    spans = server.index.spans()
    return {
        "title": server.title,
        "num_clips": server.index.num_clips,
        "page": PAGE,
        "facets": {name: server.index.values[name] for name in FACETS},
        "meanings": {code: reason.meaning for code, reason in REASONS.items()},
        "ranges": {
            name: {"unit": unit, "label": label, "least": spans[name][0], "largest": spans[name][1]}
            for name, (unit, label) in RANGES.items()
            if name in spans
        },
    }


def found(index: Index, target: SplitResult) -> dict[str, Any]:
    """The answer to `/api/clips?q=…&split=…&reason=…&min_duration=…&max_rms=…&sort=-rms&first=60`.

    Raises:
        ValueError: a value that cannot be; the message names it.
    """
    given = parse_qs(target.query, keep_blank_values=True, errors="strict", max_num_fields=200)
    one = {name: values[-1] for name, values in given.items()}
    sort = one.get("sort", "")
    if sort.removeprefix("-") not in ORDERS:
        raise ValueError(
            f"sort={sort}: expected one of {', '.join(ORDERS[1:])}, with - before it for the largest first"
        )
    if len(one.get("q", "")) > 1000:
        raise ValueError(f"q: {len(one['q'])} characters; expected at most 1000")
    question = Question(
        text=one.get("q", ""),
        choices={name: tuple(given[name]) for name in FACETS if name in given},
        ranges={
            name: (_number(one, f"min_{name}"), _number(one, f"max_{name}"))
            for name in RANGES
            if one.get(f"min_{name}") or one.get(f"max_{name}")
        },
        order=sort.removeprefix("-"),
        descending=sort.startswith("-"),
        first=_whole(one, "first", 0, 2**40),
        limit=_whole(one, "limit", PAGE, 500),
    )
    answer = index.ask(question)
    return {"count": answer.count, "first": question.first, "clips": answer.clips, "facets": answer.facets}


def _number(one: dict[str, str], name: str) -> float | None:
    text = one.get(name, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}={text}: expected a number")
    return number


def _whole(one: dict[str, str], name: str, default: int, largest: int) -> int:
    text = one.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII) or int(text) > largest:
        raise ValueError(f"{name}={text}: expected a whole number up to {largest}")
    return int(text)


def in_part(asked: str | None, size: int) -> tuple[HTTPStatus, slice, dict[str, str]]:
    """What a `Range` header asks for of so many bytes: status, the part, headers to add.

    One range is answered in part; several, or what is no range, with the whole, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch((asked or "").strip())
    if match is None or match.group(1) + match.group(2) == "":
        return HTTPStatus.OK, slice(0, size), {}
    if match[1]:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
        if match[2] and int(match[2]) < int(match[1]):
            return HTTPStatus.OK, slice(0, size), {}
    else:
        first, last = max(size - int(match[2]), 0), size - 1
        first = size if int(match[2]) == 0 else first
    if first >= size:
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, slice(0, 0), {"Content-Range": f"bytes */{size}"}
    return HTTPStatus.PARTIAL_CONTENT, slice(first, last + 1), {"Content-Range": f"bytes {first}-{last}/{size}"}


def open_server(catalogue: Catalogue, index: Index, title: str, port: int | None) -> ViewServer:
    """A server at a port; None: the usual one, or another where that is in use.

    Raises:
        ValorDataError: the port that was asked for is in use, or may not be used.
    """
    try:
        return ViewServer(catalogue, index, title, DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is None:
            return ViewServer(catalogue, index, title)
        raise ValorDataError(f"--port {port}: {error.strerror}; choose another, or leave it out") from error
