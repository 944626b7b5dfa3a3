"""Stories that take hours and days, told by a clock: the breaker, removals, dead links, a full disk."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hostile import Clock, Notes, Origin, Says, fetch, name_of, over_budget, reached, told, write_list, youtube

from valor_data.demo import Fault
from valor_data.errors import ManifestError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.road.deadlinks import export_deadlinks, import_deadlinks
from valor_data.workdir import WorkDir

HOUR = 3600.0
DAY = 24 * HOUR
BOT = Says("login", "Sign in to confirm you’re not a bot.")
REMOVED = Says("expected", "Video unavailable. This video has been removed by the uploader")


@pytest.mark.timeout(120)
def test_the_breakers_story(origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wave of bot checks: open, nothing but probes, half open, recovered, and every clip kept in the end."""
    names = [name_of(f"v{number:02d}") for number in range(60)]
    wave = (clock.now + 0.1 * HOUR, clock.now + 2 * HOUR)
    origin.rule = lambda _: BOT if wave[0] <= clock.now < wave[1] else None
    notes = Notes()
    with clock.runs(monkeypatch):
        section = youtube(origin, requests_per_hour=250.0, burst=5)
        fetch(tmp_path / "work", write_list(tmp_path / "lists" / "m.parquet", names), section, clock=clock, notes=notes)
    found = told(tmp_path / "work")
    assert {clip.status for clip in found.values()} == {"kept"}
    assert {clip.num_counted for clip in found.values()} == {1}, "no refusal counts as an attempt"
    assert over_budget([e.seen for e in origin.extractions], burst=5, ceiling_per_hour=300) == []
    met = [e for e in origin.extractions if wave[0] <= e.seen < wave[1]]
    opened = [e for e in met if e.seen == met[0].seen]
    assert 1 <= len(opened) <= section.workers
    known_good = {e.video_id for e in origin.extractions if e.seen < wave[0]}
    probes = [e for e in met if e.seen > met[0].seen]
    assert len(probes) == 3 and {e.video_id for e in probes} <= known_good, "a video that had come before"
    gaps = [b.seen - a.seen for a, b in zip([met[0], *probes], probes, strict=False)]
    assert [round(gap / 900) for gap in gaps] == [1, 2, 4], "a quarter of an hour, then twice as long each time"
    after = [e for e in origin.extractions if e.seen >= wave[1]]
    assert after[0].video_id in known_good and after[0].seen >= probes[-1].seen + 8 * 900
    refused = {e.video_id for e in opened}
    assert {e.video_id for e in after[1 : 1 + section.workers]} >= refused, "those that met the wall come next"
    with Ledger(WorkDir.at(tmp_path / "work").ledger, read_only=True) as ledger:
        state = ledger.get_address("direct") or ""
    assert '"breaker": "closed"' in state and notes.said


@pytest.mark.timeout(60)
def test_a_pause_outlasts_the_run(
    origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting the run ends, no clip is blamed, and the next one begins with the rest of the pause."""
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of(f"v{number}") for number in range(20)])
    origin.rule = lambda _: BOT if len(origin.extractions) > 8 else None
    section = youtube(origin, workers=1, burst=5, requests_per_hour=250.0, wait=False)
    notes = Notes()
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", manifest, section, clock=clock, notes=notes)
    assert any(said.startswith("ended without waiting: pausing direct (bot_check)") for said in notes.said)
    found = told(tmp_path / "work")
    assert sorted(clip.status for clip in found.values()).count("kept") == 8, "the bucket alone ended nothing"
    assert {clip.status for clip in found.values()} == {"kept", "pending"}
    asked = len(origin.extractions)
    clock.now += 300
    fetch(tmp_path / "work", None, section, clock=clock)
    assert len(origin.extractions) == asked, "the pause is kept over runs"
    origin.rule = lambda _: None
    clock.now += 900
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", None, replace(section, wait=True), clock=clock)
    assert {clip.status for clip in told(tmp_path / "work").values()} == {"kept"}


@pytest.mark.timeout(120)
def test_a_burst_of_refused_media_opens_the_breaker(
    origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name_of(f"v{number}") for number in range(12)]
    for name in names[2:7]:
        reached(origin, name, Fault(status=403, times=1))
    with clock.runs(monkeypatch):
        section = youtube(origin, workers=1)
        fetch(tmp_path / "work", write_list(tmp_path / "lists" / "m.parquet", names), section, clock=clock)
        found = told(tmp_path / "work")
        assert [found[name].reason for name in names] == ["", "", *["forbidden"] * 5, *[""] * 5]
        times = [e.seen for e in origin.extractions]
        assert times[5] - times[4] >= 900, "after the third"
        fetch(tmp_path / "work", None, section, clock=clock)
    assert {clip.status for clip in told(tmp_path / "work").values()} == {"kept"}


@pytest.fixture
def short_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks back on 40 videos in place of 200."""
    from valor_data.fetch.pace import SuccessWatch
    from valor_data.road import admission

    monkeypatch.setattr(admission, "SuccessWatch", partial(SuccessWatch, window=40))


@pytest.mark.timeout(120)
def test_a_broken_release_marks_nothing_dead(origin: Origin, tmp_path: Path, short_watch: None) -> None:
    origin.rule = lambda _: Says("unexpected", "Failed to extract any player response")
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of(f"v{number:03d}") for number in range(70)])
    with pytest.raises(ValorDataError, match=r"nearly nothing succeeds any more .*player response.*pip install -U"):
        fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
    assert {clip.status for clip in told(tmp_path / "work").values()} == {"waiting", "pending"}
    assert 40 <= len(origin.extractions) <= 43


