"""A folder of files that somebody already has: the name says what a file holds, the duration only verifies.

Names understood, for a video id and a clip `[start, end)`:
    <video_id>.*                        the whole video
    <key>.*                             a clip, by its key
    <video_id>_<start>_<end>.*          a clip; seconds with decimals (VALOR), or whole milliseconds (AudioSet)
    <video_id>_<start, 6 digits>.*      a clip; whole seconds (VGGSound)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from valor_data.archives import SOUND_SUFFIXES, VIDEO_SUFFIXES
from valor_data.clip import escape_id, to_ms, unescape_id
from valor_data.config import FetchSection
from valor_data.errors import ClipError, ConfigError, ManifestError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.storage import Store, StoreError, StoreRefusedError, check_address, is_address

MEDIA_SUFFIXES = frozenset(f".{name}" for name in VIDEO_SUFFIXES | SOUND_SUFFIXES)
"""Files of other kinds in the folder are left alone."""

_TAIL = re.compile(r"^(?P<id>.+)_(?P<start>\d+(?:\.\d+)?)_(?P<end>\d+(?:\.\d+)?)$", re.ASCII)
_VGGSOUND_TAIL = re.compile(r"^(?P<id>.+)_(?P<start>\d{6})$", re.ASCII)


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """The files of one video: for each clip id its path or address, and whether it is the whole video."""

    files: Mapping[int, tuple[str, bool]]
    remote: bool = False

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """Names the file of each clip; objects are copied into `into` first, each once."""
        result: dict[int, Obtained | ClipError] = {}
        local: dict[str, Path | ClipError] = {}
        for clip in clips:
            if clip.clip_id not in self.files:
                result[clip.clip_id] = ClipError("missing", f"no file for {clip.identity}")
                continue
            place, whole = self.files[clip.clip_id]
            if place not in local:
                local[place] = _copied(place, into) if self.remote else Path(place)
            path = local[place]
            result[clip.clip_id] = path if isinstance(path, ClipError) else Obtained(
                path=path,
                offset_seconds=0.0 if whole else clip.start,
                whole_video=whole,
                in_place=not (self.remote or settings.copy),
                origin={"extractor": "folder", "name": PurePosixPath(place).name},
            )  # fmt: skip
        return result

    def probe(self, into: Path, settings: FetchSection) -> None:
        """A folder counts no requests: there is nothing to ask."""


@dataclass(slots=True)
class FolderSource:
    """The files of a folder, local or at an fsspec address, listed once with its subfolders.

    A local file is used in place, unless copies are asked for; an object cannot be: it is copied, and its clips cut.

    Args:
        address: a local path, or an address such as `s3://bucket/videos`.

    Raises:
        ConfigError: there is no such folder, or the address holds a password.
        StoreError: the store does not answer.
    """

    address: str
    name: str = "folder"
    is_watched: bool = False
    remote: bool = False
    _files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_address(self.address, "source")
        self.remote = is_address(self.address) and not self.address.startswith("file://")
        # Of an object only its name below the address is held: there may be a million of them.
        paths = _list_objects(self.address) if self.remote else _list_local(Path(self.address.removeprefix("file://")))
        for path in paths:
            name = PurePosixPath(path)
            if name.suffix.lower() in MEDIA_SUFFIXES:
                # Of several files of one name the first in order counts, whatever order the disk lists them in.
                self._files[name.stem] = min(path, self._files.get(name.stem, path))

    def __len__(self) -> int:
        return len(self._files)

    def find(self, video_id: str, url: str | None, clips: Sequence[ClipRequest]) -> FolderLocation:
        """The files of a video's clips; a clip's own file is preferred to the whole video."""
        files: dict[int, tuple[str, bool]] = {}
        for clip in clips:
            for stem in clip_stems(video_id, clip):
                if stem in self._files:
                    files[clip.clip_id] = (self._place(self._files[stem]), False)
                    break
            else:
                whole = self._files.get(video_id) or self._files.get(escape_id(video_id))
                if whole is not None:
                    files[clip.clip_id] = (self._place(whole), True)
        return FolderLocation(files, self.remote)

    def _place(self, path: str) -> str:
        return Store(self.address).at(path) if self.remote else path

    def video_ids(self, wanted: set[str]) -> set[str]:
        """Those of some videos of which there is a file, whole or of a clip."""
        return {name for stem in self._files for name in possible_ids(stem) & wanted}

    def strangers(self, video_ids: set[str]) -> list[str]:
        """Names of media files that belong to no video of the manifest, sorted."""
        return sorted(stem for stem in self._files if not video_ids & possible_ids(stem))


def clip_stems(video_id: str, clip: ClipRequest) -> Iterator[str]:
    """The names, without extension, under which a clip's own file may be found, best first."""
    yield clip.identity
    if clip.end is not None:
        yield f"{video_id}_{clip.start:.3f}_{clip.end:.3f}"
        yield f"{video_id}_{to_ms(clip.start)}_{to_ms(clip.end)}"
        if clip.start == int(clip.start) and clip.end == int(clip.end):
            yield f"{video_id}_{int(clip.start)}_{int(clip.end)}"
    if clip.start == int(clip.start) and clip.start < 1_000_000:
        yield f"{video_id}_{int(clip.start):06d}"


def possible_ids(stem: str) -> set[str]:
    """The video ids that a name may be of: itself, and what stands before a span."""
    ids = {stem}
    for pattern in (_TAIL, _VGGSOUND_TAIL):
        match = pattern.match(stem)
        if match:
            ids.add(match["id"])
    for escaped in [name for name in ids if "=" in name]:  # a key holds the escaped id
        with contextlib.suppress(ManifestError):
            ids.add(unescape_id(escaped))
    return ids


def _list_local(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        raise ConfigError(
            f"source {str(folder)!r}: no such folder; expected youtube, column, a URL template with {{video_id}}, "
            "or a folder of videos"
        )
    for root, folders, names in os.walk(folder.absolute(), followlinks=True):
        folders.sort()
        yield from (f"{root}/{name}" for name in names)


def _list_objects(address: str) -> Iterator[str]:
    try:
        for name, _ in Store(address).listing():
            yield name
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"source {address!r}: no such folder") from None
    except ConfigError as error:
        told = str(error).removeprefix(f"{address}: ")
        raise ConfigError(f"source {address!r}: cannot be listed: {told}") from None


def _copied(address: str, into: Path) -> Path | ClipError:
    """An object as a local file of `into`, or why it cannot be had."""
    # A fixed name: what the file is called elsewhere decides nothing here but its extension.
    shelf = hashlib.blake2b(address.encode(), digest_size=6).hexdigest()
    path = into / f"{shelf}{PurePosixPath(address).suffix}"
    try:
        Store(address).get("", path)
    except FileNotFoundError:
        return ClipError("missing", f"{address} is no longer there")
    except StoreRefusedError as refusal:  # of this object: its folder could be listed
        return ClipError("forbidden", str(refusal))
    except StoreError as error:
        return ClipError("network", str(error))
    return path
