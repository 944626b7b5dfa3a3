"""The work on one video: its clips' files come into place whole, once, and survive a kill in between."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_media import SECONDS, make_video

from valor_data.clip import make_key, open_key, parse_key
from valor_data.config import FetchSection
from valor_data.errors import ClipError, Status, ValorDataError
from valor_data.fetch import ClipRequest, FetchedClip, Obtained, VideoResult, VideoUnit
from valor_data.fetch import video as video_module
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.video import check_result, discard, fetch_video, recover
from valor_data.ledger import MediaRow, Outcome
from valor_data.media.probe import probe
from valor_data.workdir import WorkDir

ID = "-video_0001"
LONG_SECONDS = 12.0


@dataclasses.dataclass(frozen=True)
class Downloads:
    """A place that gives the same file for every clip, as a download does, or refuses."""

    file: Path
    refusal: ClipError | None = None
    error: Exception | None = None

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        assert list(into.iterdir()) == []
        if self.refusal or self.error:
            raise self.refusal or self.error  # type: ignore[misc]
        path = into / f"video{self.file.suffix}"
        shutil.copyfile(self.file, path)
        item = Obtained(path, 0.0, whole_video=True, in_place=False, origin={"extractor": "test"})
        return {clip.clip_id: item for clip in clips}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("short") / "v.mp4")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds with a key picture each second."""
    import av

    path = tmp_path_factory.mktemp("long") / "v.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"g": "10", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for number in range(int(LONG_SECONDS * 10)):
            picture = av.VideoFrame(64, 64, "yuv420p")
            for plane, value in zip(picture.planes, (16 + number, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            picture.pts = number
            container.mux(video.encode(picture))
        for number in range(int(LONG_SECONDS * 16_000) // 1024):
            frame = av.AudioFrame("fltp", "mono", 1024)
            frame.sample_rate, frame.pts = 16_000, 1024 * number
            frame.planes[0].update(bytes(4096))
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    return WorkDir.at(tmp_path / "work")


def request(start: float, end: float | None, number: int = 1, video_id: str = ID) -> ClipRequest:
    identity = open_key(video_id, start) if end is None else make_key(video_id, start, end)
    return ClipRequest(number, identity, start, end)


def unit_of(work: WorkDir, location: Any, *clips: ClipRequest, video_id: str = ID, **settings: Any) -> VideoUnit:
    return VideoUnit(video_id, clips, location, FetchSection(**settings), work.root, work.own_tmp())


def fetch(work: WorkDir, location: Any, *clips: ClipRequest, **settings: Any) -> dict[int, FetchedClip]:
    unit = unit_of(work, location, *clips, **settings)
    result = fetch_video(unit)
    check_result(unit, result)
    assert [path for path in work.own_tmp().iterdir() if not path.name.endswith(".journal.json")] == []
    return {clip.clip_id: clip for clip in result.clips}


def media_of(clip: FetchedClip) -> MediaRow:
    assert clip.outcome == Outcome.kept() and clip.media is not None, clip.outcome
    return clip.media


def refusal_of(clip: FetchedClip) -> tuple[str, str]:
    assert clip.media is None and clip.key is None
    return clip.outcome.reason, clip.outcome.detail


def from_folder(folder: Path, *clips: ClipRequest, video_id: str = ID) -> Any:
    return FolderSource(str(folder)).find(video_id, None, clips)


# -- what becomes of a file


def test_a_file_hardly_longer_than_its_clip_is_kept_as_it_is(work: WorkDir, short: Path) -> None:
    clip = request(0.5, SECONDS - 0.5)
    media = media_of(fetch(work, Downloads(short), clip)[1])
    file = work.root / media.path
    assert file == work.media_file(clip.identity, "mp4")
    assert file.read_bytes() == short.read_bytes()
    assert (media.offset_seconds, media.size_bytes) == (0.0, short.stat().st_size)
    assert json.loads(media.source) == {"container": "mp4", "extractor": "test"}


def test_a_long_video_is_cut_to_its_clips(work: WorkDir, long: Path) -> None:
    clips = request(4.0, 6.0, 1), request(8.5, 10.0, 2)
    found = fetch(work, Downloads(long), *clips)
    for clip in clips:
        media = media_of(found[clip.clip_id])
        assert found[clip.clip_id].key == clip.identity
        file = work.root / media.path
        assert file.stat().st_size == media.size_bytes < long.stat().st_size / 2
        length = probe(file).duration_seconds
        assert length is not None and clip.end is not None
        assert media.offset_seconds <= clip.start
        assert media.offset_seconds + length >= clip.end - 0.05
        assert length < 5.0


def test_two_clips_of_a_file_that_is_kept_share_its_bytes(work: WorkDir, short: Path) -> None:
    found = fetch(work, Downloads(short), request(0.0, 1.0, 1), request(1.0, 2.0, 2))
    files = [work.root / media_of(found[number]).path for number in (1, 2)]
    assert files[0] != files[1]
    assert os.path.samefile(*files)
    files[0].unlink()
    assert files[1].read_bytes() == short.read_bytes()


def test_the_extension_is_that_of_the_content(work: WorkDir, short: Path, tmp_path: Path) -> None:
    odd = tmp_path / "video.unknown_video"
    shutil.copyfile(short, odd)
    assert media_of(fetch(work, Downloads(odd), request(0.0, 1.0))[1]).path.endswith(".mp4")


def test_a_refusal_is_every_clips(work: WorkDir, short: Path) -> None:
    found = fetch(work, Downloads(short, ClipError("gone", "404")), request(0, 1, 1), request(1, 2, 2))
    assert {clip.outcome for clip in found.values()} == {Outcome(Status.DROPPED, "gone", "404")}


def test_a_page_is_refused_and_nothing_is_left(work: WorkDir, tmp_path: Path) -> None:
    page = tmp_path / "video.mp4"
    page.write_text("<!doctype html>" + " " * 1000)
    reason, _ = refusal_of(fetch(work, Downloads(page), request(0, 1))[1])
    assert reason == "not_media"
    assert not work.media.exists()


def test_a_disk_that_fails_blames_no_clip(work: WorkDir, short: Path) -> None:
    full = OSError(28, "No space left on device")
    reason, detail = refusal_of(fetch(work, Downloads(short, error=full), request(0, 1))[1])
    assert (reason, "No space left on device" in detail) == ("disk", True)
    work.media.parent.mkdir(parents=True, exist_ok=True)
    work.media.write_text("a file where a folder should be")
    reason, _ = refusal_of(fetch(work, Downloads(short), request(0, 1))[1])
    assert reason == "disk"


# -- whole videos


def test_a_whole_video_gets_its_end_and_its_key(work: WorkDir, short: Path) -> None:
    found = fetch(work, Downloads(short), request(0.0, None))[1]
    duration = probe(short).duration_seconds
    assert duration is not None and found.key is not None
    video_id, start, end = parse_key(found.key)
    assert (video_id, start, end) == (ID, 0.0, math.floor(duration * 1000) / 1000)
    assert media_of(found).path == str(work.media_file(found.key, "mp4").relative_to(work.root))


def test_a_whole_video_that_is_a_clip_of_the_manifest(work: WorkDir, short: Path) -> None:
    duration = probe(short).duration_seconds
    assert duration is not None
    whole, listed = request(0.0, None, 1), request(0.0, math.floor(duration * 1000) / 1000, 2)
    found = fetch(work, Downloads(short), whole, listed)
    assert refusal_of(found[1]) == ("duplicate", f"{listed.identity} is another clip of the manifest")
    assert found[2].key == listed.identity and media_of(found[2])


def test_a_video_from_a_second_on(work: WorkDir, long: Path) -> None:
    found = fetch(work, Downloads(long), request(5.0, None))[1]
    assert found.key is not None
    _, start, end = parse_key(found.key)
    assert start == 5.0
    assert end == pytest.approx(LONG_SECONDS, abs=0.2)


def test_whole_videos_that_are_too_long_or_over_before_they_begin(work: WorkDir, short: Path) -> None:
    reason, detail = refusal_of(fetch(work, Downloads(short), request(0.0, None), max_video_seconds=1.0)[1])
    assert (reason, "fetch.max_video_seconds is 1" in detail) == ("too_long", True)
    for end in (None, 100.0):
        reason, detail = refusal_of(fetch(work, Downloads(short), request(90.0, end))[1])
        assert reason == "short"
        assert "the video lasts 2.0" in detail and "the clip begins at 90.00 s" in detail
    assert "if the file is the clip itself" not in detail
    reason, detail = refusal_of(fetch(work, Downloads(short), request(90.0, 90.0 + SECONDS))[1])
    assert detail.endswith("; if the file is the clip itself, name it <id>_<start>_<end>")


# -- a folder of files


def test_files_of_a_folder_are_used_in_place(work: WorkDir, short: Path, tmp_path: Path) -> None:
    clip = request(30.0, 32.0)
    file = make_video(tmp_path / "videos" / f"{ID}_30.000_32.000.mp4")
    media = media_of(fetch(work, from_folder(tmp_path / "videos", clip), clip)[1])
    assert (media.path, media.offset_seconds) == (str(file), 30.0)
    assert not work.media.exists()


def test_copy_takes_the_bytes_into_the_work_folder(work: WorkDir, tmp_path: Path) -> None:
    clip = request(30.0, 32.0)
    file = make_video(tmp_path / "videos" / f"{ID}_30.000_32.000.mp4")
    media = media_of(fetch(work, from_folder(tmp_path / "videos", clip), clip, copy=True)[1])
    copy = work.root / media.path
    assert copy == work.media_file(clip.identity, "mp4")
    assert copy.read_bytes() == file.read_bytes() and not os.path.samefile(copy, file)


def test_a_name_that_does_not_fit_the_duration(work: WorkDir, long: Path, tmp_path: Path) -> None:
    clip = request(30.0, 32.0)
    name = f"{ID}_30.000_32.000.mp4"
    (tmp_path / "videos").mkdir()
    shutil.copyfile(long, tmp_path / "videos" / name)
    reason, detail = refusal_of(fetch(work, from_folder(tmp_path / "videos", clip), clip)[1])
    assert reason == "wrong_duration"
    assert detail.startswith(f"{name} is named as a clip of 2.00 s but lasts 12.0")


def test_a_whole_video_without_its_file(work: WorkDir, tmp_path: Path) -> None:
    clips = request(0.0, 1.0, 1), request(0.0, None, 2)
    (tmp_path / "videos").mkdir()
    found = fetch(work, from_folder(tmp_path / "videos", *clips), *clips)
    assert refusal_of(found[1]) == ("missing", f"no file for {ID}_00000000_00001000")
    assert refusal_of(found[2]) == ("missing", f"no file for {ID}_00000000_open")


def test_an_end_from_a_clip_file(work: WorkDir, tmp_path: Path) -> None:
    clip = request(30.0, None)
    make_video(tmp_path / "videos" / f"{ID}_000030.mp4")
    found = fetch(work, from_folder(tmp_path / "videos", clip), clip)[1]
    assert found.key is not None
    assert parse_key(found.key)[1:] == (30.0, pytest.approx(30 + SECONDS, abs=0.1))
    assert media_of(found).offset_seconds == 30.0


# -- kills


def journaled(work: WorkDir, short: Path, monkeypatch: pytest.MonkeyPatch, *clips: ClipRequest) -> None:
    """A work folder as a kill leaves it between the journal and the renames."""
    from valor_data.fetch import video

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(video, "_put_in_place", killed)
        patch.setattr(video.shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
        with pytest.raises(Killed):
            fetch_video(unit_of(work, Downloads(short), *clips))
    assert len(list(work.tmp.glob("*/*.journal.json"))) == 1
    assert not work.media.exists()


def test_what_is_journaled_arrives(work: WorkDir, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = request(0.0, 1.0, 1), request(1.0, 2.0, 2)
    undisturbed = fetch(WorkDir.at(work.root.with_name("other")), Downloads(short), *clips)
    journaled(work, short, monkeypatch, *clips)
    arrived = {clip.clip_id: clip for clip in recover(work)}
    assert arrived == undisturbed
    for clip in arrived.values():
        assert (work.root / media_of(clip).path).read_bytes() == short.read_bytes()
    # A second recovery, and one after the files were moved, say the same.
    assert {clip.clip_id: clip for clip in recover(work)} == undisturbed


def test_a_machine_thought_dead_that_goes_on_writing_spoils_nothing(
    work: WorkDir, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its video is fetched again on another machine, and both come to an end."""
    elsewhere: list[VideoResult] = []

    class OnTwoMachines(Downloads):
        def obtain(self, *arguments: Any) -> dict[int, Obtained | ClipError]:
            found = super().obtain(*arguments)
            with monkeypatch.context() as patch:
                patch.setattr(socket, "gethostname", lambda: "another")
                elsewhere.append(fetch_video(dataclasses.replace(unit, location=Downloads(short))))
            return found

    unit = unit_of(work, OnTwoMachines(short), request(0.0, SECONDS))
    here = fetch_video(unit)
    assert here.clips == elsewhere[0].clips
    assert here.journal != elsewhere[0].journal
    assert (work.root / media_of(here.clips[0]).path).read_bytes() == short.read_bytes()
    assert sorted(unit.tmp.iterdir()) == sorted(result.journal for result in (here, *elsewhere) if result.journal)


def test_what_lost_workers_had_of_a_video_is_discarded(
    work: WorkDir, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    class Kills(Downloads):
        def obtain(self, *arguments: Any) -> dict[int, Obtained | ClipError]:
            super().obtain(*arguments)
            raise Killed

    unit, other = (unit_of(work, Kills(short), request(0.0, 1.0), video_id=video_id) for video_id in (ID, "another"))
    for host in ("one", "two"):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda host=host: host)
            patch.setattr(video_module.shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
            for lost in (unit, other):
                with pytest.raises(Killed):
                    fetch_video(lost)
    assert len(list(unit.tmp.iterdir())) == 4
    discard(unit)
    assert len(list(unit.tmp.iterdir())) == 2


def test_a_kill_between_two_renames(work: WorkDir, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = request(0.0, 1.0, 1), request(1.0, 2.0, 2)
    journaled(work, short, monkeypatch, *clips)
    (journal,) = work.tmp.glob("*/*.journal.json")
    first = json.loads(journal.read_text())[0]
    Path(first["final"]).parent.mkdir(parents=True)
    os.rename(first["temporary"], first["final"])
    assert sorted(clip.clip_id for clip in recover(work)) == [1, 2]


def test_files_that_are_not_whole_do_not_arrive(work: WorkDir, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journaled(work, short, monkeypatch, request(0.0, 1.0, 1))
    (journal,) = work.tmp.glob("*/*.journal.json")
    (item,) = json.loads(journal.read_text())
    temporary = Path(item["temporary"])
    temporary.write_bytes(short.read_bytes()[:-1])
    assert recover(work) == []
    temporary.unlink()
    assert recover(work) == []
    journal.write_text(journal.read_text()[:-5])
    assert recover(work) == []


def test_files_in_place_arrive_only_while_they_are_the_same(work: WorkDir, tmp_path: Path) -> None:
    clip = request(30.0, 32.0)
    file = make_video(tmp_path / "videos" / f"{ID}_30.000_32.000.mp4")
    media = media_of(fetch(work, from_folder(tmp_path / "videos", clip), clip)[1])
    assert [media_of(found) for found in recover(work)] == [media]
    file.write_bytes(file.read_bytes() + b"x")
    assert recover(work) == []


def test_nothing_to_recover(work: WorkDir) -> None:
    assert recover(work) == []


# -- one outcome for each clip


@pytest.mark.parametrize(
    "answered",
    [
        (),
        (1, 1),
        (1, 2, 3),
        (2, 3),
    ],
)
def test_a_source_that_answers_for_other_clips(work: WorkDir, short: Path, answered: tuple[int, ...]) -> None:
    unit = unit_of(work, Downloads(short), request(0, 1, 1), request(1, 2, 2))
    clips = tuple(FetchedClip(number, Outcome.refused("gone")) for number in answered)
    with pytest.raises(ValorDataError, match=rf"{ID}: asked for clips \[1, 2\], the source answered for"):
        check_result(unit, VideoResult(clips))


def test_a_clip_that_is_kept_without_media(work: WorkDir, short: Path) -> None:
    unit = unit_of(work, Downloads(short), request(0, 1, 1))
    with pytest.raises(ValorDataError, match="asked for clips"):
        check_result(unit, VideoResult((FetchedClip(1, Outcome.kept()),)))
