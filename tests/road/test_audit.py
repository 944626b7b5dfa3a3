"""Are the sources still there? Asked of real servers, at fetch's own pace; nothing is downloaded, nobody is blamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli.commands import call
from fetch.hostile import PLUGINS, Clock, Notes, Origin, Says, fetch, name_of, over_budget, write_list, youtube
from small_media import make_video

from valor_data.config import FetchSection
from valor_data.demo import Fault, MediaServer
from valor_data.ledger import Ledger
from valor_data.publish.removal import plan_removal, remove
from valor_data.road import Driver
from valor_data.road.asking import Selection
from valor_data.road.audit import AuditReport, run_audit, write_lost
from valor_data.workdir import WorkDir

DAY = 86_400.0
NAMES = [name_of(f"audit{number}") for number in range(8)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


@pytest.fixture
def server(video: Path) -> MediaServer:
    return MediaServer(dict.fromkeys(NAMES, video))


@pytest.fixture
def work(server: MediaServer, tmp_path: Path) -> WorkDir:
    """Two clips of each of eight videos, fetched; the fixture's server stays for the test to open again."""
    with server:
        section = FetchSection(source=server.url_template, workers=2)
        fetch(tmp_path / "work", write_list(tmp_path / "m.parquet", NAMES, clips=2), section)
    return WorkDir.at(tmp_path / "work")


def audit(work: WorkDir, section: FetchSection, days: float = 30.0, **more: object) -> AuditReport:
    with Driver(work, stages=["fetch"]) as driver:
        return run_audit(driver, section, max_age_days=days, explicit={"source"}, **more)  # type: ignore[arg-type]


def methods(server: MediaServer, name: str) -> list[str]:
    return [request.method for request in server.requests if request.video_id == name]


def test_a_url_template(work: WorkDir, video: Path) -> None:
    """A HEAD each; what refuses it is asked for one byte; 404 and 410 are lost, a fault or a refusal is not known."""
    faults = {
        NAMES[0]: Fault(status=404),
        NAMES[1]: Fault(status=410),
        NAMES[2]: Fault(status=503),
        NAMES[3]: Fault(status=403),
        NAMES[4]: Fault(status=405, times=1),
        NAMES[5]: Fault(redirect_to="http://127.0.0.1:9/{video_id}"),
    }
    with MediaServer(dict.fromkeys(NAMES, video), faults) as server:
        section = FetchSection(source=server.url_template, workers=2, yt_dlp_options=("--socket-timeout", "2"))
        report = audit(work, section)
        assert report.num_asked == 16
        assert methods(server, NAMES[7]) == ["HEAD"], "one request a video, and no body"
        assert methods(server, NAMES[4]) == ["HEAD", "GET"]
        assert {request.range for request in server.requests if request.method == "GET"} == {"bytes=0-0"}
        assert report.found == {
            ("kept", ""): 6, ("dropped", "gone"): 4, ("dropped", "not_media"): 2,
            ("waiting", "server_error"): 2, ("waiting", "forbidden"): 2,
        }  # fmt: skip
        assert report.lost == [(NAMES[0], "gone"), (NAMES[1], "gone"), (NAMES[5], "not_media")]
        asked = len(server.requests)
        again = audit(work, section)
        assert again.num_asked == 4 and len(server.requests) > asked, "only what is not known is asked for again"
        assert audit(work, replace(section), days=0.0).num_asked == 16
    with Ledger(work.ledger, read_only=True) as ledger:
        assert len(ledger.keys_in_shards()) == 0 and ledger.num_clips() == 16, "an audit changes nothing"


def test_too_many_requests_pause_the_address(work: WorkDir, video: Path) -> None:
    with MediaServer(
        dict.fromkeys(NAMES, video), {n: Fault(status=429, headers={"Retry-After": "600"}) for n in NAMES}
    ) as server:
        report = audit(work, FetchSection(source=server.url_template, workers=1, wait=False))
        assert report.num_asked == 0 and report.lost == [] and len(server.requests) <= 2
    assert report.num_unaudited == 16


