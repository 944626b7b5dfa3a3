"""Fetching from a URL: one GET a video, from one host, and a reason for whatever goes wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from small_media import make_video

from valor_data.config import FetchSection
from valor_data.demo import Fault, MediaServer
from valor_data.errors import ClipError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch import web as web_module
from valor_data.fetch.web import TemplateSource, UrlLocation, YouTubeSource

ID = "-fake_video"
CLIPS = (ClipRequest(1, "a", 0.0, 1.0), ClipRequest(2, "b", 1.0, 2.0))
PAGE = b"<!doctype html><html><body><video src='http://127.0.0.1:1/x.mp4'></video></body></html>"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


@pytest.fixture
def server(video: Path) -> Iterator[MediaServer]:
    with MediaServer({ID: video}) as running:
        yield running


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once: how long it waits is another test."""
    monkeypatch.setattr(web_module, "_pause_seconds", lambda n: 0.01)


def obtain(server: MediaServer, into: Path, settings: FetchSection | None = None) -> dict[int, Obtained]:
    location = TemplateSource(server.url_template).find(ID, None, CLIPS)
    result = location.obtain(CLIPS, into, settings or FetchSection())
    assert all(isinstance(item, Obtained) for item in result.values())
    return result  # type: ignore[return-value]


def refusal(server: MediaServer, into: Path, settings: FetchSection | None = None) -> ClipError:
    with pytest.raises(ClipError) as error:
        obtain(server, into, settings)
    return error.value


def test_one_get_for_all_clips_of_a_video(server: MediaServer, video: Path, tmp_path: Path) -> None:
    result = obtain(server, tmp_path)
    assert sorted(result) == [1, 2]
    item = result[1]
    assert result[2] == item
    assert item.path.read_bytes() == video.read_bytes()
    assert (item.path.parent, item.offset_seconds, item.whole_video, item.in_place) == (tmp_path, 0.0, True, False)
    assert item.origin["extractor"] == "url" and item.origin["yt_dlp"]
    assert "url" not in item.origin, "an address may hold a secret"
    assert [(r.method, r.range, r.status) for r in server.requests] == [("GET", "", 200)]


@pytest.mark.parametrize(
    ("status", "reason", "requests"),
    [(404, "gone", 1), (410, "gone", 1), (403, "forbidden", 1), (401, "forbidden", 1), (451, "geo", 1),
     (429, "rate_limited", 1), (500, "server_error", 4), (503, "server_error", 4)],
)  # fmt: skip
def test_statuses(server: MediaServer, tmp_path: Path, no_pause: None, status: int, reason: str, requests: int) -> None:
    server.faults[ID] = Fault(status=status, headers={"Retry-After": "77"} if status == 429 else {})
    found = refusal(server, tmp_path)
    assert found.reason == reason
    assert f"HTTP Error {status}" in found.detail
    assert ("(Retry-After: 77)" in found.detail) == (status == 429)
    assert server.count(ID) == server.count(ID, "GET") == requests


def test_an_id_that_is_not_there(server: MediaServer, tmp_path: Path) -> None:
    location = UrlLocation(server.url("nothing"), "nothing")
    with pytest.raises(ClipError, match=r"gone: .*HTTP Error 404"):
        location.obtain(CLIPS, tmp_path, FetchSection())


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_recovers(server: MediaServer, video: Path, tmp_path: Path, no_pause: None, status: int) -> None:
    server.faults[ID] = Fault(status=status, times=2)
    assert obtain(server, tmp_path)[1].path.read_bytes() == video.read_bytes()
    assert server.count(ID) == 3


def test_between_tries_it_waits(server: MediaServer, tmp_path: Path) -> None:
    server.faults[ID] = Fault(status=503, times=1)
    began = time.monotonic()
    obtain(server, tmp_path)
    assert time.monotonic() - began >= 0.3
    pauses = [web_module._pause_seconds(n) for n in range(12)]
    assert all(0.3 <= pause <= 39 for pause in pauses) and pauses[8] > pauses[2] > 1


def test_a_page_is_taken_as_it_is_and_nothing_in_it_is_followed(server: MediaServer, tmp_path: Path) -> None:
    server.faults[ID] = Fault(body=PAGE)
    assert obtain(server, tmp_path)[1].path.read_bytes() == PAGE
    assert server.count() == 1


def test_a_body_that_breaks_off_and_goes_on(server: MediaServer, video: Path, tmp_path: Path, no_pause: None) -> None:
    server.faults[ID] = Fault(cut_after_bytes=1000, times=2)
    assert obtain(server, tmp_path)[1].path.read_bytes() == video.read_bytes()
    assert server.requests[0].range == ""
    assert server.count() == 3


