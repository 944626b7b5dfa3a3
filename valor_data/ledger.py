"""The ledger: outcomes and facts of every clip, in one SQLite file with one writer.

Tables:
    clips     a row for every clip ever in the manifest; `clip_id` is stable for the life of the work folder
    outcomes  what each stage made of a clip: status, reason, raw detail, number of attempts
    media     where a clip's media lies, and which span of the video the file holds
    facts     what was measured on the media, with the version of the measurement
    plan      which shard a clip belongs to; fixed once
    shards    which shards are finished, and of what they were made (their digest)

A driver opens the ledger for writing and holds a lock beside it: a second driver is refused. Readers
(`status`, `why`, `verify`) open it read-only and never wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from valor_data.errors import REASONS, ConfigError, Status, ValorDataError

STAGES: tuple[str, ...] = ("fetch", "filter", "shard")
"""The stages that give a clip an outcome, in their order."""

SCHEMA_VERSION = 1

_MIGRATIONS: dict[int, str] = {
    1: """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE clips (
        clip_id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, key TEXT UNIQUE, video_id TEXT NOT NULL,
        split TEXT NOT NULL, manifest_row INTEGER, content BLOB NOT NULL);
    CREATE INDEX clips_by_video ON clips (video_id);
    CREATE TABLE outcomes (
        clip_id INTEGER NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
        detail TEXT NOT NULL, attempts INTEGER NOT NULL, seen REAL NOT NULL, PRIMARY KEY (clip_id, stage)
        ) WITHOUT ROWID;
    CREATE TABLE media (
        clip_id INTEGER PRIMARY KEY, path TEXT NOT NULL, offset_seconds REAL NOT NULL, size_bytes INTEGER NOT NULL,
        source TEXT NOT NULL);
    CREATE TABLE facts (clip_id INTEGER PRIMARY KEY, version INTEGER NOT NULL, facts TEXT NOT NULL);
    CREATE TABLE plan (
        clip_id INTEGER PRIMARY KEY, split TEXT NOT NULL, shard INTEGER NOT NULL, position INTEGER NOT NULL);
    CREATE INDEX plan_by_shard ON plan (split, shard, position);
    CREATE TABLE shards (
        split TEXT NOT NULL, shard INTEGER NOT NULL, digest TEXT NOT NULL, num_samples INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL, tar_sha256 TEXT NOT NULL, PRIMARY KEY (split, shard)) WITHOUT ROWID;
    """,
}


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
    def wanted(self) -> bool:
        """Whether the clip belongs into its shard: kept, and not refused while the shard was made."""
        return self.standing()[0] == Status.KEPT.value and self.shard_status != Status.DROPPED.value


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A finished shard."""

    split: str
    shard: int
    digest: str
    num_samples: int
    size_bytes: int
    tar_sha256: str


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What changed when a manifest was entered into the ledger."""

    new: int
    same: int
    changed: int
    left_out: int


class Ledger:
    """Opens, migrates, reads and writes the ledger. Use as a context manager.

    Args:
        path: the SQLite file.
        read_only: for commands that only look; takes no lock and creates nothing.

    Raises:
        ValorDataError: no ledger there (read-only), another driver holds it, or a newer schema.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock: int | None = None
        if read_only:
            if not path.exists():
                raise ValorDataError(f"no ledger at {path}: name the work folder with --work, or run `fetch` first")
            self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _take_lock(path)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -65536")
        self._migrate(read_only)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commits what is open and lets go of the lock."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _migrate(self, read_only: bool) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA_VERSION:
            raise ValorDataError(
                f"{self.path}: ledger schema {found}, this version knows {SCHEMA_VERSION}: update valor-data"
            )
        if read_only:
            return
        for version in range(found + 1, SCHEMA_VERSION + 1):
            self._db.executescript(f"BEGIN; {_MIGRATIONS[version]} PRAGMA user_version = {version}; COMMIT;")

    # -- transactions -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Opens a transaction unless one is open; `commit` closes it."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN")

    def commit(self) -> None:
        """Makes everything recorded so far durable."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    # -- meta -------------------------------------------------------------------------------------------

    def get_meta(self, name: str) -> str | None:
        """A value pinned for this work folder, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Pins a value for this work folder."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def pin(self, name: str, value: str, *, advice: str) -> None:
        """Pins a value on first use and refuses another one later.

        Raises:
            ConfigError: the work folder was begun with another value.
        """
        before = self.get_meta(name)
        if before is None:
            self.set_meta(name, value)
        elif before != value:
            raise ConfigError(f"{name}: this work folder was begun with {before!r}, not {value!r}; {advice}")

    # -- clips ------------------------------------------------------------------------------------------

    def sync(self, rows: Iterable[tuple[int, str, str | None, str, str, bytes]]) -> SyncReport:
        """Enters a manifest: new clips are added, known ones keep their id, missing ones are left out.

        Args:
            rows: (manifest row, identity, key or None, video id, split, content hash) of every clip.
        """
        self.begin()
        known = {
            identity: (clip_id, content, split, row)
            for clip_id, identity, content, split, row in self._db.execute(
                "SELECT clip_id, identity, content, split, manifest_row FROM clips"
            )
        }
        next_id = 1 + max((clip_id for clip_id, *_ in known.values()), default=0)
        new = same = changed = 0
        inserts: list[tuple[Any, ...]] = []
        updates: list[tuple[Any, ...]] = []
        for manifest_row, identity, key, video_id, split, content in rows:
            before = known.pop(identity, None)
            if before is None:
                inserts.append((next_id, identity, key, video_id, split, manifest_row, content))
                next_id += 1
                new += 1
                continue
            if before[2] != split:
                raise ConfigError(
                    f"{identity}: was in split {before[2]!r}, the new manifest says {split!r}; "
                    "a clip cannot change its split in a work folder: use a new one"
                )
            same, changed = (same + 1, changed) if before[1] == content else (same, changed + 1)
            if (before[1], before[3]) != (content, manifest_row):
                updates.append((manifest_row, content, before[0]))
        self._db.executemany("INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?)", inserts)
        self._db.executemany("UPDATE clips SET manifest_row = ?, content = ? WHERE clip_id = ?", updates)
        left_out = [(clip_id,) for clip_id, *_ in known.values()]
        self._db.executemany("UPDATE clips SET manifest_row = NULL WHERE clip_id = ?", left_out)
        self.commit()
        return SyncReport(new=new, same=same, changed=changed, left_out=len(left_out))

    def set_key(self, clip_id: int, key: str) -> None:
        """Gives a clip its key, once the end of its video is known."""
        self._db.execute("UPDATE clips SET key = ? WHERE clip_id = ?", (key, clip_id))

    def num_clips(self) -> int:
        """How many clips of the manifest the ledger holds."""
        return int(self._db.execute("SELECT count(*) FROM clips WHERE manifest_row IS NOT NULL").fetchone()[0])

    def find_clips(self, text: str) -> list[ClipRow]:
        """Clips whose key, open key or video id is `text`."""
        return self._clip_rows("WHERE key = ?1 OR identity = ?1 OR video_id = ?1 ORDER BY clip_id", (text,))

    def find_all(self) -> list[ClipRow]:
        """Every clip of the manifest, in the manifest's order."""
        return self._clip_rows("WHERE manifest_row IS NOT NULL ORDER BY manifest_row")

    def pending_fetch(self) -> list[ClipRow]:
        """Clips of the manifest that have no final outcome of fetch, in the manifest's order."""
        return self._clip_rows(
            "LEFT JOIN outcomes o ON o.clip_id = clips.clip_id AND o.stage = 'fetch' "
            "WHERE manifest_row IS NOT NULL AND (o.status IS NULL OR o.status = 'waiting') ORDER BY manifest_row"
        )

    def pending_measure(self, version: int) -> list[tuple[ClipRow, MediaRow]]:
        """Clips whose media are there and that have no facts of this version, nor a refusal instead of facts."""
        query = (
            f"SELECT {_CLIP_COLUMNS}, {_MEDIA_COLUMNS} FROM clips JOIN media USING (clip_id) "
            "JOIN outcomes o ON o.clip_id = clips.clip_id AND o.stage = 'fetch' AND o.status = 'kept' "
            "LEFT JOIN facts f ON f.clip_id = clips.clip_id "
            "LEFT JOIN outcomes g ON g.clip_id = clips.clip_id AND g.stage = 'filter' "
            "WHERE manifest_row IS NOT NULL AND media.path != '' AND ("
            "(f.clip_id IS NULL AND (g.status IS NULL OR g.status = 'waiting')) OR f.version < ?) "
            "ORDER BY clips.clip_id"
        )
        return [(ClipRow(*row[:7]), MediaRow(*row[7:])) for row in self._db.execute(query, (version,))]

    def _clip_rows(self, where: str, values: Sequence[Any] = ()) -> list[ClipRow]:
        return [ClipRow(*row) for row in self._db.execute(f"SELECT {_CLIP_COLUMNS} FROM clips {where}", values)]

    def keys_like(self, start: str) -> list[str]:
        """Keys that begin alike, at most a thousand, for a hint when a key is not found."""
        return [row[0] for row in self._db.execute(
            "SELECT identity FROM clips WHERE identity >= ? AND identity < ? LIMIT 1000", (start, start + "\x7f")
        )]  # fmt: skip

    # -- outcomes, media, facts ---------------------------------------------------------------------------

    def record(self, clip_id: int, stage: str, outcome: Outcome, *, counts: bool = True) -> None:
        """Writes the outcome of a stage; later stages' outcomes of the clip are void and removed.

        Args:
            clip_id: the clip.
            stage: one of `STAGES`.
            outcome: what the stage made of it.
            counts: whether this was an attempt (False: nobody blames the clip).
        """
        self.begin()
        self._db.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status, "
            "reason = excluded.reason, detail = excluded.detail, attempts = attempts + excluded.attempts, "
            "seen = excluded.seen",
            (clip_id, stage, outcome.status.value, outcome.reason, outcome.detail, int(counts), time.time()),
        )
        if outcome.status is not Status.KEPT:
            for later in STAGES[STAGES.index(stage) + 1 :]:
                self._db.execute("DELETE FROM outcomes WHERE clip_id = ? AND stage = ?", (clip_id, later))

    def forget_outcome(self, clip_id: int, stage: str) -> None:
        """Makes a stage pending again for a clip, with every later stage."""
        self.begin()
        for later in STAGES[STAGES.index(stage) :]:
            self._db.execute("DELETE FROM outcomes WHERE clip_id = ? AND stage = ?", (clip_id, later))

    def record_media(self, clip_id: int, media: MediaRow) -> None:
        """Writes where a clip's media lies; facts of former media are void and removed."""
        self.begin()
        self._db.execute(
            "INSERT OR REPLACE INTO media VALUES (?, ?, ?, ?, ?)",
            (clip_id, media.path, media.offset_seconds, media.size_bytes, media.source),
        )
        self._db.execute("DELETE FROM facts WHERE clip_id = ?", (clip_id,))
        self.forget_outcome(clip_id, "filter")

    def discard_media(self, clip_id: int) -> None:
        """Notes that a clip's media were deleted on purpose; its facts stay."""
        self.begin()
        self._db.execute("UPDATE media SET path = '' WHERE clip_id = ?", (clip_id,))

    def record_facts(self, clip_id: int, version: int, facts: str) -> None:
        """Writes what was measured on a clip's media, as canonical JSON."""
        self.begin()
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (clip_id, version, facts))

    def all_facts(self) -> Iterator[tuple[int, str, str | None, str | None]]:
        """(clip id, facts, status of filter, its reason) of every clip of the manifest with facts."""
        yield from self._db.execute(
            "SELECT f.clip_id, f.facts, o.status, o.reason FROM facts f JOIN clips USING (clip_id) "
            "LEFT JOIN outcomes o ON o.clip_id = f.clip_id AND o.stage = 'filter' WHERE manifest_row IS NOT NULL"
        )

    def refused_without_facts(self) -> list[tuple[str, int]]:
        """(reason, number of clips) that filter refused because nothing could be measured."""
        return self._db.execute(
            "SELECT reason, count(*) FROM outcomes JOIN clips USING (clip_id) LEFT JOIN facts USING (clip_id) "
            "WHERE stage = 'filter' AND facts.clip_id IS NULL AND manifest_row IS NOT NULL GROUP BY reason"
        ).fetchall()

    def outcomes_of(self, clip_id: int) -> dict[str, tuple[Outcome, int, float]]:
        """Outcome, number of attempts and time (seconds since 1970) of each stage that has one."""
        rows = self._db.execute(
            "SELECT stage, status, reason, detail, attempts, seen FROM outcomes WHERE clip_id = ?", (clip_id,)
        )
        return {r[0]: (Outcome(Status(r[1]), r[2], r[3]), r[4], r[5]) for r in rows}

    def media_of(self, clip_id: int) -> MediaRow | None:
        """Where a clip's media lies, if it ever arrived."""
        row = self._db.execute(f"SELECT {_MEDIA_COLUMNS} FROM media WHERE clip_id = ?", (clip_id,)).fetchone()
        return None if row is None else MediaRow(*row)

    def facts_of(self, clip_id: int) -> str | None:
        """What was measured on a clip's media, as JSON."""
        row = self._db.execute("SELECT facts FROM facts WHERE clip_id = ?", (clip_id,)).fetchone()
        return None if row is None else str(row[0])

    def counts(self) -> dict[tuple[str, str, str, str], int]:
        """Number of clips of the manifest by (split, stage, status, reason); stage `manifest` counts all."""
        rows = self._db.execute(
            "SELECT split, 'manifest', '', '', count(*) FROM clips WHERE manifest_row IS NOT NULL GROUP BY split "
            "UNION ALL SELECT split, stage, status, reason, count(*) FROM outcomes JOIN clips USING (clip_id) "
            "WHERE manifest_row IS NOT NULL GROUP BY split, stage, status, reason"
        )
        return {(r[0], r[1], r[2], r[3]): int(r[4]) for r in rows}

    # -- plan and shards ------------------------------------------------------------------------------------

    def add_to_plan(self, rows: Iterable[tuple[int, str, int, int]]) -> None:
        """Adds (clip id, split, shard, position) rows to the plan."""
        self.begin()
        self._db.executemany("INSERT INTO plan VALUES (?, ?, ?, ?)", rows)

    def unplanned(self) -> list[tuple[int, str, str]]:
        """(clip id, split, identity) of clips of the manifest that have no place in the plan."""
        return self._db.execute(
            "SELECT clips.clip_id, clips.split, identity FROM clips LEFT JOIN plan USING (clip_id) "
            "WHERE plan.clip_id IS NULL AND manifest_row IS NOT NULL ORDER BY clips.clip_id"
        ).fetchall()

    def drop_plan(self) -> None:
        """Removes the plan and every finished shard from the ledger."""
        self.begin()
        self._db.execute("DELETE FROM plan")
        self._db.execute("DELETE FROM shards")
        self._db.execute("DELETE FROM outcomes WHERE stage = 'shard' AND status = 'kept'")

    def num_shards(self) -> dict[str, int]:
        """Number of planned shards of each split."""
        return dict(self._db.execute("SELECT split, max(shard) + 1 FROM plan GROUP BY split").fetchall())

    def planned(self, split: str | None = None, shard: int | None = None) -> Iterator[PlannedClip]:
        """Planned clips with all that decides about their samples, by split, shard and position.

        Args:
            split: only this split's.
            shard: only this shard's.
        """
        where = "" if split is None else "WHERE p.split = ?1 AND (?2 IS NULL OR p.shard = ?2) "
        values = () if split is None else (split, shard)
        cursor = self._db.execute(
            "SELECT p.split, p.shard, c.clip_id, c.identity, c.key, c.video_id, c.manifest_row, c.content, "
            "m.path, m.offset_seconds, m.source, f.facts, a.status, a.reason, b.status, b.reason, s.status, s.reason "
            "FROM plan p JOIN clips c USING (clip_id) LEFT JOIN media m USING (clip_id) "
            "LEFT JOIN facts f USING (clip_id) "
            "LEFT JOIN outcomes a ON a.clip_id = p.clip_id AND a.stage = 'fetch' "
            "LEFT JOIN outcomes b ON b.clip_id = p.clip_id AND b.stage = 'filter' "
            "LEFT JOIN outcomes s ON s.clip_id = p.clip_id AND s.stage = 'shard' "
            f"{where}ORDER BY p.split, p.shard, p.position",
            values,
        )
        for row in cursor:
            yield PlannedClip(*row)

    def shard_of(self, clip_id: int) -> str | None:
        """Name of the finished shard that a clip is in."""
        row = self._db.execute(
            "SELECT split, shard FROM plan JOIN outcomes USING (clip_id) "
            "WHERE clip_id = ? AND stage = 'shard' AND status = 'kept'",
            (clip_id,),
        ).fetchone()
        return None if row is None else f"{row[0]}-{row[1]:06d}"

    def keys_in_shards(self) -> set[str]:
        """Keys of all clips that the ledger holds to be in shards."""
        rows = self._db.execute(
            "SELECT key FROM clips JOIN outcomes USING (clip_id) WHERE stage = 'shard' AND status = 'kept' "
            "AND manifest_row IS NOT NULL"
        )
        return {row[0] for row in rows}

    def rows_in_shards(self) -> set[int]:
        """Manifest rows of all clips that are in shards."""
        rows = self._db.execute(
            "SELECT manifest_row FROM clips JOIN outcomes USING (clip_id) WHERE stage = 'shard' AND status = 'kept' "
            "AND manifest_row IS NOT NULL"
        )
        return {row[0] for row in rows}

    def first_kept(self, number: int) -> list[PlannedClip]:
        """Some kept clips, as if planned, to estimate sizes from."""
        cursor = self._db.execute(
            "SELECT c.split, 0, c.clip_id, c.identity, c.key, c.video_id, c.manifest_row, c.content, "
            "m.path, m.offset_seconds, m.source, f.facts, 'kept', '', 'kept', '', NULL, NULL "
            "FROM clips c JOIN media m USING (clip_id) JOIN facts f USING (clip_id) "
            "JOIN outcomes b ON b.clip_id = c.clip_id AND b.stage = 'filter' AND b.status = 'kept' "
            "WHERE manifest_row IS NOT NULL AND m.path != '' ORDER BY c.clip_id LIMIT ?",
            (number,),
        )
        return [PlannedClip(*row) for row in cursor]

    def finished_shards(self) -> dict[tuple[str, int], ShardRow]:
        """Finished shards by (split, shard)."""
        return {(r[0], r[1]): ShardRow(*r) for r in self._db.execute("SELECT * FROM shards")}

    def record_shard(self, shard: ShardRow) -> None:
        """Notes that a shard is finished."""
        self.begin()
        self._db.execute(
            "INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?)",
            (shard.split, shard.shard, shard.digest, shard.num_samples, shard.size_bytes, shard.tar_sha256),
        )

    def forget_shard(self, split: str, shard: int) -> None:
        """Notes that a shard is no longer finished."""
        self.begin()
        self._db.execute("DELETE FROM shards WHERE split = ? AND shard = ?", (split, shard))


_CLIP_COLUMNS = "clips.clip_id, identity, key, video_id, split, manifest_row, content"
_MEDIA_COLUMNS = "path, offset_seconds, size_bytes, source"


def content_hash(*parts: str) -> bytes:
    """An eight-byte hash of everything an annotation says of a clip, to notice when it changes."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()


def _take_lock(path: Path) -> int:
    lock_path = path.with_name(path.name + ".lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(descriptor, 64).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValorDataError(
            f"{path}: another valor-data run (process {owner or 'unknown'}) is writing here; "
            "wait for it, or stop it, or use another --work folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor
