"""Downloads of a video only what its clips need: byte ranges where its files have an index, else a section.

Three ways, each taken when the one before it fails for a reason of its own (no index, no ranges, an index
that lies), never when the server refuses: a 403 is not asked again by another way.

    ranges   head, index and the fragments that cover the clips: two requests a stream
    section  ffmpeg reads the URLs (yt-dlp's `download_ranges`), with a margin and a time limit
    whole    everything
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from valor_data.config import FetchSection
from valor_data.errors import ClipError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.ranges import RangeReader
from valor_data.fetch.section import MARGIN_SECONDS, fetch_section
from valor_data.media.cut import MediaPiece
from valor_data.media.fragment_index import check_run, read_index
from valor_data.media.fragments import FIRST_REQUEST_BYTES, FragmentIndex, IndexRefused
from valor_data.media.join import StreamPiece, held_by, join, start_of
from valor_data.media.span import SOUND_PREROLL_SECONDS

MOST_OF_A_VIDEO = 0.5
"""Share of a video from which all of it is downloaded: fewer requests, and nothing left to be asked for later."""

FRAGMENT_PADDING_SECONDS = 10.0
"""What whole fragments add to a clip, for that share: YouTube's are 5 s of picture and 10 s of sound."""

MAX_PIECE_BYTES = 256 * 2**20
"""Ranges are held in memory; a longer span is downloaded in another way."""

_MAX_INDEX_REQUESTS = 4
_MAX_EXTENSIONS = 3
_NEEDED_AFTER_SECONDS = 0.25
"""What must follow a span: a cut keeps 0.2 s."""

_MAX_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Download:
    """A video to be downloaded, and what for.

    Attributes:
        downloader: the YoutubeDL object that extracted `info`.
        info: the result of the one extraction.
        clips: the clips wanted.
        into: a folder for files.
        settings: thresholds and limits.
        whole: downloads all of the video.
        origin: what is recorded of the video, without URLs.
    """

    downloader: Any
    info: dict[str, Any]
    clips: Sequence[ClipRequest]
    into: Path
    settings: FetchSection
    whole: Callable[[], Path]
    origin: Mapping[str, Any]

    @property
    def formats(self) -> list[dict[str, Any]]:
        """The formats that yt-dlp has chosen: picture and sound, or one with both."""
        return list(self.info.get("requested_formats") or [self.info])


def obtain_pieces(download: Download) -> dict[int, Obtained | ClipError]:
    """Brings what the clips need of a video, in the cheapest way that works.

    Returns:
        For each clip its file; its `origin` says how it came, which span it holds, and how many bytes of
        which formats were moved. Or why there is none.

    Raises:
        ClipError: the same reason for every clip.
    """
    fallbacks: list[str] = []
    for way in ways(download):
        try:
            if way == "ranges":
                return _by_ranges(download)
            if way == "section":
                found = _by_sections(download)
                return {clip_id: _with(item, _told(fallbacks)) for clip_id, item in found.items()}
        except IndexRefused as refusal:
            fallbacks.append(f"{way}: {refusal}")
    path = download.whole()
    origin = {**download.origin, "how": "whole", "size_bytes": path.stat().st_size, **_told(fallbacks)}
    item = Obtained(path=path, offset_seconds=0.0, whole_video=True, in_place=False, origin=origin)
    return {clip.clip_id: item for clip in download.clips}


def ways(download: Download) -> tuple[str, ...]:
    """The ways to try, in order; the last one is always `whole`.

    `auto` takes a video whole up to `fetch.whole_below_bytes`: 8 MB are 80 s of 360p at 0.8 Mbit/s, of which
    a clip of 10 s in whole fragments needs a fifth and more. Below that ranges save less than they cost: two
    requests more, and a video that is asked for again when another clip of it is wanted later.
    """
    choice, info, clips = download.settings.pieces, download.info, download.clips
    if choice == "whole" or any(clip.end is None for clip in clips):
        return ("whole",)
    if choice == "auto":
        size_bytes = sum(_size_bytes(item, info) for item in download.formats)
        if 0 < size_bytes <= download.settings.whole_below_bytes:
            return ("whole",)
        if _needed_seconds(clips) >= MOST_OF_A_VIDEO * float(info.get("duration") or "inf"):
            return ("whole",)
    plain = all(_is_one_file(item) for item in download.formats)
    if choice == "section":
        return ("section", "whole")
    return ("ranges", "section", "whole") if plain else ("section", "whole")


