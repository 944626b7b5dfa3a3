"""A local YouTube whose videos come as two files, picture and sound, as the real one's do."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from yt_dlp.extractor.youtube import YoutubeIE

from valor_data.config import FetchSection
from valor_data.demo.serve import Fault, MediaServer
from valor_data.errors import ClipError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.web import YouTubeLocation
from valor_data.media.playback import clip_pictures, clip_sound
from valor_data.media.transcode import ffmpeg_path

VIDEO_ID = "twostreams_"
QUICK = ("--socket-timeout", "2", "--retries", "2", "--retry-sleep", "http:0")

FRAGMENTED = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof+dash+global_sidx")


@contextmanager
def stand_in(watch: str) -> Iterator[None]:
    """YouTube's extractor in this process asks `watch` for its answer.

    No plugin: those stay for as long as the process lives, and other tests have theirs.
    """

    class StandInIE(YoutubeIE):  # type: ignore[misc]
        @classmethod
        def ie_key(cls) -> str:
            return "Youtube"

        def _real_extract(self, url: str) -> Any:
            return self._download_json(watch, self._match_id(url))

    with (
        mock.patch("yt_dlp.plugins.load_all_plugins"),
        mock.patch("yt_dlp.extractor.get_info_extractor", return_value=StandInIE),
    ):
        yield


def ffmpeg(*arguments: object) -> None:
    command = [str(ffmpeg_path()), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def source(seconds: int, fps: int = 5, size: str = "640x360") -> list[str]:
    """A moving picture, and a tone that swells and changes: no two seconds look or sound the same."""
    sound = f"aevalsrc=0.2*(1+sin(t))*sin(2*PI*(200+t)*t):d={seconds}:s=44100"
    return ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={fps}:d={seconds}", "-f", "lavfi", "-i", sound]


def make_mp4_pair(folder: Path, seconds: int, fps: int = 5) -> dict[str, Path]:
    """H.264 with a key picture each 5 s and AAC in fragments of 10 s, both with one index in front."""
    picture, sound = folder / "picture.mp4", folder / "sound.m4a"
    ffmpeg(
        *source(seconds, fps), "-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-bf", 2, "-b_strategy", 0,
        "-b:v", "220k", "-g", 5 * fps, "-keyint_min", 5 * fps, "-sc_threshold", 0, *FRAGMENTED, picture,
        "-map", "1:a", "-c:a", "aac", "-b:a", "64k", "-frag_duration", 10_000_000,
        "-movflags", "+empty_moov+default_base_moof+dash+global_sidx", sound,
    )  # fmt: skip
    return {"picture": picture, "sound": sound}


def make_webm_pair(folder: Path, seconds: int, *options: object) -> dict[str, Path]:
    """VP9 with a key picture each 5 s and Opus; the options say where the cues go."""
    picture, sound = folder / "picture.webm", folder / "sound.webm"
    ffmpeg(
        *source(seconds, 5, "160x90"), "-map", "0:v", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8,
        "-b:v", "100k", "-g", 25, "-keyint_min", 25, *options, picture,
        "-map", "1:a", "-ar", 48000, "-c:a", "libopus", "-b:a", "48k", *options, sound,
    )  # fmt: skip
    return {"picture": picture, "sound": sound}


class TwoStreams:
    """The extractor's server and the media server, with one video on them.

    Args:
        files: `picture` and `sound`, or `both` alone.
        duration: what the extraction says; None for nothing.
    """

    def __init__(self, files: Mapping[str, Path], duration: float | None = None) -> None:
        self.media = MediaServer(files)
        self.files = files
        self.duration = duration
        self.num_extractions = 0
        self.more: dict[str, Any] = {}

    def __enter__(self) -> TwoStreams:
        self.media.__enter__()
        outer = self

        class Watch(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer.num_extractions += 1
                body = json.dumps(outer.info()).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._watch = ThreadingHTTPServer(("127.0.0.1", 0), Watch)
        self._thread = threading.Thread(target=self._watch.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.shutdown()
        self._watch.server_close()
        self._thread.join()
        self.media.__exit__(None, None, None)

    @property
    def watch(self) -> str:
        """Where the extractor asks."""
        return f"http://127.0.0.1:{self._watch.server_address[1]}/"

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())

    def info(self) -> dict[str, Any]:
        formats = []
        for name, path in self.files.items():
            webm = path.suffix == ".webm"
            formats.append(
                {
                    "format_id": name,
                    "url": f"{self.media.url(name)}?secret=signature",
                    "ext": "webm" if webm else {"sound": "m4a"}.get(name, "mp4"),
                    "container": "webm_dash" if webm else f"{'m4a' if name == 'sound' else 'mp4'}_dash",
                    "vcodec": "none" if name == "sound" else "vp9" if webm else "avc1.42c01e",
                    "acodec": "none" if name == "picture" else "opus" if webm else "mp4a.40.2",
                    "filesize": path.stat().st_size,
                    **({} if name == "sound" else {"width": 640, "height": 360}),
                    **self.more,
                }
            )
        given = {"duration": self.duration} if self.duration else {}
        return {"id": VIDEO_ID, "title": "t", "channel_id": "UC-two", "license": "CC BY", "formats": formats, **given}

    def settings(self, **changes: Any) -> FetchSection:
        given = {"yt_dlp_options": QUICK, "whole_below_bytes": 0, **changes}
        return FetchSection(**given)

    def obtain(
        self, into: Path, spans: Sequence[tuple[float, float | None]], **changes: Any
    ) -> list[Obtained | ClipError]:
        """Fetches clips; the log and the count of extractions begin anew."""
        self.media.forget_requests()
        self.num_extractions = 0
        into.mkdir(parents=True, exist_ok=True)
        clips = [ClipRequest(i, f"clip{i}", start, end) for i, (start, end) in enumerate(spans)]
        with stand_in(self.watch):
            found = YouTubeLocation(VIDEO_ID).obtain(clips, into, self.settings(**changes))
        return [found[clip.clip_id] for clip in clips]

    def fetch(self, into: Path, span: tuple[float, float], **changes: Any) -> Obtained:
        (item,) = self.obtain(into, [span], **changes)
        assert isinstance(item, Obtained), item
        return item

    def ranges_asked(self, name: str) -> list[tuple[int, int]]:
        """First and last byte of every range request of a file; what is open ends at -1."""
        texts = [r.range.removeprefix("bytes=").split("-") for r in self.media.requests if r.video_id == name]
        return [
            (int(first or 0), int(last or -1)) for first, last in (t if len(t) == 2 else ("0", "-1") for t in texts)
        ]

    def fail(self, name: str, **fault: Any) -> None:
        self.media.faults[name] = Fault(**fault)


def shown(item: Obtained, span: tuple[float, float]) -> list[tuple[float, bytes]]:
    """Every picture of a span: its time in milliseconds and its pixels."""
    return [
        (round(seconds * 1000), frame.to_ndarray(format="rgb24").tobytes())
        for seconds, frame in clip_pictures(item.path, item.offset_seconds, *span)
    ]


def heard(item: Obtained, span: tuple[float, float]) -> np.ndarray:
    return clip_sound(item.path, item.offset_seconds, *span).samples
