"""What yt-dlp and the operating system raise, and the reason it must become. The texts are real ones."""

from __future__ import annotations

import errno
import io
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, SSLError, TransportError
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnavailableVideoError,
    UserNotLive,
)

from valor_data.errors import REASONS, ClipError, ReasonClass, Status
from valor_data.fetch.reasons import clean_text, reason_of

ID = "dQw4w9WgXcQ"

YOUTUBE_SAYS = [
    ("Private video. Sign in if you've been granted access to this video", "private"),
    ("This video is private", "private"),
    ("Video unavailable. This video has been removed by the uploader", "gone"),
    ("This video has been removed by the uploader", "gone"),
    (
        "Video unavailable. This video is no longer available because the YouTube account associated with this "
        "video has been terminated.",
        "gone",
    ),
    ("Video unavailable", "gone"),
    ("This video is unavailable", "gone"),
    ("This video does not exist", "gone"),
    (
        "Video unavailable. This video is no longer available due to a copyright claim by Someone & Sons",
        "copyright",
    ),
    (
        "Video unavailable. This video contains content from SME, who has blocked it on copyright grounds",
        "copyright",
    ),
    ("This video has been removed for violating YouTube's Terms of Service", "copyright"),
    ("This video has been removed for violating YouTube’s policy on spam", "copyright"),
    (
        "Video unavailable. This video contains content from UMG, who has blocked it in your country on "
        "copyright grounds",
        "geo",
    ),
    ("Video unavailable. The uploader has not made this video available in your country", "geo"),
    (
        "Sign in to confirm your age. This video may be inappropriate for some users. Use --cookies-from-browser",
        "age",
    ),
    ("This video is age-restricted and only available on YouTube", "age"),
    (
        "Join this channel to get access to members-only content like this video, and other exclusive perks.",
        "members",
    ),
    ("This video is available to this channel's members on level: Gold (or any higher level)", "members"),
    ("This video requires payment to watch.", "members"),
    ("This video is only available to Music Premium members", "members"),
    ("This video is DRM protected", "drm"),
    ("Premieres in 3 hours", "live"),
    ("This live event will begin in 5 days.", "live"),
    ("This live stream recording is not available.", "live"),
    ("Requested format is not available. Use --list-formats for a list of available formats", "format_missing"),
    ("No video formats found!", "format_missing"),
    (
        "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the authentication.",
        "bot_check",
    ),
    ("Sign in to confirm you're not a bot. This helps protect our community.", "bot_check"),
    (
        "Video unavailable. This content isn't available, try again later. The current session has been "
        "rate-limited by YouTube for up to an hour.",
        "session_limited",
    ),
    ("Video unavailable. This content isn’t available.", "session_limited"),
    ("All player responses are invalid. Your IP is likely being blocked by Youtube", "ip_blocked"),
    ("No supported JavaScript runtime could be found.", "js_runtime"),
    ("Failed to extract any player response; please report this issue", "extractor"),
]


def raised_by_yt_dlp(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """What leaves a real YoutubeDL when its extractor raises `error`, or meets `cause` and names it like `error`."""
    from yt_dlp.extractor.common import InfoExtractor

    class Raises(InfoExtractor):  # type: ignore[misc]
        IE_NAME = "youtube"
        _VALID_URL = r"https://www\.youtube\.com/watch\?v=(?P<id>[\w-]{11})"

        def _real_extract(self, url: str) -> Any:
            if cause is None:
                raise error
            try:
                raise cause
            except type(cause):
                raise ExtractorError(f"{error}: {cause}", expected=True, cause=cause) from cause

    class Silent:
        def debug(self, text: str) -> None: ...

        info = warning = error = debug

    with YoutubeDL({"quiet": True, "logger": Silent(), "cachedir": False}, auto_init=False) as downloader:
        downloader.add_info_extractor(Raises())
        with pytest.raises(BaseException) as caught:
            downloader.extract_info(f"https://www.youtube.com/watch?v={ID}", download=False)
    return caught.value


def http_error(status: int, **headers: str) -> HTTPError:
    return HTTPError(Response(io.BytesIO(b""), "http://127.0.0.1/x", headers, status=status))


@pytest.mark.parametrize(("text", "code"), YOUTUBE_SAYS)
@pytest.mark.parametrize("expected", [True, False])
def test_what_youtube_says(text: str, code: str, expected: bool) -> None:
    error = raised_by_yt_dlp(ExtractorError(text, expected=expected, video_id=ID))
    assert isinstance(error, DownloadError)
    found = reason_of(error)
    assert found.reason == code
    assert found.detail == text, "the raw text is kept, without yt-dlp's decoration"


def test_nothing_that_blames_the_address_is_final() -> None:
    for text, code in YOUTUBE_SAYS:
        if "isn" in text or "bot" in text or "IP" in text:
            assert REASONS[code].reason_class is ReasonClass.ADDRESS, text


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "forbidden"), (403, "forbidden"), (404, "gone"), (410, "gone"), (429, "rate_limited"), (451, "geo"),
     (500, "server_error"), (502, "server_error"), (503, "server_error"), (416, "extractor")],
)  # fmt: skip
def test_a_status_behind_an_extraction(status: int, code: str) -> None:
    """The status is on `exc_info[1]` itself: yt-dlp puts the cause there, not the ExtractorError."""
    cause = http_error(status)
    error = raised_by_yt_dlp(ValueError("Unable to download webpage"), cause)
    assert isinstance(error, DownloadError) and error.exc_info[1] is cause
    assert reason_of(error).reason == code


