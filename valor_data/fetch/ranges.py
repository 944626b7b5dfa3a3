"""Reads byte ranges of a file behind a URL, through yt-dlp's own HTTP stack: its proxy, cookies and headers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, TransportError

from valor_data.fetch.reasons import reason_of
from valor_data.media.fragments import IndexRefused

MAX_RANGE_BYTES = 10 * 2**20
"""Largest range of one request: YouTube slows down longer ones (yt-dlp's `http_chunk_size` for it)."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_READ_BYTES = 256 * 1024


class _Short(Exception):  # noqa: N818 - never leaves this file
    """The answer ended too early."""


@dataclass(slots=True)
class RangeReader:
    """One file on a server.

    Attributes:
        downloader: the YoutubeDL object whose HTTP stack is used; its `retries` and its pause between them count.
        url: http(s) address of the file.
        headers: sent with each request.
        size_bytes: length of the whole file, once the first answer has told; else 0.
        num_requests: requests made so far.
        moved_bytes: bytes of bodies received so far, those of failed tries included.
    """

    downloader: Any
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    size_bytes: int = 0
    num_requests: int = 0
    moved_bytes: int = 0

    def read(self, start: int, end: int) -> bytes:
        """The bytes `[start, end)` of the file, or as far as it goes.

        Raises:
            IndexRefused: the server gives no ranges, or others than it was asked for.
            ClipError: it refuses (never asked again here), or failed as often as retries are allowed.
        """
        if self.size_bytes:
            end = min(end, self.size_bytes)
        parts = []
        while start < end:
            parts.append(self._read_with_retries(start, min(end, start + MAX_RANGE_BYTES)))
            start += len(parts[-1])
            end = min(end, self.size_bytes)
        return b"".join(parts)

    def _read_with_retries(self, start: int, end: int) -> bytes:
        num_retries = int(self.downloader.params.get("retries") or 0)
        pause = (self.downloader.params.get("retry_sleep_functions") or {}).get("http")
        for retry in range(num_retries + 1):
            try:
                return self._read_once(start, end)
            except (_Short, TransportError, HTTPError) as error:
                if isinstance(error, HTTPError) and error.status < 500:
                    if error.status == 416:
                        raise IndexRefused(f"the server has no bytes {start} to {end}") from error
                    raise reason_of(error) from error
                if retry == num_retries:
                    raise reason_of(error) from error
            except IndexRefused:
                raise
            except Exception as error:  # whatever else the HTTP stack raises: named, not tried again
                raise reason_of(error) from error
            if pause is not None:
                time.sleep(pause(retry))
        raise IndexRefused("no try was allowed")

    def _read_once(self, start: int, end: int) -> bytes:
        wanted = {**self.headers, "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        self.num_requests += 1
        with self.downloader.urlopen(Request(self.url, headers=wanted)) as response:
            if response.status != 206:
                raise IndexRefused(f"the server does not give ranges: it answered {response.status}")
            num_bytes = self._check_answer(response, start, end)
            body = bytearray()
            while len(body) <= num_bytes:
                part = response.read(min(_READ_BYTES, num_bytes + 1 - len(body)))
                self.moved_bytes += len(part)
                body += part
                if not part:
                    break
        if len(body) < num_bytes:
            raise _Short(f"{len(body)} bytes read, {num_bytes - len(body)} more expected")
        if len(body) > num_bytes:
            raise IndexRefused(f"the server sent more than the {num_bytes} bytes it announced")
        return bytes(body)

    def _check_answer(self, response: Any, start: int, end: int) -> int:
        """How many bytes will come; refuses an answer to another question."""
        told = response.headers.get("Content-Range") or ""
        match = _CONTENT_RANGE.fullmatch(told.strip())
        if match is None or (response.headers.get("Content-Encoding") or "identity") != "identity":
            raise IndexRefused(f"the server does not say which bytes it gives: {told!r}")
        first, last, size_bytes = (int(number) for number in match.groups())
        if (first, last) != (start, min(end, size_bytes) - 1) or self.size_bytes not in (0, size_bytes):
            raise IndexRefused(f"asked for bytes {start} to {end - 1}, the server gives {told!r}")
        self.size_bytes = size_bytes
        return last + 1 - first
