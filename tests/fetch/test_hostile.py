"""Every hostile answer of a YouTube and of a plain server ends with the right outcome, through the whole driver."""

from __future__ import annotations

import re
from email.utils import formatdate
from pathlib import Path

import pytest
from hostile import QUICK, Clock, Notes, Origin, Says, fetch, name_of, reached, told, write_list, youtube

from valor_data.config import FetchSection
from valor_data.demo import Fault, MediaServer
from valor_data.errors import REASONS, ConfigError, ReasonClass
from valor_data.fetch.sources import open_source

PAGE = b"<!doctype html><html><body><video src='http://127.0.0.1:1/x.mp4'></video></body></html>"
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:1/other.ts\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\n"


ABOUT_THE_VIDEO = [
    ("private", Says("expected", "Private video. Sign in if you've been granted access to this video")),
    ("private", Says("login", "This video is private")),
    ("gone_once", Says("expected", "Video unavailable. This video has been removed by the uploader")),
    ("gone_once", Says("expected", "Video unavailable. This video is no longer available because the YouTube account "
                                   "associated with this video has been terminated.")),
    ("gone_once", Says("expected", "Video unavailable. This video is no longer available because the uploader has "
                                   "closed their YouTube account.")),
    ("gone_once", Says("expected", "Video unavailable")),
    ("gone_once", Says("expected", "This video does not exist")),
    ("copyright", Says("expected", "Video unavailable. This video is no longer available due to a copyright claim")),
    ("copyright", Says("expected", "This video has been removed for violating YouTube's Terms of Service")),
    ("geo", Says("geo", "The uploader has not made this video available in your country")),
    ("geo", Says("expected", "Video unavailable. This video contains content from UMG, who has blocked it in your "
                             "country on copyright grounds")),
    ("age", Says("login", "Sign in to confirm your age. This video may be inappropriate for some users.")),
    ("members", Says("expected", "Join this channel to get access to members-only content like this video")),
    ("members", Says("expected", "This video requires payment to watch.")),
    ("members", Says("expected", "This video is only available to Music Premium members")),
    ("drm", Says("drm")),
    ("live", Says("expected", "Premieres in 3 hours")),
    ("live", Says("expected", "This live event will begin in 5 days.")),
    ("live", Says("not_live")),
    ("live", Says(info={"live_status": "is_live", "is_live": True})),
    ("live", Says(info={"live_status": "is_upcoming"})),
    ("too_long", Says(info={"duration": 15_000})),
    ("format_missing", Says("no_formats", "No video formats found!")),
    ("format_missing", Says(info={"formats": []})),
    ("not_media", Says("playlist", "https://www.youtube.com/watch?v=aaaaaaaaaaa")),
    ("server_error", Says(status=503)),
    ("network", Says("refused_connection")),
    ("network", Says("unknown_host")),
    ("extractor", Says("index_error")),
    ("extractor", Says("bug")),
    ("extractor", Says("unexpected", "Failed to extract any player response")),
    ("interrupted", Says("crash")),
    ("", Says()),
    ("", Says(status=503, times=0)),
]  # fmt: skip


@pytest.mark.timeout(120)
def test_what_youtube_says_of_a_video(origin: Origin, tmp_path: Path) -> None:
    """One run over every message: yt-dlp raises, the driver writes; a good one between any two of them."""
    expected: dict[str, str] = {}
    for number, (reason, says) in enumerate(ABOUT_THE_VIDEO):
        video_id = name_of(f"v{number:02d}_{reason}")
        origin.says[video_id] = says
        expected[video_id] = reason
        expected[name_of(f"good_{number:02d}")] = ""
    manifest = write_list(tmp_path / "lists" / "m.parquet", list(expected), clips=2)
    report = fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
    found = told(tmp_path / "work")
    assert {name: clip.reason for name, clip in found.items()} == expected
    for name, clip in found.items():
        status = REASONS[clip.reason].status.value if clip.reason else "kept"
        assert (clip.status, clip.num_counted, len(clip.attempts)) == (status, 1, 1), name
        text = origin.says.get(name, Says()).text
        if text and not text.startswith("http") and "country" not in text:
            assert clip.detail.startswith(text), "the raw text is kept beside the code"
        assert origin.asked(name) == 1, "one extraction a video, whatever came of it"
    assert report.done == 2 * len(expected)


