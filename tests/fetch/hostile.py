"""The hostile origin: a local YouTube and a local media server that do, video by video, what the worst of the web does.

`Origin` answers extractions (through the yt-dlp plugin in `plugins/`, so that real yt-dlp exceptions leave real
yt-dlp code) and serves the media behind them. Every extraction is logged with the time of the test's own clock.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from valor_data.config import FetchSection
from valor_data.demo import Fault, MediaServer
from valor_data.execute import local
from valor_data.ledger import Attempt, Ledger, Outcome
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, StageReport, run_fetch
from valor_data.road.driver import NoProgress
from valor_data.workdir import WorkDir

PLUGINS = Path(__file__).parent / "plugins"

QUICK = ("--socket-timeout", "2", "--retries", "1", "--extractor-retries", "1", "--retry-sleep", "http:0")
"""yt-dlp's own options that keep a hostile origin from holding a test up."""


@dataclass(frozen=True, slots=True)
class Says:
    """What the local YouTube answers when it is asked for a video.

    Attributes:
        kind: how the extractor fails (see `plugins/`); `info` for a good answer.
        text: the message it fails with.
        info: added to the good answer.
        status: an HTTP status of the extraction request itself.
        headers: sent with it.
        times: only the first so many extractions; None for all of them.
    """

    kind: str = "info"
    text: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """One extraction request, as the origin saw it."""

    seen: float
    video_id: str


class Clock:
    """Time that passes only while the driver has nothing in hand, a step for each look; or when it is told to."""

    def __init__(self, now: float = 1_800_000_000.0, step_seconds: float = 20.0) -> None:
        self.now = now
        self.step_seconds = step_seconds
        self.looks: Callable[[], None] | None = None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += self.step_seconds
        if self.looks is not None:
            self.looks()

    @contextmanager
    def runs(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
        """Takes the place of the executor's naps."""
        with monkeypatch.context() as patch:
            patch.setattr(local, "time", SimpleNamespace(sleep=self.sleep))
            yield self


class Origin:
    """A local YouTube (extractions) and the server of its media.

    Args:
        media: the file that every good video shows.
        clock: what the log of extractions is kept by.
    """

    def __init__(self, media: Path, clock: Callable[[], float] = time.time) -> None:
        self.file = media
        self.clock = clock
        self.says: dict[str, Says] = {}
        self.rule: Callable[[str], Says | None] = lambda _: None
        self.delay_seconds = 0.0
        self.media = MediaServer({})
        self._log: list[Extraction] = []
        self._told: Counter[str] = Counter()
        self._lock = threading.RLock()

    def __enter__(self) -> Origin:
        self.media.__enter__()
        self._server = _Server(("127.0.0.1", 0), _Watch)
        self._server.origin = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.media.__exit__(None, None, None)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def extractor_args(self) -> tuple[str, ...]:
        return (f"youtube:stand_in={self.address}",)

    @property
    def extractions(self) -> list[Extraction]:
        with self._lock:
            return list(self._log)

    def asked(self, video_id: str) -> int:
        return sum(extraction.video_id == video_id for extraction in self.extractions)

    def answer(self, video_id: str) -> Says:
        """What to say now; counted."""
        with self._lock:
            self._log.append(Extraction(self.clock(), video_id))
            self._told[video_id] += 1
            says = self.rule(video_id) or self.says.get(video_id, Says())
            over = says.times is not None and self._told[video_id] > says.times
        return Says() if over else says

    def info(self, video_id: str) -> dict[str, Any]:
        """A good answer: one file with picture and sound, on the media server."""
        self.media._files.setdefault(video_id, self.file)
        return {
            "id": video_id,
            "title": video_id,
            "duration": 2,
            "channel_id": "UC-origin",
            "formats": [
                {"format_id": "18", "url": self.media.url(video_id), "ext": "mp4", "height": 72, "width": 96,
                 "vcodec": "avc1.42001E", "acodec": "mp4a.40.2"}
            ],
        }  # fmt: skip


def youtube(origin: Origin, **settings: object) -> FetchSection:
    """Settings to fetch from the local YouTube, as fast as it can be asked."""
    given = {"source": "youtube", "workers": 3, "burst": 1000, "requests_per_hour": 100_000.0,
             "extractor_args": origin.extractor_args, "yt_dlp_options": QUICK}  # fmt: skip
    return FetchSection(**{**given, **settings})  # type: ignore[arg-type]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    origin: Origin

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Watch(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        video_id = self.path.removeprefix("/watch/")
        time.sleep(self.server.origin.delay_seconds)
        says = self.server.origin.answer(video_id)
        tree: dict[str, Any] = {"kind": says.kind, "text": says.text}
        if says.kind == "info":
            tree["info"] = {**self.server.origin.info(video_id), **says.info}
        body = json.dumps(tree).encode()
        self.send_response(says.status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in says.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def name_of(text: str) -> str:
    """A video id in YouTube's form, eleven characters, from a word."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)[:11].ljust(11, "_")


def write_list(path: Path, video_ids: Sequence[str], clips: int = 1) -> Path:
    """A manifest of some clips of a second of each video."""
    rows = [f"{name},{i % 2},{i % 2 + 1},A shape moves." for name in video_ids for i in range(clips)]
    annotation = path.with_suffix(".csv")
    annotation.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_text("video_id,start,end,caption\n" + "\n".join(rows) + "\n")
    write_manifest(build_manifest([annotation]), path)
    return path


@dataclass(frozen=True)
class Told:
    """What the ledger says of a clip after all."""

    status: str
    reason: str
    detail: str
    num_counted: int
    attempts: list[Attempt]


class Notes(NoProgress):
    """What a person would have been told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def fetch(
    work: Path,
    manifest: Path | None,
    section: FetchSection,
    *,
    clock: Callable[[], float] = time.time,
    notes: Notes | None = None,
) -> StageReport:
    """One run of fetch in this process, and a look at what it leaves behind."""
    folder = WorkDir.at(work)
    with Driver(folder, notes, stages=["fetch"]) as driver:
        try:
            return run_fetch(driver, section, manifest=manifest, explicit={"source"}, clock=clock)
        finally:
            left = [str(path.relative_to(folder.tmp)) for path in folder.tmp.rglob("*") if path.is_file()]
            assert left == [], "nothing half-finished is left, and no worker's note"


def told(work: Path) -> dict[str, Told]:
    """The standing of every video (all its clips must agree), by its id."""
    result: dict[str, Told] = {}
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        for clip in ledger.find_all():
            outcome, counted, _ = ledger.outcomes_of(clip.clip_id).get("fetch", (Outcome.kept(), -1, 0.0))
            status = "pending" if counted == -1 else outcome.status.value
            now = Told(status, outcome.reason, outcome.detail, counted, ledger.attempts_of(clip.clip_id))
            before = result.setdefault(clip.video_id, now)
            assert (before.status, before.reason) == (now.status, now.reason), clip
    return result


def reached(origin: Origin, video_id: str, fault: Fault) -> str:
    """Sets a fault of the media of a video; gives back the id."""
    origin.media._files.setdefault(video_id, origin.file)
    origin.media.faults[video_id] = fault
    return video_id


def over_budget(seen: Sequence[float], burst: int, ceiling_per_hour: float) -> list[str]:
    """Stretches of time in which there were more requests than the burst and what the ceiling refills."""
    times = sorted(seen)
    return [
        f"{last - first + 1} in {times[last] - times[first]:.0f} s"
        for first in range(len(times))
        for last in range(first, len(times))
        if last - first + 1 > burst + (times[last] - times[first]) * ceiling_per_hour / 3600 + 1e-6
    ]
