"""A folder of files that somebody has: which file is which clip, by its name alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from valor_data.clip import make_key, open_key
from valor_data.config import FetchSection
from valor_data.errors import ClipError, ConfigError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.folder import FolderSource, clip_stems

SETTINGS = FetchSection()


def request(video_id: str, start: float, end: float | None, number: int = 1) -> ClipRequest:
    identity = open_key(video_id, start) if end is None else make_key(video_id, start, end)
    return ClipRequest(number, identity, start, end)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def found(folder: Path | str, video_id: str, *spans: tuple[float, float | None]) -> list[tuple[str, float] | str]:
    """For each span the name of the file and the video's second at which it begins, or why there is none."""
    clips = [request(video_id, start, end, number) for number, (start, end) in enumerate(spans)]
    results = FolderSource(str(folder)).find(video_id, None, clips).obtain(clips, Path("/nowhere"), SETTINGS)
    assert sorted(results) == list(range(len(spans)))
    told: list[tuple[str, float] | str] = []
    for _, item in sorted(results.items()):
        if isinstance(item, ClipError):
            told.append(str(item))
        else:
            assert item.in_place and item.path.is_absolute()
            assert item.origin == {"extractor": "folder", "name": item.path.name}
            assert item.offset_seconds == 0.0 or not item.whole_video
            told.append((item.path.name, item.offset_seconds))
    return told


@pytest.mark.parametrize(
    "video_id", ["x-2Abohj8VY", "-0BIyqJj9ZU", "_x_30_40___", "abc_000030", "plain_id-12", "a.b c"]
)
@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("{id}.mp4", 0.0),
        ("{id}_30.000_40.000.mp4", 30.0),  # VALOR
        ("{id}_30_40.webm", 30.0),
        ("{id}_30000_40000.mkv", 30.0),  # AudioSet
        ("{id}_000030.mp4", 30.0),  # VGGSound
        ("{key}.mp4", 30.0),
    ],
)
def test_namings(tmp_path: Path, video_id: str, name: str, offset: float) -> None:
    file = name.format(id=video_id, key=make_key(video_id, 30, 40))
    touch(tmp_path, file, "other.mp4", "notes.txt")
    assert found(tmp_path, video_id, (30.0, 40.0)) == [(file, offset)]


def test_fractions_of_a_second(tmp_path: Path) -> None:
    touch(tmp_path, "a_1.250_3.700.mp4", "b_1250_3700.mp4", "c_000001.mp4", "d_1_3.mp4")
    for video_id, names in (("a", "a_1.250_3.700.mp4"), ("b", "b_1250_3700.mp4")):
        assert found(tmp_path, video_id, (1.25, 3.7)) == [(names, 1.25)]
    for video_id in "cd":
        assert found(tmp_path, video_id, (1.25, 3.7)) == [f"missing: no file for {video_id}_00001250_00003700"]


def test_other_spans_of_a_video_are_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a_30.000_40.000.mp4", "a_000050.mp4")
    assert found(tmp_path, "a", (30, 40), (30, 41), (50, 60), (0, 10)) == [
        ("a_30.000_40.000.mp4", 30),
        "missing: no file for a_00030000_00041000",
        ("a_000050.mp4", 50),
        "missing: no file for a_00000000_00010000",
    ]