@pytest.mark.timeout(60)
def test_a_removal_is_believed_a_day_later(origin: Origin, clock: Clock, tmp_path: Path) -> None:
    gone, back, good = name_of("gone"), name_of("back"), name_of("good")
    origin.says[gone], origin.says[back] = REMOVED, replace(REMOVED, times=1)
    section, work = youtube(origin, workers=1), tmp_path / "work"
    report = fetch(work, write_list(tmp_path / "lists" / "m.parquet", [gone, back, good]), section, clock=clock)
    assert told(work)[gone].reason == told(work)[back].reason == "gone_once"
    assert any(notice.startswith("2 clips are looked for again later") for notice in report.notices)
    clock.now += DAY - 60
    assert fetch(work, None, section, clock=clock).done == 0, "not before the day has passed"
    clock.now += 120
    fetch(work, None, section, clock=clock)
    found = told(work)
    assert (found[gone].status, found[gone].reason) == ("dropped", "gone")
    assert found[back].status == "kept"
    assert [e.video_id for e in origin.extractions] == [gone, back, good, good, gone, back], "first: is it well?"
    clock.now += 100 * DAY
    assert fetch(work, None, section, clock=clock).done == 0
    clock.now += 81 * DAY
    origin.says[gone] = Says()
    report = fetch(work, None, section, clock=clock)
    assert "1 clips lost more than 180 days ago are tried once more" in report.notices
    assert told(work)[gone].status == "kept"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("wall", [REMOVED, Says("bug"), Says("unexpected", "Failed to extract any player response")])
def test_a_removal_is_not_believed_from_an_address_that_brings_nothing(
    wall: Says, origin: Origin, clock: Clock, tmp_path: Path
) -> None:
    gone, good = name_of("gone"), name_of("good")
    origin.says[gone] = REMOVED
    section, work = youtube(origin, workers=2), tmp_path / "work"
    fetch(work, write_list(tmp_path / "lists" / "m.parquet", [gone, good]), section, clock=clock)
    origin.says[good] = wall
    for _ in range(3):
        clock.now += 2 * DAY
        fetch(work, None, section, clock=clock)
        assert (told(work)[gone].status, told(work)[gone].reason) == ("waiting", "gone_once")
    origin.says[good] = Says()
    clock.now += 60
    fetch(work, None, section, clock=clock)
    assert (told(work)[gone].status, told(work)[gone].reason) == ("dropped", "gone")


@pytest.mark.timeout(120)
def test_the_end_of_a_list_where_most_are_gone(origin: Origin, clock: Clock, tmp_path: Path, short_watch: None) -> None:
    names = [name_of(f"g{number:03d}") for number in range(48)]
    origin.says |= dict.fromkeys(names, REMOVED)
    mixed = [name for gone in names for name in (gone, *([f"{gone[:-1]}k"] if names.index(gone) % 8 == 0 else []))]
    section, work = youtube(origin), tmp_path / "work"
    fetch(work, write_list(tmp_path / "lists" / "m.parquet", mixed), section, clock=clock)
    clock.now += 2 * DAY
    fetch(work, None, section, clock=clock)
    found = told(work)
    assert {found[name].reason for name in names} == {"gone"}


