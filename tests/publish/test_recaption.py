"""Other captions in a finished set: only text and JSON change, and a rebuild gives the same bytes."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from cli.commands import call
from publish.small_work import caption_of, key_of, make_work, video_id
from publish.test_removal import hashes, in_a_child, states_of

import valor_data
from valor_data.ledger import Ledger
from valor_data.look.verify import verify
from valor_data.manifest.overrides import Overrides
from valor_data.publish.changes import read_changes
from valor_data.publish.recaption import recaption
from valor_data.publish.version import read_version
from valor_data.road import Driver
from valor_data.workdir import WorkDir

NEW = (1, 4, 7)


def new_caption(number: int) -> str:
    return f"Und jetzt: {number} “ganz” anders, 日本語."


@pytest.fixture(scope="module")
def dozen(tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    return make_work(tmp_path_factory.mktemp("dozen") / "work", 12, 3, silent=[2])


@pytest.fixture
def work(dozen: WorkDir, tmp_path: Path) -> WorkDir:
    shutil.copytree(dozen.root, tmp_path / "work")
    return WorkDir.at(tmp_path / "work")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """By key, by video id and span, and of a clip that is not there."""
    rows = [{"key": key_of(number), "caption": new_caption(number)} for number in NEW]
    rows.append({"key": "AAAAAAAAAAA_00000000_00010000", "caption": "Nowhere."})
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]


def all_members(work: WorkDir) -> dict[str, bytes]:
    return {name: data for tar in sorted(work.shards.glob("*.tar")) for name, data in members(tar).items()}


def rebuilt(tmp_path: Path) -> WorkDir:
    """The same set, built from annotations with the new captions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("publish.small_work.caption_of", lambda n: new_caption(n) if n in NEW else caption_of(n))
        (tmp_path / "again").mkdir()
        return make_work(tmp_path / "again" / "work", 12, 3, silent=[2])


def test_in_place(work: WorkDir, dozen: WorkDir, captions: Path, tmp_path: Path) -> None:
    out = call("recaption", "--captions", captions, "--work", work.root).out
    assert "3 clips have other captions or questions: 3 samples of" in out
    assert "1 clips of" in out and "are not in the set: AAAAAAAAAAA_00000000_00010000" in out
    before, after = all_members(dozen), all_members(work)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"{key_of(number)}.{kind}" for number in NEW for kind in ("json", "txt")}
    texts = {sample.key: sample.clip.captions[0].text for sample in valor_data.open_shards(work.shards)}
    assert [texts[key_of(number)] for number in NEW] == [new_caption(number) for number in NEW]
    again = rebuilt(tmp_path)
    assert {n: h for n, h in hashes(work).items() if n.endswith(".tar")} == {
        n: h for n, h in hashes(again).items() if n.endswith(".tar")
    }
    with Ledger(work.ledger, read_only=True) as ledger, Ledger(again.ledger, read_only=True) as other:
        assert {key: row.digest for key, row in ledger.finished_shards().items()} == {
            key: row.digest for key, row in other.finished_shards().items()
        }
    untouched = {name for name in hashes(dozen) if hashes(dozen)[name] == hashes(work)[name]}
    assert untouched, "shards without a new caption keep their bytes"
    assert verify(work).problems == []
    assert {state.state for state in states_of(work)} == {"finished"}
    assert str(read_version(work)) == "1.1.0"
    assert read_changes(work).changed == {f"{folder}/{name}" for folder, name in changed_files(dozen, work)}
    listed = valor_data.read_manifest(work.manifest)
    with Ledger(work.ledger, read_only=True) as ledger:
        assert ledger.get_meta("manifest") == listed.fingerprint
    # The same again has nothing to do.
    assert "0 clips have other captions" in call("recaption", "--captions", captions, "--work", work.root).out
    assert str(read_version(work)) == "1.1.0"


def changed_files(old: WorkDir, new: WorkDir) -> set[tuple[str, str]]:
    a, b = hashes(old), hashes(new)
    return {("shards" if name.endswith(".tar") else "index", name) for name in b if a.get(name) != b[name]}


def test_into_another_folder(work: WorkDir, captions: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for folder in (work.shards, work.index) for path in folder.iterdir()}
    manifest = work.manifest.read_bytes()
    out = tmp_path / "new"
    assert f"to {out}" in call("recaption", "--captions", captions, "--out", out, "--work", work.root).out
    assert {path: path.read_bytes() for path in before} == before and work.manifest.read_bytes() == manifest
    assert str(read_version(work)) == "1.0.0"
    assert verify(WorkDir.at(out)).problems == []
    again = rebuilt(tmp_path)
    tars = [path.name for path in sorted(again.shards.iterdir())]
    assert [(out / "shards" / n).read_bytes() for n in tars] == [(again.shards / n).read_bytes() for n in tars]
    listed = valor_data.read_manifest(out / "manifest.parquet")
    assert listed.fingerprint == valor_data.read_manifest(again.manifest).fingerprint
    errors = call("recaption", "--captions", captions, "--out", work.root, "--work", work.root, code=2).errors
    assert "the set itself is there" in errors[0]


def test_roles_and_questions(work: WorkDir, tmp_path: Path) -> None:
    rows = [
        {"video_id": video_id(0), "start": 0, "end": 10, "caption": "It hums.", "role": "audio"},
        {"video_id": video_id(0), "start": 0, "end": 10, "question": "What hums?", "answer": ["a bee", "bee"]},
    ]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = Overrides.read(tmp_path / "new.jsonl")
    with Driver(work, stages=[]) as driver:
        assert recaption(driver, overrides).num_clips == 1
    clip = next(s.clip for s in valor_data.open_shards(work.shards) if s.key == key_of(0))
    assert {(c.role, c.text) for c in clip.captions} == {("audio", "It hums."), ("audiovisual", caption_of(0))}
    assert [(q.question, set(q.answers)) for q in clip.questions] == [("What hums?", {"a bee", "bee"})]
    assert verify(work).problems == []


def test_killed_anywhere_the_same_command_ends_it(
    work: WorkDir, dozen: WorkDir, captions: Path, tmp_path: Path
) -> None:
    again = rebuilt(tmp_path)
    overrides = Overrides.read(captions)

    def run(folder: WorkDir) -> None:
        with Driver(folder, stages=[]) as driver:
            recaption(driver, overrides)

    total = in_a_child(0, lambda: run(work))
    assert total > 15
    for number in range(1, total + 1, 3):
        shutil.rmtree(work.root)
        shutil.copytree(dozen.root, work.root)
        assert in_a_child(number, lambda: run(work)) == -1
        run(work)
        assert {n: h for n, h in hashes(work).items() if n.endswith(".tar")} == {
            n: h for n, h in hashes(again).items() if n.endswith(".tar")
        }, number
        assert verify(work).problems == []
        assert {state.state for state in states_of(work)} == {"finished"}
        fingerprint = valor_data.read_manifest(work.manifest).fingerprint
        assert fingerprint == valor_data.read_manifest(again.manifest).fingerprint
