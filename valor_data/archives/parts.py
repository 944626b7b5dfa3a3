"""Which members or columns of a sample are its video, its sound, its pictures and its texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from valor_data.archives import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, ArchiveError


@dataclass(frozen=True, slots=True)
class MediaParts:
    """What a sample's media are made of: names of members.

    Attributes:
        video: the one video; empty when there is none.
        sound: the one sound file; empty when there is none, or the video has it.
        pictures: JPEGs in order, where there is no video.
    """

    video: str = ""
    sound: str = ""
    pictures: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.video or self.sound or len(self.pictures) > 1)


def media_parts(names: Iterable[str], member: str = "") -> MediaParts:
    """Chooses the media of a sample by the last suffix of its members' names.

    Args:
        names: extensions of the members, such as `mp4`, `json`, `frame_00.jpg`.
        member: the extension of the video or the sound, where somebody named it.

    Raises:
        ArchiveError: several could be it; the message names them.
    """
    listed = sorted(names)
    if member:
        if member not in listed:
            raise ArchiveError(f"no member {member!r}; there are {', '.join(listed)}")
        is_sound = _suffix(member) in SOUND_SUFFIXES
        return MediaParts(sound=member) if is_sound else MediaParts(video=member)
    video = _one(listed, VIDEO_SUFFIXES, "videos")
    sound = _one(listed, SOUND_SUFFIXES, "sound files")
    if video:
        return MediaParts(video, sound)
    return MediaParts("", sound, tuple(name for name in listed if _suffix(name) in PICTURE_SUFFIXES))


def _one(names: list[str], suffixes: frozenset[str], what: str) -> str:
    """The one name of a kind; of several, the one that is nothing but the suffix."""
    fitting = [name for name in names if _suffix(name) in suffixes]
    plain = [name for name in fitting if "." not in name]
    if len(fitting) > 1 and len(plain) != 1:
        raise ArchiveError(f"several {what} ({', '.join(fitting)}): name one with --member")
    return (plain or fitting or [""])[0]


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()
