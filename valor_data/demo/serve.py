"""A local HTTP server for videos: the demo's stand-in for the web, and the tests' web with faults.

It serves whole files and byte ranges at `/v/<video_id>` and `/v/<video_id>.mp4`, answers 404 for what is not
there, and counts what it is asked. Faults are set for single videos: wrong statuses, bodies that break off,
pages instead of media, redirects, delays.
"""

from __future__ import annotations

import mimetypes
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

CHUNK_BYTES = 64 * 1024

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

_TYPES = {".mkv": "video/x-matroska", ".flv": "video/x-flv", ".ts": "video/mp2t", ".m4a": "audio/mp4"}
"""Content types that Python's own table lacks or has wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong when a video is asked for. Everything that is not set goes well.

    Attributes:
        status: answer with this status and a short page, or with `body`.
        headers: sent beside the usual ones, for instance `{"Retry-After": "30"}`; a `Content-Length` takes the
            true one's place.
        body: sent instead of the file; ranges are not honoured.
        content_type: sent instead of the file's own.
        cut_after_bytes: the connection breaks off after so many bytes of the body.
        redirect_to: answer 302 to this address; `{video_id}` is filled in.
        delay_seconds: wait before the answer.
        bytes_per_second: send the body no faster than this.
        times: only the first so many requests for the video fail; None for all of them.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str | None = None
    cut_after_bytes: int | None = None
    redirect_to: str | None = None
    delay_seconds: float = 0.0
    bytes_per_second: int | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the server has answered.

    Attributes:
        method: `GET` or `HEAD`.
        path: the path asked for, decoded.
        video_id: the id in it, or "" for another path.
        range: the Range header, or "".
        status: the status answered.
    """

    method: str
    path: str
    video_id: str
    range: str
    status: int


