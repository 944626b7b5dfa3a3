"""The ledger's tables, and how an older ledger becomes today's."""

from __future__ import annotations

STAGES: tuple[str, ...] = ("fetch", "filter", "shard")
"""The stages that give a clip an outcome, in their order."""

SCHEMA_VERSION = 5

COUNT_ALL = """
    DELETE FROM tallies;
    INSERT INTO tallies SELECT split, 'manifest', '', '', count(*) FROM clips
        WHERE manifest_row IS NOT NULL GROUP BY split;
    INSERT INTO tallies SELECT split, stage, status, reason, count(*) FROM outcomes JOIN clips USING (clip_id)
        WHERE manifest_row IS NOT NULL GROUP BY split, stage, status, reason;
    """
"""Counts everything anew; after a change of the manifest."""


def _tally(row: str, change: int) -> str:
    """Adds to the tally of an outcome, inside a trigger; clips that left the manifest are not counted."""
    return f"""
        INSERT INTO tallies SELECT split, {row}.stage, {row}.status, {row}.reason, {change} FROM clips
            WHERE clip_id = {row}.clip_id AND manifest_row IS NOT NULL
            ON CONFLICT DO UPDATE SET number = number + {change};"""


def _touch(row: str) -> str:
    """Marks the shard of a clip, inside a trigger: whether it is still what it should be must be looked at."""
    return f"""
        UPDATE shards SET touched = 1
            WHERE (split, shard) = (SELECT split, shard FROM plan WHERE clip_id = {row}.clip_id);"""


MIGRATIONS: dict[int, str] = {
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
    2: """
    ALTER TABLE outcomes ADD COLUMN first_seen REAL NOT NULL DEFAULT 0;
    ALTER TABLE outcomes ADD COLUMN not_before REAL NOT NULL DEFAULT 0;
    UPDATE outcomes SET first_seen = seen;
    CREATE TABLE attempts (
        clip_id INTEGER NOT NULL, seen REAL NOT NULL, address TEXT NOT NULL, status TEXT NOT NULL,
        reason TEXT NOT NULL, detail TEXT NOT NULL);
    CREATE INDEX attempts_by_clip ON attempts (clip_id);
    CREATE TABLE addresses (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    """,
    # Counts that are kept, not made anew for each `status`; and which finished shards something has touched.
    3: f"""
    CREATE TABLE tallies (
        split TEXT NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (split, stage, status, reason)) WITHOUT ROWID;
    {COUNT_ALL}
    CREATE TRIGGER tally_insert AFTER INSERT ON outcomes BEGIN {_tally("NEW", 1)} {_touch("NEW")} END;
    CREATE TRIGGER tally_delete AFTER DELETE ON outcomes BEGIN {_tally("OLD", -1)} {_touch("OLD")} END;
    CREATE TRIGGER tally_update AFTER UPDATE OF status, reason ON outcomes
        WHEN OLD.status != NEW.status OR OLD.reason != NEW.reason
        BEGIN {_tally("OLD", -1)} {_tally("NEW", 1)} {_touch("NEW")} END;
    ALTER TABLE shards ADD COLUMN settings TEXT NOT NULL DEFAULT '';
    ALTER TABLE shards ADD COLUMN touched INTEGER NOT NULL DEFAULT 1;
    CREATE TRIGGER touch_facts AFTER INSERT ON facts BEGIN {_touch("NEW")} END;
    CREATE TRIGGER touch_media AFTER INSERT ON media BEGIN {_touch("NEW")} END;
    CREATE TRIGGER touch_clips AFTER UPDATE OF content, manifest_row, key ON clips
        WHEN OLD.content != NEW.content OR (OLD.manifest_row IS NULL) != (NEW.manifest_row IS NULL)
            OR OLD.key IS NOT NEW.key
        BEGIN {_touch("NEW")} END;
    """,
    # What curation measured: figures beside the facts, which shards do not carry.
    4: """
    CREATE TABLE scores (
        clip_id INTEGER NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, basis INTEGER NOT NULL,
        score BLOB NOT NULL, PRIMARY KEY (kind, clip_id)) WITHOUT ROWID;
    """,
    # Whether the sources are still there.
    5: """
    CREATE TABLE audits (
        clip_id INTEGER PRIMARY KEY, seen REAL NOT NULL, first_seen REAL NOT NULL, status TEXT NOT NULL,
        reason TEXT NOT NULL, detail TEXT NOT NULL, not_before REAL NOT NULL);
    """,
}
