"""Clips, and what each stage made of them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from valor_data.errors import ConfigError, Status
from valor_data.ledger.rows import (
    CLIP_COLUMNS,
    MEDIA_COLUMNS,
    ClipRow,
    FilterRow,
    LazyRows,
    MediaRow,
    Outcome,
    SyncReport,
)
from valor_data.ledger.schema import COUNT_ALL, STAGES
from valor_data.ledger.tables import Tables


class ClipTables(Tables):
    """Clips, outcomes, media and facts."""

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
        taken = {row[0] for row in self._db.execute("SELECT key FROM clips WHERE key != identity")}
        for manifest_row, identity, key, video_id, split, content in rows:
            before = known.pop(identity, None)
            if before is None:
                # A whole video that turned out to be this clip has the key already: fetch will tell them apart.
                inserts.append(
                    (next_id, identity, None if key in taken else key, video_id, split, manifest_row, content)
                )
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
        for statement in COUNT_ALL.split(";"):
            self._db.execute(statement)
        self.commit()
        return SyncReport(new=new, same=same, changed=changed, left_out=len(left_out))

    def set_key(self, clip_id: int, key: str) -> bool:
        """Gives a clip its key, once the end of its video is known; False when another clip has it."""
        owners = self._db.execute("SELECT clip_id FROM clips WHERE key = ?", (key,)).fetchall()
        if owners:
            return bool(owners[0][0] == clip_id)
        self._db.execute("UPDATE clips SET key = ? WHERE clip_id = ?", (key, clip_id))
        return True

    def num_clips(self) -> int:
        """How many clips of the manifest the ledger holds."""
        return int(self._db.execute("SELECT count(*) FROM clips WHERE manifest_row IS NOT NULL").fetchone()[0])

    def find_clips(self, text: str) -> list[ClipRow]:
        """Clips whose key, open key or video id is `text`."""
        return self._clip_rows("WHERE key = ?1 OR identity = ?1 OR video_id = ?1 ORDER BY clip_id", (text,))

    def find_all(self) -> list[ClipRow]:
        """Every clip of the manifest, in the manifest's order."""
        return self._clip_rows("WHERE manifest_row IS NOT NULL ORDER BY manifest_row")

    def pending_measure(self, version: int) -> LazyRows[tuple[ClipRow, MediaRow]]:
        """Clips whose media are there and that have no facts of this version, nor a refusal instead of facts."""
        query = (
            "SELECT clips.clip_id FROM clips JOIN media USING (clip_id) "
            "JOIN outcomes o ON o.clip_id = clips.clip_id AND o.stage = 'fetch' AND o.status = 'kept' "
            "LEFT JOIN facts f ON f.clip_id = clips.clip_id "
            "LEFT JOIN outcomes g ON g.clip_id = clips.clip_id AND g.stage = 'filter' "
            "WHERE manifest_row IS NOT NULL AND media.path != '' AND ("
            "(f.clip_id IS NULL AND (g.status IS NULL OR g.status = 'waiting')) OR f.version < ?) "
            "ORDER BY clips.clip_id"
        )
        return LazyRows((row[0] for row in self._db.execute(query, (version,))), self._some_media)

    def _some_media(self, clip_ids: Sequence[int]) -> Iterator[tuple[int, tuple[ClipRow, MediaRow]]]:
        marks = ", ".join("?" * len(clip_ids))
        columns = f"{CLIP_COLUMNS}, {MEDIA_COLUMNS}"
        rows = self._db.execute(
            f"SELECT {columns} FROM clips JOIN media USING (clip_id) WHERE clip_id IN ({marks})", clip_ids
        )
        return ((row[0], (ClipRow(*row[:7]), MediaRow(*row[7:]))) for row in rows)

    def _clip_rows(self, where: str, values: Sequence[Any] = ()) -> list[ClipRow]:
        return [ClipRow(*row) for row in self._db.execute(f"SELECT {CLIP_COLUMNS} FROM clips {where}", values)]

    def keys_like(self, start: str) -> list[str]:
        """Keys that begin alike, at most a thousand, for a hint when a key is not found."""
        return [row[0] for row in self._db.execute(
            "SELECT identity FROM clips WHERE identity >= ? AND identity < ? LIMIT 1000", (start, start + "\x7f")
        )]  # fmt: skip

    def record(
        self, clip_id: int, stage: str, outcome: Outcome, *, counts: bool = True, now: float | None = None
    ) -> None:
        """Writes the outcome of a stage; later stages' outcomes of the clip are void and removed.

        Args:
            clip_id: the clip.
            stage: one of `STAGES`.
            outcome: what the stage made of it.
            counts: whether this was an attempt (False: nobody blames the clip).
            now: when, in seconds since 1970; None: this moment.
        """
        self.begin()
        now = time.time() if now is None else now
        self._db.execute(
            "INSERT INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, 0) ON CONFLICT DO UPDATE SET "
            "status = excluded.status, reason = excluded.reason, detail = excluded.detail, "
            "attempts = attempts + excluded.attempts, seen = excluded.seen, not_before = 0, "
            "first_seen = CASE WHEN reason = excluded.reason THEN min(first_seen, excluded.first_seen) "
            "ELSE excluded.first_seen END",
            (clip_id, stage, outcome.status.value, outcome.reason, outcome.detail, int(counts), now),
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
        self._db.execute("DELETE FROM scores WHERE clip_id = ? AND kind = 'content'", (clip_id,))
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

    def filter_rows(self) -> Iterator[FilterRow]:
        """What filter decides from, of every clip of the manifest with facts, in the order of clip ids."""
        rows = self._db.execute(
            "SELECT f.clip_id, c.manifest_row, coalesce(c.key, c.identity), c.content, f.facts, m.source, a.status, "
            "o.status, o.reason, o.detail FROM facts f JOIN clips c USING (clip_id) LEFT JOIN media m USING (clip_id) "
            "LEFT JOIN outcomes a ON a.clip_id = f.clip_id AND a.stage = 'fetch' "
            "LEFT JOIN outcomes o ON o.clip_id = f.clip_id AND o.stage = 'filter' "
            "WHERE c.manifest_row IS NOT NULL ORDER BY f.clip_id"
        )
        return map(FilterRow._make, rows)

    def filter_counts(self) -> list[tuple[str, int]]:
        """(reason, number of clips) of filter's outcomes; the empty reason is that of the kept ones."""
        return self._db.execute(
            "SELECT reason, sum(number) FROM tallies WHERE stage = 'filter' AND number > 0 GROUP BY reason"
        ).fetchall()

    def forget_facts(self, clip_id: int) -> None:
        """Makes a clip measured anew."""
        self.begin()
        self._db.execute("DELETE FROM facts WHERE clip_id = ?", (clip_id,))
        self.forget_outcome(clip_id, "filter")

    def outcomes_of(self, clip_id: int) -> dict[str, tuple[Outcome, int, float]]:
        """Outcome, number of attempts and time (seconds since 1970) of each stage that has one."""
        rows = self._db.execute(
            "SELECT stage, status, reason, detail, attempts, seen FROM outcomes WHERE clip_id = ?", (clip_id,)
        )
        return {r[0]: (Outcome(Status(r[1]), r[2], r[3]), r[4], r[5]) for r in rows}

    def media_of(self, clip_id: int) -> MediaRow | None:
        """Where a clip's media lies, if it ever arrived."""
        row = self._db.execute(f"SELECT {MEDIA_COLUMNS} FROM media WHERE clip_id = ?", (clip_id,)).fetchone()
        return None if row is None else MediaRow(*row)

    def facts_of(self, clip_id: int) -> str | None:
        """What was measured on a clip's media, as JSON."""
        row = self._db.execute("SELECT facts FROM facts WHERE clip_id = ?", (clip_id,)).fetchone()
        return None if row is None else str(row[0])

    def mean_media_bytes(self) -> int:
        """Mean size of the media files that arrived; 0 while none has."""
        row = self._db.execute("SELECT coalesce(avg(size_bytes), 0) FROM media").fetchone()
        return int(row[0])

    def export_rows(self) -> Iterator[tuple[Any, ...]]:
        """Everything known of each clip, in one flat row, in the manifest's order."""
        stages = ", ".join(f"{s}.status, {s}.reason, {s}.detail, {s}.attempts, {s}.seen" for s in STAGES)
        joins = " ".join(f"LEFT JOIN outcomes {s} ON {s}.clip_id = c.clip_id AND {s}.stage = '{s}'" for s in STAGES)
        yield from self._db.execute(
            f"SELECT coalesce(c.key, c.identity), c.video_id, c.split, {stages}, m.path, m.offset_seconds, "
            f"m.size_bytes, m.source, facts.facts FROM clips c {joins} LEFT JOIN media m ON m.clip_id = c.clip_id "
            "LEFT JOIN facts ON facts.clip_id = c.clip_id WHERE c.manifest_row IS NOT NULL ORDER BY c.manifest_row"
        )

    def ids_by_outcome(self, stage: str) -> dict[tuple[str, str], array[int]]:
        """Clips of the manifest by (status, reason) of a stage: their ids in order, eight bytes each."""
        found: dict[tuple[str, str], array[int]] = {}
        for status, reason, clip_id in self._db.execute(
            "SELECT status, reason, clip_id FROM outcomes JOIN clips USING (clip_id) "
            "WHERE stage = ? AND manifest_row IS NOT NULL ORDER BY clip_id",
            (stage,),
        ):
            found.setdefault((status, reason), array("q")).append(clip_id)
        return found

    def clips_of(self, clip_ids: Sequence[int]) -> dict[int, ClipRow]:
        """Some clips by their id."""
        marks = ", ".join("?" * len(clip_ids))
        return {row.clip_id: row for row in self._clip_rows(f"WHERE clip_id IN ({marks})", clip_ids)}

    def counts(self) -> dict[tuple[str, str, str, str], int]:
        """Number of clips of the manifest by (split, stage, status, reason); stage `manifest` counts all."""
        rows = self._db.execute("SELECT split, stage, status, reason, number FROM tallies WHERE number > 0")
        return {(r[0], r[1], r[2], r[3]): int(r[4]) for r in rows}
