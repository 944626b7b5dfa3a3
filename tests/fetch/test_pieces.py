"""Only what a clip needs is downloaded, and every picture and sample of it is that of the whole video."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from two_streams import (
    VIDEO_ID,
    TwoStreams,
    ffmpeg,
    heard,
    make_mp4_pair,
    make_webm_pair,
    shown,
    source,
    stand_in,
)

from valor_data.errors import ClipError, Status
from valor_data.fetch import ClipRequest, Obtained, VideoUnit
from valor_data.fetch.video import fetch_video
from valor_data.fetch.web import YouTubeLocation
from valor_data.media.fragment_index import read_index
from valor_data.media.fragments import FragmentIndex

LONG, SHORT = 600, 120
Maker = Callable[[str], dict[str, Path]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes the pair of files of a name once: `mp4`, `front` (WebM, cues in front), `end`, `short`."""
    made: dict[str, dict[str, Path]] = {}

    def pair(name: str) -> dict[str, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = {
                "mp4": lambda: make_mp4_pair(folder, LONG),
                "short": lambda: make_mp4_pair(folder, SHORT),
                "front": lambda: make_webm_pair(folder, SHORT, "-cues_to_front", 1),
                "end": lambda: make_webm_pair(folder, SHORT),
                "dash": lambda: make_webm_pair(folder, SHORT, "-dash", 1, "-cues_to_front", 1),
            }[name]()
        return made[name]

    return pair


@pytest.fixture(scope="module")
def origins(pairs: Maker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """A running origin of a pair, and the whole video as it is merged."""
    running: dict[str, tuple[TwoStreams, Obtained]] = {}

    def origin(name: str) -> tuple[TwoStreams, Obtained]:
        if name not in running:
            server = TwoStreams(pairs(name), LONG if name == "mp4" else SHORT).__enter__()
            whole = server.fetch(tmp_path_factory.mktemp("whole"), (0, 1), pieces="whole")
            running[name] = (server, whole)
        server, whole = running[name]
        server.media.faults.clear()
        server.more.clear()
        return server, whole

    yield origin
    for server, _ in running.values():
        server.__exit__(None, None, None)


def same(item: Obtained, whole: Obtained, span: tuple[float, float]) -> None:
    """Every picture and every sample of the span, bit by bit."""
    pictures = shown(whole, span)
    assert pictures
    assert shown(item, span) == pictures
    samples = heard(whole, span)
    assert np.abs(samples).max() > 0
    np.testing.assert_array_equal(heard(item, span), samples)


MP4_SPANS = [
    pytest.param((0.0, 10.0), id="start"),
    pytest.param((123.4, 133.4), id="middle"),
    pytest.param((299.9, 300.1), id="across a border"),
    pytest.param((300.0, 310.0), id="on a border"),
    pytest.param((590.0, 600.0), id="end"),
    pytest.param((595.0, 605.0), id="beyond the end"),
]


@pytest.mark.parametrize("span", MP4_SPANS)
def test_ranges_of_an_mp4_are_the_whole_video_bit_by_bit(
    span: tuple[float, float], origins: Any, tmp_path: Path
) -> None:
    server, whole = origins("mp4")
    item = server.fetch(tmp_path, span)
    assert item.origin["how"] == "ranges"
    assert item.is_piece
    same(item, whole, (span[0], min(span[1], LONG)))
    assert server.num_extractions == 1
    assert [server.media.count(name) for name in ("picture", "sound")] == [2, 2], "a head and a body each"
    assert item.origin["num_requests"] == 4
    assert item.origin["moved_bytes"] <= server.size_bytes / 5
    asked = sum(last + 1 - first for name in ("picture", "sound") for first, last in server.ranges_asked(name))
    assert asked == item.origin["moved_bytes"]
    assert item.origin["held"][0] <= max(0.03, span[0] - 0.2)
    assert item.origin["held"][1] >= min(span[1], LONG - 0.3)


WEBM_SPANS = [(0.0, 10.0), (33.3, 43.3), (64.9, 65.1), (110.0, 120.0), (115.0, 125.0)]


@pytest.mark.parametrize("name", ["front", "end", "dash"])
@pytest.mark.parametrize("span", WEBM_SPANS, ids=str)
def test_ranges_of_a_webm_are_the_whole_video_bit_by_bit(
    name: str, span: tuple[float, float], origins: Any, tmp_path: Path
) -> None:
    server, whole = origins(name)
    item = server.fetch(tmp_path, span)
    assert item.origin["how"] == "ranges", item.origin
    same(item, whole, (span[0], min(span[1], SHORT)))
    assert server.num_extractions == 1
    assert max(server.media.count(name) for name in ("picture", "sound")) <= (4 if name == "end" else 3)
    assert item.origin["moved_bytes"] < server.size_bytes / 2


@pytest.mark.parametrize("span", [(0.0, 10.0), (123.4, 133.4), (87.31, 97.31), (590.0, 600.0)], ids=str)
def test_a_section_is_the_whole_video_bit_by_bit(span: tuple[float, float], origins: Any, tmp_path: Path) -> None:
    server, whole = origins("mp4")
    item = server.fetch(tmp_path, span, pieces="section")
    assert item.origin["how"] == "section", item.origin
    same(item, whole, span)
    assert server.num_extractions == 1


def test_a_section_of_a_webm(origins: Any, tmp_path: Path) -> None:
    server, whole = origins("front")
    item = server.fetch(tmp_path, (33.3, 43.3), pieces="section")
    assert item.origin["how"] == "section", item.origin
    assert shown(item, (33.3, 43.3)) == shown(whole, (33.3, 43.3))


def test_what_is_recorded_has_no_secret(origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    for pieces in ("ranges", "section", "whole"):
        origin = server.fetch(tmp_path / pieces, (33.3, 43.3), pieces=pieces).origin
        assert origin["how"] == pieces
        assert "secret" not in str(origin) and "http" not in str(origin)
        assert origin["yt_dlp"] and origin["channel_id"] == "UC-two" and origin["license"] == "CC BY"
        assert origin["format_id"] == "picture+sound"


# Which way


def test_a_small_video_comes_whole(origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    item = server.fetch(tmp_path, (33.3, 43.3), whole_below_bytes=server.size_bytes)
    assert item.origin["how"] == "whole"
    assert [server.media.count(name) for name in ("picture", "sound")] == [1, 1]


def test_a_video_of_which_most_is_needed_comes_whole(origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    clips = [(float(start), start + 10.0) for start in range(0, 100, 30)]
    assert {item.origin["how"] for item in server.obtain(tmp_path, clips)} == {"whole"}


def test_a_clip_without_an_end_needs_the_whole_video(origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    (item,) = server.obtain(tmp_path, [(3.0, None)], pieces="ranges")
    assert item.origin["how"] == "whole"


def test_clips_of_one_video_share_requests(origins: Any, tmp_path: Path) -> None:
    server, whole = origins("mp4")
    spans = [(100.0, 110.0), (105.0, 115.0), (112.0, 122.0), (400.0, 410.0)]
    items = server.obtain(tmp_path, spans)
    assert server.num_extractions == 1
    assert [server.media.count(name) for name in ("picture", "sound")] == [3, 3], "a head, and a body for each place"
    assert items[0].path == items[1].path == items[2].path != items[3].path
    for item, span in zip(items, spans, strict=True):
        same(item, whole, span)
    for name in ("picture", "sound"):
        ranges = sorted(server.ranges_asked(name))
        assert all(a[1] < b[0] for a, b in pairwise(ranges)), "no byte twice"


def test_a_clip_behind_the_end_is_short_and_the_others_come(origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    good, late = server.obtain(tmp_path, [(3.0, 5.0), (130.0, 140.0)])
    assert isinstance(good, Obtained)
    assert isinstance(late, ClipError) and late.reason == "short"
    assert "the video lasts 120.0" in late.detail


# The road from there


def test_fetched_clips_end_in_the_work_folder(origins: Any, tmp_path: Path) -> None:
    server, whole = origins("mp4")
    spans = [(100.0, 110.0), (104.0, 114.0), (595.0, 605.0), (700.0, 710.0)]
    clips = tuple(ClipRequest(i, f"clip{i}", *span) for i, span in enumerate(spans))
    for folder in ("work", "tmp"):
        (tmp_path / folder).mkdir()
    unit = VideoUnit(VIDEO_ID, clips, YouTubeLocation(VIDEO_ID), server.settings(), tmp_path / "work", tmp_path / "tmp")
    with stand_in(server.watch):
        done = {clip.clip_id: clip for clip in fetch_video(unit).clips}
    assert done[3].outcome.reason == "short"
    for number, span in enumerate(spans[:3]):
        assert done[number].outcome.status is Status.KEPT
        media = done[number].media
        item = Obtained(tmp_path / "work" / media.path, media.offset_seconds, False, False)
        same(item, whole, (span[0], min(span[1], LONG)))
    assert {path.name.partition(".")[2] for path in (tmp_path / "tmp").iterdir()} == {"journal.json"}


# Fallbacks and refusals


def test_a_server_without_ranges(origins: Any, tmp_path: Path) -> None:
    server, whole = origins("short")
    server.fail("picture", body=server.files["picture"].read_bytes(), content_type="video/mp4")
    item = server.fetch(tmp_path, (33.3, 43.3))
    assert item.origin["how"] in ("section", "whole")
    assert "does not give ranges" in item.origin["instead_of"]
    same(item, whole, (33.3, 43.3))


@pytest.mark.parametrize("status", [403, 404, 429])
@pytest.mark.parametrize("pieces", ["ranges", "section", "auto", "whole"])
def test_a_refusal_is_raised_as_it_is(status: int, pieces: str, origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    server.fail("picture", status=status)
    with pytest.raises(ClipError) as caught:
        server.fetch(tmp_path, (33.3, 43.3), pieces=pieces)
    assert caught.value.reason == {403: "forbidden", 404: "gone", 429: "rate_limited"}[status]
    assert server.media.count("picture") == 1, "not asked again, and by no other way"


class _RefusesLater(TwoStreams):
    """Answers 403 from the second request for the sound on."""

    def __enter__(self) -> TwoStreams:
        super().__enter__()
        take = self.media._take_fault

        def later(video_id: str) -> Any:
            fault = take(video_id)
            return fault if self.media.count("sound") >= 1 else None

        self.media._take_fault = later  # type: ignore[method-assign]
        return self


def test_a_403_in_the_middle(pairs: Maker, tmp_path: Path) -> None:
    with _RefusesLater(pairs("short"), SHORT) as server:
        server.fail("sound", status=403)
        with pytest.raises(ClipError) as caught:
            server.fetch(tmp_path, (33.3, 43.3))
        assert caught.value.reason == "forbidden"
        assert server.media.count("sound") == 2
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fault", [{"status": 503, "times": 2}, {"cut_after_bytes": 1000, "times": 2}], ids=["503", "cut off"]
)
def test_failures_of_the_server_are_tried_again(fault: dict[str, Any], origins: Any, tmp_path: Path) -> None:
    server, whole = origins("short")
    server.fail("sound", **fault)
    item = server.fetch(tmp_path, (33.3, 43.3))
    assert item.origin["how"] == "ranges"
    assert server.media.count("sound") == 4
    same(item, whole, (33.3, 43.3))


def test_a_server_that_stays_broken(origins: Any, tmp_path: Path) -> None:
    server, _ = origins("short")
    server.fail("sound", status=503)
    with pytest.raises(ClipError) as caught:
        server.fetch(tmp_path, (33.3, 43.3))
    assert caught.value.reason == "server_error"
    assert server.media.count("sound") == 3, "the retries that the settings allow"


def test_another_range_than_asked_for_is_not_believed(origins: Any, tmp_path: Path) -> None:
    server, whole = origins("short")
    server.fail("picture", status=206, body=b"x" * 8192, headers={"Content-Range": "bytes 5-8196/999999"}, times=1)
    item = server.fetch(tmp_path, (33.3, 43.3))
    assert item.origin["how"] == "section"
    assert "the server gives" in item.origin["instead_of"]
    same(item, whole, (33.3, 43.3))


def broken(path: Path, into: Path, change: Callable[[bytearray, int], None]) -> Path:
    """A copy of an mp4 whose `sidx` was tampered with; `change` gets the bytes and where the box's type stands."""
    data = bytearray(path.read_bytes())
    change(data, data.index(b"sidx"))
    changed = into / f"broken{path.suffix}"
    changed.write_bytes(data)
    return changed


def shift_sizes(data: bytearray, at: int) -> None:
    """The first fragment is said to be a little longer, the second shorter: every border is wrong."""
    table = at + 28  # version 0
    if data[at + 4] == 1:
        table += 8
    for entry, by in ((table, 100), (table + 12, -100)):
        size = struct.unpack_from(">I", data, entry)[0]
        struct.pack_into(">I", data, entry, size + by)


def slow_down(data: bytearray, at: int) -> None:
    """Every fragment is said to last twice as long."""
    struct.pack_into(">I", data, at + 12, struct.unpack_from(">I", data, at + 12)[0] // 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda data, at: data.__setitem__(slice(at, at + 4), b"free"), "no index", id="no index"),
        pytest.param(shift_sizes, "does not fit", id="wrong borders"),
        pytest.param(slow_down, "do not lie at the times", id="wrong times"),
    ],
)
def test_an_index_that_cannot_be_used(change: Any, words: str, pairs: Maker, origins: Any, tmp_path: Path) -> None:
    _, whole = origins("short")
    picture = broken(pairs("short")["picture"], tmp_path, change)
    with TwoStreams({"picture": picture, "sound": pairs("short")["sound"]}, SHORT) as server:
        span = (0.5, 3.0) if words == "does not fit" else (83.3, 93.3)
        item = server.fetch(tmp_path / "into", span)
        assert item.origin["how"] in ("section", "whole")
        assert words in item.origin["instead_of"]
        same(item, whole, span)


def test_a_progressive_file_comes_as_a_section(pairs: Maker, tmp_path: Path) -> None:
    both = tmp_path / "both.mp4"
    ffmpeg(*source(40), "-c:v", "libx264", "-preset", "ultrafast", "-g", 25, "-c:a", "aac",
           "-movflags", "+faststart", both)  # fmt: skip
    with TwoStreams({"both": both}, 40) as server:
        item = server.fetch(tmp_path / "into", (12.3, 17.3))
        assert item.origin["how"] == "section"
        assert "not fragmented" in item.origin["instead_of"]
        same(item, Obtained(both, 0.0, True, True), (12.3, 17.3))


def test_a_slow_section_is_given_up(origins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, whole = origins("short")
    monkeypatch.setattr("valor_data.fetch.section.FIXED_DEADLINE_SECONDS", 0.0)
    monkeypatch.setattr("valor_data.fetch.section.DEADLINE_SHARE", 0.0)
    server.fail("picture", delay_seconds=3.0, times=1)
    item = server.fetch(tmp_path, (33.3, 43.3), pieces="section")
    assert item.origin["how"] == "whole"
    assert "section: ffmpeg" in item.origin["instead_of"]
    same(item, whole, (33.3, 43.3))


def test_one_file_with_both_streams_and_an_index_of_each(tmp_path: Path) -> None:
    both = tmp_path / "both.mp4"
    ffmpeg(*source(90), "-c:v", "libx264", "-preset", "ultrafast", "-g", 25, "-keyint_min", 25, "-sc_threshold", 0,
           "-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov+default_base_moof+global_sidx", both)  # fmt: skip
    with TwoStreams({"both": both}, 90) as server:
        item = server.fetch(tmp_path / "into", (42.3, 47.3))
        assert item.origin["how"] == "ranges", item.origin
        assert server.media.count("both") == 2
        same(item, Obtained(both, 0.0, True, True), (42.3, 47.3))


@pytest.mark.parametrize("pieces", ["ranges", "auto"])
def test_real_files(pieces: str, shared: Path, tmp_path: Path) -> None:
    """Files of the web, each behind the local YouTube: whatever way it takes, the clip is right."""
    names = {}
    for path in sorted((shared / "media").rglob("*")):
        if path.suffix not in (".mp4", ".webm") or path.parent.name == "hostile":
            continue
        if path.suffix == ".mp4" and b"moof" not in path.read_bytes():
            continue
        reference = Obtained(path, 0.0, True, True)
        span = (0.5, 1.5)
        try:
            pictures, sound = shown(reference, span), heard(reference, span)
        except ClipError:
            continue
        with TwoStreams({"both": path}, None) as server:
            item = server.fetch(tmp_path / path.stem, span, pieces=pieces)
        names[path.name] = item.origin["how"]
        assert shown(item, span) == pictures, path
        np.testing.assert_array_equal(heard(item, span), sound, err_msg=path.name)
    assert "ranges" in names.values(), names


def test_the_index_agrees_with_the_file(pairs: Maker) -> None:
    data = pairs("short")["picture"].read_bytes()
    index = read_index(data[:8192], len(data))
    assert isinstance(index, FragmentIndex)
    assert len(index.fragments) == SHORT // 5
    assert all(data[f.start_byte + 4 : f.start_byte + 8] == b"moof" for f in index.fragments)
    assert index.end_seconds == pytest.approx(SHORT, abs=0.5)
