"""From what yt-dlp and the operating system raise to a reason code.

The table is matched on the lower-cased text after yt-dlp's decoration is stripped, on the HTTP status where
one can be found, and on the exception's class. Two traps it avoids: `UnavailableVideoError` is yt-dlp's
name for a local file error, and "This content isn't available" is a refused session, not a removal.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from valor_data.errors import ClipError, hide_passwords

_DECORATION = re.compile(r"^(?:error:|\r|\[[\w:+.-]+\]|got error:|[\w-]{11}:|\s)+", re.IGNORECASE)
_STATUS_IN_TEXT = re.compile(r"http error (\d{3})", re.IGNORECASE)

_TEXTS: tuple[tuple[str, str], ...] = (
    # the address: before everything that looks like a removal
    (r"sign in to confirm you.re not a bot|not a bot|captcha", "bot_check"),
    (r"this content isn.t available|rate-limited by youtube|try again later", "session_limited"),
    (r"all player responses are invalid|your ip is likely being blocked|ip address has been blocked", "ip_blocked"),
    # the set-up
    (r"no supported javascript runtime|challenge solving failed", "js_runtime"),
    # the video
    (r"private video|video is private", "private"),
    (r"confirm your age|age-restricted|inappropriate for some users", "age"),
    (r"in your country|from your location|geo.?restrict", "geo"),
    (r"copyright|blocked it|violating youtube|terms of service", "copyright"),
    (r"join this channel|members-only|channel.s members|requires payment|requires purchase|premium", "members"),
    (r"\bdrm\b", "drm"),
    (r"live event|premieres in|is live|is offline|not currently live|will begin in", "live"),
    (r"removed by the uploader|account associated with this video has been terminated|video (?:is )?unavailable"
     r"|video is no longer available|has been removed|does not exist", "gone"),
    (r"requested format is not available|no video formats", "format_missing"),
    # the connection
    (r"redirect error that would lead to an infinite loop|redirect loop", "server_error"),
    (r"empty file|did not get any data blocks|downloaded file is empty", "empty"),
    (r"timed out|timeout|connection (?:reset|refused|aborted|broken)|bytes read, \d+ more expected|incompleteread"
     r"|downloaded \d+ bytes, expected"
     r"|name or service not known|temporary failure in name resolution|network is unreachable|remote end closed"
     r"|unable to connect|ssl|transporterror", "network"),
)  # fmt: skip

_STATUSES: dict[int, str] = {401: "forbidden", 403: "forbidden", 404: "gone", 410: "gone", 429: "rate_limited",
                             451: "geo"}  # fmt: skip


def reason_of(error: BaseException) -> ClipError:
    """Names what went wrong while a video was fetched.

    Args:
        error: what yt-dlp, the network stack or the operating system raised.

    Returns:
        A `ClipError` with a code of `errors.REASONS` and the raw text beside it. What is not recognised is
        `extractor`, which is tried again and never believed to be final.
    """
    chain = list(_chain(error))
    raw = clean_text(_best_text(chain))
    for link in chain:
        if isinstance(link, ClipError):
            return link
    text = raw.lower()
    status = http_status(chain)
    if status is None and _is_local(chain):
        return ClipError("disk", raw)
    for pattern, code in _TEXTS:
        if re.search(pattern, text):
            return ClipError(code, raw)
    if status is not None:
        if status in _STATUSES:
            words, seconds = _retry_after(chain)
            return ClipError(_STATUSES[status], raw + words, seconds)
        return ClipError("server_error" if status >= 500 else "extractor", raw)
    return ClipError("network" if _is_network(chain) else "extractor", raw)


def clean_text(text: str) -> str:
    """Strips yt-dlp's decoration (`ERROR: [youtube] <id>: …`), colours, and passwords in URLs from a message."""
    return hide_passwords(_DECORATION.sub("", re.sub(r"\x1b\[[0-9;]*m", "", text)).strip())


def http_status(chain: list[BaseException]) -> int | None:
    """The HTTP status behind an error: from an HTTPError in the chain, else from the text."""
    for link in chain:
        status = getattr(link, "status", None)
        if isinstance(status, int):
            return status
    for link in chain:
        match = _STATUS_IN_TEXT.search(str(link))
        if match:
            return int(match[1])
    return None


def _retry_after(chain: list[BaseException]) -> tuple[str, float | None]:
    """How long the server asks to wait: in its own words, and in seconds (it may name a date)."""
    for link in chain:
        headers = getattr(getattr(link, "response", None), "headers", None) or {}
        words = headers.get("Retry-After")
        if words:
            return f" (Retry-After: {words})", _seconds_of(words)
    return "", None


def _seconds_of(words: str) -> float | None:
    if words.strip().isdigit():
        return float(words)
    try:
        moment = parsedate_to_datetime(words)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything behind it, each once, whatever way yt-dlp and Python have chained them."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        link = todo.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        info = getattr(link, "exc_info", None)
        todo += [info[1] if info else None, getattr(link, "cause", None), link.__cause__, link.__context__]
        todo += getattr(link, "unexpected_errors", ())  # what one of yt-dlp's request handlers raised


def _best_text(chain: list[BaseException]) -> str:
    for link in chain:
        original = getattr(link, "orig_msg", None)
        if isinstance(original, str) and original:
            return original
    return str(chain[0])


def _is_local(chain: list[BaseException]) -> bool:
    """An OSError of this machine's own files, as opposed to one of the network."""
    return any(
        isinstance(link, OSError)
        and not isinstance(link, (ConnectionError, TimeoutError))
        and type(link).__module__ == "builtins"
        and link.errno is not None
        and link.filename is not None
        for link in chain
    ) or any(isinstance(link, OSError) and link.errno in _DISK_ERRNOS for link in chain)


_DISK_ERRNOS = frozenset({28, 122, 30, 27})  # ENOSPC, EDQUOT, EROFS, EFBIG


def _is_network(chain: list[BaseException]) -> bool:
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "TimeoutError", "gaierror", "SSLError"})
