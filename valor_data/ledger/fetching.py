"""What only fetch keeps: every attempt with its raw text, the state of each network address, when to try again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from valor_data.ledger.rows import CLIP_COLUMNS, Attempt, ClipRow, LazyRows
from valor_data.ledger.tables import Tables

LONGEST_WAIT_SECONDS = 2 * 86_400.0
"""Nothing is put off for longer than a day; twice that is the clock's fault."""


class FetchTables(Tables):
    """Attempts and addresses."""

    def add_attempt(self, clip_id: int, attempt: Attempt) -> None:
        """Adds one attempt to a clip's story."""
        self.begin()
        self._db.execute(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)",
            (clip_id, attempt.seen, attempt.address, attempt.status, attempt.reason, attempt.detail[:2000]),
        )

    def attempts_of(self, clip_id: int) -> list[Attempt]:
        """Every attempt to fetch a clip, the oldest first."""
        rows = self._db.execute(
            "SELECT seen, address, status, reason, detail FROM attempts WHERE clip_id = ? ORDER BY seen, rowid",
            (clip_id,),
        )
        return [Attempt(*row) for row in rows]

    def get_address(self, name: str) -> str | None:
        """The state of a network address as JSON, or None when it was never used."""
        row = self._db.execute("SELECT state FROM addresses WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_address(self, name: str, state: str) -> None:
        """Keeps the state of a network address, so that a new run goes on with its pauses and its rate."""
        self.begin()
        self._db.execute("INSERT OR REPLACE INTO addresses VALUES (?, ?)", (name, state))

    def postpone(self, clip_id: int, stage: str, not_before: float) -> None:
        """Sets when a waiting clip may be tried again, in seconds since 1970."""
        self.begin()
        self._db.execute(
            "UPDATE outcomes SET not_before = ? WHERE clip_id = ? AND stage = ?", (not_before, clip_id, stage)
        )

    def not_before(self, clip_id: int, stage: str) -> float:
        """When a waiting clip may be tried again, seconds since 1970; 0: at once."""
        row = self._db.execute(
            "SELECT not_before FROM outcomes WHERE clip_id = ? AND stage = ?", (clip_id, stage)
        ).fetchone()
        return 0.0 if row is None else float(row[0])

    def due_fetch(self, now: float) -> LazyRows[ClipRow]:
        """Clips of the manifest that fetch should try now, in the manifest's order.

        Left out are those with a final outcome, and waiting ones whose time has not come. One that is more than
        `LONGEST_WAIT_SECONDS` away was told by a clock that has been set back since: it does not count.
        """
        rows = self._db.execute(
            "SELECT clips.clip_id FROM clips LEFT JOIN outcomes o ON o.clip_id = clips.clip_id AND o.stage = 'fetch' "
            "WHERE manifest_row IS NOT NULL AND (o.status IS NULL OR (o.status = 'waiting' "
            "AND (o.not_before <= ?1 OR o.not_before > ?1 + ?2))) ORDER BY manifest_row",
            (now, LONGEST_WAIT_SECONDS),
        )
        return LazyRows((row[0] for row in rows), self._some_clips)

    def _some_clips(self, clip_ids: Sequence[int]) -> Iterator[tuple[int, ClipRow]]:
        marks = ", ".join("?" * len(clip_ids))
        rows = self._db.execute(f"SELECT {CLIP_COLUMNS} FROM clips WHERE clip_id IN ({marks})", clip_ids)
        return ((row[0], ClipRow(*row)) for row in rows)

    def ids_by_video(self) -> Iterator[int]:
        """Every clip of the manifest; those of a video together, where the first of them stands."""
        rows = self._db.execute(
            "SELECT clip_id FROM clips WHERE manifest_row IS NOT NULL "
            "ORDER BY min(manifest_row) OVER (PARTITION BY video_id), manifest_row"
        )
        return (row[0] for row in rows)

    def num_postponed(self, now: float) -> tuple[int, float]:
        """Waiting clips whose time has not come, and when the first one's does."""
        row = self._db.execute(
            "SELECT count(*), coalesce(min(not_before), 0) FROM outcomes JOIN clips USING (clip_id) "
            "WHERE stage = 'fetch' AND status = 'waiting' AND not_before > ? AND manifest_row IS NOT NULL",
            (now,),
        ).fetchone()
        return int(row[0]), float(row[1])

    def reopen(self, reasons: list[str]) -> int:
        """Makes clips pending again whose fetch ended with one of these reasons; tells how many."""
        marks = ", ".join("?" * len(reasons))
        rows = self._db.execute(
            f"SELECT clip_id FROM outcomes WHERE stage = 'fetch' AND status != 'kept' AND reason IN ({marks})", reasons
        ).fetchall()
        self.begin()
        self._db.executemany("DELETE FROM outcomes WHERE clip_id = ?", rows)
        return len(rows)

    def reopen_old(self, reasons: list[str], before: float) -> int:
        """Makes clips pending again that fetch gave up for these reasons before a time; tells how many."""
        marks = ", ".join("?" * len(reasons))
        rows = self._db.execute(
            f"SELECT clip_id FROM outcomes WHERE stage = 'fetch' AND status = 'dropped' AND seen < ? "
            f"AND reason IN ({marks})",
            (before, *reasons),
        ).fetchall()
        self.begin()
        self._db.executemany("DELETE FROM outcomes WHERE clip_id = ?", rows)
        return len(rows)

    def first_seen(self, clip_id: int, stage: str, reason: str) -> float | None:
        """When a clip first had the reason that it has now, seconds since 1970; None when it has another."""
        row = self._db.execute(
            "SELECT first_seen FROM outcomes WHERE clip_id = ? AND stage = ? AND reason = ?", (clip_id, stage, reason)
        ).fetchone()
        return None if row is None else float(row[0])

    def doubted_videos(self) -> frozenset[str]:
        """Videos that were reported gone once, and are not believed to be."""
        rows = self._db.execute(
            "SELECT DISTINCT video_id FROM outcomes JOIN clips USING (clip_id) "
            "WHERE stage = 'fetch' AND reason = 'gone_once'"
        )
        return frozenset(row[0] for row in rows)

    def final_losses(self) -> list[tuple[str, str, str, float]]:
        """(video id, reason, raw text, when it was seen) of every video that fetch gave up for good."""
        return self._db.execute(
            "SELECT video_id, reason, detail, max(seen) FROM outcomes JOIN clips USING (clip_id) "
            "WHERE stage = 'fetch' AND status = 'dropped' GROUP BY video_id, reason ORDER BY video_id"
        ).fetchall()
