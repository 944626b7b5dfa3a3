"""The ledger's tables, and how an older ledger becomes today's."""

from __future__ import annotations

STAGES: tuple[str, ...] = ("fetch", "filter", "shard")
"""The stages that give a clip an outcome, in their order."""

SCHEMA_VERSION = 2

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
}
