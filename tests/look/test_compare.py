"""`compare`: what one has that the other has not, and why; certificates that anybody can compute."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valor_data.clip import certificate, make_key
from valor_data.errors import ConfigError, ManifestError, ShardError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.look.compare import compare, read_keys, sorted_certificate, write_keys
from valor_data.look.sides import read_side
from valor_data.manifest import build_manifest
from valor_data.workdir import WorkDir


def named(letter: str) -> str:
    return letter * 11


def listed(path: Path, *clips: tuple[str, int, str]) -> Path:
    """A manifest of (video, first second, caption), ten seconds each; the file's name says the split."""
    tree = [{"video_id": f"{named(video)}_{start}.000_{start + 10}.000", "desc": text} for video, start, text in clips]
    source = path.with_suffix(".json")
    source.write_text(json.dumps(tree))
    build_manifest([source]).manifest.save(path)
    return path


def test_two_manifests(tmp_path: Path) -> None:
    a = listed(tmp_path / "desc_train.parquet", ("a", 0, "one"), ("b", 0, "two"), ("c", 0, "three"), ("d", 5, "four"))
    (tmp_path / "b").mkdir()
    b = listed(tmp_path / "b" / "desc_train.parquet", ("b", 0, "two"), ("c", 0, "drei"), ("d", 6, "four"))
    found = compare(read_side(str(a)), read_side(str(b))).to_dict()
    assert found["equal"] is False
    assert found["splits"][-1] == {"split": "all", "in_a": 4, "in_b": 3, "both": 2, "only_a": 2, "only_b": 1}
    assert {(lack["cause"], lack["number"], *lack["examples"]) for lack in found["b_lacks"]} == {
        ("not listed", 1, make_key(named("a"), 0, 10)), ("other span", 1, make_key(named("d"), 5, 15)),
    }  # fmt: skip
    assert [(lack["cause"], lack["examples"]) for lack in found["a_lacks"]] == [
        ("other span", [make_key(named("d"), 6, 16)])
    ]
    assert found["captions_differ"] == {
        "number": 1,
        "examples": [{"key": make_key(named("c"), 0, 10), "a": "audiovisual: three", "b": "audiovisual: drei"}],
    }
    assert found["certificates"]["both"]["all"] == certificate(
        [make_key(named("b"), 0, 10), make_key(named("c"), 0, 10)]
    )
    same = compare(read_side(str(a)), read_side(str(a.with_suffix(".json"))))
    assert same.is_equal and same.captions is not None and same.captions.number == 0


def test_another_split(tmp_path: Path) -> None:
    a = listed(tmp_path / "desc_train.parquet", ("a", 0, "one"), ("b", 0, "two"))
    b = listed(tmp_path / "desc_val.parquet", ("a", 0, "one"))
    found = compare(read_side(str(a)), read_side(str(b)))
    assert (found.split.number, found.split.examples) == (1, ((make_key(named("a"), 0, 10), "train", "val"),))
    assert [(s.split, s.in_a, s.in_b, s.both, s.only_a, s.only_b) for s in found.splits] == [
        ("train", 2, 0, 0, 1, 0), ("val", 0, 1, 0, 0, 0), ("all", 2, 1, 1, 1, 0),
    ]  # fmt: skip
    assert not found.is_equal and "train" not in found.certificates["both"]
    assert compare(read_side(str(a), split="val"), read_side(str(b))).splits[-1].only_b == 1


def test_a_work_folder_and_what_it_was_made_of(finished: WorkDir) -> None:
    found = compare(read_side(str(finished.root)), read_side(str(finished.manifest)))
    with Ledger(finished.ledger, read_only=True) as ledger:
        rows = list(ledger.standings())
        assert set(found.both.to_pylist()) == ledger.keys_in_shards()
    expected: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        for stage, status, reason in zip(("fetch", "filter", "shard"), row[4:10:2], row[5:11:2], strict=True):
            if status != "kept":
                expected[(status or "not tried", stage, reason or "")] += 1
                break
    assert {(lack.cause, lack.stage, lack.reason): lack.number for lack in found.a_lacks} == expected
    silent = next(lack.to_dict() for lack in found.a_lacks if lack.reason == "silent")
    assert silent["meaning"].startswith("the sound is below")
    assert found.b_lacks == () and found.captions is not None and found.captions.number == 0