class MediaServer:
    """Serves a folder of `<video_id>.<anything>`, or files under ids of the caller's choice.

    A context manager; the port is the system's choice, the address 127.0.0.1 only.

    Args:
        source: a folder, or a mapping from video id to file.
        faults: what goes wrong for which video; may be changed while the server runs.
        missing_status: the answer for a video that is not there: 404, or 410.
    """

    def __init__(
        self,
        source: Path | Mapping[str, Path],
        faults: Mapping[str, Fault] | None = None,
        missing_status: int = 404,
    ) -> None:
        self._files = _files_in(source) if isinstance(source, Path) else dict(source)
        self.faults: dict[str, Fault] = dict(faults or {})
        self.missing_status = missing_status
        self._requests: list[Request] = []
        self._faults_done: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> MediaServer:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.media = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="media-server", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def address(self) -> str:
        """`http://127.0.0.1:<port>`.

        Raises:
            RuntimeError: the server does not run.
        """
        if self._server is None:
            raise RuntimeError("the server does not run: use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url_template(self) -> str:
        """What `valor-data fetch --source` takes: `http://127.0.0.1:<port>/v/{video_id}.mp4`."""
        return f"{self.address}/v/{{video_id}}.mp4"

    def url(self, video_id: str) -> str:
        """The address of one video."""
        return self.url_template.format(video_id=quote(video_id, safe=""))

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order of the answers."""
        with self._lock:
            return list(self._requests)

    def count(self, video_id: str | None = None, method: str | None = None) -> int:
        """How many requests there were, for one video and by one method if these are given."""
        return sum(
            (video_id is None or r.video_id == video_id) and (method is None or r.method == method)
            for r in self.requests
        )

    def forget_requests(self) -> None:
        """Counts from zero again; faults with `times` start anew as well."""
        with self._lock:
            self._requests.clear()
            self._faults_done.clear()

    def file_of(self, video_id: str) -> Path | None:
        """The file served for a video, if there is one."""
        return self._files.get(video_id)

    def _record(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def _take_fault(self, video_id: str) -> Fault | None:
        fault = self.faults.get(video_id)
        if fault is None:
            return None
        with self._lock:
            self._faults_done[video_id] += 1
            over = fault.times is not None and self._faults_done[video_id] > fault.times
        return None if over else fault


def serve(folder: Path, faults: Mapping[str, Fault] | None = None, missing_status: int = 404) -> MediaServer:
    """The server of a folder of videos, not yet started: use it in a with statement."""
    return MediaServer(Path(folder), faults, missing_status)


def _files_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.absolute().iterdir()) if path.is_file()}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    media: MediaServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing when a client has gone away; anything else is a bug and is shown."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError, ValueError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the server's requests are counted, not printed."""

    def do_GET(self) -> None:
        """Answers with the file, a part of it, or a fault."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answers as GET would, without the body."""
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        video_id = self._video_id(path)
        fault = self.server.media._take_fault(video_id) or Fault()
        if fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        self._seen = (path, video_id)
        file = self.server.media.file_of(video_id)
        if fault.redirect_to is not None:
            target = fault.redirect_to.replace("{video_id}", quote(video_id, safe=""))
            self._send_bytes(302, b"", fault, {"Location": target})
        elif fault.status is not None or fault.body is not None:
            status = fault.status or 200
            self._send_bytes(status, fault.body if fault.body is not None else f"{status}\n".encode(), fault)
        elif file is None:
            self._send_bytes(self.server.media.missing_status, b"no such video\n", fault)
        else:
            self._send_file(file, fault)

    def _video_id(self, path: str) -> str:
        prefix, _, name = path.rpartition("/")
        if prefix != "/v":
            return ""
        known = self.server.media._files
        return name if name in known else name.removesuffix(".mp4")

    def _head(self, status: int, num_bytes: int, content_type: str, headers: Mapping[str, str]) -> None:
        path, video_id = self._seen
        asked = self.headers.get("Range", "")
        self.server.media._record(Request(self.command, path, video_id, asked, status))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(num_bytes))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_bytes(self, status: int, body: bytes, fault: Fault, headers: Mapping[str, str] | None = None) -> None:
        looks_like_page = body.lstrip()[:1] == b"<"
        content_type = fault.content_type or ("text/html; charset=utf-8" if looks_like_page else "text/plain")
        self._head(status, len(body), content_type, {**fault.headers, **(headers or {})})
        if self.command != "HEAD":
            end = len(body) if fault.cut_after_bytes is None else min(fault.cut_after_bytes, len(body))
            self._send_slowly(body[:end], fault)
            self._break_off_if(end < len(body))

    def _send_file(self, file: Path, fault: Fault) -> None:
        size = file.stat().st_size
        content_type = fault.content_type or _content_type(file)
        span = _span(self.headers.get("Range"), size)
        if span is None:
            self._head(416, 0, content_type, {"Content-Range": f"bytes */{size}"})
            return
        start, end = span
        headers = {"Accept-Ranges": "bytes", **fault.headers}
        if self.headers.get("Range"):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._head(206 if "Content-Range" in headers else 200, end - start, content_type, headers)
        if self.command == "HEAD":
            return
        stop = end if fault.cut_after_bytes is None else min(end, start + fault.cut_after_bytes)
        with file.open("rb") as stream:
            self._copy(stream, start, stop, fault)
        self._break_off_if(stop < end)

    def _copy(self, stream: BinaryIO, start: int, stop: int, fault: Fault) -> None:
        stream.seek(start)
        while start < stop:
            chunk = stream.read(min(CHUNK_BYTES, stop - start))
            if not chunk:
                break
            start += len(chunk)
            self._send_slowly(chunk, fault)

    def _send_slowly(self, body: bytes, fault: Fault) -> None:
        if fault.bytes_per_second is None:
            self.wfile.write(body)
            return
        step = max(1, fault.bytes_per_second // 20)
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            time.sleep(0.05)

    def _break_off_if(self, cut: bool) -> None:
        if cut:
            self.wfile.flush()
            self.close_connection = True


def _content_type(file: Path) -> str:
    with file.open("rb") as stream:
        if stream.read(64).lstrip()[:1] == b"<":
            return "text/html; charset=utf-8"
    return _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes `[start, end)` a Range header asks for; all of them without one; None if there are none such."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return (0, size)
    if not match[1]:
        return (max(0, size - int(match[2])), size) if int(match[2]) and size else None
    start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
    return (start, end) if start < end else None
