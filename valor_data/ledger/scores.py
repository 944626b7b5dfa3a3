"""What curation measured: scores of a kind, each with the version of its measurement and what it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from valor_data.ledger.clips import ClipTables
from valor_data.ledger.rows import ClipRow, LazyRows, MediaRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ScoreTables(ClipTables):
    """Scores. Shards do not carry them: a new score makes no shard stale."""

    def scores(self, kind: str, version: int) -> Iterator[tuple[int, int, bytes]]:
        """(clip id, basis, score) of every clip that has a score of this version, in the order of clip ids."""
        yield from self._db.execute(
            "SELECT clip_id, basis, score FROM scores WHERE kind = ? AND version = ? ORDER BY clip_id", (kind, version)
        )

    def scores_by_key(self, kind: str, version: int) -> Iterator[tuple[str, bytes]]:
        """(key, score) of every clip of the manifest that has a score of this version, in the order of clip ids."""
        yield from self._db.execute(
            "SELECT coalesce(key, identity), score FROM scores JOIN clips USING (clip_id) "
            "WHERE kind = ? AND version = ? AND manifest_row IS NOT NULL ORDER BY clip_id",
            (kind, version),
        )

    def record_scores(self, kind: str, version: int, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Writes (clip id, basis, score) rows; what was there of the kind is replaced.

        Args:
            kind: what was measured: `content` (of the media; void when these change) or `language`.
            version: of the measurement.
            rows: the basis tells what a score was made of, where that is not the media; else 0.
        """
        self.begin()
        self._db.executemany(
            "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)",
            ((clip_id, kind, version, basis, score) for clip_id, basis, score in rows),
        )

    def score_of(self, clip_id: int, kind: str) -> tuple[int, bytes] | None:
        """Version and score of a clip, if it has one of this kind."""
        row = self._db.execute(
            "SELECT version, score FROM scores WHERE kind = ? AND clip_id = ?", (kind, clip_id)
        ).fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def without_score(self, kind: str, version: int, clip_ids: NDArray[np.int64]) -> LazyRows[tuple[ClipRow, MediaRow]]:
        """Those of some clips whose media are there and that have no score of this version."""
        known = self._ids("SELECT clip_id FROM scores WHERE kind = ? AND version = ?", (kind, version))
        there = self._ids(
            "SELECT clip_id FROM media JOIN outcomes USING (clip_id) "
            "WHERE path != '' AND stage = ? AND status = 'kept'",
            ("fetch",),
        )
        import numpy as np

        missing = clip_ids[np.isin(clip_ids, there) & ~np.isin(clip_ids, known)]
        return LazyRows(missing.tolist(), self._some_media)

    def _ids(self, query: str, values: tuple[str | int, ...]) -> NDArray[np.int64]:
        import numpy as np

        return np.fromiter((row[0] for row in self._db.execute(query, values)), np.int64)
