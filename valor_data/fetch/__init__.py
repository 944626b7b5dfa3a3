"""A video becomes media files: sources, yt-dlp, error text to reason.

The unit of work is all clips of one video: one extraction and one download, however many clips it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from valor_data.clip import Seconds
from valor_data.config import FetchSection
from valor_data.errors import ClipError
from valor_data.ledger import MediaRow, Outcome


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """A clip to fetch.

    Attributes:
        end: None for a whole video of unknown length.
        url: where the manifest says that it is.
    """

    clip_id: int
    identity: str
    start: Seconds
    end: Seconds | None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Obtained:
    """A local file that holds a clip, or the video around it.

    Attributes:
        path: absolute path of the file.
        offset_seconds: the second of the video at which the file's second 0 lies.
        whole_video: whether the file is the whole video, by its name or its source.
        in_place: whether the file belongs to somebody else and must stay where it is.
        origin: what is known of where it came from, JSON-able.
        is_piece: whether it is a part of the video that was downloaded for its clips, longer than they are.
    """

    path: Path
    offset_seconds: Seconds
    whole_video: bool
    in_place: bool
    origin: Mapping[str, Any] = field(default_factory=dict)
    is_piece: bool = False


class Location(Protocol):
    """Where one video's media is. Made in the driver, used in a worker: it must be picklable."""

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """Brings the media of a video to this machine.

        Args:
            clips: the clips wanted, all of the same video.
            into: an empty folder for what is downloaded; removed afterwards.
            settings: limits and network settings.

        Returns:
            For each clip id the file that holds it, or why there is none.

        Raises:
            ClipError: the same reason for every clip.
        """
        ...

    def probe(self, into: Path, settings: FetchSection) -> None:
        """Asks only whether the video is there.

        Raises:
            ClipError: it is not, or the address is refused.
        """
        ...


class Source(Protocol):
    """Where videos come from. Adding one: a class with these two members, named in `sources.open_source`."""

    @property
    def name(self) -> str:
        """What the source is called in a report."""
        ...

    @property
    def is_watched(self) -> bool:
        """Whether the site counts requests and hides its refusals: then pace, breaker and doubts apply."""
        ...

    def find(self, video_id: str, url: str | None, clips: Sequence[ClipRequest]) -> Location:
        """The address of a video, without touching the network."""
        ...


@dataclass(frozen=True, slots=True)
class VideoUnit:
    """The work of one call: all pending clips of one video.

    Attributes:
        address: name of the network address to ask from.
        proxy: that address's proxy; may hold a password, and is never written anywhere.
        is_probe: ask only whether the video is there, to see whether the address is well; no clips.
        checks_only: ask only whether the clips are there, and bring nothing.
    """

    video_id: str
    clips: tuple[ClipRequest, ...]
    location: Location
    settings: FetchSection
    work: Path
    tmp: Path
    address: str = "direct"
    proxy: str = field(default="", repr=False)
    is_probe: bool = False
    checks_only: bool = False


@dataclass(frozen=True, slots=True)
class FetchedClip:
    """What became of a clip: its outcome, and where its media lies when it was kept."""

    clip_id: int
    outcome: Outcome
    key: str | None = None
    media: MediaRow | None = None


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What became of a video's clips, and the journal that would tell it after a kill.

    Attributes:
        refusal: the reason that holds for the video as a whole; empty when something came.
        retry_after_seconds: how long the server asked to wait, where it did.
        size_bytes: bytes that were put in place.
    """

    clips: tuple[FetchedClip, ...]
    journal: Path | None = None
    refusal: str = ""
    detail: str = ""
    retry_after_seconds: float | None = None
    size_bytes: int = 0
