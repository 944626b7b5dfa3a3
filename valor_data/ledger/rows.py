"""The rows of the ledger, as values."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from valor_data.errors import REASONS, Status


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage made of a clip.

    Attributes:
        status: kept, dropped or waiting.
        reason: a code of `errors.REASONS`; empty when kept.
        detail: the raw text behind the reason.
    """

    status: Status
    reason: str = ""
    detail: str = ""

    @classmethod
    def kept(cls) -> Outcome:
        """The clip goes on."""
        return cls(Status.KEPT)

    @classmethod
    def refused(cls, reason: str, detail: str = "") -> Outcome:
        """Dropped or waiting, as the reason's class says."""
        return cls(REASONS[reason].status, reason, detail[:2000])


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A clip as the ledger knows it; `identity` is its key, or its open key while the end is unknown."""

    clip_id: int
    identity: str
    key: str | None
    video_id: str
    split: str
    manifest_row: int | None
    content: bytes


RowT = TypeVar("RowT")


class LazyRows(Generic[RowT]):
    """Rows of many clips, read some hundred at a time: a million cost their ids, eight bytes each.

    Args:
        clip_ids: the clips, in order.
        read: gives the rows of some of them, in any order, as (clip id, row).
    """

    BATCH = 500

    def __init__(self, clip_ids: Iterable[int], read: Callable[[Sequence[int]], Iterable[tuple[int, RowT]]]) -> None:
        self.clip_ids = array("q", clip_ids)
        self._read = read

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __iter__(self) -> Iterator[RowT]:
        """As the ledger knows the clips when their turn comes."""
        for first in range(0, len(self.clip_ids), self.BATCH):
            batch = self.clip_ids[first : first + self.BATCH]
            rows = dict(self._read(batch))
            yield from (rows[clip_id] for clip_id in batch if clip_id in rows)

    def of(self, clip_ids: Iterable[int]) -> LazyRows[RowT]:
        """The same rows for other clips, or in another order."""
        return LazyRows(clip_ids, self._read)


@dataclass(frozen=True, slots=True)
class MediaRow:
    """Where a clip's media lies.

    Attributes:
        path: relative to the work folder when inside it, else absolute; empty when it was discarded.
        offset_seconds: the second of the video at which the file's own second 0 lies.
        size_bytes: size of the file when it was recorded.
        source: what is known of its origin, as JSON (extractor, formats, licence field, versions).
    """

    path: str
    offset_seconds: float
    size_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to fetch a clip: when (seconds since 1970), from which network address, and what came."""

    seen: float
    address: str
    status: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A clip of the plan with its annotation's hash, its media, its facts and how each stage left it."""

    split: str
    shard: int
    clip_id: int
    identity: str
    key: str | None
    video_id: str
    manifest_row: int | None
    content: bytes
    path: str | None
    offset_seconds: float | None
    source: str | None
    facts: str | None
    fetch_status: str | None
    fetch_reason: str | None
    filter_status: str | None
    filter_reason: str | None
    shard_status: str | None
    shard_reason: str | None

    def standing(self) -> tuple[str, str]:
        """(status, reason) before the shard stage; `waiting` with `interrupted` while a stage is to come."""
        if self.manifest_row is None:
            return Status.DROPPED.value, "removed"
        for status, reason in ((self.fetch_status, self.fetch_reason), (self.filter_status, self.filter_reason)):
            if status is None:
                return Status.WAITING.value, "interrupted"
            if status != Status.KEPT.value:
                return status, reason or ""
        return Status.KEPT.value, ""

    @property
    def unmeasured(self) -> bool:
        """Whether the media are there and nobody has decided yet: the shard stage measures on the way."""
        return bool(
            self.manifest_row is not None and self.fetch_status == Status.KEPT.value and self.filter_status is None
            and self.path
        )  # fmt: skip

    @property
    def wanted(self) -> bool:
        """Whether the clip belongs into its shard: kept, and not refused while the shard was made."""
        return self.standing()[0] == Status.KEPT.value and self.shard_status != Status.DROPPED.value


class FilterRow(NamedTuple):
    """What filter decides from: a clip, its annotation's hash, its facts, and how it stands."""

    clip_id: int
    manifest_row: int
    key: str
    content: bytes
    facts: str
    source: str | None
    fetch_status: str | None
    status: str | None
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A finished shard.

    Attributes:
        digest: of what it was made of.
        settings: hash of the sample settings it was made with.
        touched: 1 when something about its clips has changed since.
    """

    split: str
    shard: int
    digest: str
    num_samples: int
    size_bytes: int
    tar_sha256: str
    settings: str = ""
    touched: int = 0


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What changed when a manifest was entered into the ledger."""

    new: int
    same: int
    changed: int
    left_out: int


CLIP_COLUMNS = "clips.clip_id, identity, key, video_id, split, manifest_row, content"
MEDIA_COLUMNS = "path, offset_seconds, size_bytes, source"
