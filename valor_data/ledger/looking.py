"""What the commands that look ask of every clip at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from valor_data.ledger.schema import STAGES
from valor_data.ledger.tables import Tables

STANDING_COLUMNS = (
    "key", "video_id", "split", "manifest_row", *(f"{s}_{part}" for s in STAGES for part in ("status", "reason")),
    "shard", "facts",
)  # fmt: skip
"""Of `standings`, in order."""


class LookTables(Tables):
    """Every clip with all that became of it, one flat row each."""

    def standings(self, *, with_facts: bool = False) -> Iterator[tuple[Any, ...]]:
        """`STANDING_COLUMNS` of each clip of the manifest, in the manifest's order.

        The key is the open key while the end is unknown; the shard is the name of the one the clip is in, or None.

        Args:
            with_facts: whether the last column is what was measured, as JSON; else None.
        """
        stages = ", ".join(f"{s}.status, {s}.reason" for s in STAGES)
        joins = " ".join(f"LEFT JOIN outcomes {s} ON {s}.clip_id = c.clip_id AND {s}.stage = '{s}'" for s in STAGES)
        shard = "CASE WHEN shard.status = 'kept' THEN p.split || printf('-%06d', p.shard) END"
        facts = "f.facts" if with_facts else "NULL"
        joins += " LEFT JOIN plan p ON p.clip_id = c.clip_id"
        joins += " LEFT JOIN facts f ON f.clip_id = c.clip_id" if with_facts else ""
        yield from self._db.execute(
            f"SELECT coalesce(c.key, c.identity), c.video_id, c.split, c.manifest_row, {stages}, {shard}, {facts} "
            f"FROM clips c {joins} WHERE c.manifest_row IS NOT NULL ORDER BY c.manifest_row"
        )
