"""The index of a file, honest, damaged and hostile: read, asked for, or refused; never a hang."""

from __future__ import annotations

import struct
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.media.fragment_index import check_run, read_index
from valor_data.media.fragments import (
    FIRST_REQUEST_BYTES,
    MARGIN_SECONDS,
    MAX_HEAD_BYTES,
    FragmentIndex,
    IndexRefused,
    MoreBytes,
)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def track(number: int, handler: bytes, version: int = 0) -> bytes:
    head = struct.pack(">BxxxQQII", 1, 0, 0, number, 0) if version else struct.pack(">BxxxIIII", 0, 0, 0, number, 0)
    return box(b"trak", box(b"tkhd", head) + box(b"mdia", box(b"hdlr", bytes(8) + handler)))


def sidx(
    entries: list[tuple[int, int]],
    *,
    version: int = 0,
    number: int = 1,
    timescale: int = 1000,
    earliest: int = 0,
    first_offset: int = 0,
    kind: int = 0,
    sap: int = 0x90000000,
    count: int | None = None,
) -> bytes:
    """A `sidx`; entries are (bytes, ticks)."""
    content = struct.pack(">BxxxII", version, number, timescale)
    content += struct.pack(">QQ" if version else ">II", earliest, first_offset)
    content += struct.pack(">HH", 0, len(entries) if count is None else count)
    return box(b"sidx", content + b"".join(struct.pack(">III", kind << 31 | size, t, sap) for size, t in entries))


def fragment(size: int, tfhd_flags: int = 0x020000) -> bytes:
    header = box(b"tfhd", struct.pack(">I", tfhd_flags) + bytes(8))
    moof = box(b"moof", box(b"traf", header))
    return moof + box(b"mdat", bytes(size - len(moof) - 8))


FTYP = box(b"ftyp", b"iso5" + bytes(8))
MOOV = box(b"moov", track(1, b"soun") + track(2, b"vide", version=1))


def mp4(*indices: bytes, sizes: tuple[int, ...] = (300, 200, 100)) -> bytes:
    return FTYP + MOOV + b"".join(indices) + b"".join(fragment(size) for size in sizes)


ENTRIES = [(300, 5000), (200, 5000), (100, 2500)]


def read(data: bytes) -> FragmentIndex:
    found = read_index(data, len(data))
    assert isinstance(found, FragmentIndex)
    return found


@pytest.mark.parametrize("version", [0, 1])
def test_sidx(version: int) -> None:
    data = mp4(sidx(ENTRIES, version=version, earliest=250))
    index = read(data)
    assert index.head == FTYP + MOOV, "the index is left out"
    assert [(f.start_seconds, f.end_seconds) for f in index.fragments] == [(0.25, 5.25), (5.25, 10.25), (10.25, 12.75)]
    assert index.fragments[-1].end_byte == len(data)
    check_run(index, data[slice(*index.byte_range(1, 3))])
    assert index.covering(6.0, 7.0) == (1, 2)
    assert index.covering(5.25 + MARGIN_SECONDS, 7.0) == (1, 2)
    assert index.covering(5.3, 7.0) == (0, 2), "the margin before reaches into the first"
    assert index.covering(6.0, 10.0) == (1, 3), "the margin behind reaches into the last"
    assert index.covering(-3.0, 100.0) == (0, 3)
    assert index.covering(50.0, 60.0) == (2, 3)


def test_the_first_offset_counts_from_the_end_of_the_box() -> None:
    small = sidx([(77, 1)], number=1, first_offset=len(sidx(ENTRIES)))
    gap = mp4(small, sidx(ENTRIES, number=2))
    assert [f.end_byte - f.start_byte for f in read(gap).fragments] == [300, 200, 100], "the picture's index counts"


def test_fragments_without_an_entry_point_begin_earlier() -> None:
    first, others = struct.pack(">I", 0x90000000), struct.pack(">I", 0)
    table = bytearray(sidx(ENTRIES))
    for entry in (1, 2):
        at = len(table) - 12 * (3 - entry) + 8
        assert table[at : at + 4] == first
        table[at : at + 4] = others
    assert read(mp4(bytes(table))).covering(11.5, 12.0) == (0, 3)
    assert read(mp4(sidx(ENTRIES, sap=0))).covering(11.5, 12.0) == (2, 3), "no mark at all says nothing"