def test_shards_and_their_work_folder(finished: WorkDir, tmp_path: Path) -> None:
    work = read_side(str(finished.root))
    for place in (finished.shards, finished.shards.parent):
        found = compare(read_side(str(place)), work)
        assert found.is_equal and found.captions is not None
    shutil.copytree(finished.shards, tmp_path / "alone")  # no index beside them: the tars are looked through
    alone = compare(read_side(str(tmp_path / "alone")), work)
    assert alone.is_equal and alone.captions is not None
    assert compare(read_side(str(finished.shards), captions=False), work).captions is None
    refused = compare(read_side(str(finished.shards)), read_side(str(finished.root), stage="manifest"))
    assert {lack.cause for lack in refused.a_lacks} >= {"dropped", "waiting"}
    fetched = read_side(str(finished.root), stage="fetch")
    assert fetched.table["has"].to_pylist().count(True) > work.table["has"].to_pylist().count(True)


def test_what_cannot_be_compared(tmp_path: Path, finished: WorkDir) -> None:
    with pytest.raises(ValorDataError, match="nothing to compare there; expected a work folder, a manifest"):
        read_side(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="--stage train: expected one of manifest, fetch, filter, shard"):
        read_side(str(finished.root), stage="train")
    (tmp_path / "shards").mkdir()
    with pytest.raises(ShardError, match="no shards here"):
        read_side(str(tmp_path))
    (tmp_path / "x.txt").write_bytes(b"\0\1")
    with pytest.raises(ManifestError, match=r"x\.txt"):
        read_side(str(tmp_path / "x.txt"))


def test_a_certificate_is_what_sort_and_sha256sum_print(finished: WorkDir, tmp_path: Path) -> None:
    found = compare(read_side(str(finished.root)), read_side(str(finished.shards)))
    write_keys(found.both, tmp_path / "keys.txt")
    whole = (tmp_path / "keys.txt").read_bytes()
    assert hashlib.sha256(whole).hexdigest() == found.certificates["both"]["all"]
    shuffled = sorted(whole.splitlines(keepends=True), key=lambda line: line[::-1])
    (tmp_path / "mixed.txt").write_bytes(b"".join(shuffled + shuffled[:3]))
    said = subprocess.run(
        ["sh", "-c", f"LC_ALL=C sort -u {tmp_path}/mixed.txt | sha256sum"], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[0] == found.certificates["both"]["all"] == certificate(read_keys(tmp_path / "mixed.txt"))
    for split, digest in found.certificates["a"].items():
        keys = [r["key"] for r in found.a.table.to_pylist() if r["has"] and split in (r["split"], "all")]
        assert certificate(keys) == digest


@given(st.sets(st.text("aZ_-=9", min_size=1, max_size=5), max_size=30), st.integers(0, 30))
def test_both_ways_to_a_certificate_agree(keys: set[str], cut: int) -> None:
    """Also of a column in chunks, and of a slice of an array."""
    ordered = sorted(keys)
    column = pa.chunked_array([pa.array(ordered[:cut], pa.string()), pa.array(ordered[cut:], pa.string())])
    assert sorted_certificate(column) == certificate(keys)
    assert sorted_certificate(pa.array(["x", *ordered], pa.string()).slice(1)) == certificate(keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key; expected one a line"),
        ("a_00000000_00001000\nnonsense\n", "row 2: 'nonsense' is not a key"),
        (None, "No such file"),
    ],
)
def test_files_of_keys_that_cannot_be_used(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "keys.txt").write_text(text)
    with pytest.raises(ManifestError, match=words):
        read_keys(tmp_path / "keys.txt")
