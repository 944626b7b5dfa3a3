"""The ledger of a part: the rows of its shards' clips, cut out of the whole ledger and brought back into it.

A part's ledger has the tables of every ledger. It lies on a disk that many machines share, so it is written with a
rollback journal: write-ahead logging needs memory that machines do not share.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from valor_data.ledger.journal import is_cut_short
from valor_data.ledger.schema import COUNT_ALL, MIGRATIONS, SCHEMA_VERSION
from valor_data.ledger.tables import Tables

PINNED = ("manifest", "plan", "plan_digest", "modalities", "settings.filter", "settings.shard")
"""What a part and the whole must agree about."""

_KEYS = {
    "media": "clip_id",
    "facts": "clip_id",
    "scores": "clip_id, kind",
    "outcomes": "clip_id, stage",
    "shards": "split, shard",
}
"""What a part may change, and the keys. Shards come last: what changes about clips marks their shard as touched."""


def cut_part(whole: Path, target: Path, number: int, total: int) -> None:
    """Writes a new ledger with the clips of every shard whose number is `number - 1` modulo `total`.

    Args:
        whole: the ledger, which nobody is writing.
        target: a new file.
        number: which part, from 1.
        total: of how many.
    """
    log = whole.with_name(f"{whole.name}-wal")
    unwritten = log.exists() and log.stat().st_size > 0
    mode = "mode=ro" if unwritten else "mode=ro&immutable=1"  # the latter needs no memory beside the file
    if is_cut_short(whole):
        mode = "mode=rw"  # SQLite first takes back what a killed writer had begun
    db = sqlite3.connect(target.as_uri(), uri=True, isolation_level=None)
    try:
        for version in range(1, SCHEMA_VERSION + 1):
            db.executescript(f"BEGIN; {MIGRATIONS[version]} PRAGMA user_version = {version}; COMMIT;")
        db.execute("ATTACH ? AS whole", (f"{whole.as_uri()}?{mode}",))
        db.execute("BEGIN")
        db.execute("INSERT INTO meta SELECT * FROM whole.meta")
        of_part = (total, number - 1)
        mine = "SELECT clip_id FROM whole.plan WHERE shard % ? = ?"
        for table in ("clips", "media", "facts", "scores", "outcomes", "plan"):
            db.execute(f"INSERT INTO main.{table} SELECT * FROM whole.{table} WHERE clip_id IN ({mine})", of_part)
        db.execute("INSERT INTO main.shards SELECT * FROM whole.shards WHERE shard % ? = ?", of_part)
        for statement in COUNT_ALL.split(";"):
            db.execute(statement)
        db.execute("COMMIT")
    finally:
        db.close()


class PartTables(Tables):
    """What the whole ledger takes from its parts."""

    def pinned(self) -> dict[str, str]:
        """Values that a part and the whole must agree about, as far as they are known."""
        rows = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        return {name: str(rows[name]) for name in PINNED if name in rows}

    def take_part(self, part: PartTables) -> None:
        """Makes everything of the clips of a part as the part has it; again makes no difference."""
        self.begin()
        self._copy_aside(part, "plan")
        for table in _KEYS:
            self._copy_aside(part, table)
            self._take_table(table)
            self._db.execute(f"DROP TABLE temp.part_{table}")
        self._db.execute("DROP TABLE temp.part_plan")

    def _copy_aside(self, part: PartTables, table: str) -> None:
        self._db.execute(f"CREATE TEMP TABLE part_{table} AS SELECT * FROM main.{table} LIMIT 0")
        width = len(self._columns(table))
        self._db.executemany(
            f"INSERT INTO temp.part_{table} VALUES ({', '.join('?' * width)})",
            part._db.execute(f"SELECT * FROM {table}"),
        )
        if table in _KEYS:
            self._db.execute(f"CREATE INDEX temp.part_{table}_by_key ON part_{table} ({_KEYS[table]})")

    def _take_table(self, table: str) -> None:
        keys = _KEYS[table]
        first = keys.split(", ")[0] if table != "shards" else keys
        changing = [name for name in self._columns(table) if name not in keys.split(", ")]
        self._db.execute(
            f"DELETE FROM main.{table} WHERE ({first}) IN (SELECT {first} FROM temp.part_plan) "
            f"AND ({keys}) NOT IN (SELECT {keys} FROM temp.part_{table})"
        )
        self._db.execute(
            f"INSERT INTO main.{table} SELECT * FROM temp.part_{table} WHERE true ON CONFLICT ({keys}) DO UPDATE SET "
            f"{', '.join(f'{name} = excluded.{name}' for name in changing)} "
            f"WHERE {' OR '.join(f'{name} IS NOT excluded.{name}' for name in changing)}"
        )

    def _columns(self, table: str) -> list[str]:
        return [row[1] for row in self._db.execute(f"PRAGMA main.table_info({table})")]
