"""Taking clips out: only their shards are written anew, nothing of them is left, and nothing brings them back."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli.commands import call
from publish.small_work import caption_of, key_of, make_work, video_id, write_annotations

import valor_data
from valor_data.config import FetchSection, ShardSection
from valor_data.demo import MediaServer
from valor_data.errors import ValorDataError
from valor_data.ledger import Ledger
from valor_data.look.verify import verify
from valor_data.publish.changes import read_changes
from valor_data.publish.removal import Removal, plan_removal, remove
from valor_data.publish.version import read_version
from valor_data.road import Driver, run_fetch
from valor_data.road.deadlinks import COLUMNS
from valor_data.road.shard_states import shard_states
from valor_data.shard.sample import SampleSettings
from valor_data.workdir import WorkDir

WHY = "asked by mail"
TEN = (5, 30, 42, 100, 101, 333, 500, 700, 701, 998)
"""Clips to remove of a thousand: 100 and 101 are of one video, 700 and 701 are not, 42 was refused as silent."""


def forget(work: WorkDir, entries: Sequence[str], why: str = WHY, *, is_proven: bool = True) -> Removal:
    with Driver(work, stages=[], removing=True) as driver:
        pending = plan_removal(driver, entries, reason="request", why=why)
        return remove(driver, pending, is_proven=is_proven)


def hashes(work: WorkDir) -> dict[str, str]:
    files = [path for folder in (work.shards, work.index) for path in sorted(folder.iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def everything_in(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file's name and bytes, plain and unpacked, by other means than the package's."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        yield path, str(path).encode() + b"\n" + data
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            yield path, json.dumps(table.to_pylist(), ensure_ascii=False).replace('\\"', '"').encode()
        if path.suffix == ".sqlite":
            with sqlite3.connect(path) as db:
                yield path, "\n".join(db.iterdump()).encode()
        if path.suffix == ".gz":
            yield path, gzip.decompress(data)


def places_of(root: Path, *texts: str) -> list[str]:
    return [f"{path.name}: {text}" for path, data in everything_in(root) for text in texts if text.encode() in data]


def quote_everywhere(work: WorkDir, number: int, other: int) -> None:
    """What logs, runs, reports and lists may say of a clip, and of another one that stays."""
    work.logs.mkdir(exist_ok=True)
    lines = [f"came: {key_of(n)}\n{video_id(n)}: a retry\n" for n in (number, other)]
    (work.logs / "20260101-000000-fetch-1.log").write_text("".join(lines))
    run = work.runs / "first"
    run.mkdir(parents=True)
    written = {key_of(n): {"caption": caption_of(n), "references": [caption_of(n)]} for n in (number, other)}
    (run / "results.json").write_text(json.dumps({"scores": {"r1": 0.5}, "predictions": written}))
    rows = [json.dumps({"key": key_of(n), "step": 1}) for n in (number, other)]
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    pq.write_table(pa.table({"key": [key_of(number), key_of(other)]}), run / "scores.parquet")
    work.report.mkdir()
    (work.report / "index.html").write_text(f"<p>{caption_of(number).replace('&', '&amp;')}</p>")
    (work.root / f".manifest.parquet.{os.uname().nodename}-999999999.part").write_text(caption_of(number))
    columns = [["youtube"] * 2, [video_id(number), video_id(other)], ["gone"] * 2, [1.0, 2.0], ["", ""]]
    pq.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), work.deadlinks)
    rejects = pq.read_table(work.rejects)
    raws = [f'{{"video_id": "{video_id(n)}_0.000_10.000", "desc": " "}}' for n in (number, other)]
    more = {"file": ["x"] * 2, "row": [1, 2], "raw": raws, "reason": ["caption_empty"] * 2, "detail": ["", ""]}
    pq.write_table(pa.concat_tables([rejects, pa.table(more, schema=rejects.schema)]), work.rejects)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    return make_work(tmp_path_factory.mktemp("thousand") / "work", 1000, 50, silent=[42, 43])


@pytest.fixture(scope="module")
def dozen(tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    return make_work(tmp_path_factory.mktemp("dozen") / "work", 12, 4, silent=[2])


@pytest.fixture
def work(dozen: WorkDir, tmp_path: Path) -> WorkDir:
    shutil.copytree(dozen.root, tmp_path / "work")
    return WorkDir.at(tmp_path / "work")


def test_ten_of_a_thousand(thousand: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(thousand.root, tmp_path / "work")
    work = WorkDir.at(tmp_path / "work")
    quote_everywhere(work, TEN[1], 31)
    before = hashes(work)
    with Ledger(work.ledger, read_only=True) as ledger:
        keys = set(map(key_of, TEN))
        hit = {f"{clip.split}-{clip.shard:06d}" for clip in ledger.planned() if clip.key in keys}
    texts = [text for n in TEN for text in (key_of(n), caption_of(n))]
    assert len(places_of(work.root, *texts)) > 50
    assert 5 <= len(hit) < 20

    entries = [video_id(100) if n in (100, 101) else key_of(n) for n in TEN]
    done = forget(work, [*entries, "never-there"])

    assert (done.num_clips, done.num_videos, done.unknown) == (10, 2, ("never-there",))
    after = hashes(work)
    changed = {Path(name).stem for name in before if before[name] != after.get(name)}
    assert changed == hit == set(done.shards), "all others keep their bytes"
    assert before.keys() == after.keys(), "no number shifts"
    assert places_of(work.root, *texts, video_id(100)) == []
    assert done.proof is not None and done.proof.problems == []
    assert places_of(work.root, key_of(31)), "what stays is still told of"
    assert not work.report.exists() and "report/" in done.scrubbed
    assert [path for path in work.root.rglob("*") if path.name.startswith(".")] == []
    assert verify(work).problems == []
    states = states_of(work)
    assert {state.state for state in states} == {"finished"}, "nothing is to be built again"
    with Ledger(work.ledger, read_only=True) as ledger:
        assert ledger.num_clips() == 990 and len(ledger.keys_in_shards()) == 989
        listed = valor_data.read_manifest(work.manifest)
        assert ledger.get_meta("manifest") == listed.fingerprint
        for clip, row in zip(ledger.find_all(), listed.clips(), strict=True):
            assert clip.key == row.key, "rows have moved up together"
        told = [ledger.find_clips(key)[0] for key in (key_of(0), key_of(999))]
        assert all(ledger.media_of(clip.clip_id) and ledger.facts_of(clip.clip_id) for clip in told)
    changes = read_changes(work)
    assert (changes.since, changes.version, str(read_version(work))) == ("1.0.0", "1.1.0", "1.1.0")
    assert {f"shards/{name}.tar" for name in hit - only_refused(work, hit, before, after)} <= changes.changed
    assert changes.deleted == set()


def only_refused(work: WorkDir, hit: set[str], before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Shards of which only the list of refused clips had to change."""
    return {name for name in hit if before[f"{name}.tar"] == after[f"{name}.tar"]}


def states_of(work: WorkDir) -> list[Any]:
    with Driver(work, stages=[]) as driver:
        section = driver.recall("shard", ShardSection(), (), ("num_frames", "output"))
        return shard_states(driver, SampleSettings.of(section, "av"), driver.output())[0]


def test_a_refused_clip_costs_no_tar(work: WorkDir) -> None:
    before = hashes(work)
    done = forget(work, [key_of(2)])
    after = hashes(work)
    changed = [name for name in before if before[name] != after[name]]
    assert sorted(changed) == [f"{done.shards[0]}.json", f"{done.shards[0]}.parquet"]
    assert places_of(work.root, key_of(2), caption_of(2)) == []


def test_the_tar_is_the_one_that_a_build_without_the_clip_gives(work: WorkDir, dozen: WorkDir) -> None:
    forget(work, [key_of(4)])
    names = [path.name for path in sorted(work.shards.iterdir())]
    for name in names:
        keys = {sample.key: sample for sample in valor_data.open_shards(work.shards / name)}
        for sample in valor_data.open_shards(dozen.shards / name):
            if sample.key != key_of(4):
                assert (keys[sample.key].jpegs, keys[sample.key].details) == (sample.jpegs, sample.details)
    # Schema and metadata of the Parquet are as they were.
    for path in sorted(work.index.glob("*.parquet")):
        assert pq.read_schema(path).equals(pq.read_schema(dozen.index / path.name), check_metadata=True)


