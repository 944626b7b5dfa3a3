"""Videos from the web, through yt-dlp as a library: YouTube, and single files behind plain URLs.

yt-dlp's defaults as a library are not those of its command line (no retries, holes in fragmented downloads
accepted); what is set here and why stands beside each parameter.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yt_dlp
from yt_dlp.networking._helper import make_ssl_context
from yt_dlp.networking._urllib import UrllibRH

from valor_data.config import FetchSection
from valor_data.errors import ClipError, ConfigError, hide_passwords
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.javascript import find_runtime
from valor_data.fetch.pieces import Download, obtain_pieces
from valor_data.fetch.reasons import reason_of
from valor_data.media.transcode import ffmpeg_path

SOCKET_TIMEOUT_SECONDS = 20.0
RETRIES = 3
"""Tries again after a failure of the server or the connection; a 403, 404 or 429 is never tried again in place."""

_ORIGIN_FIELDS = ("id", "extractor", "format_id", "ext", "duration", "channel_id", "uploader_id", "license", "language")


@dataclass(frozen=True, slots=True)
class YouTubeLocation:
    """A video of YouTube, by its id."""

    video_id: str

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """One extraction and one download, shared by every clip of the video."""
        with open_downloader(into, settings, _youtube_parameters()) as downloader:
            info = self._extract(downloader)
            _refuse_by_info(info, settings)

            def whole() -> Path:
                return _download(downloader, info, into, settings)

            return obtain_pieces(Download(downloader, info, clips, into, settings, whole, _origin(info)))

    def probe(self, into: Path, settings: FetchSection) -> None:
        """One extraction, and nothing more."""
        with open_downloader(into, settings, _youtube_parameters()) as downloader:
            self._extract(downloader)

    def _extract(self, downloader: Any) -> dict[str, Any]:
        yt_dlp.plugins.load_all_plugins()
        downloader.add_info_extractor(yt_dlp.extractor.get_info_extractor("Youtube")())
        url = f"https://www.youtube.com/watch?v={self.video_id}"
        info: dict[str, Any] = _call(downloader.extract_info, url, download=False)
        return info


@dataclass(frozen=True, slots=True)
class UrlLocation:
    """One media file behind an http(s) URL. Only that file, from that host: no page, playlist or other host."""

    url: str
    video_id: str

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """One GET, without an extractor: what the URL gives is taken as the file, and probed later."""
        info = {
            "_type": "video",
            "id": "video",
            "title": "video",
            "url": self.url,
            "ext": "unknown_video",  # what it is, the probe will tell: an extension would mislead it
            "extractor": "url",
            "extractor_key": "Url",
            "webpage_url": self.url,
        }
        with open_downloader(into, settings) as downloader:
            stay_on_host(downloader)
            return _obtained(clips, _download(downloader, info, into, settings), info)

    def probe(self, into: Path, settings: FetchSection) -> None:
        """A plain server is not probed: it says itself when it wants to be left alone."""


@dataclass(frozen=True, slots=True)
class YouTubeSource:
    """YouTube, by the ids of the manifest."""

    name: str = "youtube"
    is_watched: bool = True

    def find(self, video_id: str, url: str | None, clips: Sequence[ClipRequest]) -> YouTubeLocation:
        """The video's address; nothing is asked yet."""
        return YouTubeLocation(video_id)


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A URL template with `{video_id}`."""

    template: str
    name: str = "template"
    is_watched: bool = False

    def __post_init__(self) -> None:
        _check_url(self.template.replace("{video_id}", "x"), self.template)
        if hide_passwords(self.template) != self.template:
            raise ConfigError(
                f"source {hide_passwords(self.template)!r}: a name or password in the address would be kept with the "
                'run; give it as an option: yt_dlp_options = ["--add-headers", "Authorization: Basic …"]'
            )

    def find(self, video_id: str, url: str | None, clips: Sequence[ClipRequest]) -> UrlLocation:
        """The template with the video's id, percent-encoded."""
        return UrlLocation(self.template.replace("{video_id}", quote(video_id, safe="-_.~")), video_id)


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """The URL column of the manifest."""

    name: str = "column"
    is_watched: bool = False

    def find(self, video_id: str, url: str | None, clips: Sequence[ClipRequest]) -> UrlLocation:
        """The URL that the annotation gives.

        Raises:
            ClipError: the manifest has no usable URL for the video.
        """
        if not url:
            raise ClipError("configuration", "the manifest has no URL for this video (manifest --url-field)")
        try:
            _check_url(url, url)
        except ConfigError as error:
            raise ClipError("not_media", str(error)) from None
        return UrlLocation(url, video_id)


def _check_url(url: str, shown: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"source {hide_passwords(shown)!r}: expected an http:// or https:// address with a host")


@cache
def _certificates(verify: bool, legacy: bool, use_certifi: bool) -> Any:
    """What servers are trusted by; once a worker: reading it costs more than a small file's download."""
    return make_ssl_context(verify=verify, legacy_support=legacy, use_certifi=use_certifi)


class _SameHostRH(UrllibRH):  # type: ignore[misc]
    """yt-dlp's own HTTP stack, with redirects to another host, port or scheme refused."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")

    def _make_sslcontext(self, legacy_ssl_support: bool | None = None) -> Any:
        if self._client_cert:
            return super()._make_sslcontext(legacy_ssl_support)
        legacy = self.legacy_ssl_support if legacy_ssl_support is None else legacy_ssl_support
        return _certificates(self.verify, bool(legacy), not self.prefer_system_certs)

    def _create_instance(self, *args: Any, **kwargs: Any) -> Any:
        opener = super()._create_instance(*args, **kwargs)
        for handler in opener.handlers:
            if isinstance(handler, urllib.request.HTTPRedirectHandler):
                follow = handler.redirect_request

                def redirect(
                    req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str, follow: Any = follow
                ) -> Any:
                    if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
                        raise ClipError("not_media", f"redirected to another host: {newurl}")
                    return follow(req, fp, code, msg, headers, newurl)

                handler.redirect_request = redirect  # type: ignore[method-assign]
        return opener


def stay_on_host(downloader: Any) -> None:
    """Makes it refuse redirects to another host."""
    downloader._request_director = downloader.build_request_director([_SameHostRH])


class _Quiet:
    """Keeps yt-dlp's warnings for the detail of an outcome; prints nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, text: str) -> None:
        pass

    info = debug

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def error(self, text: str) -> None:
        pass


@contextlib.contextmanager
def open_downloader(into: Path, settings: FetchSection, more: Mapping[str, Any] | None = None) -> Any:
    """yt-dlp as a context manager, with our parameters, the user's, and those of the source."""
    parameters: dict[str, Any] = {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _Quiet(),
        "noplaylist": True,
        "allow_unplayable_formats": False,
        "format": _format(settings.max_short_side_px),
        "format_sort": [f"res:{settings.max_short_side_px}", "vcodec:h264", "acodec:aac", "+size"],
        "merge_output_format": "mp4/mkv",
        "outtmpl": {"default": str(into / "video.%(ext)s")},
        "paths": {"home": str(into), "temp": str(into)},
        "cachedir": False,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        # As a library yt-dlp tries once and accepts a file with holes.
        "retries": RETRIES,
        "fragment_retries": RETRIES,
        "extractor_retries": 2,
        "file_access_retries": 0,
        "skip_unavailable_fragments": False,
        # Between tries it does not wait unless told how long.
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor"), _pause_seconds),
        "max_filesize": settings.max_video_bytes,
        "ffmpeg_location": str(ffmpeg_path()),
        "updatetime": False,
        "overwrites": True,
    }
    if settings.proxies:
        parameters["proxy"] = settings.proxies[0]
    if settings.cookies:
        # yt-dlp rewrites its cookie file when it ends: each call gets a copy.
        parameters["cookiefile"] = str(shutil.copy(settings.cookies, into / "cookies.txt"))
    parameters |= dict(more or {}) | user_parameters(settings)
    if settings.player_clients:
        given = parameters.get("extractor_args", {})
        clients = {"player_client": list(settings.player_clients)}
        parameters["extractor_args"] = {**given, "youtube": {**given.get("youtube", {}), **clients}}
    downloader = yt_dlp.YoutubeDL(parameters, auto_init=False)
    try:
        yield downloader
    finally:
        # Not yt-dlp's own close: it would write the cookie file of a folder that is going away.
        with contextlib.suppress(OSError):
            downloader.close()