@pytest.mark.timeout(120)
def test_a_worker_that_dies_twice_on_a_video(origin: Origin, tmp_path: Path) -> None:
    """The first time anything may have killed it; the second time in a row it is the video."""
    culprit, bystander = name_of("culprit"), name_of("bystander")
    origin.says[culprit] = Says("crash")
    manifest = write_list(tmp_path / "lists" / "m.parquet", [culprit, bystander])
    for status, reason in (("waiting", "interrupted"), ("dropped", "crashed")):
        fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
        found = told(tmp_path / "work")
        assert (found[culprit].status, found[culprit].reason) == (status, reason)
        assert "the worker ended with" in found[culprit].detail
        assert found[bystander].status == "kept"


FROM_THE_ADDRESS = [
    ("bot_check", Says("login", "Sign in to confirm you’re not a bot.", times=1)),
    ("bot_check", Says("expected", "Please solve the captcha to go on", times=1)),
    ("session_limited", Says("expected", "Video unavailable. This content isn't available, try again later. The "
                             "current session has been rate-limited by YouTube for up to an hour.", times=1)),
    ("session_limited", Says("expected", "Video unavailable. This content isn’t available.", times=1)),
    ("ip_blocked", Says("expected", "All player responses are invalid. Your IP is likely being blocked by Youtube",
                        times=1)),
    ("rate_limited", Says(status=429, times=1)),
    ("rate_limited", Says(status=429, headers={"Retry-After": "5000"}, times=1)),
]  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(len(FROM_THE_ADDRESS)))
def test_what_youtube_says_of_an_address(
    number: int, origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clip is blamed: the address is silent, then probes, and the video comes in the end."""
    reason, says = FROM_THE_ADDRESS[number]
    assert REASONS[reason].reason_class is ReasonClass.ADDRESS
    bad = name_of("refused")
    origin.says[bad] = says
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of("first"), bad, name_of("last")])
    notes = Notes()
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", manifest, youtube(origin, workers=1), clock=clock, notes=notes)
    found = told(tmp_path / "work")
    assert {clip.status for clip in found.values()} == {"kept"}
    assert [attempt.reason for attempt in found[bad].attempts] == [reason, ""]
    assert found[bad].num_counted == 1, "the refusal was no attempt of the clip's"
    times = {name: [e.seen for e in origin.extractions if e.video_id == name] for name in found}
    pause = times[name_of("first")][1] - times[bad][0], "the known-good video is the probe"
    asked_for = {"session_limited": 3600.0}.get(reason, 5000.0 if says.headers else 900.0)
    assert asked_for <= pause[0] <= asked_for + 2 * clock.step_seconds
    assert any(f"pausing direct ({reason})" in said for said in notes.said)


@pytest.mark.timeout(60)
def test_a_date_in_retry_after(origin: Origin, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    origin.says[name_of("refused")] = Says(
        status=429, headers={"Retry-After": formatdate(time.time() + 7200, usegmt=True)}, times=1
    )
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of("refused")])
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", manifest, youtube(origin, workers=1), clock=clock)
    first, probe, last = (extraction.seen for extraction in origin.extractions)
    assert 7100 <= probe - first <= 7300 and last == probe


@pytest.mark.timeout(60)
def test_one_video_that_always_meets_a_wall_does_not_hold_up_the_others(
    origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 403 of the media net looks like a limited session, for one video for ever."""
    bad = name_of("poison")
    origin.says[bad] = Says("expected", "Video unavailable. This content isn't available.")
    good = [name_of(f"good_{number}") for number in range(6)]
    manifest = write_list(tmp_path / "lists" / "m.parquet", [bad, *good])
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", manifest, youtube(origin, workers=1), clock=clock)
    found = told(tmp_path / "work")
    assert {found[name].status for name in good} == {"kept"}
    assert (found[bad].status, found[bad].reason, found[bad].num_counted) == ("waiting", "session_limited", 0)
    order = [e.video_id for e in origin.extractions]
    assert order.index(good[-1]) < [i for i, name in enumerate(order) if name == bad][2], "behind all others"


@pytest.mark.timeout(60)
def test_no_javascript_runtime_ends_the_run(origin: Origin, tmp_path: Path) -> None:
    origin.rule = lambda _: Says("expected", "No supported JavaScript runtime could be found.")
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of(f"v{n}") for n in range(30)])
    with pytest.raises(ConfigError, match=r"yt-dlp cannot work here: No supported JavaScript .*pip install"):
        fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
    assert {clip.status for clip in told(tmp_path / "work").values()} == {"pending"}
    assert len(origin.extractions) <= 6


