"""Walks the members of a tar by their headers alone, and groups them into samples as WebDataset does.

A sample is a run of members whose names agree up to the first dot of the base name. One kind of name is read
otherwise, for VALOR's own videos have it: in `<id>_30.000_40.000.mp4` the dots of the seconds divide nothing.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from valor_data.archives import ArchiveError

_BLOCK = tarfile.BLOCKSIZE
_GZIP, _ZSTD, _XZ, _BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"
_FILES = (b"0", b"\0", b"7")
_LONG_NAME, _LONG_LINK, _PAX, _PAX_ALL = b"L", b"K", b"x", b"g"
_MAX_EXTRA_BYTES = 2**20
_SECONDS = re.compile(r"^(?P<stem>.+_\d+\.\d+_\d+\.\d+)\.(?P<extension>[^/]+)$")


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar.

    Attributes:
        name: as the tar has it.
        header: first byte of what stands before its data, long names included.
        offset: first byte of its data.
        size: bytes of its data.
    """

    name: str
    header: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The byte after the blocks of its data."""
        return self.offset + self.size + -self.size % _BLOCK


@dataclass(slots=True)
class TarSample:
    """Members of one name.

    Attributes:
        key: what their names have in common, folders included.
        members: by what follows the dot, in lower case.
        problem: why the sample cannot be used; empty when it can.
    """

    key: str
    members: dict[str, TarMember] = field(default_factory=dict)
    problem: str = ""

    @property
    def start(self) -> int:
        """First byte of the sample."""
        return min(member.header for member in self.members.values())

    @property
    def end(self) -> int:
        """The byte after it."""
        return max(member.end for member in self.members.values())


def walk(stream: IO[bytes], name: str, start: int = 0, end: int | None = None) -> Iterator[TarMember]:
    """The files of a tar, or of a part of it, in order; links, folders and devices are passed over.

    Args:
        stream: the tar; can be sought in.
        name: of the tar, for messages.
        start: where to begin: a header.
        end: where to stop; None: at the end.

    Raises:
        ArchiveError: it is compressed, no tar, damaged, or cut off.
    """
    total = stream.seek(0, 2)
    position, first, long_name, extra = start, start, "", dict[str, str]()
    while end is None or position < end:
        stream.seek(position)
        header = stream.read(_BLOCK)
        if not header or not header.strip(b"\0"):
            if not header and position == start == 0:
                raise ArchiveError(f"{name}: the file is empty; get it again")
            return
        _check_header(header, name, position)
        size, kind, offset = _number(header[124:136], name, position), header[156:157], position + _BLOCK
        size = int(extra.get("size", size)) if kind in _FILES else size
        if offset + size > total:
            raise ArchiveError(
                f"{name}: is cut off: a member at byte {position} ends at {offset + size}, the file at {total}; get it "
                "again"
            )
        position = offset + size + -size % _BLOCK
        if kind in (_LONG_NAME, _PAX):
            if size > _MAX_EXTRA_BYTES:
                raise ArchiveError(f"{name}: damaged at byte {offset}: a name of {size} bytes")
            data = stream.read(size)
            long_name = _text(data.rstrip(b"\0")) if kind == _LONG_NAME else long_name
            extra = _pax(data) if kind == _PAX else extra
            continue
        if kind in (_LONG_LINK, _PAX_ALL):
            continue
        if kind in _FILES:
            yield TarMember(extra.get("path") or long_name or _name(header), first, offset, size)
        long_name, extra, first = "", {}, position


def walk_samples(stream: IO[bytes], name: str, start: int = 0, end: int | None = None) -> Iterator[TarSample]:
    """The samples of a tar in order. A sample with a name that leaves the tar, or with a member twice, has a problem.

    Raises:
        ArchiveError: as `walk` does.
    """
    sample: TarSample | None = None
    for member in walk(stream, name, start, end):
        key, extension = split_name(member.name)
        base = key.rpartition("/")[2]
        if not base or base.startswith(".") or not extension:
            continue  # a hidden file, or one without extension: none of a sample
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key)
        if member.name.startswith("/") or ".." in member.name.split("/"):
            sample.problem = f"member {member.name!r}: a name that leads out of the tar"
        if extension in sample.members:
            sample.problem = f"member {member.name!r}: is there twice"
        sample.members[extension] = member
    if sample is not None:
        yield sample


def split_name(name: str) -> tuple[str, str]:
    """A member's name as the sample's key and an extension, which is made lower case.

    >>> split_name("a/b.frame_00.JPG"), split_name("v/x_30.000_40.000.mp4")
    (('a/b', 'frame_00.jpg'), ('v/x_30.000_40.000', 'mp4'))
    """
    name = name.removeprefix("./")
    found = _SECONDS.match(name)
    if found:
        return found["stem"], found["extension"].lower()
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if not stem:  # a hidden file
        return name, ""
    return f"{folder}{slash}{stem}", extension.lower()


def _check_header(header: bytes, name: str, position: int) -> None:
    if len(header) == _BLOCK:
        told = header[148:156].strip(b"\0 ")
        computed = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
        if told.isdigit() and int(told, 8) == computed:
            return
    elif position:
        raise ArchiveError(f"{name}: is cut off in a header at byte {position}; get it again")
    if position == 0 and header.startswith((_GZIP, _ZSTD, _XZ, _BZIP2)):
        raise ArchiveError(
            f"{name}: is compressed, and members are read where they lie: unpack it to a plain .tar first"
        )
    raise ArchiveError(f"{name}: no tar, or damaged at byte {position}; get it again")


def _number(field: bytes, name: str, position: int) -> int:
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        raise ArchiveError(f"{name}: damaged at byte {position}: a member without size; get it again") from None


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    return _text(prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """The records of an extended header: length, blank, name, `=`, value, line end."""
    records: dict[str, str] = {}
    while data:
        length, blank, _ = data.partition(b" ")
        if not blank or not length.isdigit() or not 0 < int(length) <= len(data):
            break
        name, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        records[_text(name)] = _text(value)
        data = data[int(length) :]
    return records
