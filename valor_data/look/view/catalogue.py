"""One clip of a set with all there is of it: what the page of a clip shows, and the bytes of its pictures and sound.

Nothing is read but the shards, the ledger, and media inside of the work folder; what a request says is only ever
compared with keys and names that the set has.
"""

from __future__ import annotations

import io
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

from valor_data.clip import parse_key
from valor_data.errors import REASONS, ManifestError, ShardError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.look.mel_picture import mel_picture
from valor_data.look.shard_set import Shard, ShardSet, Stored, stored_of
from valor_data.look.view.peek import Peek, peek
from valor_data.look.view.search import Index
from valor_data.look.why import Why, explain

MEL_WIDTH_PX = 960
SOUND_TYPES = {"flac": "audio/flac", "mp4": "video/mp4"}

ValueT = TypeVar("ValueT")


class Remembered(Generic[ValueT]):
    """The last few values that were made, by name; each is made once, also when several threads ask."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, ValueT] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str, make: Callable[[], ValueT]) -> ValueT:
        """The value of a name."""
        with self._lock:
            if name not in self._values:
                self._values[name] = make()
            self._values.move_to_end(name)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
            return self._values[name]


class Catalogue:
    """The clips of a set.

    Args:
        shards: the set.
        index: its index.
        outside_media: whether media outside of the work folder may be opened (a folder source used in place).
    """

    def __init__(self, shards: ShardSet, index: Index, *, outside_media: bool = False) -> None:
        self.shards, self._index, self._outside_media = shards, index, outside_media
        self._by_name = shards.by_name()
        self._listings: Remembered[dict[str, Stored]] = Remembered(32)
        self._peeks: Remembered[Peek] = Remembered(12)
        self._mels: Remembered[bytes] = Remembered(256)

    def clip(self, key: str) -> dict[str, Any] | None:
        """All there is to tell of a clip, JSON-able; None when there is no such clip."""
        row = self._index.row_of(key)
        if row is None:
            return None
        why = self._why(key)
        stored, fault = None, ""
        details: dict[str, Any] = {}
        if row["shard"]:
            try:
                stored = self._stored(key)
                details = {} if stored is None else json.loads(stored.read("json"))
            except (ShardError, ValueError) as error:
                stored, fault = None, str(error)
        known = REASONS.get(row["reason"])
        told = {} if why is None else why.to_dict()
        return {
            **row,
            "meaning": known.meaning if known else "",
            "action": known.action if known else "",
            "span": _span(key),
            "annotation": details or None,
            "facts": told.get("facts") or details.get("facts") or None,
            "stages": told.get("stages") or {},
            "next": told.get("next", ""),
            "media": self._media_words(why),
            "fault": fault,
            **self._shows(key, stored, details, why),
        }

    def _shows(self, key: str, stored: Stored | None, details: dict[str, Any], why: Why | None) -> dict[str, Any]:
        """Which pictures and sounds there are, and where they come from."""
        if stored is not None and (stored.frames() or "mel.npy" in stored.members):
            sound = next((kind for kind in ("flac", "mp4") if kind in stored.members), "")
            media = None if sound else self._media_file(why)
            return {
                "frames": stored.frames(),
                "moments": details.get("frame_moments", []) if stored.frames() else [],
                "mel": "mel.npy" in stored.members,
                "sound": sound or ("media" if media is not None and self._is_heard(details, why) else ""),
                "source": "shard",
            }
        if self._media_file(why) is None:
            return {"frames": [], "moments": [], "mel": False, "sound": "", "source": ""}
        return {"frames": [], "moments": [], "mel": False, "sound": "", "source": "media"}

    def look_inside(self, key: str) -> dict[str, Any] | None:
        """What there is in the media of a clip that is in no shard, which takes seconds; None without media."""
        if self._media_file(self._why(key)) is None:
            return None
        found = self._peek(key)
        names = [f"frame_{number:02d}.jpg" for number in range(len(found.frames))]
        _, start, end = parse_key(key)
        moments = [(number + 0.5) * (end - start) / len(names) for number in range(len(names))]
        shows = {"frames": names, "moments": moments, "mel": found.mel is not None}
        return {**shows, "sound": "media" if found.flac else "", "source": "media", "media_fault": found.fault}

    @staticmethod
    def _is_heard(details: dict[str, Any], why: Why | None) -> bool:
        facts = (why.facts if why is not None else None) or details.get("facts") or {}
        return bool(facts.get("has_audio"))

    def picture(self, key: str, name: str) -> bytes | None:
        """A frame as JPEG, `frame_00.jpg`; None when there is none."""
        stored = self._stored(key)
        if stored is not None:
            return stored.read(name) if name in stored.frames() else None
        frames = self._peek(key).frames
        names = [f"frame_{number:02d}.jpg" for number in range(len(frames))]
        return frames[names.index(name)] if name in names else None

    def thumbnail(self, key: str) -> tuple[bytes, str] | None:
        """One picture for a list, and its type: the middle frame, or the mel of a set without pictures."""
        stored = self._stored(key)
        if stored is None:
            return None
        frames = stored.frames()
        if frames:
            return stored.read(frames[len(frames) // 2]), "image/jpeg"
        mel = self.mel(key)
        return None if mel is None else (mel, "image/png")

    def mel(self, key: str) -> bytes | None:
        """The mel as PNG; None without one."""
        stored = self._stored(key)
        if stored is None:
            mel = self._peek(key).mel
            return None if mel is None else mel_picture(mel, max_width=MEL_WIDTH_PX)
        if "mel.npy" not in stored.members:
            return None
        return self._mels.get(f"{key} {stored.shard.stamp}", lambda: _drawn(stored))

    def sound(self, key: str) -> tuple[bytes, str] | None:
        """The clip's sound (or its film, where that is what the sample has) and its type; None without any."""
        stored = self._stored(key)
        for kind, mime in SOUND_TYPES.items():
            if stored is not None and kind in stored.members:
                return stored.read(kind), mime
        flac = self._peek(key, sound_alone=stored is not None).flac
        return (flac, SOUND_TYPES["flac"]) if flac else None

    def _stored(self, key: str) -> Stored | None:
        """Where the sample lies now: the shard may have been built again since the index was made."""
        name = self._index.shard_of(key)
        shard = self._by_name.get(name or "")
        if shard is None:
            return None
        if "://" not in shard.tar:
            shard = self._as_it_is(shard)
        return self._listings.get(f"{shard.tar} {shard.stamp}", lambda: _places(shard)).get(key)

    def _as_it_is(self, shard: Shard) -> Shard:
        """The same shard with the stamp of its files as they are now."""
        stats = [Path(path).stat() for path in (shard.tar, shard.rows) if path and Path(path).exists()]
        return Shard(shard.name, shard.tar, shard.rows, " ".join(f"{s.st_size} {s.st_mtime_ns}" for s in stats))

    def _why(self, key: str) -> Why | None:
        if self.shards.work is None:
            return None
        try:
            with Ledger(self.shards.work.ledger, read_only=True) as ledger:
                return explain(ledger, key)[0]
        except ValorDataError:
            return None

    def _media_file(self, why: Why | None) -> Path | None:
        """The clip's media file, if it may be opened."""
        work = self.shards.work
        if work is None or why is None or why.media is None or why.clip.key is None:
            return None
        path = (work.root / str(why.media["path"])).resolve()
        is_inside = path.is_relative_to(work.root.resolve())
        return path if path.is_file() and (is_inside or self._outside_media) else None

    def _media_words(self, why: Why | None) -> dict[str, Any] | None:
        if why is None or why.media is None or self.shards.work is None:
            return None
        path = self.shards.work.root / str(why.media["path"])
        is_outside = path.is_file() and self._media_file(why) is None
        return {**{name: why.media[name] for name in ("path", "size_bytes")}, "is_outside": is_outside}

    def _peek(self, key: str, *, sound_alone: bool = False) -> Peek:
        why = self._why(key)
        path = self._media_file(why)
        if path is None or why is None or why.media is None:
            return Peek()
        _, start, end = parse_key(key)
        offset = float(why.media["offset_seconds"])
        name = f"{path} {start} {end} {sound_alone}"
        return self._peeks.get(name, lambda: peek(path, offset, start, end, sound_alone=sound_alone))


def _places(shard: Shard) -> dict[str, Stored]:
    return {row["key"]: stored_of(shard, row) for row in shard.listing().to_pylist() if row["members"]}


def _drawn(stored: Stored) -> bytes:
    try:
        mel = np.load(io.BytesIO(stored.read("mel.npy")), allow_pickle=False)
        return mel_picture(mel, max_width=MEL_WIDTH_PX)
    except (ValueError, EOFError) as error:
        raise ShardError(f"{stored.shard.tar}: {stored.key}.mel.npy is no mel ({error})") from error


def _span(key: str) -> dict[str, Any]:
    try:
        video_id, start, end = parse_key(key)
    except ManifestError:
        return {"video_id": "", "start": None, "end": None}
    return {"video_id": video_id, "start": start, "end": end if math.isfinite(end) else None}