def test_a_shard_that_loses_all_its_clips_keeps_its_number(work: WorkDir) -> None:
    with Ledger(work.ledger, read_only=True) as ledger:
        keys = [clip.key or "" for clip in ledger.planned("train", 2)]
        num_shards = ledger.num_shards()
    done = forget(work, keys)
    assert done.deleted == ["shards/train-000002.tar"]
    assert not (work.shards / "train-000002.tar").exists() and (work.index / "train-000002.json").exists()
    assert verify(work).problems == []
    with Ledger(work.ledger, read_only=True) as ledger:
        assert ledger.num_shards() == num_shards
    assert {state.state for state in states_of(work)} == {"finished"}


def test_a_stale_shard_stays_stale(work: WorkDir) -> None:
    with Driver(work, stages=[]) as driver:
        clip = next(c for c in driver.ledger.planned("train", 0) if c.wanted)
        facts = json.loads(driver.ledger.facts_of(clip.clip_id) or "{}")
        driver.ledger.record_facts(clip.clip_id, 1, json.dumps({**facts, "rms_dbfs": -33.0}, sort_keys=True))
        other = next(c for c in driver.ledger.planned("train", 0) if c.wanted and c.clip_id != clip.clip_id)
    assert [state.state for state in states_of(work)].count("stale") == 1
    forget(work, [other.key or ""])
    assert {state.name: state.state for state in states_of(work)}["train-000000"] == "stale"


def test_the_old_list_does_not_bring_it_back(work: WorkDir, dozen: WorkDir, tmp_path: Path) -> None:
    """Nor does a new manifest with the clip: fetch asks no server for it."""
    forget(work, [key_of(4), video_id(6)])
    (tmp_path / "lists").mkdir()
    annotations = write_annotations(tmp_path / "lists" / "desc_train.json", range(14))
    call("manifest", annotations, "-o", tmp_path / "lists" / "m.parquet")
    assert key_of(4) in str(pq.read_table(tmp_path / "lists" / "m.parquet")["key"].to_pylist())
    with MediaServer({}) as server, Driver(work, stages=["fetch"]) as driver:
        section = FetchSection(source=server.url_template, workers=1)
        run_fetch(driver, section, manifest=tmp_path / "lists" / "m.parquet", explicit={"source"})
        assert {request.video_id for request in server.requests} == {video_id(12), video_id(13)}
    assert places_of(work.root, key_of(4), caption_of(4), video_id(6)) == []


def test_an_old_copy_of_the_shards_with_the_new_list(work: WorkDir, dozen: WorkDir) -> None:
    forget(work, [key_of(4), key_of(5)])
    tombstones = valor_data.read_tombstones(work.tombstones)
    left = [sample.key for sample in valor_data.open_shards(dozen.shards, tombstones=tombstones)]
    assert left == [sample.key for sample in valor_data.open_shards(work.shards)]


def test_a_text_that_another_clip_has_too_is_not_looked_for(tmp_path: Path) -> None:
    work = make_work(tmp_path / "work", 8, 4)
    listed = valor_data.read_manifest(work.manifest)
    captions = listed.table["captions"].to_pylist()
    captions[1] = [{"text": captions[0][0]["text"] + " Twice.", "role": "audiovisual"}]
    column = pa.array(captions, listed.table.schema.field("captions").type)
    number = listed.table.schema.get_field_index("captions")
    listed.of(listed.table.set_column(number, listed.table.schema.field("captions"), column)).save(work.manifest)
    done = forget(work, [key_of(0)])
    assert done.proof is not None and done.proof.problems == []
    assert key_of(1) in {sample.key for sample in valor_data.open_shards(work.shards)}


def test_a_file_of_the_users_is_named_and_left_alone(work: WorkDir) -> None:
    (work.root / "notes.txt").write_text(f"nice: {caption_of(4)}")
    with gzip.open(work.root / "old.csv.gz", "wt") as stream:
        stream.write(f"{key_of(4)},x\n")
    answer = call("remove", "--key", key_of(4), "--why", WHY, "--yes", "--work", work.root, code=1)
    assert "notes.txt: still holds 1 of what was removed (caption)" in answer.out
    assert "old.csv.gz: still holds" in answer.out
    assert (work.root / "notes.txt").exists() and not work.removal.exists()