def _size_bytes(item: Mapping[str, Any], info: Mapping[str, Any]) -> float:
    """Size of a format as far as it is known, by its bit rate where nothing else tells; else infinite."""
    told = item.get("filesize") or item.get("filesize_approx")
    if told:
        return float(told)
    rate, duration = item.get("tbr"), info.get("duration")
    return float(rate) * 125 * float(duration) if rate and duration else float("inf")


def _needed_seconds(clips: Sequence[ClipRequest]) -> float:
    """Seconds of the union of the clips, each with what whole fragments add to it."""
    total, reached = 0.0, 0.0
    for clip in sorted(clips, key=lambda clip: clip.start):
        start = max(reached, clip.start - FRAGMENT_PADDING_SECONDS / 2)
        reached = max(start, (clip.end or clip.start) + FRAGMENT_PADDING_SECONDS / 2)
        total += reached - start
    return total


def _is_one_file(item: Mapping[str, Any]) -> bool:
    is_http = str(item.get("url", "")).startswith(("http://", "https://"))
    return is_http and item.get("protocol") in ("http", "https") and not item.get("fragments")


def _with(item: Obtained | ClipError, more: Mapping[str, Any]) -> Obtained | ClipError:
    return replace(item, origin={**item.origin, **more}) if isinstance(item, Obtained) else item


def _told(fallbacks: Sequence[str]) -> dict[str, Any]:
    return {"instead_of": "; ".join(fallbacks)} if fallbacks else {}


# Ranges


@dataclass(slots=True)
class _Stream:
    """One file of the video: its index, and its start time on its own clock."""

    reader: RangeReader
    index: FragmentIndex
    zero: float

    def covering(self, start: float, end: float) -> tuple[int, int]:
        return self.index.covering(start + self.zero, end + self.zero)

    @property
    def end_seconds(self) -> float:
        return self.index.end_seconds - self.zero


def _by_ranges(download: Download) -> dict[int, Obtained | ClipError]:
    _wait_until_available(download.formats)
    streams = [_open_stream(download, number) for number in range(len(download.formats))]
    lasts = max(stream.end_seconds for stream in streams)
    results: dict[int, Obtained | ClipError] = {
        clip.clip_id: _too_late(lasts, clip) for clip in download.clips if clip.start >= lasts
    }
    refusal: ClipError | None = None
    for number, group in enumerate(_groups([c for c in download.clips if c.start < lasts], streams)):
        if refusal is None:
            try:
                piece = _fetch_group(download, streams, group, f"piece{number}")
            except ClipError as error:
                refusal = error
                if not results:
                    raise
        for clip in group:
            if refusal is not None:
                results[clip.clip_id] = refusal
            elif clip.start >= piece.held_end:
                results[clip.clip_id] = _too_late(piece.held_end, clip)
            else:
                results[clip.clip_id] = _piece_obtained(download, piece, "ranges", _moved(streams))
    return results


def _too_late(lasts: float, clip: ClipRequest) -> ClipError:
    return ClipError("short", f"the video lasts {lasts:.2f} s, the clip begins at {clip.start:.2f} s")


def _moved(streams: Sequence[_Stream]) -> dict[str, Any]:
    return {
        "moved_bytes": sum(stream.reader.moved_bytes for stream in streams),
        "num_requests": sum(stream.reader.num_requests for stream in streams),
    }


def _wait_until_available(formats: Sequence[Mapping[str, Any]]) -> None:
    """The site may ask for a pause before the files; yt-dlp's own downloads honour it too."""
    wait = max(float(item.get("available_at") or 0) for item in formats) - time.time()
    if wait > _MAX_WAIT_SECONDS:
        raise IndexRefused(f"the files are to be asked for in {wait:.0f} s only")
    time.sleep(max(0.0, wait))


def _open_stream(download: Download, number: int) -> _Stream:
    """Reads head and index of one file: one request as a rule."""
    item = download.formats[number]
    reader = RangeReader(download.downloader, item["url"], item.get("http_headers") or {})
    head = reader.read(0, FIRST_REQUEST_BYTES)
    tail: tuple[int, bytes] | None = None
    for _ in range(_MAX_INDEX_REQUESTS):
        found = read_index(head, reader.size_bytes, tail)
        if isinstance(found, FragmentIndex):
            first_bytes = head[found.fragments[0].start_byte :]
            zero = start_of(found.head, first_bytes, download.into / f"head{number}")
            return _Stream(reader, found, zero)
        data = reader.read(found.start, found.end)
        if found.start == len(head):
            head += data
        else:
            tail = (found.start, data)
    raise IndexRefused(f"the index is not complete after {_MAX_INDEX_REQUESTS} requests")