def test_a_clips_own_file_is_preferred_to_the_whole_video(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a_000030.mp4", "a_30_40.mp4")
    assert found(tmp_path, "a", (30, 40), (50, 60)) == [("a_30_40.mp4", 30), ("a.mp4", 0)]
    touch(tmp_path, f"{make_key('a', 30, 40)}.mp4")
    assert found(tmp_path, "a", (30, 40)) == [(f"{make_key('a', 30, 40)}.mp4", 30)]


def test_ids_are_never_recased(tmp_path: Path) -> None:
    touch(tmp_path, "ABCdefghijk.mp4")
    assert found(tmp_path, "abcDEFGHIJK", (0, 1)) == ["missing: no file for abcDEFGHIJK_00000000_00001000"]


def test_a_video_without_an_end(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b_000030.mp4")
    assert found(tmp_path, "a", (0.0, None)) == [("a.mp4", 0)]
    assert found(tmp_path, "b", (30.0, None)) == [("b_000030.mp4", 30)]


def test_an_id_that_looks_like_an_ending_is_its_own_video(tmp_path: Path) -> None:
    touch(tmp_path, "abc_000030.mp4")
    assert found(tmp_path, "abc_000030", (0, 5)) == [("abc_000030.mp4", 0)]
    assert found(tmp_path, "abc", (0, 5)) == ["missing: no file for abc_00000000_00005000"]


def test_of_several_extensions_the_first_in_order_counts(tmp_path: Path) -> None:
    names = ["a.webm", "a.mp4", "a.MKV", "a.jpg", "a.info.json", "a.mp4.part"]
    for order in (names, names[::-1]):
        for file in tmp_path.iterdir():
            file.unlink()
        touch(tmp_path, *order)
        assert found(tmp_path, "a", (0, 1)) == [("a.MKV", 0)]
        assert len(FolderSource(str(tmp_path))) == 1


def test_subfolders_and_links(tmp_path: Path) -> None:
    touch(tmp_path / "set", "one/two/a.mp4", "b.mp4")
    touch(tmp_path / "far", "c.mp4")
    os.symlink(tmp_path / "far", tmp_path / "set" / "link")
    source = FolderSource(str(tmp_path / "set"))
    assert len(source) == 3
    for video_id in "abc":
        assert found(tmp_path / "set", video_id, (0, 1)) == [(f"{video_id}.mp4", 0)]


def test_a_relative_folder_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "-odd/-a.mp4")
    monkeypatch.chdir(tmp_path)
    clips = [request("-a", 0, 1)]
    item = FolderSource("-odd").find("-a", None, clips).obtain(clips, tmp_path, SETTINGS)[1]
    assert isinstance(item, Obtained) and item.path == tmp_path / "-odd" / "-a.mp4"


def test_copies_are_not_in_place(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    clips = [request("a", 0, 1)]
    item = FolderSource(str(tmp_path)).find("a", None, clips).obtain(clips, tmp_path, FetchSection(copy=True))[1]
    assert isinstance(item, Obtained) and not item.in_place


def test_strangers(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a_30_40.mp4", "a_000030.mp4", f"{make_key('a', 1, 2)}.mp4", "z.mp4", "b_1_2.mp4", "n.txt")
    touch(tmp_path, "trip [dQw4w9WgXcQ].mp4", f"{make_key('c.d', 1, 2)}.mp4", "c=2Ed.mp4")
    source = FolderSource(str(tmp_path))
    assert source.strangers({"a", "c.d"}) == ["b_1_2", "trip [dQw4w9WgXcQ]", "z"]
    assert source.strangers({"a", "b", "z", "c.d", "trip [dQw4w9WgXcQ]"}) == []


# -- fsspec addresses


@pytest.fixture
def bucket() -> Iterator[str]:
    filesystem: Any = fsspec.filesystem("memory")
    filesystem.pipe("/bucket/sub/-a.mp4", b"whole")
    filesystem.pipe("/bucket/b_30_40.webm", b"clip")
    yield "memory://bucket"
    filesystem.rm("/bucket", recursive=True)


def test_a_remote_folder_is_copied_once_a_file(bucket: str, tmp_path: Path) -> None:
    source = FolderSource(bucket)
    assert (source.remote, len(source)) == (True, 2)
    clips = [request("-a", 0, 1, 1), request("-a", 5, 6, 2)]
    items = source.find("-a", None, clips).obtain(clips, tmp_path, SETTINGS)
    one, other = items[1], items[2]
    assert isinstance(one, Obtained) and isinstance(other, Obtained)
    assert one.path == other.path
    assert (one.path.read_bytes(), one.path.suffix, one.in_place, one.whole_video) == (b"whole", ".mp4", False, True)
    assert one.origin == {"extractor": "folder", "name": "-a.mp4"}
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]
    clips = [request("b", 30, 40, 3)]
    clip = source.find("b", None, clips).obtain(clips, tmp_path, SETTINGS)[3]
    assert isinstance(clip, Obtained)
    assert (clip.path.read_bytes(), clip.offset_seconds, clip.whole_video) == (b"clip", 30, False)


def test_a_remote_file_that_went_away(bucket: str, tmp_path: Path) -> None:
    """Its clips wait; those of another object are none the worse for it."""
    clips = [request("-a", 0, 1, 1), request("-a", 30, 40, 2)]
    fsspec.filesystem("memory").pipe("/bucket/-a_30_40.mp4", b"clip")
    location = FolderSource(bucket).find("-a", None, clips)
    fsspec.filesystem("memory").rm("/bucket/sub/-a.mp4")
    lost, there = (item for _, item in sorted(location.obtain(clips, tmp_path, SETTINGS).items()))
    assert str(lost) == "missing: memory://bucket/sub/-a.mp4 is no longer there"
    assert isinstance(there, Obtained)


def test_a_remote_folder_that_is_not_there(bucket: str) -> None:
    with pytest.raises(ConfigError, match="source 'memory://bucket/none': no such folder"):
        FolderSource("memory://bucket/none")


@pytest.mark.parametrize("address", ["s3://name:secret@bucket/videos", "s3://bucket/videos?key=secret"])
def test_an_address_with_a_secret_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"source s3://.*bucket/videos: an address must hold no name:password@") as e:
        FolderSource(address)
    assert "secret" not in str(e.value)


# -- names and ids, whatever they are

ids = st.text("aZ09_-.=", min_size=1, max_size=12)
spans = st.tuples(st.integers(0, 200_000), st.integers(1, 20_000))


@given(ids, spans)
def test_the_names_of_a_clip_are_many_and_hold_its_id(video_id: str, span: tuple[int, int]) -> None:
    start, end = span[0] / 1000, (span[0] + span[1]) / 1000
    stems = list(clip_stems(video_id, request(video_id, start, end)))
    assert stems[0] == make_key(video_id, start, end)
    assert len(set(stems)) == len(stems)
    assert all(stem.startswith(video_id) for stem in stems[1:])
    assert f"{video_id}_{start:.3f}_{end:.3f}" in stems


@given(ids, spans, spans)
def test_two_clips_of_a_video_hardly_ever_claim_one_name(
    video_id: str, one: tuple[int, int], other: tuple[int, int]
) -> None:
    assume(one != other)
    (a, b), (c, d) = ((start, start + length) for start, length in (one, other))
    names = [set(clip_stems(video_id, request(video_id, x / 1000, y / 1000))) for x, y in ((a, b), (c, d))]
    # VGGSound's naming has no end: clips that begin at the same whole second share that name.
    shared = (names[0] & names[1]) - {f"{video_id}_{a // 1000:06d}"}
    # And a name in whole seconds is one in whole milliseconds too, of a clip a thousand times as early and short.
    thousandfold = (a, b) == (1000 * c, 1000 * d) or (c, d) == (1000 * a, 1000 * b)
    assert bool(shared) == thousandfold