MEDIA: list[tuple[str, str, Fault]] = [
    ("403", "forbidden", Fault(status=403)),
    ("401", "forbidden", Fault(status=401)),
    ("404", "gone", Fault(status=404)),
    ("410", "gone", Fault(status=410)),
    ("451", "geo", Fault(status=451)),
    ("503_twice", "", Fault(status=503, times=1)),
    ("500", "server_error", Fault(status=500)),
    ("503", "server_error", Fault(status=503)),
    ("stalls", "network", Fault(delay_seconds=5)),
    ("drips", "network", Fault(bytes_per_second=200)),
    ("cut_once", "", Fault(cut_after_bytes=1000, times=1)),
    ("cut", "network", Fault(body=b"x" * 5000, cut_after_bytes=1000)),
    ("lies_more", "network", Fault(body=b"x" * 5000, headers={"Content-Length": "9000"}, cut_after_bytes=4999)),
    ("lies_less", "short", Fault(headers={"Content-Length": "2000"})),
    ("lies_text", "not_media", Fault(body=b"x" * 5000, content_type="video/mp4")),
    ("empty", "empty", Fault(body=b"")),
    ("circle", "server_error", Fault(redirect_to="/v/{video_id}.mp4")),
    ("scheme", "not_media", Fault(redirect_to="ftp://127.0.0.1/x")),
    ("page", "not_media", Fault(body=PAGE)),
    ("playlist", "not_media", Fault(body=PLAYLIST, content_type="application/vnd.apple.mpegurl")),
    ("concat", "not_media", Fault(body=CONCAT, content_type="video/mp4")),
    ("good_1", "", Fault()),
    ("slow", "", Fault(delay_seconds=0.2)),
]


@pytest.mark.timeout(120)
def test_a_hostile_server_behind_a_url_template(origin: Origin, video: Path, tmp_path: Path) -> None:
    expected = {}
    for name, reason, fault in MEDIA:
        expected[reached(origin, name_of(name), fault)] = reason
        expected[reached(origin, name_of(f"g_{name}"), Fault())] = ""
    with MediaServer({name_of("other"): video}) as other:
        expected[reached(origin, name_of("other"), Fault(redirect_to=other.url_template))] = "not_media"
        manifest = write_list(tmp_path / "lists" / "m.parquet", list(expected))
        section = FetchSection(source=origin.media.url_template, workers=4, yt_dlp_options=QUICK,
                               video_deadline_seconds=8)  # fmt: skip
        fetch(tmp_path / "work", manifest, section)
        assert other.requests == [], "the other host sees nothing"
    found = told(tmp_path / "work")
    assert {name: clip.reason for name, clip in found.items()} == expected
    assert all(origin.media.count(name_of(name)) <= (12 if name == "circle" else 2) for name, *_ in MEDIA)
    assert origin.media.count(name_of("404")) == 1 and found[name_of("404")].status == "dropped"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("header", [None, "seconds", "nonsense"])