def _groups(clips: Sequence[ClipRequest], streams: Sequence[_Stream]) -> list[list[ClipRequest]]:
    """Clips whose fragments overlap or touch in a file share requests."""
    groups: list[list[ClipRequest]] = []
    reached = [-1] * len(streams)
    for clip in sorted(clips, key=lambda clip: (clip.start, clip.clip_id)):
        runs = [stream.covering(clip.start, clip.end or clip.start) for stream in streams]
        if groups and any(first <= after for (first, _), after in zip(runs, reached, strict=True)):
            groups[-1].append(clip)
        else:
            groups.append([clip])
        reached = [max(after, before) for (_, after), before in zip(runs, reached, strict=True)]
    return groups


def _fetch_group(download: Download, streams: Sequence[_Stream], group: Sequence[ClipRequest], stem: str) -> MediaPiece:
    start, end = group[0].start, max(clip.end or clip.start for clip in group)
    runs = [stream.covering(start, end) for stream in streams]
    ranges = [stream.index.byte_range(*run) for stream, run in zip(streams, runs, strict=True)]
    num_bytes = sum(after - first for first, after in ranges)
    if num_bytes > min(MAX_PIECE_BYTES, download.settings.max_video_bytes):
        raise IndexRefused(f"a piece of {num_bytes} bytes")
    pieces: list[StreamPiece] = []
    try:
        for number, (stream, run) in enumerate(zip(streams, runs, strict=True)):
            path = download.into / f"{stem}.{number}.{stream.index.container}"
            pieces.append(StreamPiece(path, stream.zero))
            _fetch_run(stream, run, (start, end), pieces[-1])
        return join(pieces, download.into, stem)
    finally:
        for piece in pieces:
            piece.path.unlink(missing_ok=True)


def _fetch_run(stream: _Stream, run: tuple[int, int], span: tuple[float, float], piece: StreamPiece) -> None:
    """Writes head and fragments to a file that covers the span; adds fragments when the index was a little off."""
    first, after = run
    body = stream.reader.read(*stream.index.byte_range(first, after))
    for _ in range(_MAX_EXTENSIONS):
        check_run(stream.index, body)
        piece.path.write_bytes(stream.index.head + body)
        held_start, held_end = held_by(piece)
        if first > 0 and held_start > span[0] - SOUND_PREROLL_SECONDS:
            first -= 1
            body = stream.reader.read(*stream.index.byte_range(first, first + 1)) + body
        elif after < len(stream.index.fragments) and held_end < span[1] + _NEEDED_AFTER_SECONDS:
            after += 1
            body += stream.reader.read(*stream.index.byte_range(after - 1, after))
        else:
            return
    raise IndexRefused("the fragments do not lie at the times that the index says")


# Sections


def _by_sections(download: Download) -> dict[int, Obtained | ClipError]:
    results: dict[int, Obtained | ClipError] = {}
    groups: list[list[ClipRequest]] = []
    reached = float("-inf")
    for clip in sorted(download.clips, key=lambda clip: (clip.start, clip.clip_id)):
        if clip.start >= float(download.info.get("duration") or "inf") + 1:
            raise IndexRefused("a clip begins behind the end that the site tells")
        if clip.start - MARGIN_SECONDS <= reached:
            groups[-1].append(clip)
        else:
            groups.append([clip])
        reached = max(reached, (clip.end or clip.start) + MARGIN_SECONDS)
    for number, group in enumerate(groups):
        span = group[0].start, max(clip.end or clip.start for clip in group)
        piece = fetch_section(download.downloader, download.info, span, download.into, f"section{number}")
        results |= {clip.clip_id: _piece_obtained(download, piece, "section", {}) for clip in group}
    return results


def _piece_obtained(download: Download, piece: MediaPiece, how: str, moved: Mapping[str, Any]) -> Obtained:
    formats = [
        {"format_id": str(item.get("format_id", "")), "size_bytes": item.get("filesize") or item.get("filesize_approx")}
        for item in download.formats
    ]
    held = [round(piece.held_start, 3), round(piece.held_end, 3)]
    return Obtained(
        path=piece.path,
        offset_seconds=piece.offset_seconds,
        whole_video=False,
        in_place=False,
        origin={**download.origin, "how": how, "held": held, "formats": formats, **moved},
        is_piece=True,
    )
