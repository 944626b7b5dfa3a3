"""The shard plan, and which shards are finished."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from valor_data.ledger.rows import PlannedClip, ShardRow
from valor_data.ledger.schema import STAGES
from valor_data.ledger.tables import Tables


class PlanTables(Tables):
    """The plan and the finished shards."""

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

    def plan_digest(self) -> str:
        """Hash of the whole plan: which clip is where."""
        hasher = hashlib.sha256()
        for row in self._db.execute(
            "SELECT plan.split, shard, position, identity FROM plan JOIN clips USING (clip_id) "
            "ORDER BY plan.split, shard, position"
        ):
            hasher.update("\x1f".join(map(str, row)).encode() + b"\n")
        return hasher.hexdigest()

    def planned_shards(self) -> list[tuple[str, int]]:
        """(split, shard) of every planned shard, in order; of a part, only its own."""
        return self._db.execute("SELECT DISTINCT split, shard FROM plan ORDER BY split, shard").fetchall()

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

    def rows_in_shards(self) -> list[int]:
        """Manifest rows of all clips that are in shards."""
        rows = self._db.execute(
            "SELECT manifest_row FROM clips JOIN outcomes USING (clip_id) WHERE stage = 'shard' AND status = 'kept' "
            "AND manifest_row IS NOT NULL"
        )
        return [row[0] for row in rows]

    def rows_to_publish(self) -> Iterator[tuple[int, str, str, str, str, int | None, str | None, str | None]]:
        """What became of every clip of the manifest, in its order.

        Yields:
            (manifest row, key or open key, status, the stage that refused it, reason, number of its shard, source,
            facts); the stage is empty and the status `kept` when it is in a shard.
        """
        refused = "WHEN {0}.status IS NOT NULL AND {0}.status != 'kept' THEN {0}.{1} "
        ended = {
            column: "CASE " + "".join(refused.format(stage, column) for stage in STAGES)
            for column in ("status", "reason")
        }
        where = "".join(f"WHEN {s}.status IS NOT NULL AND {s}.status != 'kept' THEN '{s}' " for s in STAGES)
        not_tried = "".join(f"WHEN {s}.status IS NULL THEN '{s}' " for s in STAGES)
        joins = " ".join(f"LEFT JOIN outcomes {s} ON {s}.clip_id = c.clip_id AND {s}.stage = '{s}'" for s in STAGES)
        yield from self._db.execute(
            f"SELECT c.manifest_row, coalesce(c.key, c.identity), {ended['status']} WHEN shard.status IS NULL THEN "
            f"'waiting' ELSE 'kept' END, CASE {where}{not_tried} ELSE '' END, {ended['reason']} ELSE '' END, p.shard, "
            f"m.source, facts.facts FROM clips c {joins} LEFT JOIN plan p ON p.clip_id = c.clip_id "
            "LEFT JOIN media m ON m.clip_id = c.clip_id LEFT JOIN facts ON facts.clip_id = c.clip_id "
            "WHERE c.manifest_row IS NOT NULL ORDER BY c.manifest_row"
        )

    def first_ready(self, number: int) -> list[PlannedClip]:
        """Some clips whose media are there and that nobody refused, as if planned, to estimate sizes from."""
        cursor = self._db.execute(
            "SELECT c.split, 0, c.clip_id, c.identity, c.key, c.video_id, c.manifest_row, c.content, "
            "m.path, m.offset_seconds, m.source, f.facts, 'kept', '', b.status, b.reason, NULL, NULL "
            "FROM clips c JOIN media m USING (clip_id) LEFT JOIN facts f USING (clip_id) "
            "LEFT JOIN outcomes b ON b.clip_id = c.clip_id AND b.stage = 'filter' "
            "WHERE manifest_row IS NOT NULL AND m.path != '' AND coalesce(b.status, 'kept') = 'kept' "
            "ORDER BY c.clip_id LIMIT ?",
            (number,),
        )
        return [PlannedClip(*row) for row in cursor]

    def finished_shards(self) -> dict[tuple[str, int], ShardRow]:
        """Finished shards by (split, shard)."""
        rows = self._db.execute(
            "SELECT split, shard, digest, num_samples, size_bytes, tar_sha256, settings, touched FROM shards"
        )
        return {(r[0], r[1]): ShardRow(*r) for r in rows}

    def record_shard(self, shard: ShardRow) -> None:
        """Notes that a shard is finished; after this, whatever changes about its clips marks it as touched."""
        self.begin()
        self._db.execute(
            "INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (shard.split, shard.shard, shard.digest, shard.num_samples, shard.size_bytes, shard.tar_sha256,
             shard.settings, shard.touched),
        )  # fmt: skip

    def forget_shard(self, split: str, shard: int) -> None:
        """Notes that a shard is no longer finished."""
        self.begin()
        self._db.execute("DELETE FROM shards WHERE split = ? AND shard = ?", (split, shard))
