"""Taking clips out of the ledger so that nothing of them is left in its file.

A clip's row stays in its place, empty and with a name that was drawn: so the numbers of shards never shift.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence

from valor_data.ledger.schema import COUNT_ALL
from valor_data.ledger.tables import Tables

_OWN_TEXTS = ("clips", "plan", "shards", "tallies", "addresses", "meta")
"""Tables whose texts are names, not words about clips."""


class EraseTables(Tables):
    """Removal."""

    def all_names(self) -> Iterator[tuple[str, str | None, str]]:
        """(identity, key, video id) of every clip, those that have left the manifest included."""
        yield from self._db.execute("SELECT identity, key, video_id FROM clips WHERE video_id != ''")

    def shards_of(self, clip_ids: Iterable[int]) -> list[tuple[str, int]]:
        """(split, shard) of every planned shard that some clips belong to, in order."""
        self._list_doomed(clip_ids)
        return self._db.execute(
            "SELECT DISTINCT split, shard FROM plan WHERE clip_id IN (SELECT clip_id FROM temp.doomed) "
            "ORDER BY split, shard"
        ).fetchall()

    def media_paths(self, clip_ids: Iterable[int]) -> list[str]:
        """Where the media of some clips lie, as the ledger writes it."""
        self._list_doomed(clip_ids)
        rows = self._db.execute(
            "SELECT path FROM media WHERE path != '' AND clip_id IN (SELECT clip_id FROM temp.doomed)"
        )
        return [row[0] for row in rows]

    def other_videos(self, clip_ids: Iterable[int]) -> set[str]:
        """Videos of some clips that other clips are of as well."""
        self._list_doomed(clip_ids)
        rows = self._db.execute(
            "SELECT DISTINCT video_id FROM clips WHERE clip_id NOT IN (SELECT clip_id FROM temp.doomed) "
            "AND video_id IN (SELECT video_id FROM clips WHERE clip_id IN (SELECT clip_id FROM temp.doomed))"
        )
        return {row[0] for row in rows}

    def erase(self, clip_ids: Iterable[int], *, renumber: bool) -> None:
        """Empties the rows of some clips everywhere, and overwrites what was there. The caller commits.

        Args:
            clip_ids: the clips; those that are empty already stay so.
            renumber: whether their rows have left the manifest: the rows behind move up.
        """
        self._db.execute("PRAGMA secure_delete = ON")
        self._list_doomed(clip_ids)
        self.begin()
        doomed = "(SELECT clip_id FROM temp.doomed)"
        gone = [
            row[0]
            for row in self._db.execute(
                f"SELECT manifest_row FROM clips WHERE manifest_row IS NOT NULL AND clip_id IN {doomed} ORDER BY 1"
            )
        ]
        for table in self._tables_of_clips():
            self._db.execute(f"DELETE FROM {table} WHERE clip_id IN {doomed}")
        names = self._db.execute(f"SELECT clip_id FROM clips WHERE clip_id IN {doomed} AND video_id != ''").fetchall()
        self._db.executemany(
            "UPDATE clips SET identity = ?, key = NULL, video_id = '', manifest_row = NULL, content = x'' "
            "WHERE clip_id = ?",
            [(f"removed-{secrets.token_hex(8)}", clip_id) for (clip_id,) in names],
        )
        if renumber and gone:
            self._close_gaps(gone)
        for statement in COUNT_ALL.split(";"):
            self._db.execute(statement)

    def scrub_texts(self, clean: Callable[[str], str]) -> None:
        """Puts every text that says something about a clip through a function. The caller commits.

        Args:
            clean: gives back the text, or what may stand instead.
        """
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.create_function("cleaned", 1, lambda text: clean(text) if isinstance(text, str) else text)
        self.begin()
        for table in self._tables():
            if table in _OWN_TEXTS:
                continue
            for _, column, kind, *_ in self._db.execute(f"PRAGMA table_info({table})").fetchall():
                if kind == "TEXT" and column not in ("stage", "status", "reason", "name", "address"):
                    self._db.execute(
                        f"UPDATE {table} SET {column} = cleaned({column}) "
                        f"WHERE {column} != '' AND cleaned({column}) IS NOT {column}"
                    )

    def compact(self) -> None:
        """Writes the file anew without what was freed in it, and empties the log beside it."""
        self.commit()
        self._db.execute("DROP TABLE IF EXISTS temp.doomed")
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _list_doomed(self, clip_ids: Iterable[int]) -> None:
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS doomed (clip_id INTEGER PRIMARY KEY)")
        self._db.execute("DELETE FROM temp.doomed")
        self._db.executemany("INSERT OR IGNORE INTO temp.doomed VALUES (?)", ((number,) for number in clip_ids))

    def _tables(self) -> list[str]:
        rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return [row[0] for row in rows]

    def _tables_of_clips(self) -> list[str]:
        """Tables with rows about clips, but for the clips themselves and their place in the plan."""
        tables = []
        for table in self._tables():
            columns = {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
            if "clip_id" in columns and table not in ("clips", "plan"):
                tables.append(table)
        return tables

    def _close_gaps(self, gone: Sequence[int]) -> None:
        """Each row of the manifest moves up by the number of rows that have left before it."""
        self._db.execute("CREATE TEMP TABLE shifts (first INTEGER PRIMARY KEY, shift INTEGER NOT NULL)")
        self._db.executemany("INSERT INTO temp.shifts VALUES (?, ?)", ((row, n) for n, row in enumerate(gone, 1)))
        self._db.execute(
            "UPDATE clips SET manifest_row = manifest_row - (SELECT shift FROM temp.shifts "
            "WHERE first < clips.manifest_row ORDER BY first DESC LIMIT 1) WHERE manifest_row > ?",
            (gone[0],),
        )
        self._db.execute("DROP TABLE temp.shifts")
