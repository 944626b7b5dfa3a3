"""Tombstones: hashes that anybody can work out again, honoured wherever clips come in or samples go out."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest
from cli.commands import call
from small_media import make_video
from train.small_sets import make_clip, write_set

import valor_data
from valor_data.config import FetchSection
from valor_data.demo import MediaServer
from valor_data.errors import ConfigError
from valor_data.ledger import Ledger
from valor_data.road import Driver, run_fetch
from valor_data.tombstones import (
    Tombstones,
    add_tombstones,
    check_why,
    merge_tombstones,
    read_tombstones,
    schema_files,
    tombstones_beside,
)
from valor_data.workdir import WorkDir

KEY = "-0BIyqJj9ZU_00030000_00040000"
OTHER = "-0BIyqJj9ZU_00060000_00070000"


def listed(folder: Path, keys: list[str], videos: list[str] | None = None) -> Path:
    add_tombstones(folder / "tombstones.parquet", keys, videos or [], reason="request", why="asked by mail")
    return folder / "tombstones.parquet"


def test_a_hash_is_what_the_shell_makes_of_it(tmp_path: Path) -> None:
    row = pq.read_table(listed(tmp_path, [KEY])).to_pylist()[0]
    done = subprocess.run(["sha256sum"], input=f"{row['salt']} clip {KEY}".encode(), capture_output=True, check=True)
    assert done.stdout.split()[0].decode() == row["hash"]
    assert (row["kind"], row["reason"], row["why"]) == ("clip", "request", "asked by mail")
    assert KEY.encode() not in (tmp_path / "tombstones.parquet").read_bytes()


def test_a_clip_and_a_whole_video_are_told_apart(tmp_path: Path) -> None:
    found = read_tombstones(listed(tmp_path, [KEY], ["a.video"]))
    assert KEY in found and OTHER not in found
    assert "a=2Evideo_00000000_00001000" in found and "a=2Evideo_00000000_open" in found
    assert found.covers(None, "a.video") and not found.covers(None, "-0BIyqJj9ZU")
    assert not Tombstones() and KEY not in Tombstones()


def test_two_lists_cannot_be_compared_and_can_be_joined(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    mine, theirs = listed(tmp_path / "a", [KEY]), listed(tmp_path / "b", [KEY, OTHER])
    assert not set(pq.read_table(mine)["hash"].to_pylist()) & set(pq.read_table(theirs)["hash"].to_pylist())
    assert merge_tombstones(mine, theirs) == 2
    assert merge_tombstones(mine, theirs) == 0
    assert len(read_tombstones(mine)) == 3 and OTHER in read_tombstones(mine)


def test_the_same_again_adds_nothing(tmp_path: Path) -> None:
    file = listed(tmp_path, [KEY])
    before = file.read_bytes()
    assert add_tombstones(file, [KEY], [], reason="gone", why="x") == 0
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"the media of {KEY}.mp4 are gone",
        '{"video_id": "-0BIyqJj9ZU_30.000_40.000", "desc": "x"}',
        "-0BIyqJj9ZU_30000_40000.wav",
        "https://www.youtube.com/watch?v=removed-vid&t=3",
        "removed-vid_000030.mp4",
    ],
)
def test_a_text_that_names_it_is_recognised(tmp_path: Path, text: str) -> None:
    found = read_tombstones(listed(tmp_path, [KEY], ["removed-vid"]))
    assert found.mentioned_in(text)
    assert not found.mentioned_in(text.replace("0BIyqJj", "0BIyqJk").replace("removed", "remaved"))


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("", "expected a line of 1 to 500"),
        (f"clip {KEY.lower()} was asked for", "holds an id or a caption"),
        ("see https://example.org/x", "holds 'https://'"),
        ("it was A_b_00000000_00001000", "holds '_00000000_00001000'"),
    ],
)
def test_why_must_not_say_which(why: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        check_why(why, [KEY])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tombstones.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ConfigError, match="no list of tombstones"):
        read_tombstones(tmp_path / "tombstones.parquet")
    with pytest.raises(ConfigError, match=r"no such file; expected the tombstones\.parquet of a data set"):
        read_tombstones(tmp_path / "other.parquet")


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_the_schema_is_that_of_the_code(name: str, tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "schemas" / name).read_text("utf-8")
    assert text == schema_files()[name], "write it anew: python -m valor_data.tombstones schemas"
    for row in pq.read_table(listed(tmp_path, [KEY], ["v"])).to_pylist():
        jsonschema.validate(row, json.loads(text))


def test_open_shards_leaves_out_what_an_old_copy_still_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = write_set(tmp_path / "old", [3, 2])
    gone = make_clip(1).key or ""
    new = listed(tmp_path, [gone], [make_clip(4).video_id])
    everything = [sample.key for sample in valor_data.open_shards(work / "shards", tombstones=Tombstones())]
    assert gone in everything and len(everything) == 5
    with caplog.at_level("INFO"):
        left = [s.key for s in valor_data.open_shards(work / "shards", tombstones=valor_data.read_tombstones(new))]
    assert left == [key for key in everything if key not in (gone, make_clip(4).key)]
    assert "1 samples left out: they were removed from the set" in caplog.text
    listed(work, [gone])  # beside the shards it is found without being named
    assert len(list(valor_data.open_shards(work / "shards"))) == 4
    assert gone in tombstones_beside(work / "shards" / "train-000000.tar")


def annotations(folder: Path) -> Path:
    file = folder / "desc_train.json"
    rows = [
        {"video_id": f"video_000{n:02d}_{s:.3f}_{s + 1:.3f}", "desc": f"Shape {n}."} for n in range(4) for s in (0, 1)
    ]
    rows.append({"video_id": "video_00001_0.000_1.000", "desc": " "})  # a reject that names a removed video
    file.write_text(json.dumps(rows))
    return file


def test_a_new_list_does_not_bring_it_back(tmp_path: Path) -> None:
    """Neither into a manifest that is made beside the tombstones, nor with one that was made elsewhere."""
    file = annotations(tmp_path)
    call("manifest", file, "-o", tmp_path / "lists" / "m.parquet")
    work = WorkDir.at(tmp_path / "work")
    work.root.mkdir()
    listed(work.root, ["video_00002_00001000_00002000"], ["video_00001"])
    video = make_video(tmp_path / "v.mp4")
    with MediaServer({f"video_000{n:02d}": video for n in range(4)}) as server, Driver(work) as driver:
        section = FetchSection(source=server.url_template)
        report = run_fetch(driver, section, manifest=tmp_path / "lists" / "m.parquet", explicit={"source"})
        asked = [server.count(f"video_000{n:02d}", "GET") for n in range(4)]
    assert "3 clips of the manifest were removed from the set: left out" in report.notices
    assert asked == [1, 0, 1, 1]
    for path in (work.manifest, work.rejects, work.ledger):
        assert b"video_00001" not in path.read_bytes()
    assert "video_00001" not in str(pq.read_table(work.rejects).to_pylist())
    with Ledger(work.ledger, read_only=True) as ledger:
        assert not ledger.find_clips("video_00001") and len(ledger.find_clips("video_00002")) == 1
    told = call("manifest", file, "-o", work.root / "again.parquet").out
    assert "3 clips were removed from the set and are left out" in told
    assert "video_00001" not in str(pq.read_table(work.root / "again.parquet").to_pylist())


def test_a_whole_video_that_turns_out_to_be_a_removed_clip_is_dropped(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4")
    (tmp_path / "list.csv").write_text("video_id,caption\nvideo_00001,A shape.\n")
    call("manifest", tmp_path / "list.csv", "-o", tmp_path / "m.parquet")

    def fetch(work: WorkDir, server: MediaServer) -> str:
        with Driver(work) as driver:
            section = FetchSection(source=server.url_template)
            run_fetch(driver, section, manifest=tmp_path / "m.parquet", explicit={"source"})
            clip = driver.ledger.find_clips("video_00001")[0]
            return clip.key or ""

    with MediaServer({"video_00001": video}) as server:
        key = fetch(WorkDir.at(tmp_path / "first"), server)
        work = WorkDir.at(tmp_path / "second")
        work.root.mkdir()
        listed(work.root, [key])
        assert fetch(work, server) == ""
    with Ledger(work.ledger, read_only=True) as ledger:
        outcome = ledger.outcomes_of(ledger.find_clips("video_00001")[0].clip_id)["fetch"][0]
    assert (outcome.status.value, outcome.reason) == ("dropped", "removed")
    assert not [path for path in work.media.rglob("*") if path.is_file()]
