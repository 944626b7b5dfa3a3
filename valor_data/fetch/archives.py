"""Sets that somebody has already, as sources: tars, Parquet files with media, the published trainer's folders.

Nothing is unpacked: what a clip needs is read where it lies, into a file of its own. Where each clip is, the manifest
says, when it was made of the set (`archives.Place` in `url`); else tars are listed once, and a member is found by its
name, as in a folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from valor_data.archives import ArchiveError, Place
from valor_data.archives.holdings import Holding
from valor_data.archives.parquet import MediaColumns, media_columns, media_of_row, read_schema
from valor_data.archives.parts import MediaParts, media_parts
from valor_data.archives.tar import TarSample, walk_samples
from valor_data.clip import escape_id
from valor_data.config import FetchSection
from valor_data.errors import ClipError, ConfigError
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.folder import clip_stems, possible_ids
from valor_data.media.fragments import IndexRefused
from valor_data.media.join import StreamPiece, join
from valor_data.media.probe import probe
from valor_data.media.slides import join_slides, sound_seconds
from valor_data.storage import StoreError

_WAV = ".wav"


@dataclass(frozen=True, slots=True)
class ArchiveLocation:
    """The places of one video's clips in a set."""

    holding: Holding
    places: Mapping[int, tuple[Place, bool]]
    member: str = ""

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """Reads the media of each clip into a file."""
        result: dict[int, Obtained | ClipError] = {}
        brought: dict[str, Path | ClipError] = {}
        for clip in clips:
            if clip.clip_id not in self.places:
                result[clip.clip_id] = ClipError("missing", f"nothing for {clip.identity} in {self.holding.root}")
                continue
            place, whole = self.places[clip.clip_id]
            if str(place) not in brought:
                brought[str(place)] = self._bring(place, clip, into, settings)
            path = brought[str(place)]
            result[clip.clip_id] = path if isinstance(path, ClipError) else Obtained(
                path=path,
                offset_seconds=0.0 if whole else clip.start,
                whole_video=whole,
                in_place=False,
                origin={"extractor": place.kind, "name": f"{place.file}/{place.key}" if place.file else place.key},
            )  # fmt: skip
        return result

    def probe(self, into: Path, settings: FetchSection) -> None:
        """A set counts no requests: there is nothing to ask."""

    def _bring(self, place: Place, clip: ClipRequest, into: Path, settings: FetchSection) -> Path | ClipError:
        # A name of ours: what a member is called decides nothing but the kind of file.
        stem = into / hashlib.blake2b(str(place).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
        seconds = None if clip.end is None else clip.end - clip.start
        try:
            return _READERS[place.kind](self.holding, place, self.member, stem, seconds, settings)
        except ClipError as refusal:
            return refusal
        except (ArchiveError, ConfigError) as error:
            return ClipError("missing", str(error))
        except StoreError as error:
            return ClipError("network", str(error))


def _from_tar(
    holding: Holding, place: Place, member: str, stem: Path, seconds: float | None, settings: FetchSection
) -> Path:
    _check_size(place.end - place.start, settings)
    with holding.open_part(place.file, place.start, place.end) as (stream, start):
        sample = next(walk_samples(stream, place.file, start, start + place.end - place.start), None)
        if sample is None or sample.key != place.key or sample.problem:
            found = "nothing" if sample is None else sample.problem or repr(sample.key)
            raise ArchiveError(
                f"{place.file}: at byte {place.start} there is {found}, not {place.key!r}: it is not the file that "
                "the manifest was made of; make the manifest again"
            )
        parts = media_parts(sample.members, member)
        _check_size(sum(sample.members[name].size for name in _names(parts)), settings)

        def read(name: str) -> bytes:
            stream.seek(sample.members[name].offset)
            return stream.read(sample.members[name].size)

        return _assembled(parts, read, stem, seconds)


def _from_parquet(
    holding: Holding, place: Place, member: str, stem: Path, seconds: float | None, settings: FetchSection
) -> Path:
    columns = _columns(holding, place.file, member)
    held = {name: (suffix, data) for name, suffix, data in media_of_row(holding, place.file, place.start, columns)}
    _check_size(sum(len(data) for _, data in held.values()), settings)
    named = {name: f"{name}.{suffix}" for name, (suffix, _) in held.items()}
    parts = MediaParts(named.get(columns.video, ""), named.get(columns.sound, ""))
    data_of = {named[name]: data for name, (_, data) in held.items()}
    if not parts:
        raise ClipError("missing", f"{place.file}, row {place.start + 1}: its media are null")
    return _assembled(parts, data_of.__getitem__, stem, seconds)


@functools.lru_cache(maxsize=16)
def _columns(holding: Holding, file: str, member: str) -> MediaColumns:
    """The columns of media of a file, looked up once in a worker."""
    return media_columns(read_schema(holding, file), member)


def _from_folder(
    holding: Holding, place: Place, member: str, stem: Path, seconds: float | None, settings: FetchSection
) -> Path:
    folder = Path(holding.root, holding.frames, place.key) if holding.frames else None
    wav = Path(holding.root, holding.sound, f"{place.key}{_WAV}") if holding.sound else None
    pictures: list[Path] = []
    if folder is not None and folder.is_dir():
        pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    wav = wav if wav is not None and wav.is_file() else None
    if not pictures and wav is None:
        raise ClipError("missing", f"{place.key}: neither pictures nor a wav")
    _check_size(sum(path.stat().st_size for path in [*pictures, *([wav] if wav else [])]), settings)
    if not pictures and wav is not None:
        return _written(stem.with_name(stem.name + _WAV), wav.read_bytes())
    return _slides([path.read_bytes() for path in pictures], wav, stem, seconds)


_READERS = {"tar": _from_tar, "parquet": _from_parquet, "valor": _from_folder}


def _names(parts: MediaParts) -> list[str]:
    return [name for name in (parts.video, parts.sound, *parts.pictures) if name]


def _check_size(size_bytes: int, settings: FetchSection) -> None:
    if size_bytes > settings.max_video_bytes:
        raise ClipError("too_large", f"{size_bytes} bytes; fetch.max_video_bytes is {settings.max_video_bytes}")


def _assembled(parts: MediaParts, get: Callable[[str], bytes], stem: Path, seconds: float | None) -> Path:
    """One file of a sample's media: its video, with the sound beside it where it has none of its own; or slides."""
    sound = None
    if parts.video:
        video = _written(stem.with_name(f"{stem.name}.{_suffix(parts.video)}"), get(parts.video))
        if not parts.sound or probe(video).audio is not None:
            return video
        sound = _written(stem.with_name(f"{stem.name}-sound.{_suffix(parts.sound)}"), get(parts.sound))
        pieces = [StreamPiece(path, probe(path).start_time_seconds) for path in (video, sound)]
        try:
            return join(pieces, stem.parent, f"{stem.name}-joined").path
        except IndexRefused as error:
            raise ClipError("undecodable", f"video and sound cannot be put together: {error}") from error
    if parts.sound:
        sound = _written(stem.with_name(f"{stem.name}.{_suffix(parts.sound)}"), get(parts.sound))
        if len(parts.pictures) < 2:
            return sound
    return _slides([get(name) for name in parts.pictures], sound, stem, seconds)


def _slides(jpegs: Sequence[bytes], sound: Path | None, stem: Path, seconds: float | None) -> Path:
    length = seconds
    if length is None and sound is not None:
        length = sound_seconds(sound)
    if not length:
        raise ClipError("undecodable", f"{len(jpegs)} pictures, and nothing says how long they last: no span, no sound")
    path = stem.with_name(f"{stem.name}-slides.mkv")
    join_slides(jpegs, length, sound, path)
    return path


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix[1:] or name


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@dataclass(slots=True)
class ArchiveSource:
    """A set as a source.

    Args:
        holding: what was found at the place.
        member: of a sample, the member or column that is the video, where several could be.
    """

    holding: Holding
    member: str = ""
    name: str = "set"
    is_watched: bool = False
    _by_stem: dict[str, Place] | None = field(default=None, repr=False)
    _files: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._files = frozenset(self.holding.files)

    def find(self, video_id: str, url: str | None, clips: Sequence[ClipRequest]) -> ArchiveLocation:
        """Where the clips of a video are.

        Raises:
            ConfigError: a tar cannot be listed.
        """
        places: dict[int, tuple[Place, bool]] = {}
        for clip in clips:
            place = Place.parse(clip.url)
            if place is not None and place.file in self._files:
                places[clip.clip_id] = (place, clip.end is None)
                continue
            named = self._named(video_id, clip)
            if named is not None:
                places[clip.clip_id] = named
        # A location goes to a worker for each video: without the names of all files.
        return ArchiveLocation(replace(self.holding, files=()), places, self.member)

    def _named(self, video_id: str, clip: ClipRequest) -> tuple[Place, bool] | None:
        """The sample that is called as the clip or as its video."""
        stems = self._stems()
        escaped = escape_id(video_id)
        names = [*clip_stems(video_id, clip), *clip_stems(escaped, clip)]
        found = next((stems[name] for name in names if name in stems), None)
        if found is not None:
            return found, False
        whole = stems.get(video_id) or stems.get(escaped)
        return None if whole is None else (whole, True)

    def _stems(self) -> dict[str, Place]:
        if self._by_stem is None:
            try:
                self._by_stem = dict(_list_stems(self.holding))
            except ArchiveError as error:
                raise ConfigError(f"source {self.holding.root!r}: {error}") from error
        return self._by_stem

    def video_ids(self, wanted: set[str]) -> set[str]:
        """Those of some videos of which there is a sample, whole or of a clip, by its name."""
        return {name for stem in self._stems() for name in possible_ids(stem) & wanted}


def _list_stems(holding: Holding) -> Iterator[tuple[str, Place]]:
    """The last part of every sample's name, with its place; of a name that is there twice the first counts."""
    if holding.kind == "valor":
        names: set[str] = set()
        for folder, cut in ((holding.frames, ""), (holding.sound, _WAV)):
            if folder:
                with os.scandir(Path(holding.root, folder)) as entries:
                    names |= {e.name.removesuffix(cut) for e in entries if e.name.endswith(cut) and e.name[0] != "."}
        yield from ((name, Place("valor", "", 0, 0, name)) for name in sorted(names))
        return
    if holding.kind != "tars":
        return
    seen: set[str] = set()
    for file in holding.files:
        with holding.open(file) as stream:
            for sample in walk_samples(stream, file):
                stem = sample.key.rpartition("/")[2]
                if stem not in seen and not sample.problem and _has_media(sample):
                    seen.add(stem)
                    yield stem, Place("tar", file, sample.start, sample.end, sample.key)


def _has_media(sample: TarSample) -> bool:
    try:
        return bool(media_parts(sample.members))
    except ArchiveError:
        return True  # several: the worker says which
