"""A walk over a tar finds what `tarfile` finds, and says what is wrong with one that cannot be walked."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.archives import ArchiveError, Place
from valor_data.archives.parts import MediaParts, media_parts
from valor_data.archives.tar import split_name, walk, walk_samples

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def make(members: list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT, extra: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in members:
            if extra:
                folder = tarfile.TarInfo("a folder")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
                link = tarfile.TarInfo("link.mp4")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(link)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/\n", exclude_categories=["Cs"]), min_size=1, max_size=150
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=5), st.sampled_from(["gnu", "pax"]), st.booleans())
def test_the_same_members_as_tarfile(members: list[tuple[str, bytes]], format: str, extra: bool) -> None:
    data = make(members, FORMATS[format], extra)
    found = list(walk(io.BytesIO(data), "x.tar"))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar if info.isreg()]
    assert [(m.name, m.offset, m.size) for m in found] == expected
    assert [data[m.offset : m.offset + m.size] for m in found] == [content for _, content in members]


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_part_of_a_tar_can_be_walked_alone(format: str) -> None:
    """From the first header of a sample to its end, long names included."""
    long_name = "d" * 90 + "/" + "n" * 60
    data = make([("a.mp4", b"1" * 700), (f"{long_name}.mp4", b"2"), (f"{long_name}.txt", b"3"), ("b.mp4", b"4")],
                FORMATS[format])  # fmt: skip
    whole = list(walk_samples(io.BytesIO(data), "x.tar"))
    assert [sample.key for sample in whole] == ["a", long_name, "b"]
    for sample in whole:
        assert list(walk_samples(io.BytesIO(data), "x.tar", sample.start, sample.end)) == [sample]


def test_samples_are_those_of_webdataset(tmp_path: object) -> None:
    import webdataset

    members = [("a/x.frame_00.jpg", b"0"), ("a/x.JSON", b"1"), ("b/x.mp4", b"2"), ("y.mel.npy", b"3"), ("y.mp4", b"4")]
    path = f"{tmp_path}/x.tar"
    with open(path, "wb") as file:
        file.write(make(members))
    theirs = [
        (files["__key__"], {name for name in files if not name.startswith("__")})
        for files in webdataset.WebDataset(path, shardshuffle=False)
    ]
    with open(path, "rb") as file:
        assert [(s.key, set(s.members)) for s in walk_samples(file, path)] == theirs


def test_names() -> None:
    assert split_name("raid/valor_videos/-0B_x_30.000_40.000.mp4") == ("raid/valor_videos/-0B_x_30.000_40.000", "mp4")
    assert split_name("./k.frame_03.JPG") == ("k", "frame_03.jpg")
    assert split_name("noextension") == ("noextension", "")
    assert split_name("d/.hidden.mp4")[1] == ""


READ_WHERE_THEY_LIE = "members are read where they lie: unpack it to a plain .tar first"
GOOD = make([("a.mp4", b"x" * 3000), ("b.mp4", b"y" * 10)])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x.tar: the file is empty; get it again"),
        (GOOD[:2000], "x.tar: is cut off: a member at byte 0 ends at 3512, the file at 2000; get it again"),
        (GOOD[: 3584 + 100], "x.tar: is cut off in a header at byte 3584; get it again"),
        (
            gzip.compress(GOOD),
            "x.tar: is compressed, and members are read where they lie: unpack it to a plain .tar first",
        ),
        (b"<html>" * 200, "x.tar: no tar, or damaged at byte 0; get it again"),
        (GOOD[:3584] + b"?" + GOOD[3585:], "x.tar: no tar, or damaged at byte 3584; get it again"),
    ],
)
def test_what_cannot_be_walked(data: bytes, words: str) -> None:
    with pytest.raises(ArchiveError) as refusal:
        list(walk(io.BytesIO(data), "x.tar"))
    assert str(refusal.value) == words


def test_without_its_last_blocks_a_tar_is_read_all_the_same() -> None:
    """Some programs leave the end mark out."""
    assert [m.name for m in walk(io.BytesIO(GOOD[: 3584 + 1024]), "x.tar")] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("../x.mp4", b"")], "member '../x.mp4': a name that leads out of the tar"),
        ([("/etc/x.mp4", b"")], "member '/etc/x.mp4': a name that leads out of the tar"),
        ([("a/../../x.mp4", b"")], "member 'a/../../x.mp4': a name that leads out of the tar"),
        ([("x.mp4", b"1"), ("x.mp4", b"2")], "member 'x.mp4': is there twice"),
    ],
)
def test_samples_that_cannot_be_used(members: list[tuple[str, bytes]], problem: str) -> None:
    (sample,) = walk_samples(io.BytesIO(make(members)), "x.tar")
    assert sample.problem == problem


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["mp4", "json", "txt"], MediaParts("mp4")),
        (["mp4", "flac", "mel.npy", "frame_00.jpg"], MediaParts("mp4", "flac")),
        (["video.webm"], MediaParts("video.webm")),
        (["mp4", "preview.mp4"], MediaParts("mp4")),
        (["frame_01.jpg", "frame_00.jpg", "wav"], MediaParts("", "wav", ("frame_00.jpg", "frame_01.jpg"))),
        (["json", "txt"], MediaParts()),
    ],
)
def test_which_members_are_the_media(listed: list[str], expected: MediaParts) -> None:
    assert media_parts(listed) == expected
    assert bool(expected) == (expected != MediaParts())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: media_parts(["a.mp4", "b.mp4"]), r"several videos \(a.mp4, b.mp4\): name one with --member"),
        (lambda: media_parts(["mp4"], "webm"), "no member 'webm'; there are mp4"),
    ],
)
def test_media_that_cannot_be_told(call: Callable[[], MediaParts], words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        call()


def test_a_named_member_is_it() -> None:
    assert media_parts(["a.mp4", "b.mp4"], "b.mp4") == MediaParts("b.mp4")
    assert media_parts(["a.mp4", "wav"], "wav") == MediaParts(sound="wav")


@given(st.text(), st.integers(0, 10**12), st.integers(0, 10**12), st.text())
def test_places_are_read_as_they_were_written(file: str, start: int, end: int, key: str) -> None:
    try:
        f"{file}{key}".encode()
    except UnicodeEncodeError:
        return
    for place in (Place("tar", file, start, end, key), Place("parquet", file, start, 0, key)):
        assert Place.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", [None, "", "https://x/?at=1", "tar:x", "tar:x?at=a-b&key=k", "parquet:x?key=k", "tar:x?at=1-2"]
)
def test_other_addresses_are_no_places(text: str | None) -> None:
    assert Place.parse(text) is None
