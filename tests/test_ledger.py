"""The ledger: one writer, outcomes that follow from one another, nothing lost between runs."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.errors import ConfigError, Status, ValorDataError
from valor_data.ledger import (
    SCHEMA_VERSION,
    STAGES,
    Ledger,
    MediaRow,
    Outcome,
    PlannedClip,
    ShardRow,
    SyncReport,
    content_hash,
    cut_part,
)
from valor_data.ledger.schema import MIGRATIONS

Row = tuple[int, str, str | None, str, str, bytes]
KEPT = Outcome.kept()
MEDIA = MediaRow("media/ab/x.mp4", 1.5, 100, '{"extractor":"url"}')


def row(number: int, name: str, *, split: str = "train", content: bytes = b"c", is_open: bool = False) -> Row:
    identity = f"{name}_00000000_{'open' if is_open else '00001000'}"
    return (number, identity, None if is_open else identity, name, split, content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ledger.sqlite"


def entered(path: Path, *names: str) -> Ledger:
    ledger = Ledger(path)
    ledger.sync([row(n, name) for n, name in enumerate(names)])
    return ledger


def stages_of(ledger: Ledger, clip_id: int) -> list[str]:
    return sorted(ledger.outcomes_of(clip_id), key=STAGES.index)


# -- opening


def test_read_only_wants_a_ledger(path: Path) -> None:
    with pytest.raises(ValorDataError, match=r"no ledger at .*ledger.sqlite: name the work folder with --work, or run"):
        Ledger(path, read_only=True)
    assert not path.parent.exists(), "looking creates nothing"


def test_a_newer_schema_is_refused(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for read_only in (True, False):
        with pytest.raises(
            ValorDataError, match=f"ledger schema {SCHEMA_VERSION + 1}, this version knows {SCHEMA_VERSION}: update"
        ):
            Ledger(path, read_only=read_only)


def test_an_empty_database_is_migrated_once(path: Path) -> None:
    path.parent.mkdir()
    sqlite3.connect(path).close()
    with Ledger(path) as ledger:
        ledger.sync([row(0, "a")])
    with Ledger(path) as ledger:
        assert ledger.num_clips() == 1
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    ours = {"meta", "addresses", "attempts", "clips", "outcomes", "media", "facts", "plan", "scores", "shards"}
    ours |= {"audits", "tallies"}
    assert tables == ours


def test_an_old_ledger_keeps_what_it_holds(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.executescript(MIGRATIONS[1])
        db.execute("INSERT INTO clips VALUES (7, 'a_00000000_00001000', 'a_00000000_00001000', 'a', 'train', 0, x'00')")
        db.execute("INSERT INTO outcomes VALUES (7, 'fetch', 'waiting', 'network', 'reset', 3, 1700000000.0)")
        db.execute("PRAGMA user_version = 1")
    db.close()
    for _ in range(2):
        with Ledger(path) as ledger:
            assert [clip.clip_id for clip in ledger.find_all()] == [7]
            outcome, attempts, seen = ledger.outcomes_of(7)["fetch"]
            assert (outcome, attempts, seen) == (Outcome(Status.WAITING, "network", "reset"), 3, 1700000000.0)
            assert [clip.clip_id for clip in ledger.due_fetch(time.time())] == [7]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_no_ledger(path: Path, read_only: bool) -> None:
    path.parent.mkdir()
    path.write_text("no database " * 1000)
    for _ in range(2):  # the second time it is not locked either
        with pytest.raises(
            ValorDataError, match=r"ledger\.sqlite: no ledger, or a damaged one \(file is not a database\)"
        ):
            Ledger(path, read_only=read_only)


def test_one_writer_and_any_number_of_readers(path: Path) -> None:
    with entered(path, "a"):
        with pytest.raises(ValorDataError, match=f"process {os.getpid()}.* is writing here; wait for it, or stop it"):
            Ledger(path)
        with Ledger(path, read_only=True) as reader:
            assert reader.num_clips() == 1
    Ledger(path).close()


def test_the_lock_of_a_killed_writer_is_free(path: Path) -> None:
    code = (
        "import sys, time, pathlib; from valor_data.ledger import Ledger\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        with pytest.raises(ValorDataError, match=f"process {writer.pid} on "):
            Ledger(path)
    finally:
        writer.kill()
        writer.communicate()
    Ledger(path).close()


@pytest.fixture
def shared_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger believes that it lies on a disk that machines share."""
    monkeypatch.setattr("valor_data.ledger.journal.file_system_of", lambda place: ("nfs4", "/"))


