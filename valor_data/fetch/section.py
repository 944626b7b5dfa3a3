"""Downloads a span of a video with ffmpeg, as yt-dlp's `download_ranges` does, within a time limit.

ffmpeg reads the URLs itself: without yt-dlp's retries, and more slowly than a plain download where a site
slows down open-ended requests. So it is second choice, and never waited for long.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from valor_data.errors import ClipError
from valor_data.fetch.reasons import reason_of
from valor_data.media.cut import MediaPiece
from valor_data.media.fragments import IndexRefused
from valor_data.media.join import StreamPiece, held_by
from valor_data.media.open import ACCESS_OPTIONS
from valor_data.media.probe import probe
from valor_data.media.transcode import ffmpeg_path

MARGIN_SECONDS = 3.0
"""Taken on both sides of a span: what ffmpeg copies begins at a key picture and may end a little early."""

FIXED_DEADLINE_SECONDS, DEADLINE_SHARE = 60.0, 4.0
"""A section may take a minute and four times its own length: below real time by far, it is slower than all of
the video would be."""

_TICKS = 7_056_000
"""Ticks a second of what delays a track in the mp4: whole for sound of 44.1 and of 48 kHz. The usual 1000 round."""

_STALL_SECONDS = 20.0
_PROTOCOLS = "http,https,httpproxy,tcp,tls"
_REFUSED = re.compile(r"(?:server returned|http error) (4\d\d[^\n]{0,80})", re.IGNORECASE)
_SHORT_SECONDS = 0.5


def fetch_section(
    downloader: Any, info: dict[str, Any], span: tuple[float, float], into: Path, stem: str
) -> MediaPiece:
    """Downloads `span` with a margin on both sides into one mp4.

    Args:
        downloader: the YoutubeDL object; its settings are changed for the time of the call.
        info: the extraction's result, with `requested_formats`.
        span: first second wanted, and the second after the last.
        into: folder for the file, and for a small program that stands in for ffmpeg.
        stem: the file's name without extension.

    Raises:
        IndexRefused: ffmpeg failed, took too long, or brought less than was asked for.
        ClipError: the server refused ffmpeg's request (`forbidden`, `gone`, `rate_limited`, …).
    """
    duration = float(info.get("duration") or "inf")
    start, end = max(0.0, span[0] - MARGIN_SECONDS), min(duration, span[1] + MARGIN_SECONDS)
    words = into / "ffmpeg.stderr"
    deadline = FIXED_DEADLINE_SECONDS + DEADLINE_SHARE * (end - start)
    formats = info.get("requested_formats") or [info]
    changes = {
        "download_ranges": lambda info, downloader: [{"start_time": start, "end_time": end}],
        "format": "+".join(str(item["format_id"]) for item in formats),
        "merge_output_format": "mp4",
        "outtmpl": {**downloader.params["outtmpl"], "default": str(into / f"{stem}.mp4")},
        "external_downloader_args": {"ffmpeg_i": _input_options(), "ffmpeg_o": ["-movie_timescale", str(_TICKS)]},
    }
    with (
        _stand_in(into, deadline, words) as program,
        _changed(downloader.params, {**changes, "ffmpeg_location": str(program)}),
    ):
        try:
            downloader.process_ie_result(dict(info), download=True)
        except Exception as error:
            _raise_refusal(words)
            named = reason_of(error)
            if named.reason == "disk":
                raise named from error
            raise IndexRefused(f"ffmpeg: {named.detail}") from error
    _raise_refusal(words)
    return _checked(into / f"{stem}.mp4", formats, (span[0], min(end, span[1])))


def _checked(path: Path, formats: Sequence[Mapping[str, Any]], span: tuple[float, float]) -> MediaPiece:
    """The section as a piece; refuses one that lacks a stream or a part of the span."""
    try:
        found = probe(path)
    except ClipError as error:
        raise IndexRefused(f"the section cannot be read: {error}") from error
    wants_video, wants_audio = (any(item.get(name) != "none" for item in formats) for name in ("vcodec", "acodec"))
    if (wants_video and not found.has_video) or (wants_audio and found.audio is None):
        raise IndexRefused("the section lacks the picture or the sound")
    first, last = held_by(StreamPiece(path, 0.0))
    if first > max(_SHORT_SECONDS, span[0]) or last < span[1] - _SHORT_SECONDS:
        raise IndexRefused(f"the section holds {first:.1f} to {last:.1f} s instead of {span[0]:.1f} to {span[1]:.1f} s")
    return MediaPiece(path, "mp4", found.start_time_seconds, first, last, found.size_bytes)


def _input_options() -> list[str]:
    """Before each `-i`: true times, what ffmpeg may open, and how long it waits for the server.

    The times are those of the video, each file's start at 0, as a merge of the whole files has them. Without
    `-copyts` an edit list would hide what lies before the section, and readers of one round to whole pictures.
    """
    return [
        "-copyts", "-start_at_zero", "-loglevel", "warning", "-protocol_whitelist", _PROTOCOLS,
        "-format_whitelist", ACCESS_OPTIONS["format_whitelist"], "-rw_timeout", str(int(_STALL_SECONDS * 1e6)),
    ]  # fmt: skip


def _raise_refusal(words: Path) -> None:
    """What the server said to ffmpeg, which yt-dlp does not see."""
    text = words.read_text(errors="replace") if words.exists() else ""
    match = _REFUSED.search(text)
    if match:
        raise reason_of(OSError(f"HTTP Error {match[1]}"))


@contextlib.contextmanager
def _stand_in(into: Path, deadline_seconds: float, words: Path) -> Iterator[Path]:
    """A program named `ffmpeg`, first on PATH, that becomes ffmpeg with an alarm clock and a place for its words.

    yt-dlp looks for a file of that name, and part of it does not honour `ffmpeg_location`.
    """
    folder = into / "bin"
    folder.mkdir(exist_ok=True)
    code = (
        "import os, signal, sys\n"
        f"os.dup2(os.open({str(words)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)\n"
        f"signal.alarm({max(1, round(deadline_seconds))})\n"
        f"os.execv({str(ffmpeg_path())!r}, ['ffmpeg', *sys.argv[1:]])\n"
    )
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(code)} "$@"\n')
    program.chmod(0o700)
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield program
    finally:
        os.environ["PATH"] = before


@contextlib.contextmanager
def _changed(parameters: dict[str, Any], changes: dict[str, Any]) -> Iterator[None]:
    before = dict(parameters)
    parameters.update(changes)
    try:
        yield
    finally:
        parameters.clear()
        parameters.update(before)