def test_more_of_the_head_is_asked_for() -> None:
    entries = [(300, 5000)] * 1000
    data = mp4(sidx(entries), sizes=(300,) * 1000)
    found = read_index(data[:FIRST_REQUEST_BYTES], len(data))
    assert found == MoreBytes(FIRST_REQUEST_BYTES, len(FTYP + MOOV + sidx(entries)) + FIRST_REQUEST_BYTES)
    assert read_index(data[: found.end], len(data)) == read(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(mp4(sidx(ENTRIES, kind=1)), "index of indices", id="hierarchical"),
        pytest.param(mp4(), "no index", id="no index"),
        pytest.param(mp4(sidx([])), "names no fragment", id="empty"),
        pytest.param(mp4(sidx(ENTRIES, timescale=0)), "0 ticks", id="timescale"),
        pytest.param(mp4(sidx(ENTRIES, version=2)), "version 2", id="version"),
        pytest.param(mp4(sidx(ENTRIES, count=65535)), "65535 fragments", id="count"),
        pytest.param(mp4(sidx([(0, 5000)] * 3)), "the index names bytes", id="no bytes"),
        pytest.param(mp4(sidx([(2**31 - 1, 1)] * 3)), "the index names bytes", id="beyond the file"),
        pytest.param(mp4(sidx(ENTRIES, version=1, first_offset=2**63)), "the index names bytes", id="offset"),
        pytest.param(mp4(sidx(ENTRIES, first_offset=100)), "the index names bytes", id="shifted"),
        pytest.param(mp4(sidx([(300, 5)]), sizes=(300, 9000)), "leaves out the last", id="a part only"),
        pytest.param(FTYP + sidx(ENTRIES) + fragment(300), "before its header", id="no moov"),
        pytest.param(FTYP + MOOV + box(b"mdat", bytes(9)), "not fragmented", id="progressive"),
        pytest.param(FTYP + MOOV, "no fragments", id="header only"),
        pytest.param(FTYP + struct.pack(">I", 4) + b"free", "does not fit", id="a box of no size"),
        pytest.param(FTYP + struct.pack(">I4sQ", 1, b"free", 3), "does not fit", id="a long box of no size"),
        pytest.param(struct.pack(">I", 8) + b"free", "no fragments", id="nothing"),
        pytest.param((struct.pack(">I", 8) + b"free") * 20_000, "more than 10000 boxes", id="many boxes"),
        pytest.param(b"<html>page</html>" + bytes(30), "does not fit", id="a page"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(IndexRefused, match=words):
        read(data)


def test_a_head_without_end_is_refused() -> None:
    head = FTYP + struct.pack(">I", MAX_HEAD_BYTES) + b"moov"
    with pytest.raises(IndexRefused, match="longer than"):
        read_index(head, 10**9)
    with pytest.raises(IndexRefused, match="does not fit"):
        read_index(head, 1000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        fragment(300)[1:],
        fragment(300)[:-1],
        fragment(300) + b"\0",
        box(b"mdat", bytes(10)) + fragment(300),
        fragment(300) + box(b"moov", b""),
        fragment(300, tfhd_flags=0x000001),
        box(b"styp", b"msdh"),
    ],
)
def test_bytes_that_are_no_fragments(body: bytes) -> None:
    index = read(mp4(sidx(ENTRIES)))
    with pytest.raises(IndexRefused):
        check_run(index, body)


# WebM


def number(value: int) -> bytes:
    return (value | 1 << 56).to_bytes(8, "big")


def element(ident: int, content: bytes | int) -> bytes:
    data = content.to_bytes(8, "big") if isinstance(content, int) else content
    return ident.to_bytes((ident.bit_length() + 7) // 8, "big") + number(len(data)) + data


def cluster(size: int) -> bytes:
    return element(0x1F43B675, bytes(size - 12))


def cue(time_ticks: int, position: int, track_number: int = 1) -> bytes:
    return element(
        0xBB, element(0xB3, time_ticks) + element(0xB7, element(0xF7, track_number) + element(0xF1, position))
    )


EBML = element(0x1A45DFA3, b"webm")
TRACKS = element(0x1654AE6B, element(0xAE, element(0xD7, 1) + element(0x83, 1)))
SIZES = (300, 200, 100)


def webm(
    cues_behind: bool = False,
    open_segment: bool = False,
    scale: int = 1_000_000,
    shift: int = 0,
    times: tuple[int, ...] = (0, 5000, 10000),
) -> bytes:
    info = element(0x1549A966, element(0x2AD7B1, scale))

    def head(cues_at: int) -> bytes:
        seek = element(0x4DBB, element(0x53AB, 0x1C53BB6B) + element(0x53AC, cues_at))
        return element(0x114D9B74, seek) + info + TRACKS

    def cues(first: int) -> bytes:
        places = [first, first + SIZES[0], first + SIZES[0] + SIZES[1]]
        points = [cue(t, p + shift) for t, p in zip(times, places, strict=True)]
        return element(0x1C53BB6B, b"".join(points))

    clusters = b"".join(cluster(size) for size in SIZES)
    first = len(head(0)) + (0 if cues_behind else len(cues(0)))
    if cues_behind:
        body = head(first + len(clusters)) + clusters + cues(first)
    else:
        body = head(len(head(0))) + cues(first) + clusters
    size = b"\x01" + b"\xff" * 7 if open_segment else number(len(body))
    return EBML + (0x18538067).to_bytes(4, "big") + size + body


@pytest.mark.parametrize("open_segment", [False, True])
@pytest.mark.parametrize("cues_behind", [False, True])
def test_cues(cues_behind: bool, open_segment: bool) -> None:
    data = webm(cues_behind, open_segment)
    tail = None
    found = read_index(data, len(data))
    if cues_behind:
        assert isinstance(found, MoreBytes)
        assert data[found.start :].startswith(b"\x1cS\xbbk")
        tail = (found.start, data[found.start : found.end])
        found = read_index(data, len(data), tail)
    assert isinstance(found, FragmentIndex)
    assert [f.start_seconds for f in found.fragments] == [0.0, 5.0, 10.0]
    assert [f.end_byte - f.start_byte for f in found.fragments] == list(SIZES), "the Cues are no part of the last"
    assert b"\x1cS\xbbk" not in found.head
    for first in range(3):
        check_run(found, data[slice(*found.byte_range(first, 3))])
    with pytest.raises(IndexRefused):
        check_run(found, data[found.fragments[0].start_byte + 1 : found.fragments[0].end_byte])


def test_the_scale_of_the_clock_counts() -> None:
    index = read(webm(scale=500_000))
    assert [f.start_seconds for f in index.fragments] == [0.0, 2.5, 5.0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(webm(scale=0), "a tick of no length", id="scale"),
        pytest.param(webm(shift=1), "first cluster", id="beside the clusters"),
        pytest.param(webm(times=(10000, 5000, 0)), "out of order", id="backwards"),
        pytest.param(EBML + element(0x1549A966, b""), "no Segment", id="no segment"),
        pytest.param(EBML + element(0x18538067, cluster(100) + bytes(5)), "no tracks", id="no tracks"),
        pytest.param(EBML + b"\x18\x53\x80\x67\0", "no number", id="no size"),
        pytest.param(EBML + element(0x18538067, b"\xec\x88"), "does not fit", id="longer than the segment"),
    ],
)
def test_what_is_refused_of_webm(data: bytes, words: str) -> None:
    with pytest.raises(IndexRefused, match=words):
        read(data)


def test_cues_that_are_not_where_they_are_said_to_be() -> None:
    data = webm(cues_behind=True)
    asked = read_index(data, len(data))
    assert isinstance(asked, MoreBytes)
    for tail in (bytes(100), data[asked.start : asked.end - 1], b""):
        with pytest.raises(IndexRefused, match=r"no Cues at byte|no number at byte"):
            read_index(data, len(data), (asked.start, tail))


# Anything


GOOD = [mp4(sidx(ENTRIES)), mp4(sidx(ENTRIES, version=1), sidx(ENTRIES, number=2)), webm(), webm(True)]


def reads_or_refuses(data: bytes, size_bytes: int, tail: tuple[int, bytes] | None = None) -> None:
    try:
        found = read_index(data, size_bytes, tail)
    except IndexRefused:
        return
    if isinstance(found, MoreBytes):
        assert 0 <= found.start < found.end <= size_bytes
        assert found.end - found.start <= MAX_HEAD_BYTES + 2 * FIRST_REQUEST_BYTES
        return
    reached = 0
    for one in found.fragments:
        assert reached <= one.start_byte < one.end_byte <= size_bytes
        reached = one.end_byte
    first, after = found.covering(1.0, 2.0)
    assert 0 <= first < after <= len(found.fragments)


@given(data=st.binary(max_size=600), more=st.integers(0, 10**12))
def test_random_bytes(data: bytes, more: int) -> None:
    for start in (b"", FTYP, FTYP + MOOV, EBML):
        reads_or_refuses(start + data, len(start + data) + more)


@given(data=st.sampled_from(GOOD), cut=st.integers(0, 1500))
def test_truncated_heads(data: bytes, cut: int) -> None:
    reads_or_refuses(data[:cut], len(data))


@settings(max_examples=400)
@given(
    data=st.sampled_from(GOOD),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_heads(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    reads_or_refuses(bytes(damaged), len(damaged))
    reads_or_refuses(bytes(damaged), len(damaged), (len(damaged) // 2, bytes(damaged[len(damaged) // 2 :])))


@given(
    times=st.lists(st.integers(1, 10_000), min_size=1, max_size=40),
    start=st.fractions(0, 300),
    length=st.fractions(Fraction(1, 100), 30),
)
def test_a_run_always_covers(times: list[int], start: Fraction, length: Fraction) -> None:
    index = read(mp4(sidx([(100, t) for t in times]), sizes=(100,) * len(times)))
    first, after = index.covering(float(start), float(start + length))
    assert first == 0 or index.fragments[first].start_seconds <= start - MARGIN_SECONDS
    last = index.fragments[after - 1]
    assert after == len(times) or last.end_seconds >= start + length + MARGIN_SECONDS or first == after - 1
    if first + 1 < after:  # nothing that is not needed
        assert index.fragments[first + 1].start_seconds > start - MARGIN_SECONDS
        assert last.start_seconds < start + length + MARGIN_SECONDS


def test_many_cues_take_no_time() -> None:
    """What a hostile file may cost: the largest index that is read at all."""
    cues = element(0x1C53BB6B, cue(0, 10) * (MAX_HEAD_BYTES // len(cue(0, 10)) - 100))
    body = element(0x1549A966, element(0x2AD7B1, 1_000_000)) + TRACKS + cues + cluster(100)
    data = EBML + element(0x18538067, body)
    began = time.process_time()
    reads_or_refuses(data, len(data))
    assert time.process_time() - began < 10