def test_a_status_that_is_only_in_the_text() -> None:
    """After its retries yt-dlp raises 5xx without any exception behind it."""
    text = "\r[download] Got error: HTTP Error 503: Service Unavailable. Giving up after 3 retries"
    found = reason_of(DownloadError(text, (None, None, None)))
    assert (found.reason, found.detail) == (
        "server_error",
        "HTTP Error 503: Service Unavailable. Giving up after 3 retries",
    )


def test_what_retry_after_says_is_kept() -> None:
    cause = http_error(429, **{"Retry-After": "120"})
    found = reason_of(raised_by_yt_dlp(ValueError("Unable to download webpage"), cause))
    assert found.reason == "rate_limited"
    assert found.detail.startswith("Unable to download webpage: HTTP Error 429")
    assert found.detail.endswith(" (Retry-After: 120)")


def test_geo_restriction_by_class() -> None:
    text = "This video is not available from your location due to geo restriction"
    assert reason_of(raised_by_yt_dlp(GeoRestrictedError(text, countries=["DE"]))).reason == "geo"


def test_a_channel_that_is_not_live() -> None:
    assert reason_of(raised_by_yt_dlp(UserNotLive(video_id=ID))).reason == "live"


@pytest.mark.parametrize(
    "cause",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere/video.mp4.part"),
        PermissionError(errno.EACCES, "Permission denied", "/videos/video.mp4.part"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EROFS, "Read-only file system", "/ro/video"),
    ],
)
def test_an_unavailable_video_error_is_about_this_machines_disk(cause: OSError) -> None:
    try:
        try:
            raise cause
        except OSError as error:
            raise UnavailableVideoError(error) from None
    except UnavailableVideoError as error:
        wrapped = DownloadError(f"ERROR: {error}", sys.exc_info())
    found = reason_of(wrapped)
    assert found.reason == "disk"
    assert REASONS["disk"].status is Status.WAITING
    assert str(cause.strerror) in found.detail


def test_a_folder_that_is_not_there_for_real(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / "none" / "x").write_text("x")
    assert reason_of(caught.value).reason == "disk"


@pytest.mark.parametrize(
    "error",
    [
        TransportError("Unable to connect to proxy"),
        TransportError("[Errno -2] Name or service not known"),
        IncompleteRead(partial=10, expected=100),
        SSLError(ssl.SSLError("certificate verify failed")),
        ContentTooShortError(10, 100),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TimeoutError("The read operation timed out"),
        DownloadError("\r[download] Got error: 1000 bytes read, 50200 more expected", (None, None, None)),
        DownloadError("ERROR: unable to download video data: <urlopen error timed out>", (None, None, None)),
        DownloadError("[youtube] Got error: [Errno 101] Network is unreachable", (None, None, None)),
    ],
)
def test_the_connection(error: BaseException) -> None:
    assert reason_of(error).reason == "network"
    if not isinstance(error, DownloadError):
        assert reason_of(DownloadError(str(error), (type(error), error, None))).reason == "network"


def test_an_empty_body() -> None:
    error = DownloadError("ERROR: \r[download] Got error: Did not get any data blocks", (None, None, None))
    assert reason_of(error).reason == "empty"


def test_a_bug_of_an_extractor_is_tried_again_and_never_final() -> None:
    error = raised_by_yt_dlp(ZeroDivisionError("division by zero"))
    assert (reason_of(error).reason, REASONS["extractor"].status) == ("extractor", Status.WAITING)


def test_no_extractor_for_the_url() -> None:
    downloader = YoutubeDL({"quiet": True}, auto_init=False)
    with pytest.raises(DownloadError) as caught:
        downloader.extract_info("nonsense:1", download=False)
    assert caught.value.exc_info == (None, None, None)
    assert reason_of(caught.value).reason == "extractor"


def test_a_reason_that_is_known_already_passes_through() -> None:
    known = ClipError("not_media", "redirected to another host")
    try:
        raise DownloadError("ERROR: wrapped") from known
    except DownloadError as error:
        assert reason_of(error) is known


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"ERROR: [youtube] {ID}: Private video", "Private video"),
        (f"\x1b[0;31mERROR:\x1b[0m [youtube:tab] -{ID[1:]}: Private video", "Private video"),
        ("ERROR: \r[download] Got error: HTTP Error 403: Forbidden", "HTTP Error 403: Forbidden"),
        ("Private video", "Private video"),
        ("", ""),
    ],
)
def test_decoration_is_stripped(text: str, clean: str) -> None:
    assert clean_text(text) == clean


def test_a_circle_of_causes_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert reason_of(one).reason == "extractor"