def test_one_clip_in_a_folder_that_is_gone(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.mp4").write_bytes(video.read_bytes())
    fetch(tmp_path / "work", write_list(tmp_path / "m.parquet", NAMES), FetchSection(source=str(folder)))
    (folder / f"{NAMES[3]}.mp4").unlink()
    report = audit(WorkDir.at(tmp_path / "work"), FetchSection(source=str(folder)))
    assert report.lost == [(NAMES[3], "missing")] and report.found[("kept", "")] == 7


def test_what_is_found_lost_can_be_removed(work: WorkDir, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "lost.txt"
    with MediaServer(dict.fromkeys(NAMES[1:], video)) as server:
        at = ("--work", work.root)
        said = call("audit", "--source", server.url_template, "--out", out, *at).out
        assert "16 clips looked for in this run" in said and "2 clips lost" in said.replace("  ", " ")
        assert f"remove --ids {out} --reason gone" in said
        assert (
            "2 clips removed"
            in call("remove", "--ids", out, "--reason", "gone", "--why", "no longer there", "--yes", *at).out
        )
        assert "0 clips looked for" in call("audit", *at).out
    with Ledger(work.ledger, read_only=True) as ledger:
        assert ledger.audit_counts() == {("kept", ""): 14}


def test_a_sample_and_then_the_rest(work: WorkDir, server: MediaServer) -> None:
    with server:
        section = FetchSection(source=server.url_template)
        first = audit(work, section, selection=Selection(sample=5, seed=1))
        assert (first.num_asked, first.num_unaudited) == (5, 11)
        assert audit(work, section).num_asked == 11


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_youtube_is_believed_the_second_time(
    video: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extractions alone, within the budget; bot checks blame nobody; `gone` counts a day later; private at once."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    work = WorkDir.at(tmp_path / "work")
    with Origin(video, clock) as origin, clock.runs(monkeypatch):
        fetch(work.root, write_list(tmp_path / "m.parquet", NAMES), youtube(origin), clock=clock)
        clock.now += 2 * DAY
        origin.says[NAMES[0]] = Says("expected", "Video unavailable. This video has been removed by the uploader")
        origin.says[NAMES[1]] = Says("expected", "Private video. Sign in if you've been granted access")
        origin.says[NAMES[2]] = Says("login", "Sign in to confirm you’re not a bot.", times=1)
        downloads, begun = len(origin.media.requests), clock.now
        section = youtube(origin, requests_per_hour=250.0, burst=2)
        report = audit(work, section, clock=clock)
        asked = [extraction.seen for extraction in origin.extractions if extraction.seen >= begun]
        assert over_budget(asked, burst=2, ceiling_per_hour=300) == []
        assert len(origin.media.requests) == downloads, "nothing is brought"
        assert report.lost == [(NAMES[1], "private")]
        assert report.found == {("kept", ""): 6, ("dropped", "private"): 1, ("waiting", "gone_once"): 1}
        assert audit(work, section, clock=clock).num_asked == 0, "not before a day has passed"
        clock.now += 1.1 * DAY
        report = audit(work, section, clock=clock)
        assert (report.num_asked, report.lost) == (1, [(NAMES[0], "gone"), (NAMES[1], "private")])


def test_a_site_that_blocks_us_is_not_known(
    video: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    work = WorkDir.at(tmp_path / "work")
    with Origin(video, clock) as origin, clock.runs(monkeypatch):
        fetch(work.root, write_list(tmp_path / "m.parquet", NAMES), youtube(origin), clock=clock)
        origin.rule = lambda _: Says("expected", "This content isn’t available, try again later.")
        report = audit(work, youtube(origin, wait=False), clock=clock)
    assert report.lost == [] and all(status == "waiting" for status, _ in report.found)
    assert report.num_unaudited + sum(report.found.values()) == 8


def test_the_list_is_what_remove_reads(work: WorkDir, tmp_path: Path) -> None:
    report = AuditReport(lost=[(NAMES[2], "gone")])
    write_lost(report, tmp_path / "lost.txt")
    from valor_data.publish.wanted import read_entries

    entries = read_entries(tmp_path / "lost.txt", [])
    assert entries == [NAMES[2]]
    with Driver(work, stages=[], removing=True) as driver:
        done = remove(driver, plan_removal(driver, entries, reason="gone", why="no longer at the source"))
    assert (done.num_clips, done.num_videos) == (2, 1)
    assert Notes().said == []
