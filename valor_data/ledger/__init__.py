"""The ledger: outcomes and facts of every clip, in one SQLite file with one writer.

Tables:
    clips     a row for every clip ever in the manifest; `clip_id` is stable for the life of the work folder
    outcomes  what each stage made of a clip: status, reason, raw detail, number of attempts
    media     where a clip's media lies, and which span of the video the file holds
    facts     what was measured on the media, with the version of the measurement
    scores    what curation measured besides, by kind
    plan      which shard a clip belongs to; fixed once
    shards    which shards are finished, and of what they were made (their digest)

A driver opens the ledger for writing and holds a lock beside it: a second driver is refused. Readers
(`status`, `why`, `verify`) open it read-only and never wait; on a disk that machines share, for moments.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from valor_data.errors import ConfigError, ValorDataError
from valor_data.ledger.audits import AuditTables
from valor_data.ledger.erasing import EraseTables
from valor_data.ledger.journal import BUSY_SECONDS, is_cut_short, journal_of
from valor_data.ledger.looking import STANDING_COLUMNS, LookTables
from valor_data.ledger.parts import PartTables, cut_part
from valor_data.ledger.plan import PlanTables
from valor_data.ledger.rows import (
    Attempt,
    ClipRow,
    FilterRow,
    LazyRows,
    MediaRow,
    Outcome,
    PlannedClip,
    ShardRow,
    SyncReport,
)
from valor_data.ledger.schema import MIGRATIONS, SCHEMA_VERSION, STAGES
from valor_data.ledger.scores import ScoreTables

__all__ = [
    "SCHEMA_VERSION",
    "STAGES",
    "STANDING_COLUMNS",
    "Attempt",
    "ClipRow",
    "FilterRow",
    "LazyRows",
    "Ledger",
    "MediaRow",
    "Outcome",
    "PlannedClip",
    "ShardRow",
    "SyncReport",
    "content_hash",
    "cut_part",
    "unwritten",
]


class Ledger(ScoreTables, AuditTables, PlanTables, PartTables, LookTables, EraseTables):
    """Opens, migrates, reads and writes the ledger. Use as a context manager.

    Args:
        path: the SQLite file.
        read_only: for commands that only look; takes no lock and creates nothing.
        is_part: it is a part's, on a disk that machines share: no write-ahead logging.

    Raises:
        ValorDataError: no ledger there (read-only), another driver holds it, or a newer schema.
    """

    def __init__(self, path: Path, *, read_only: bool = False, is_part: bool = False) -> None:
        self.path = path
        self._lock: int | None = None
        try:
            self._open(path, read_only, is_part)
        except BaseException as error:
            self._unlock()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise ValorDataError(
                    f"{path}: no ledger, or a damaged one ({error}): put a copy back, or move it away and begin anew"
                ) from None
            raise

    def _open(self, path: Path, read_only: bool, is_part: bool) -> None:
        if read_only:
            if not path.exists():
                raise ValorDataError(f"no ledger at {path}: name the work folder with --work, or run `fetch` first")
            mode = "rw" if is_cut_short(path) else "ro"
            uri = f"{path.as_uri()}?mode={mode}"
            self._db = sqlite3.connect(uri, BUSY_SECONDS, uri=True, isolation_level=None)
            self._db.execute("PRAGMA query_only = ON")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _take_lock(path)
            self._db = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None)
            journal = journal_of(path, is_part=is_part)
            self._db.execute(f"PRAGMA journal_mode = {journal}")
            self._db.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'WAL' else 'FULL'}")
        self._db.execute("PRAGMA cache_size = -65536")
        self._migrate(read_only)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def flush(self) -> None:
        """Commits, and waits until everything is on the disk."""
        self.commit()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Commits what is open and lets go of the lock."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _migrate(self, read_only: bool) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA_VERSION:
            raise ValorDataError(
                f"{self.path}: ledger schema {found}, this version knows {SCHEMA_VERSION}: update valor-data"
            )
        if read_only and found < SCHEMA_VERSION:
            raise ValorDataError(
                f"{self.path}: ledger schema {found} is older than this version's {SCHEMA_VERSION}: run `fetch`, "
                "`filter` or `shard` on the work folder once, which brings it up to date"
            )
        for version in range(found + 1, SCHEMA_VERSION + 1):
            self._db.executescript(f"BEGIN; {MIGRATIONS[version]} PRAGMA user_version = {version}; COMMIT;")

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


def content_hash(*parts: str) -> bytes:
    """An eight-byte hash of everything an annotation says of a clip, to notice when it changes."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()


@contextmanager
def unwritten(path: Path) -> Iterator[None]:
    """While the block runs nobody writes a ledger; others may hold it like this at the same time.

    Raises:
        ValorDataError: somebody is writing it.
    """
    descriptor = _take_lock(path, shared=True)
    try:
        yield
    finally:
        os.close(descriptor)


def _take_lock(path: Path, *, shared: bool = False) -> int:
    lock_path = path.with_name(path.name + ".lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if not isinstance(error, BlockingIOError):
            os.close(descriptor)
            raise ValorDataError(
                f"{lock_path}: this file system gives no locks ({error.strerror}), and without them two drivers could "
                "write one ledger: mount it with locks (Lustre: -o flock), or put --work on another disk"
            ) from None
        owner = os.read(descriptor, 128).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValorDataError(
            f"{path}: another valor-data run (process {owner or 'unknown'}) is writing here; "
            "wait for it, or stop it, or use another --work folder"
        ) from None
    if not shared:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode())
    return descriptor