def _youtube_parameters() -> dict[str, Any]:
    """What only YouTube needs: the runtime that solves its challenges, wherever pip put it."""
    runtime = find_runtime()
    return {} if runtime is None else {"js_runtimes": {runtime[0]: {"path": runtime[1]}}}


_OURS = frozenset({"outtmpl", "paths", "quiet", "logger", "noprogress", "cookiefile", "ignoreerrors"})
"""What a user's own options may not change: where files go, what is printed, how errors come back."""


def user_parameters(settings: FetchSection) -> dict[str, Any]:
    """The user's own yt-dlp options, as parameters of the library.

    Raises:
        ConfigError: yt-dlp does not know an option; its own words are in the message.
    """
    given = [part for text in settings.extractor_args for part in ("--extractor-args", text)]
    given += settings.yt_dlp_options
    return dict(_parsed(tuple(given))) if given else {}


@cache
def _parsed(given: tuple[str, ...]) -> dict[str, Any]:
    """Options of yt-dlp's command line as parameters; once a worker: it costs as much as an extraction."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            chosen = yt_dlp.parse_options(list(given)).ydl_opts
        except SystemExit:
            words = said.getvalue().strip().splitlines()[-1:]
            raise ConfigError(f"fetch.yt_dlp_options {list(given)}: {' '.join(words)}") from None
    usual = yt_dlp.parse_options([]).ydl_opts
    return {name: value for name, value in chosen.items() if value != usual.get(name) and name not in _OURS}


def _format(max_short_side_px: int) -> str:
    """One chain of formats, bounded from above; the short side is bounded by `format_sort` for portrait videos."""
    bound = f"[height<={max_short_side_px}]"
    portrait = f"[width<={max_short_side_px}]"
    return f"bv*{bound}+ba/bv*{portrait}+ba/b{bound}/b{portrait}/bv*{bound}/bv*{portrait}/b[height<=?0]/wv*+ba/w"


def _pause_seconds(n: int) -> float:
    """Exponential with jitter, at most 30 s."""
    return float(min(30.0, 2.0**n * 0.5) * random.uniform(0.7, 1.3))  # noqa: S311 - no secret hangs on it


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Runs yt-dlp and names whatever it raises; its extractors may raise anything."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise reason_of(error) from error


def _refuse_by_info(info: Mapping[str, Any], settings: FetchSection) -> None:
    """What the extraction alone tells: playlists, live streams, videos that are too long."""
    if info.get("_type", "video") != "video":
        raise ClipError("not_media", f"expected one video, found {info.get('_type')}")
    if info.get("live_status") in ("is_live", "is_upcoming", "post_live") or info.get("is_live"):
        raise ClipError("live", str(info.get("live_status") or "is_live"))
    if (info.get("duration") or 0) > settings.max_video_seconds:
        raise ClipError(
            "too_long", f"{info['duration']} s; fetch.max_video_seconds is {settings.max_video_seconds:.0f}"
        )


def _download(downloader: Any, info: dict[str, Any], into: Path, settings: FetchSection) -> Path:
    _call(downloader.process_ie_result, info, download=True)
    files = [path for path in into.glob("video.*") if path.suffix not in (".part", ".ytdl")]
    if len(files) != 1:
        names = ", ".join(sorted(path.name for path in into.iterdir())) or "none"
        if not files:
            # A file beyond max_filesize is left out without an error.
            raise ClipError("too_large", f"nothing was saved; fetch.max_video_bytes is {settings.max_video_bytes}")
        raise ClipError("extractor", f"expected one downloaded file, found {names}")
    if files[0].stat().st_size == 0:
        raise ClipError("empty", "the server answered with no bytes")
    return files[0]


def _obtained(clips: Sequence[ClipRequest], path: Path, info: Mapping[str, Any]) -> dict[int, Obtained | ClipError]:
    item = Obtained(path=path, offset_seconds=0.0, whole_video=True, in_place=False, origin=_origin(info))
    return {clip.clip_id: item for clip in clips}


def _origin(info: Mapping[str, Any]) -> dict[str, Any]:
    origin = {name: info[name] for name in _ORIGIN_FIELDS if info.get(name) is not None and name != "id"}
    return {**origin, "yt_dlp": yt_dlp.version.__version__}