def test_a_plain_server_that_asks_to_wait(
    header: str | None, origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Retry-After": "60" if header == "seconds" else "soon"} if header else {}
    busy = reached(origin, name_of("busy"), Fault(status=429, headers=headers, times=2))
    other = reached(origin, name_of("other"), Fault())
    manifest = write_list(tmp_path / "lists" / "m.parquet", [busy, other])
    began = clock.now
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", manifest, FetchSection(source=origin.media.url_template, workers=1), clock=clock)
    found = told(tmp_path / "work")
    assert {clip.status for clip in found.values()} == {"kept"}
    assert [attempt.reason for attempt in found[busy].attempts] == ["rate_limited", "rate_limited", ""]
    passed = clock.now - began
    assert 120 <= passed <= 200 if header == "seconds" else 2700 <= passed <= 2800


@pytest.mark.timeout(60)
def test_media_that_youtube_refuses_costs_the_clip_nothing_final(origin: Origin, tmp_path: Path) -> None:
    bad = reached(origin, name_of("media_403"), Fault(status=403))
    pages = reached(origin, name_of("media_page"), Fault(body=PAGE))
    manifest = write_list(tmp_path / "lists" / "m.parquet", [bad, pages, name_of("good")])
    fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
    found = told(tmp_path / "work")
    assert (found[bad].status, found[bad].reason) == ("waiting", "forbidden")
    assert re.search(r"HTTP Error 403", found[bad].detail)
    assert found[pages].status == "dropped" and found[pages].reason == "not_media"
    assert (origin.asked(bad), origin.media.count(bad)) == (1, 1)


@pytest.mark.timeout(60)
def test_several_clips_of_one_video_cost_one_extraction_and_one_download(origin: Origin, tmp_path: Path) -> None:
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of("shared")], clips=2)
    report = fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
    assert report.done == 2
    assert (origin.asked(name_of("shared")), origin.media.count(name_of("shared"), "GET")) == (1, 1)


def test_a_password_in_the_address_is_not_kept() -> None:
    with pytest.raises(ConfigError, match=r"source 'https://\*\*\*@host/\{video_id\}': a name or password") as error:
        open_source("https://me:SECRET@host/{video_id}")
    assert "SECRET" not in str(error.value) and "--add-headers" in str(error.value)


@pytest.mark.timeout(60)
def test_headers_of_the_user_reach_a_plain_server(origin: Origin, tmp_path: Path) -> None:
    """How a server that asks for a password is fetched from."""
    name = reached(origin, name_of("locked"), Fault())
    section = FetchSection(
        source=origin.media.url_template, yt_dlp_options=(*QUICK, "--add-headers", "Authorization: Basic c2VjcmV0")
    )
    seen: list[str] = []
    handler = origin.media._server.RequestHandlerClass  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        original = handler.do_GET
        patch.setattr(handler, "do_GET", lambda self: (seen.append(self.headers["Authorization"]), original(self))[1])
        fetch(tmp_path / "work", write_list(tmp_path / "lists" / "m.parquet", [name]), section)
    assert told(tmp_path / "work")[name].status == "kept"
    assert seen == ["Basic c2VjcmV0"]


def test_player_clients_and_other_arguments_go_together(tmp_path: Path) -> None:
    from valor_data.fetch.web import open_downloader

    section = FetchSection(player_clients=("tv", "web"), extractor_args=("youtube:lang=en", "generic:impersonate"))
    with open_downloader(tmp_path, section) as downloader:
        assert downloader.params["extractor_args"] == {
            "youtube": {"lang": ["en"], "player_client": ["tv", "web"]},
            "generic": {"impersonate": [""]},
        }