@pytest.mark.timeout(60)
def test_dead_links_are_told_to_others(origin: Origin, clock: Clock, tmp_path: Path) -> None:
    private, good, local = name_of("private"), name_of("good"), name_of("too_long")
    origin.says[private] = Says("login", "Private video. Sign in if you've been granted access to this video")
    origin.says[local] = Says(info={"duration": 99_999})
    manifest = write_list(tmp_path / "lists" / "m.parquet", [private, good, local])
    section = youtube(origin)
    fetch(tmp_path / "one", manifest, section, clock=clock)
    shared = tmp_path / "dead.parquet"
    assert export_deadlinks(WorkDir.at(tmp_path / "one"), shared) == 1, "what settings refused is not told to others"
    other = WorkDir.at(tmp_path / "two")
    assert import_deadlinks(other, shared) == import_deadlinks(other, shared) == 1
    before = origin.asked(private)
    report = fetch(other.root, manifest, section, clock=clock)
    assert origin.asked(private) == before, "nobody asks twice"
    found = told(other.root)[private]
    assert (found.status, found.reason, found.num_counted) == ("dropped", "private", 0)
    assert found.detail.startswith("from an imported list of dead links: Private video")
    assert any("1 clips are on the imported list of dead links" in notice for notice in report.notices)
    third = WorkDir.at(tmp_path / "three")
    import_deadlinks(third, shared)
    clock.now += 181 * DAY
    fetch(third.root, manifest, section, clock=clock)
    assert origin.asked(private) == before + 1, "after its time to live it is asked for once more"
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(ManifestError, match="no list of dead links"):
        import_deadlinks(third, tmp_path / "no.parquet")


Usage = namedtuple("Usage", "total used free")


@pytest.mark.timeout(60)
def test_a_full_disk_is_waited_for(
    origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from valor_data.road import admission

    free = [10**12]
    monkeypatch.setattr(admission.shutil, "disk_usage", lambda _: Usage(10**12, 0, free[0]))
    began = clock.now

    def later() -> None:
        free[0] = 10**6 if clock.now < began + HOUR else 10**12

    clock.looks = later
    later()
    manifest = write_list(tmp_path / "lists" / "m.parquet", [name_of(f"v{number}") for number in range(4)])
    notes = Notes()
    with clock.runs(monkeypatch):
        fetch(tmp_path / "work", manifest, youtube(origin), clock=clock, notes=notes)
    assert {clip.status for clip in told(tmp_path / "work").values()} == {"kept"}
    assert min(e.seen for e in origin.extractions) >= began + HOUR
    assert sum(said.startswith("only 0.0 GB of the disk are free") for said in notes.said) == 1


@pytest.mark.timeout(60)
def test_a_full_disk_ends_a_run_that_does_not_wait(origin: Origin, tmp_path: Path) -> None:
    manifest, notes = write_list(tmp_path / "lists" / "m.parquet", [name_of("v")]), Notes()
    fetch(tmp_path / "work", manifest, youtube(origin, min_free_bytes=10**18, wait=False), notes=notes)
    assert (origin.extractions, told(tmp_path / "work")[name_of("v")].status) == ([], "pending")
    assert any("fetch.min_free_bytes asks for 1000000000.0" in said for said in notes.said)


@pytest.mark.timeout(60)
def test_a_disk_that_cannot_be_written_ends_the_run(origin: Origin, tmp_path: Path) -> None:
    names = [name_of(f"v{number}") for number in range(30)]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "media").write_text("no folder")
    manifest = write_list(tmp_path / "lists" / "m.parquet", names)
    with pytest.raises(ValorDataError, match="this machine cannot write what it fetches"):
        fetch(tmp_path / "work", manifest, youtube(origin), clock=origin.clock)
    found = told(tmp_path / "work")
    assert {clip.status for clip in found.values()} == {"waiting", "pending"}
    assert {clip.num_counted for clip in found.values()} <= {0, -1}
    assert len(origin.extractions) <= 8


@pytest.mark.timeout(60)
def test_the_network_goes_away_and_comes_back(
    origin: Origin, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name_of(f"v{number:02d}") for number in range(50)]
    began, asked = clock.now, origin.extractions
    origin.rule = lambda _: (
        Says("refused_connection") if len(origin.extractions) > 10 and clock.now < began + 10 else None
    )
    with clock.runs(monkeypatch):
        section = youtube(origin, workers=1)
        fetch(tmp_path / "work", write_list(tmp_path / "lists" / "m.parquet", names), section, clock=clock)
        found = told(tmp_path / "work")
        assert {clip.status for clip in found.values()} == {"kept", "waiting"}
        assert {clip.reason for clip in found.values()} == {"", "network"}
        assert clock.now > began, f"it paused: {asked}"
        fetch(tmp_path / "work", None, section, clock=clock)
    assert {clip.status for clip in told(tmp_path / "work").values()} == {"kept"}