def test_a_body_that_always_breaks_off(server: MediaServer, tmp_path: Path, no_pause: None) -> None:
    server.faults[ID] = Fault(body=b"x" * 5000, cut_after_bytes=1000)
    found = refusal(server, tmp_path)
    assert found.reason == "network"
    assert found.detail == "Downloaded 1000 bytes, expected 5000 bytes. Giving up after 3 retries"


def test_an_empty_body(server: MediaServer, tmp_path: Path, no_pause: None) -> None:
    server.faults[ID] = Fault(body=b"")
    assert refusal(server, tmp_path).reason == "empty"


@pytest.mark.parametrize("there", ["the file", "nothing"])
def test_a_redirect_to_another_port_is_not_followed(
    server: MediaServer, video: Path, tmp_path: Path, there: str
) -> None:
    with MediaServer({ID: video} if there == "the file" else {}) as other:
        server.faults[ID] = Fault(redirect_to=other.url_template)
        found = refusal(server, tmp_path)
        assert found.reason == "not_media"
        assert found.detail == f"redirected to another host: {other.url(ID)}"
        assert (server.count(), other.requests) == (1, [])


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", "extractor"),  # Python's own opener refuses it first, and says only "302"
        ("ftp://127.0.0.1/x", "not_media"),
        ("https://127.0.0.1/x", "not_media"),
        ("//127.0.0.2/x", "not_media"),
    ],
)
def test_a_redirect_to_another_scheme_or_host(server: MediaServer, tmp_path: Path, target: str, reason: str) -> None:
    server.faults[ID] = Fault(redirect_to=target)
    found = refusal(server, tmp_path)
    assert found.reason == reason
    assert server.count() == 1
    assert not list(tmp_path.glob("video.*"))


def test_a_redirect_on_the_same_host(server: MediaServer, video: Path, tmp_path: Path) -> None:
    server.faults["moved"] = Fault(redirect_to=f"/v/{ID}.mp4")
    location = UrlLocation(server.url("moved"), "moved")
    item = location.obtain(CLIPS, tmp_path, FetchSection())[1]
    assert isinstance(item, Obtained)
    assert item.path.read_bytes() == video.read_bytes()
    assert [r.status for r in server.requests] == [302, 200]


def test_redirects_in_a_circle_end(server: MediaServer, tmp_path: Path, no_pause: None) -> None:
    server.faults[ID] = Fault(redirect_to=server.url_template)
    with pytest.raises(ClipError):
        obtain(server, tmp_path)
    assert server.count() < 60


def test_nobody_is_there(video: Path, tmp_path: Path, no_pause: None) -> None:
    with MediaServer({ID: video}) as server:
        location = UrlLocation(server.url(ID), ID)
    with pytest.raises(ClipError, match=r"network: .*refused"):
        location.obtain(CLIPS, tmp_path, FetchSection())


def test_a_slow_server_is_waited_for(server: MediaServer, video: Path, tmp_path: Path) -> None:
    server.faults[ID] = Fault(delay_seconds=0.3, bytes_per_second=2 * video.stat().st_size)
    assert obtain(server, tmp_path)[1].path.read_bytes() == video.read_bytes()


