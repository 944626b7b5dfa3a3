"""When each clip was last looked for at its source, and what was found."""

from __future__ import annotations

from collections.abc import Iterator

from valor_data.ledger.fetching import FetchTables
from valor_data.ledger.rows import ClipRow, LazyRows, Outcome


class AuditTables(FetchTables):
    """Audits."""

    def due_audit(self, before: float, now: float) -> LazyRows[ClipRow]:
        """Clips whose media had come and that were not looked for since a time, in the manifest's order.

        Args:
            before: seconds since 1970; what was found there, or lost for good, after this is not asked for again.
            now: seconds since 1970; what nobody could tell is asked for again when its time has come.
        """
        rows = self._db.execute(
            "SELECT clips.clip_id FROM clips JOIN outcomes o ON o.clip_id = clips.clip_id AND o.stage = 'fetch' "
            "AND o.status = 'kept' LEFT JOIN audits a ON a.clip_id = clips.clip_id WHERE manifest_row IS NOT NULL "
            "AND (a.clip_id IS NULL OR a.seen < ?1 OR (a.status = 'waiting' AND a.not_before <= ?2)) "
            "ORDER BY manifest_row",
            (before, now),
        )
        return LazyRows((row[0] for row in rows), self._some_clips)

    def record_audit(self, clip_id: int, outcome: Outcome, now: float, not_before: float = 0.0) -> None:
        """Writes what was found: kept, dropped (not there any more) or waiting (nobody could tell)."""
        self.begin()
        self._db.execute(
            "INSERT INTO audits VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET seen = excluded.seen, "
            "first_seen = CASE WHEN reason = excluded.reason THEN min(first_seen, excluded.first_seen) "
            "ELSE excluded.first_seen END, status = excluded.status, reason = excluded.reason, "
            "detail = excluded.detail, not_before = excluded.not_before",
            (clip_id, now, outcome.status.value, outcome.reason, outcome.detail, not_before),
        )

    def audit_first_seen(self, clip_id: int, reason: str) -> float | None:
        """Since when a clip's audits have had a reason, seconds since 1970; None when they have another."""
        row = self._db.execute(
            "SELECT first_seen FROM audits WHERE clip_id = ? AND reason = ?", (clip_id, reason)
        ).fetchone()
        return None if row is None else float(row[0])

    def doubted_in_audits(self) -> frozenset[str]:
        """Videos that an audit was told to be gone, once."""
        rows = self._db.execute(
            "SELECT DISTINCT video_id FROM audits JOIN clips USING (clip_id) WHERE reason = 'gone_once'"
        )
        return frozenset(row[0] for row in rows)

    def audit_counts(self) -> dict[tuple[str, str], int]:
        """Clips of the manifest by (status, reason) of their last audit."""
        rows = self._db.execute(
            "SELECT status, reason, count(*) FROM audits JOIN clips USING (clip_id) WHERE manifest_row IS NOT NULL "
            "GROUP BY status, reason"
        )
        return {(row[0], row[1]): int(row[2]) for row in rows}

    def num_unaudited(self) -> int:
        """Clips whose media had come and that were never looked for since."""
        row = self._db.execute(
            "SELECT count(*) FROM clips JOIN outcomes o ON o.clip_id = clips.clip_id AND o.stage = 'fetch' "
            "AND o.status = 'kept' LEFT JOIN audits a ON a.clip_id = clips.clip_id "
            "WHERE manifest_row IS NOT NULL AND a.clip_id IS NULL"
        ).fetchone()
        return int(row[0])

    def lost_in_audits(self) -> Iterator[tuple[str, str, str, bool]]:
        """(key, video id, reason, whether all clips of the video are lost) of clips that are no longer there."""
        yield from self._db.execute(
            "SELECT coalesce(key, identity), c.video_id, a.reason, NOT EXISTS (SELECT 1 FROM clips d "
            "LEFT JOIN audits b ON b.clip_id = d.clip_id AND b.status = 'dropped' WHERE d.video_id = c.video_id "
            "AND d.manifest_row IS NOT NULL AND b.clip_id IS NULL) "
            "FROM audits a JOIN clips c USING (clip_id) WHERE a.status = 'dropped' AND c.manifest_row IS NOT NULL "
            "ORDER BY c.manifest_row"
        )