def test_objects_in_a_store(tmp_path: Path) -> None:
    place = tmp_path / "store"
    place.mkdir()
    work = make_work(tmp_path / "work", 12, 4, output=f"file://{place}")
    shutil.copytree(place, tmp_path / "before")
    done = forget(work, [key_of(4), key_of(9)])
    assert done.proof is not None and done.proof.problems == []
    assert places_of(place, key_of(4), caption_of(4), key_of(9)) == []
    same = [
        p.name
        for p in (place / "shards").iterdir()
        if p.read_bytes() == (tmp_path / "before/shards" / p.name).read_bytes()
    ]
    assert len(same) == 3 - len(done.shards)
    left = [sample.key for sample in valor_data.open_shards(tmp_path / "before" / "shards",
            tombstones=valor_data.read_tombstones(place / "tombstones.parquet"))]  # fmt: skip
    assert len(left) == 10
    assert verify(work).problems == []


def test_a_list_of_somebody_else_is_taken_over(work: WorkDir, dozen: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(dozen.root, tmp_path / "other")
    forget(WorkDir.at(tmp_path / "other"), [key_of(4), video_id(6), "not-here-00"])
    at = ("--work", work.root)
    out = call("remove", "--tombstones", tmp_path / "other" / "tombstones.parquet", "--yes", *at).out
    assert "2 clips removed" in out
    assert places_of(work.root, key_of(4), caption_of(6)) == []
    out = call("remove", "--tombstones", tmp_path / "other" / "tombstones.parquet", "--yes", *at).out
    assert "no clip of" in out


def test_what_is_wrong_is_one_line(work: WorkDir) -> None:
    at = ("--work", work.root)
    assert call("remove", *at, code=2).errors == ["nothing to remove: name clips with --ids FILE or --key KEY"]
    assert "--why is missing" in call("remove", "--key", key_of(4), *at, code=2).errors[0]
    errors = call("remove", "--key", key_of(4), "--why", f"see {key_of(4)}", *at, code=2).errors
    assert "it must not say which clip is meant, and this one holds an id or a caption" in errors[0]
    errors = call("remove", "--key", key_of(4), "--why", f"It says: {caption_of(4)}", *at, code=2).errors
    assert "holds an id or a caption" in errors[0]
    assert (
        "--reason x: expected one of request,"
        in call("remove", "--key", "x", "--why", "y", "--reason", "x", *at, code=2).errors[0]
    )
    assert "no such file" in call("remove", "--ids", work.root / "no.txt", "--why", WHY, *at, code=2).errors[0].lower()
    assert not work.tombstones.exists() and key_of(4) in str(pq.read_table(work.manifest)["key"].to_pylist())


def test_dry_run_writes_nothing(work: WorkDir) -> None:
    before = {path: path.read_bytes() for path in work.root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    told = call("remove", "--key", key_of(4), "--why", WHY, "--dry-run", "--work", work.root).out
    assert "1 clips of 12" in told and "1 shards to write anew" in told and "the version becomes 1.1.0" in told
    assert {path: path.read_bytes() for path in before} == before


def test_the_log_does_not_tell(work: WorkDir, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"# what was asked\n{key_of(4)}\tgone\n\n{video_id(6)}\n")
    call("remove", "--ids", tmp_path / "ids.txt", "--key", key_of(9), "--why", WHY, "--yes", "--work", work.root)
    assert places_of(work.root, key_of(4), video_id(6), key_of(9), str(tmp_path / "ids")) == []


def test_verify_finds_what_has_come_back(work: WorkDir, dozen: WorkDir, tmp_path: Path) -> None:
    at = ("--work", work.root)
    assert "nothing of what was removed is left" in call("verify", "--removed", *at).out
    forget(work, [key_of(4), video_id(6)])
    assert "nothing of what was removed is left" in call("verify", "--removed", *at).out
    (work.root / "a.txt").write_text(f"see https://x.example/watch?v={video_id(6)}&t=1")
    (work.root / "b.csv.gz").write_bytes(gzip.compress(f"{key_of(4)},x\n".encode()))
    pq.write_table(pa.table({"k": [key_of(4)]}), work.root / "c.parquet")
    shutil.copy(dozen.shards / "train-000000.tar", work.root / "d.tar")
    out = call("verify", "--removed", *at, code=1).out
    held = {sample.key for sample in valor_data.open_shards(dozen.shards / "train-000000.tar")}
    expected = ["a.txt", "b.csv.gz", "c.parquet"] + (["d.tar"] if held & {key_of(4), key_of(6)} else [])
    assert [line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("wrong")] == expected
    for name in ("a.txt", "b.csv.gz", "c.parquet", "d.tar"):
        (work.root / name).unlink()
    (work.root / "e.bin").write_bytes(b"\0\1" + key_of(4).encode() + b"0123456789")  # part of a longer word
    (tmp_path / "ids.txt").write_text(f"{key_of(4)}\n")
    assert "nothing of what was removed is left" in call("verify", "--removed", *at).out
    assert "e.bin: still holds 1" in call("verify", "--removed", "--ids", tmp_path / "ids.txt", *at, code=1).out
    (work.root / "e.bin").unlink()
    for folder in ("shards", "index"):
        shutil.rmtree(work.root / folder)
        shutil.copytree(dozen.root / folder, work.root / folder)
    problems = verify(work).problems
    assert any(f"clip {key_of(4)} was removed from the set, and is in it" in problem for problem in problems)


MUTATIONS = ("os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")


def in_a_child(kill_before: int, action: Callable[[], object]) -> int:
    """Runs something in a forked process that is killed before its n-th change of the disk; gives its changes.

    -1: it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def watch(event: str, arguments: Any) -> None:
            nonlocal count
            is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in MUTATIONS or is_write or event == "sqlite3.connect":
                count += 1
                if count == kill_before:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            action()
            os.write(writing, str(count).encode())
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    told = os.read(reading, 20)
    os.close(reading)
    return -1 if os.WIFSIGNALED(status) else int(told or b"-2")


def check_ended(work: WorkDir, expected: dict[str, str]) -> None:
    assert places_of(work.root, key_of(4), caption_of(4), video_id(6)) == []
    assert not work.removal.exists() and not work.removal.with_name(f"{work.removal.name}.new").exists()
    tars = {name: digest for name, digest in hashes(work).items() if name.endswith((".tar", ".json"))}
    assert tars == {name: digest for name, digest in expected.items() if name.endswith((".tar", ".json"))}
    assert verify(work).problems == []
    assert {state.state for state in states_of(work)} == {"finished"}
    assert str(read_version(work)) == "1.1.0"
    assert len(valor_data.read_tombstones(work.tombstones)) == 3  # a key, a video and its key
    with Ledger(work.ledger, read_only=True) as ledger:
        assert ledger.num_clips() == 10
        listed = valor_data.read_manifest(work.manifest)
        assert [clip.key for clip in ledger.find_all()] == [clip.key for clip in listed.clips()]
    assert read_changes(work).since == "1.0.0"


def killed_at(moments: Sequence[int] | None, dozen: WorkDir, folder: Path) -> int:
    """Kills a removal at some moments (None: at every one) and ends it; how many moments there are."""
    entries = [key_of(4), video_id(6)]

    def fresh(name: str) -> WorkDir:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(dozen.root, folder / name)
        work = WorkDir.at(folder / name)
        quote_everywhere(work, 6, 7)
        return work

    whole = fresh("whole")
    total = in_a_child(0, lambda: forget(whole, entries))
    assert total > 30
    check_ended(whole, hashes(whole))
    expected = hashes(whole)
    for number in range(1, total + 1) if moments is None else [1 + m * total // 100 for m in moments]:
        work = fresh("killed")
        assert in_a_child(number, lambda work=work: forget(work, entries)) == -1, number
        begun = work.removal.exists() and work.removal.read_bytes().strip(b"\0") != b""
        if begun:
            with pytest.raises(ValorDataError, match="a removal was interrupted here and must be finished first"):
                Driver(work)
            assert work.removal.stat().st_mode & 0o077 == 0
        # The same again; or, where it was begun, only the command.
        forget(work, entries if number % 2 or not begun else [])
        check_ended(work, expected)
    return total


def test_killed_in_the_middle(dozen: WorkDir, tmp_path: Path) -> None:
    killed_at([5, 20, 35, 50, 65, 80, 95], dozen, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_step(dozen: WorkDir, tmp_path: Path) -> None:
    killed_at(None, dozen, tmp_path)