def test_a_server_that_does_not_answer(
    server: MediaServer, tmp_path: Path, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "SOCKET_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(web_module, "RETRIES", 1)
    server.faults[ID] = Fault(delay_seconds=1.0)
    found = refusal(server, tmp_path)
    assert (found.reason, "timed out" in found.detail) == ("network", True)


def test_a_file_that_is_too_large(server: MediaServer, video: Path, tmp_path: Path) -> None:
    found = refusal(server, tmp_path, FetchSection(max_video_bytes=video.stat().st_size - 1))
    assert found.reason == "too_large"
    assert f"fetch.max_video_bytes is {video.stat().st_size - 1}" in found.detail
    (tmp_path / "again").mkdir()
    obtain(server, tmp_path / "again", FetchSection(max_video_bytes=video.stat().st_size))


def test_cookies_are_copied_never_written_back(server: MediaServer, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t2147483647\tname\tvalue\n")
    before = mine.read_bytes()
    (tmp_path / "into").mkdir()
    server.faults[ID] = Fault(headers={"Set-Cookie": "other=1; Path=/"})
    obtain(server, tmp_path / "into", FetchSection(cookies=str(mine)))
    assert mine.read_bytes() == before


def test_nothing_is_printed(server: MediaServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    obtain(server, tmp_path)
    server.faults[ID] = Fault(status=404)
    refusal(server, tmp_path)
    assert capfd.readouterr() == ("", "")


# -- YouTube, by an extractor that takes its place

FAKE_YOUTUBE = """
from yt_dlp.extractor.youtube import YoutubeIE
from yt_dlp.utils import ExtractorError, GeoRestrictedError

import youtube_script


class FakeYoutubeIE(YoutubeIE, plugin_name="valor-data-test"):
    def _real_extract(self, url):
        youtube_script.CALLS.append(self._match_id(url))
        answer = youtube_script.ANSWER
        if isinstance(answer, Exception):
            raise answer
        return {"id": self._match_id(url), "title": "t", **answer}
"""


class Script:
    """What the stand-in for YouTube answers, and how often it was asked."""

    ANSWER: Any = None
    CALLS: ClassVar[list[str]] = []


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "yt_dlp_plugins" / "extractor").mkdir(parents=True)
    (folder / "yt_dlp_plugins" / "extractor" / "fake.py").write_text(FAKE_YOUTUBE)
    sys.path.insert(0, str(folder))
    sys.modules["youtube_script"] = Script  # type: ignore[assignment]
    import yt_dlp

    yt_dlp.plugins.load_all_plugins()
    yield
    sys.path.remove(str(folder))
    del sys.modules["youtube_script"]


@pytest.fixture
def youtube(plugin: None) -> Iterator[type[Script]]:
    Script.CALLS = []
    yield Script


def from_youtube(into: Path, settings: FetchSection | None = None) -> dict[int, Obtained | ClipError]:
    return YouTubeSource().find(ID, None, CLIPS).obtain(CLIPS, into, settings or FetchSection())


def formats(server: MediaServer, *heights: int) -> dict[str, Any]:
    url = server.url(ID)
    return {
        "formats": [
            {"format_id": f"{h}p", "url": url, "ext": "mp4", "height": h, "width": h * 16 // 9,
             "vcodec": "avc1", "acodec": "mp4a"}
            for h in heights
        ]
    }  # fmt: skip


def test_one_extraction_and_one_download(
    youtube: type[Script], server: MediaServer, video: Path, tmp_path: Path
) -> None:
    youtube.ANSWER = {
        **formats(server, 144, 360, 1080),
        "duration": 2,
        "license": "Creative Commons",
        "channel_id": "UC1",
    }
    item = from_youtube(tmp_path)[2]
    assert isinstance(item, Obtained)
    assert item.path.read_bytes() == video.read_bytes()
    assert youtube.CALLS == [ID]
    assert [r.method for r in server.requests] == ["GET"]
    told = {name: item.origin[name] for name in ("format_id", "license", "channel_id")}
    assert told == {"format_id": "360p", "license": "Creative Commons", "channel_id": "UC1"}
    assert item.origin["extractor"].startswith("youtube")


@pytest.mark.parametrize(("bound", "taken"), [(144, "144p"), (400, "360p"), (2000, "1080p")])
def test_the_format_is_bounded_from_above(
    youtube: type[Script], server: MediaServer, tmp_path: Path, bound: int, taken: str
) -> None:
    youtube.ANSWER = formats(server, 144, 360, 1080)
    item = from_youtube(tmp_path, FetchSection(max_short_side_px=bound))[1]
    assert isinstance(item, Obtained) and item.origin["format_id"] == taken


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ({"live_status": "is_live"}, "live", "is_live"),
        ({"live_status": "is_upcoming"}, "live", "is_upcoming"),
        ({"duration": 15_000}, "too_long", "15000 s; fetch.max_video_seconds is 14400"),
    ],
)
def test_what_the_extraction_alone_refuses(
    youtube: type[Script], server: MediaServer, tmp_path: Path, answer: dict[str, Any], reason: str, words: str
) -> None:
    youtube.ANSWER = {**formats(server, 360), **answer}
    with pytest.raises(ClipError, match=f"{reason}: {words}"):
        from_youtube(tmp_path)
    assert server.requests == []


def test_youtubes_refusals_have_reasons(youtube: type[Script], server: MediaServer, tmp_path: Path) -> None:
    from yt_dlp.utils import ExtractorError

    for text, reason in (("Private video", "private"), ("Sign in to confirm you’re not a bot", "bot_check")):
        youtube.ANSWER = ExtractorError(text, expected=True)
        with pytest.raises(ClipError, match=f"{reason}: {text}"):
            from_youtube(tmp_path)
    youtube.ANSWER = KeyError("streamingData")
    with pytest.raises(ClipError, match="extractor: An extractor error has occurred"):
        from_youtube(tmp_path)
    youtube.ANSWER = formats(server, 360)
    server.faults[ID] = Fault(status=403)
    with pytest.raises(ClipError, match=r"forbidden: .*HTTP Error 403"):
        from_youtube(tmp_path)
    assert server.count() == 1
