"""A push to a Hub on 127.0.0.1 through the real client: complete, equal, resumed, and never more than it said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cli.commands import call
from hub_server import Hub
from publish.conftest import NAME, publish

from valor_data.errors import PublishError
from valor_data.publish import sender
from valor_data.publish.card import MADE_BY
from valor_data.publish.version import read_version
from valor_data.shard.reader import find_shards, read_samples
from valor_data.storage import Store
from valor_data.workdir import WorkDir

EDITIONS = ("ids", "features", "media")


def tars(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("shards/")}


def everything(work: WorkDir) -> dict[Path, bytes]:
    """Every file of a work folder, but for what SQLite keeps beside its file while it is read."""
    files = (path for path in work.root.rglob("*") if path.is_file() and not path.name.startswith("ledger.sqlite-"))
    return {path: path.read_bytes() for path in files}


def built(work: WorkDir) -> dict[str, bytes]:
    """The tars of a work folder."""
    return {f"shards/{path.name}": path.read_bytes() for path in work.shards.iterdir()}


@pytest.mark.parametrize("edition", EDITIONS)
def test_everything_arrives_as_it_was(full: WorkDir, builds: dict[str, WorkDir], hub: Hub, edition: str) -> None:
    pushed = publish(full, edition)
    files = hub.files(NAME)
    assert {name: len(data) for name, data in files.items() if name != ".gitattributes"} == pushed.sent
    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: hashlib.sha256(data).hexdigest()
        for name, data in files.items()
        if name not in ("SHA256SUMS", ".gitattributes")
    }
    source = {"ids": None, "features": "plain", "media": "full"}[edition]
    assert tars(files) == ({} if source is None else {
        f"shards/{path.name}": path.read_bytes() for path in builds[source].shards.iterdir()
    })  # fmt: skip
    if source is not None:
        for path in builds[source].index.iterdir():
            assert files[f"index/{path.name}"] == path.read_bytes()
    assert hub.repos[NAME].tags == {"v1.0.0": pushed.commit}
    assert json.loads(files["valor-data.json"])["edition"] == edition
    assert not full.tmp.exists()


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_dry_run_lists_what_a_push_then_sends(full: WorkDir, hub: Hub, edition: str) -> None:
    before = everything(full)
    told = publish(full, edition, dry_run=True)
    assert {method for method, path in hub.requests if "validate-yaml" not in path} == {"GET"}
    assert hub.repos == {}
    assert everything(full) == before
    pushed = publish(full, edition)
    assert (told.sent, told.there, told.deleted) == (pushed.sent, pushed.there, pushed.deleted)
    files = hub.files(NAME)
    assert told.sent == {name: len(data) for name, data in files.items() if name != ".gitattributes"}
    again = publish(full, edition, dry_run=True)
    assert (again.sent, again.deleted) == ({}, [])
    assert again.there == told.sent


def test_a_second_push_sends_nothing(full: WorkDir, hub: Hub) -> None:
    first = publish(full)
    hub.forget()
    second = publish(full)
    assert second.sent == {}
    assert second.there == first.sent
    assert second.commit == first.commit
    assert hub.sent == []
    assert hub.count("POST", "/commit/") == 0


def test_large_files_come_in_parts(plain: WorkDir, hub: Hub) -> None:
    hub.multipart_bytes = 50_000
    publish(plain)
    assert hub.count("PUT", "/part/6$") >= 1
    assert tars(hub.files(NAME)) == built(plain)


def test_commits_are_of_some_size_and_the_card_comes_last(
    plain: WorkDir, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "COMMIT_FILES", 4)
    publish(plain)
    repo = hub.repos[NAME]
    history = list(reversed(repo.history("main")))
    assert [repo.commits[oid].title for oid in history][1:] == [
        "version 1.0.0: shards up to test-000000",
        "version 1.0.0: shards up to train-000000",
        "version 1.0.0: shards up to train-000002",
        "version 1.0.0 of the features edition",
    ]
    assert "valor-data.json" in repo.commits[history[1]].tree
    assert "README.md" not in repo.commits[history[-2]].tree
    assert repo.tags["v1.0.0"] == history[-1]


def test_private_and_gated(plain: WorkDir, hub: Hub) -> None:
    publish(plain, "ids", private=True)
    assert (hub.repos[NAME].private, hub.repos[NAME].gated) == (True, False)
    publish(plain, "ids", "org/second", gated=True)
    assert (hub.repos["org/second"].private, hub.repos["org/second"].gated) == (False, "auto")
    publish(plain, "ids", "org/third", gated=True, approval="manual")
    assert hub.repos["org/third"].gated == "manual"
    assert b"extra_gated_prompt" in hub.files("org/third")["README.md"]
    publish(plain, "ids")
    assert hub.repos[NAME].private


def test_a_branch_is_written_and_main_is_not(plain: WorkDir, hub: Hub) -> None:
    publish(plain, branch="trial")
    assert set(hub.files(NAME)) == {".gitattributes"}
    assert tars(hub.files(NAME, "trial"))
    assert hub.repos[NAME].tags == {}
    publish(plain)
    assert publish(plain, branch="trial").sent == {}
    assert hub.repos[NAME].tags == {"v1.0.0": hub.repos[NAME].branches["main"]}


def test_what_is_no_longer_part_is_deleted_in_the_commit_of_the_card(plain: WorkDir, hub: Hub) -> None:
    publish(plain)
    for name in ("shards/train-000009.tar", "index/train-000009.json", "metadata/kept/old-00000.parquet"):
        hub.put(NAME, name, b"former")
    hub.put(NAME, "notes.txt", b"a stranger's")
    hub.put(NAME, "README.md", f"---\nlicense: other\n---\n{MADE_BY}\n".encode())
    told = publish(plain, dry_run=True)
    pushed = publish(plain)
    assert told.deleted == pushed.deleted == [
        "index/train-000009.json", "metadata/kept/old-00000.parquet", "shards/train-000009.tar",
    ]  # fmt: skip
    assert list(pushed.sent) == ["README.md"]
    assert "notes.txt" in hub.files(NAME)
    assert not any("000009" in name for name in hub.files(NAME))
    assert hub.count("POST", "/commit/") == 2
    assert any("--squash lets go" in notice for notice in pushed.notices)


def test_squash_leaves_one_commit_and_one_tag(plain: WorkDir, hub: Hub) -> None:
    publish(plain)
    hub.repos[NAME].tags["v0.9.0"] = hub.repos[NAME].branches["main"]
    pushed = publish(plain, squash=True)
    assert hub.repos[NAME].history("main") == [pushed.commit]
    assert hub.repos[NAME].tags == {"v1.0.0": pushed.commit}
    assert tars(hub.files(NAME)) == built(plain)


def test_a_version_is_not_tagged_twice_with_other_data(plain: WorkDir, full: WorkDir, hub: Hub) -> None:
    publish(plain)
    with pytest.raises(PublishError, match=r"version 1\.0\.0 .* is tagged already, with other data: .*--bump"):
        publish(full, "media", replace=True)
    told = publish(full, "media", replace=True, bump="major", dry_run=True)
    assert (told.version, str(read_version(full))) == ("2.0.0", "1.0.0")
    pushed = publish(full, "media", replace=True, bump="major")
    assert (pushed.version, str(read_version(full))) == ("2.0.0", "2.0.0")
    assert sorted(hub.repos[NAME].tags) == ["v1.0.0", "v2.0.0"]
    assert publish(full, "media", bump="major").version == "2.0.0"
    assert tars(hub.files(NAME, "v1.0.0")) == {
        f"shards/{path.name}": path.read_bytes() for path in plain.shards.iterdir()
    }


def test_words_may_change_without_a_new_version(plain: WorkDir, hub: Hub) -> None:
    first = publish(plain)
    second = publish(plain, summary="Better words.")
    assert sorted(second.sent) == ["README.md", "SHA256SUMS", "croissant.json"]
    assert b"Better words." in hub.files(NAME)["README.md"]
    assert hub.repos[NAME].tags == {"v1.0.0": first.commit}


def test_a_persons_text_on_the_hub_is_kept(plain: WorkDir, hub: Hub) -> None:
    publish(plain)
    card = hub.files(NAME)["README.md"].decode()
    mine = card.replace("is kept by every push) -->\n", "is kept by every push) -->\nMy own words.\n")
    hub.put(NAME, "README.md", mine.encode())
    told = publish(plain, dry_run=True, summary="New.")
    pushed = publish(plain, summary="New.")
    assert told.sent == pushed.sent
    card = hub.files(NAME)["README.md"].decode()
    assert "My own words." in card
    assert "New." in card


def test_another_edition_or_a_strangers_set_is_not_overwritten(plain: WorkDir, hub: Hub) -> None:
    publish(plain, "features")
    with pytest.raises(PublishError, match=r"holds the edition features.*such as org/my-set-ids; with --replace"):
        publish(plain, "ids")
    publish(plain, "ids", replace=True, bump="major")
    assert tars(hub.files(NAME)) == {}
    publish(plain, "ids", "org/other")
    repo = hub.repos["org/other"]
    repo.commit("main", {}, "emptied")
    hub.put("org/other", "shards/theirs.tar", b"theirs")
    with pytest.raises(PublishError, match=r"holds files that no push of valor-data made \(shards/theirs\.tar\)"):
        publish(plain, "ids", "org/other")


def test_what_is_damaged_there_is_found_and_sent_anew(plain: WorkDir, hub: Hub) -> None:
    publish(plain)
    hub.damage(NAME, "shards/train-000001.tar")
    told = publish(plain, dry_run=True)
    assert list(told.sent) == ["shards/train-000001.tar"]
    publish(plain)
    assert tars(hub.files(NAME)) == built(plain)


def test_what_is_damaged_on_its_way_is_found_before_it_says_done(
    plain: WorkDir, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = type(next(iter(hub.repos.values()), None)) if hub.repos else None
    assert commit is None
    original = hub.store

    def damaging(data: bytes) -> str:
        name = original(data)
        if data.startswith(b'{\n "edition"'):
            hub.objects[name] = data.replace(b"features", b"featureZ")
        return name

    monkeypatch.setattr(hub, "store", damaging)
    with pytest.raises(PublishError, match=r"what arrived is not what was sent: valor-data\.json has another hash"):
        publish(plain)
    assert hub.repos[NAME].tags == {}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my-set", "expected ORG/NAME"),
        ("a/b/c", "expected ORG/NAME"),
        ("../x", "expected ORG/NAME"),
        ("a/-b", "expected"),
    ],
)
def test_a_name_that_is_none_is_refused(plain: WorkDir, hub: Hub, name: str, words: str) -> None:
    with pytest.raises(PublishError, match=words):
        publish(plain, name=name)
    assert hub.requests == []


def test_stale_and_missing_shards_are_not_pushed(plain: WorkDir, hub: Hub) -> None:
    (plain.index / "val-000000.json").unlink()
    with pytest.raises(PublishError, match=r"of 6 shards 1 are not built.*\(the first: val-000000\): run"):
        publish(plain)
    assert hub.repos == {}


def test_damaged_shards_are_not_pushed_and_sound_ones_are_read_once(plain: WorkDir, hub: Hub) -> None:
    tar = plain.shards / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[3000] ^= 1
    tar.write_bytes(bytes(data))
    with pytest.raises(PublishError, match=r"the shards are not sound: train-000000\.tar: its sha256 is not the one"):
        publish(plain, verify=True)
    assert hub.repos == {}
    known = json.loads((plain.root / "publish.json").read_text())
    assert sorted(known["sound"]) == ["test-000000", "test-000001", "train-000001", "train-000002", "val-000000"]


def test_a_shard_that_changes_after_it_was_checked_is_not_sent(plain: WorkDir, hub: Hub) -> None:
    tar = plain.shards / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[3000] ^= 1
    tar.write_bytes(bytes(data))
    with pytest.raises(PublishError, match=r"shards/train-000000\.tar: its bytes are not those that were checked"):
        publish(plain)


def test_it_says_that_extensions_are_not_published(plain: WorkDir, hub: Hub) -> None:
    from valor_data.ledger import Ledger

    with Ledger(plain.ledger) as ledger:
        ledger.set_meta("extensions", json.dumps({"mel-ast": {}}))
    told = publish(plain, dry_run=True).notices
    assert "the set is published without its extensions, which stay here: mel-ast" in told


def test_shards_at_an_address_are_pushed_from_there(plain: WorkDir, hub: Hub) -> None:
    from valor_data.ledger import Ledger

    memory = Store("memory://publish-set")
    for folder in ("shards", "index"):
        for path in (plain.root / folder).iterdir():
            memory.put(path, f"{folder}/{path.name}")
    expected = built(plain)
    for path in (*plain.shards.iterdir(), *plain.index.iterdir()):
        path.unlink()
    with Ledger(plain.ledger) as ledger:
        chosen = json.loads(ledger.get_meta("settings.shard") or "{}")
        ledger.set_meta("settings.shard", json.dumps({**chosen, "output": "memory://publish-set"}))
        ledger.commit()
    publish(plain)
    assert tars(hub.files(NAME)) == expected


def test_a_removal_reaches_the_hub_and_squash_its_history(plain: WorkDir, hub: Hub) -> None:
    """Only the shard concerned is sent anew, under a new version; squashed, nothing of the clip is left there."""
    publish(plain)
    before = hub.files(NAME)
    sample = next(iter(read_samples([plain.shards / "train-000000.tar"])))
    key, caption = sample.key.encode(), sample.clip.captions[0].text.encode()
    samples = read_samples(find_shards(str(plain.shards)))
    others = b"".join(other.clip.captions[0].text.encode() for other in samples if other.key != sample.key)
    call("remove", "--key", sample.key, "--why", "asked for", "--yes", "--work", plain.root)
    told = publish(plain, dry_run=True)
    pushed = publish(plain)
    after = hub.files(NAME)
    assert (pushed.version, told.sent) == ("1.1.0", pushed.sent)
    assert [name for name in tars(after) if after[name] != before.get(name)] == ["shards/train-000000.tar"]
    assert after["tombstones.parquet"] == plain.tombstones.read_bytes()
    assert b"So far 1 entry." in after["README.md"]
    assert not (plain.root / "changes.json").exists()
    assert any(key in data for data in hub.objects.values())
    pushed = publish(plain, squash=True)
    assert hub.repos[NAME].tags == {"v1.1.0": pushed.commit}
    held = set(hub.repos[NAME].commits[pushed.commit].tree.values())
    large = {entry.store for entry in held if entry.is_lfs}
    for name in set(hub.sent) & set(hub.objects):
        assert name in large
        data = hub.objects[name]
        assert key not in data
        assert caption in others or caption not in data


def test_tombstones_go_along(plain: WorkDir, hub: Hub) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from valor_data.tombstones import COLUMNS, FILE_NAME

    row = dict.fromkeys(COLUMNS, "x")
    pq.write_table(pa.Table.from_pylist([row, row]), plain.root / FILE_NAME)
    publish(plain)
    files = hub.files(NAME)
    assert files[FILE_NAME] == (plain.root / FILE_NAME).read_bytes()
    assert b"So far 2 entries." in files["README.md"]
    (plain.root / FILE_NAME).unlink()
    assert publish(plain, bump="minor").deleted == [FILE_NAME]


def test_an_interrupted_removal_is_ended_first(plain: WorkDir, hub: Hub) -> None:
    plain.removal.write_text("{}")
    with pytest.raises(PublishError, match="a removal was interrupted here: end it first with `valor-data remove"):
        publish(plain)


def test_a_run_that_writes_is_waited_for_by_the_user(plain: WorkDir, hub: Hub, tmp_path: Path) -> None:
    from valor_data.errors import ValorDataError
    from valor_data.ledger import Ledger

    with Ledger(plain.ledger), pytest.raises(ValorDataError, match="another valor-data run"):
        publish(plain)
    with pytest.raises(PublishError, match="no ledger at"):
        publish(WorkDir.at(tmp_path / "nowhere"))