def journal_mode(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return str(db.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.mark.usefixtures("shared_disk")
def test_on_a_shared_disk_there_is_no_write_ahead_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("valor_data.ledger.journal.file_system_of", lambda place: ("ext4", "/"))
        entered(path, "a").close()
        assert journal_mode(path) == "wal"
    with Ledger(path) as ledger:
        assert journal_mode(path) == "delete", "as another connection sees a rollback journal"
        with Ledger(path, read_only=True) as reader:
            ledger.begin()
            ledger.record(0, "fetch", KEPT)
            assert reader.outcomes_of(0) == {}
            ledger.commit()
            assert reader.outcomes_of(0)["fetch"][0] == KEPT
    assert not path.with_name(f"{path.name}-wal").exists()


@pytest.mark.usefixtures("shared_disk")
@pytest.mark.parametrize("after", ["reader", "writer", "part"])
def test_what_a_killed_writer_had_begun_is_taken_back(path: Path, after: str) -> None:
    entered(path, "a").close()
    program = (
        "import os, sys, sqlite3\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 1'), db.execute('BEGIN IMMEDIATE')\n"
        "db.execute(\"INSERT INTO meta VALUES ('half', zeroblob(1000000))\")\n"
        "db.executemany('INSERT INTO meta VALUES (?, 1)', [(f'x{n}',) for n in range(1000)])\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0, "pages of the file were overwritten"
    if after == "part":
        cut_part(path, path.with_name("part.sqlite"), 1, 1)
    else:
        with Ledger(path, read_only=after == "reader") as ledger:
            assert ledger.get_meta("half") is None
            assert ledger.num_clips() == 1
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM meta WHERE name LIKE 'x%'").fetchone() == (0,)


def test_a_reader_writes_nothing(path: Path) -> None:
    entered(path, "a").close()
    with Ledger(path, read_only=True) as ledger, pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.set_meta("x", "y")


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    words = (
        r"\.lock: this file system gives no locks \(Function not implemented\), .*: mount it with locks \(Lustre: -o"
    )
    with pytest.raises(ValorDataError, match=words):
        Ledger(path)


def test_what_is_not_committed_is_not_seen_and_what_is_closed_is(path: Path) -> None:
    with entered(path, "a") as ledger:
        ledger.record(1, "fetch", KEPT)
        with Ledger(path, read_only=True) as reader:
            assert reader.outcomes_of(1) == {}
            ledger.commit()
            assert list(reader.outcomes_of(1)) == ["fetch"]
        ledger.record(1, "filter", KEPT)
    with Ledger(path, read_only=True) as reader:
        assert stages_of(reader, 1) == ["fetch", "filter"]


# -- the manifest


def test_sync_counts_new_same_changed_and_left_out(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.sync([row(0, "a"), row(1, "b"), row(2, "c")]) == SyncReport(3, 0, 0, 0)
        ids = {clip.video_id: clip.clip_id for clip in ledger.find_all()}
        again = [row(0, "c"), row(1, "d"), row(2, "a", content=b"other")]
        assert ledger.sync(again) == SyncReport(new=1, same=1, changed=1, left_out=1)
        assert [(c.video_id, c.manifest_row) for c in ledger.find_all()] == [("c", 0), ("d", 1), ("a", 2)]
        assert ledger.find_clips("a")[0].content == b"other"
        assert {c.video_id: c.clip_id for c in ledger.find_all()} == {"c": ids["c"], "a": ids["a"], "d": 4}
        assert ledger.find_clips("b")[0].manifest_row is None
        assert ledger.num_clips() == 3
        # What was left out comes back under its old number.
        assert ledger.sync([row(0, "b")]) == SyncReport(new=0, same=1, changed=0, left_out=3)
        assert ledger.find_all()[0].clip_id == ids["b"]


def test_a_clip_cannot_change_its_split(path: Path) -> None:
    with entered(path, "a", "b") as ledger:
        with pytest.raises(
            ConfigError, match=r"b_.*: was in split 'train', the new manifest says 'val'; .* use a new one"
        ):
            ledger.sync([row(0, "c"), row(1, "b", split="val")])
        assert [c.video_id for c in ledger.find_all()] == ["a", "b"], "nothing of a refused manifest is entered"


names = st.lists(st.sampled_from("abcdefgh"), unique=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(names, min_size=1, max_size=5))
def test_ids_are_stable_whatever_manifests_come(
    tmp_path_factory: pytest.TempPathFactory, manifests: list[list[str]]
) -> None:
    seen: dict[str, int] = {}
    with Ledger(tmp_path_factory.mktemp("ledger") / "l.sqlite") as ledger:
        for manifest in manifests:
            before = {c.video_id for c in ledger.find_all()}
            report = ledger.sync([row(n, name) for n, name in enumerate(manifest)])
            assert report.new == len(set(manifest) - seen.keys())
            assert report.new + report.same == len(manifest)
            assert report.left_out == len(seen.keys() - set(manifest))
            assert before - set(manifest) <= seen.keys()
            found = ledger.find_all()
            assert [c.video_id for c in found] == manifest
            for clip in found:
                assert seen.setdefault(clip.video_id, clip.clip_id) == clip.clip_id
    assert len(set(seen.values())) == len(seen)


def test_find_by_key_open_key_and_video(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.sync([row(0, "-a", is_open=True), row(1, "-a"), row(2, "_b")])
        assert [c.key for c in ledger.find_clips("-a")] == [None, "-a_00000000_00001000"]
        assert not ledger.set_key(1, "-a_00000000_00001000"), "that is another clip"
        assert ledger.find_clips("-a")[0].key is None
        for _ in range(2):
            assert ledger.set_key(1, "-a_00000000_00007500")
        assert [c.clip_id for c in ledger.find_clips("-a_00000000_00007500")] == [1]
        assert [c.clip_id for c in ledger.find_clips("-a_00000000_open")] == [1]
        assert ledger.find_clips("-A") == []
        assert ledger.keys_like("_b") == ["_b_00000000_00001000"]
        assert ledger.keys_like("zzz") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b"), ("b", "a")), (("ab",), ("a", "b")), (("a", ""), ("a",)), (("c", "x"), ("c", "x", "l"))],
)
def test_the_content_hash_tells_apart(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert content_hash(*one) != content_hash(*other)
    assert content_hash(*one) == content_hash(*one)
    assert len(content_hash(*one)) == 8


# -- outcomes


def test_outcomes() -> None:
    assert Outcome.refused("silent", "-80") == Outcome(Status.DROPPED, "silent", "-80")
    assert Outcome.refused("network") == Outcome(Status.WAITING, "network")
    assert len(Outcome.refused("network", "x" * 10_000).detail) == 2000
    with pytest.raises(KeyError, match="unheard_of"):
        Outcome.refused("unheard_of")


@pytest.mark.parametrize("stage", STAGES)
def test_a_refusal_voids_what_came_after(path: Path, stage: str) -> None:
    with entered(path, "a", "b") as ledger:
        for clip_id in (1, 2):
            for name in STAGES:
                ledger.record(clip_id, name, KEPT)
        ledger.record(1, stage, Outcome.refused("network"))
        assert stages_of(ledger, 1) == list(STAGES[: STAGES.index(stage) + 1])
        assert stages_of(ledger, 2) == list(STAGES)


def test_keeping_again_voids_nothing(path: Path) -> None:
    with entered(path, "a") as ledger:
        for name in (*STAGES, "filter"):
            ledger.record(1, name, KEPT)
        assert stages_of(ledger, 1) == list(STAGES)


def test_attempts_are_counted(path: Path) -> None:
    with entered(path, "a") as ledger:
        before = time.time()
        ledger.record(1, "fetch", Outcome.refused("network", "first"))
        ledger.record(1, "fetch", Outcome.refused("disk", "nobody's fault"), counts=False)
        ledger.record(1, "fetch", Outcome.refused("server_error", "last"))
        outcome, attempts, seen = ledger.outcomes_of(1)["fetch"]
        assert (outcome, attempts) == (Outcome(Status.WAITING, "server_error", "last"), 2)
        assert before <= seen <= time.time()


def test_new_media_void_facts_and_decision(path: Path) -> None:
    with entered(path, "a") as ledger:
        ledger.record_media(1, MEDIA)
        for name in STAGES:
            ledger.record(1, name, KEPT)
        ledger.record_facts(1, 1, "{}")
        assert (ledger.media_of(1), ledger.facts_of(1)) == (MEDIA, "{}")
        ledger.record_media(1, MediaRow("media/other.mp4", 0.0, 7, "{}"))
        assert ledger.facts_of(1) is None
        assert stages_of(ledger, 1) == ["fetch"]
        assert (ledger.media_of(2), ledger.facts_of(2)) == (None, None)


def test_discarded_media_keep_their_facts(path: Path) -> None:
    with entered(path, "a") as ledger:
        ledger.record_media(1, MEDIA)
        ledger.record(1, "fetch", KEPT)
        ledger.record_facts(1, 1, "{}")
        ledger.discard_media(1)
        assert ledger.media_of(1) == MediaRow("", 1.5, 100, '{"extractor":"url"}')
        assert ledger.facts_of(1) == "{}"
        assert list(ledger.pending_measure(2)) == [], "what is not there cannot be measured again"


def test_what_is_pending(path: Path) -> None:
    with entered(path, "a", "b", "c", "d") as ledger:
        assert [c.video_id for c in ledger.due_fetch(0.0)] == ["a", "b", "c", "d"]
        ledger.record(1, "fetch", Outcome.refused("gone"))
        ledger.record(2, "fetch", Outcome.refused("network"))
        for clip_id in (3, 4):
            ledger.record(clip_id, "fetch", KEPT)
            ledger.record_media(clip_id, MEDIA)
        assert [c.video_id for c in ledger.due_fetch(0.0)] == ["b"]
        assert [c.video_id for c, _ in ledger.pending_measure(1)] == ["c", "d"]
        ledger.record_facts(3, 1, "{}")
        ledger.record(4, "filter", Outcome.refused("undecodable"))
        assert list(ledger.pending_measure(1)) == [], "a refusal in place of facts is not tried again"
        assert [c.video_id for c, _ in ledger.pending_measure(2)] == ["c"], "facts of an old version are"
        ledger.forget_outcome(3, "fetch")
        assert [c.video_id for c in ledger.due_fetch(0.0)] == ["b", "c"]
        ledger.sync([row(0, "a")])
        assert (len(ledger.due_fetch(0.0)), len(ledger.pending_measure(2))) == (0, 0)


def test_counts(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.sync([row(0, "a"), row(1, "b"), row(2, "c", split="val")])
        ledger.record(1, "fetch", KEPT)
        ledger.record(2, "fetch", Outcome.refused("gone"))
        ledger.record(3, "fetch", Outcome.refused("gone"))
        assert ledger.counts() == {
            ("train", "manifest", "", ""): 2,
            ("val", "manifest", "", ""): 1,
            ("train", "fetch", "kept", ""): 1,
            ("train", "fetch", "dropped", "gone"): 1,
            ("val", "fetch", "dropped", "gone"): 1,
        }
        ledger.sync([row(0, "a")])
        assert sum(ledger.counts().values()) == 2, "clips that are no longer listed do not count"


def test_facts_of_all_and_refusals_without(path: Path) -> None:
    with entered(path, "a", "b", "c") as ledger:
        ledger.record_facts(1, 1, '{"n":1}')
        ledger.record_facts(2, 1, '{"n":2}')
        ledger.record(1, "filter", Outcome.refused("silent"))
        ledger.record(3, "filter", Outcome.refused("crashed"))
        rows = [(r.clip_id, r.facts, r.status, r.reason) for r in ledger.filter_rows()]
        assert rows == [(1, '{"n":1}', "dropped", "silent"), (2, '{"n":2}', None, None)]
        assert dict(ledger.filter_counts())["crashed"] == 1


def test_a_value_is_pinned_for_good(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.get_meta("modalities") is None
        for _ in range(2):
            ledger.pin("modalities", "av", advice="use another folder")
        with pytest.raises(ConfigError, match=r"modalities: .* begun with 'av', not 'v'; use another folder"):
            ledger.pin("modalities", "v", advice="use another folder")
    with Ledger(path, read_only=True) as ledger:
        assert ledger.get_meta("modalities") == "av"


# -- plan and shards


def test_the_plan(path: Path) -> None:
    with entered(path, "a", "b", "c") as ledger:
        assert ledger.unplanned() == [(n, "train", f"{v}_00000000_00001000") for n, v in ((1, "a"), (2, "b"), (3, "c"))]
        ledger.add_to_plan([(3, "train", 0, 0), (1, "train", 0, 1)])
        assert [clip_id for clip_id, *_ in ledger.unplanned()] == [2]
        ledger.add_to_plan([(2, "train", 1, 0)])
        assert ledger.num_shards() == {"train": 2}
        assert [(c.shard, c.clip_id) for c in ledger.planned()] == [(0, 3), (0, 1), (1, 2)]
        assert [c.clip_id for c in ledger.planned("train", 1)] == [2]
        assert [c.clip_id for c in ledger.planned("train")] == [3, 1, 2]
        assert list(ledger.planned("val")) == []
        with pytest.raises(sqlite3.IntegrityError):
            ledger.add_to_plan([(2, "train", 2, 0)])
        ledger.record_shard(ShardRow("train", 0, "d", 2, 10, "s"))
        ledger.drop_plan()
        assert (ledger.num_shards(), ledger.finished_shards(), len(ledger.unplanned())) == ({}, {}, 3)


def test_how_a_planned_clip_stands(path: Path) -> None:
    def standing() -> tuple[tuple[str, str], bool]:
        clip: PlannedClip = next(ledger.planned())
        return clip.standing(), clip.wanted

    with entered(path, "a") as ledger:
        ledger.add_to_plan([(1, "train", 0, 0)])
        assert standing() == (("waiting", "interrupted"), False)
        ledger.record(1, "fetch", Outcome.refused("missing"))
        assert standing() == (("waiting", "missing"), False)
        ledger.record(1, "fetch", KEPT)
        assert standing() == (("waiting", "interrupted"), False)
        ledger.record(1, "filter", Outcome.refused("silent"))
        assert standing() == (("dropped", "silent"), False)
        ledger.record(1, "filter", KEPT)
        assert standing() == (("kept", ""), True)
        ledger.record(1, "shard", Outcome.refused("crashed"))
        assert standing() == (("kept", ""), False)
        ledger.sync([])
        assert standing() == (("dropped", "removed"), False)


def test_finished_shards(path: Path) -> None:
    with entered(path, "a", "b") as ledger:
        ledger.add_to_plan([(1, "train", 0, 0), (2, "train", 0, 1)])
        shard = ShardRow("train", 0, "digest", 1, 1024, "sha")
        ledger.record(1, "shard", KEPT)
        ledger.record(2, "shard", Outcome.refused("crashed"))
        ledger.record_shard(shard)
        assert ledger.finished_shards() == {("train", 0): shard}
        assert (ledger.shard_of(1), ledger.shard_of(2)) == ("train-000000", None)
        assert ledger.keys_in_shards() == {"a_00000000_00001000"}
        ledger.record_shard(ShardRow("train", 0, "new", 2, 2048, "other"))
        assert ledger.finished_shards()[("train", 0)].digest == "new"
        ledger.forget_shard("train", 0)
        assert ledger.finished_shards() == {}


def test_the_first_kept_clips(path: Path) -> None:
    with entered(path, "a", "b", "c", "d") as ledger:
        for clip_id in (1, 2, 3, 4):
            ledger.record_media(clip_id, MEDIA)
            ledger.record_facts(clip_id, 1, "{}")
            ledger.record(clip_id, "filter", Outcome.refused("silent") if clip_id == 2 else KEPT)
        ledger.discard_media(3)
        assert [(c.clip_id, c.standing()) for c in ledger.first_ready(5)] == [(1, ("kept", "")), (4, ("kept", ""))]
        assert len(ledger.first_ready(1)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.record(1, "filter", Outcome.refused("silent")),
        lambda ledger: ledger.record_media(1, MEDIA),
        lambda ledger: ledger.record_facts(1, 2, '{"n":2}'),
        lambda ledger: ledger.forget_outcome(1, "shard"),
        lambda ledger: ledger.sync([row(0, "b")]),
    ],
)
def test_what_changes_about_a_clip_marks_its_shard_and_no_other(path: Path, change: Callable[[Ledger], object]) -> None:
    with entered(path, "a", "b") as ledger:
        for clip_id in (1, 2):
            ledger.record(clip_id, "filter", KEPT)
            ledger.record(clip_id, "shard", KEPT)
        ledger.add_to_plan([(1, "train", 0, 0), (2, "train", 1, 0)])
        for number in (0, 1):
            ledger.record_shard(ShardRow("train", number, "digest", 1, 1024, "sha"))
        change(ledger)
        assert {shard: row.touched for (_, shard), row in ledger.finished_shards().items()} == {0: 1, 1: 0}


@given(
    history=st.lists(
        st.tuples(
            st.integers(1, 4), st.sampled_from(["fetch", "filter", "shard"]), st.sampled_from(["", "silent", "missing"])
        ),
        max_size=40,
    ),
    left=st.sets(st.integers(0, 3), min_size=1),
)
@settings(deadline=None, max_examples=60)
def test_the_tallies_are_what_counting_gives(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, str, str]], left: set[int]
) -> None:
    names = "abcd"
    with entered(tmp_path_factory.mktemp("tally") / "ledger.sqlite", *names) as ledger:
        for number, (clip_id, stage, reason) in enumerate(history):
            ledger.record(clip_id, stage, Outcome.refused(reason) if reason else KEPT)
            if number == len(history) // 2:
                ledger.sync([row(i, names[i]) for i in sorted(left)])
        counted = Counter[tuple[str, str, str, str]]()
        for clip in ledger.find_all():
            counted[(clip.split, "manifest", "", "")] += 1
            for stage, (outcome, _, _) in ledger.outcomes_of(clip.clip_id).items():
                counted[(clip.split, stage, outcome.status.value, outcome.reason)] += 1
        assert ledger.counts() == dict(counted)
