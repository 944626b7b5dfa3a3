"""The viewer's index: words, filters and counts against a plain rendering; built anew when the set has changed."""

from __future__ import annotations

import math
import os
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from valor_data.errors import ValorDataError
from valor_data.look.shard_set import find_set
from valor_data.look.show import show_from_shards
from valor_data.look.view.index import RANGES, SetWatch, build_index, default_cache, is_fresh, ready_index, stamp_of
from valor_data.look.view.rows import ClipRow, rows_of
from valor_data.look.view.search import Index, Question, expressions
from valor_data.tombstones import FILE_NAME, add_tombstones
from valor_data.workdir import WorkDir

WORDS = ("dog", "dogs", "barks", "cat", "sings", "über", "Ring", "犬")


def row(number: int, draw: random.Random) -> ClipRow:
    standing, reason = draw.choice([("kept", ""), ("kept", ""), ("dropped", "silent"), ("waiting", "network")])
    caption = " ".join(draw.choices(WORDS, k=draw.randint(0, 6)))
    facts = {"has_audio": draw.random() < 0.8, "has_video": True, "rms_dbfs": round(draw.uniform(-90, 0), 1),
             "silence_share": 0.5, "width_px": 640, "height_px": draw.choice([0, 240, 360])}  # fmt: skip
    key = f"v{number:010d}_00000000_{draw.randint(1, 20000):08d}"
    return ClipRow(
        key, draw.choice(["train", "val"]), standing, "", reason, "",
        (caption,) if caption else (), ("Dog", "/m/0bt9lr") if draw.random() < 0.3 else (), facts,
    )  # fmt: skip


@pytest.fixture(scope="module")
def clips() -> list[ClipRow]:
    draw = random.Random(7)
    return [row(number, draw) for number in range(400)]


@pytest.fixture(scope="module")
def index(clips: list[ClipRow], tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("index") / "x.sqlite"
    build_index(path, ((clip, 1) for clip in clips), "s", lambda number: None)
    return Index(path)


def keys(index: Index, text: str = "", **more: object) -> list[str]:
    return [clip["key"] for clip in index.ask(Question(text, limit=10_000, **more)).clips]  # type: ignore[arg-type]


def words(clip: ClipRow) -> list[str]:
    return re.findall(r"\w+", " ".join((*clip.captions, *clip.labels)).lower().replace("ü", "u"))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", lambda c: True),
        ("barks", lambda c: any(w.startswith("barks") for w in words(c))),
        ("dog", lambda c: any(w.startswith("dog") for w in words(c))),
        ("dog ", lambda c: any(w.startswith("dog") for w in words(c))),
        ("dog cat", lambda c: "dog" in words(c) and "cat" in words(c)),
        ('"dog"', lambda c: "dog" in words(c)),
        ("cat rin", lambda c: "cat" in words(c) and "ring" in words(c)),
        ("uber", lambda c: "uber" in words(c)),
        ("RING", lambda c: "ring" in words(c)),
        ("cat -dog", lambda c: "cat" in words(c) and "dog" not in words(c)),
        ("-cat", lambda c: "cat" not in words(c)),
        ('"cat sings"', lambda c: "cat sings" in " ".join(c.captions)),
        ("label:dog", lambda c: "Dog" in c.labels),
        ("caption:dog", lambda c: any(w.startswith("dog") for w in " ".join(c.captions).split())),
        ("犬", lambda c: "犬" in " ".join(c.captions)),
        ("v000000001", lambda c: c.key.startswith("v000000001")),
        ("!?", lambda c: True),
    ],
)
def test_words(clips: list[ClipRow], index: Index, text: str, fits: object) -> None:
    expected = [clip.key for clip in clips if fits(clip)]  # type: ignore[operator]
    assert keys(index, text) == expected
    assert expected


def test_filters_and_counts(clips: list[ClipRow], index: Index) -> None:
    choices = {"standing": ("dropped", "kept"), "split": ("val",)}
    answer = index.ask(Question("dog", choices, {"rms": (-60.0, -10.0)}, limit=10_000))
    loud = [c for c in clips if any(w.startswith("dog") for w in words(c))]
    loud = [c for c in loud if c.facts["has_audio"] and -60 <= c.facts["rms_dbfs"] <= -10]
    fits = [c for c in loud if c.standing in choices["standing"] and c.split == "val"]
    assert [clip["key"] for clip in answer.clips] == [clip.key for clip in fits]
    assert answer.count == len(fits)
    standing = Counter(c.standing for c in loud if c.split == "val")
    assert {name: n for name, n in answer.facets["standing"].items() if n} == standing
    split = Counter(c.split for c in loud if c.standing in choices["standing"])
    assert {name: n for name, n in answer.facets["split"].items() if n} == split


@pytest.mark.parametrize("name", list(RANGES))
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("limit", [7, 1000])
def test_orders(clips: list[ClipRow], index: Index, name: str, descending: bool, limit: int) -> None:
    found: list[float | None] = []
    seen: list[str] = []
    for first in range(0, len(clips), limit):
        page = index.ask(Question(order=name, descending=descending, first=first, limit=limit)).clips
        found += [clip[name] for clip in page]
        seen += [clip["key"] for clip in page]
    assert sorted(seen) == sorted(clip.key for clip in clips)
    known = [value for value in found if value is not None]
    assert known == sorted(known, reverse=descending)
    assert found[: len(known)] == known  # what was not measured comes last


def test_what_is_told_of_a_clip(clips: list[ClipRow], index: Index) -> None:
    for number in (0, 13, 399):
        clip, told = clips[number], index.row_of(clips[number].key)
        assert told is not None
        assert (told["split"], told["standing"], told["reason"]) == (clip.split, clip.standing, clip.reason)
        assert (tuple(told["captions"]), tuple(told["labels"])) == (clip.captions, clip.labels)
        assert math.isclose(told["duration"], clip.duration_seconds, rel_tol=1e-5)
    assert index.row_of("nobody") is None and index.shard_of("nobody") is None
    assert index.num_clips == 400 and set(index.spans()) == set(RANGES)


def test_words_become_quoted_expressions() -> None:
    assert expressions('dog "a b" -cat label:x car') == ('"dog" AND "a b" AND label : "x" AND "car" *', '"cat"')
    assert expressions("dog ca") == ('"dog" AND "ca"', "")
    assert expressions('say "never closed') == ('"say" AND "never closed"', "")
    assert expressions("- -- !") == ("", "")
    assert expressions('a"b') == ('"a""b" *', "")


def test_built_once_and_anew_when_the_set_changed(work: WorkDir, tmp_path: Path) -> None:
    built: list[tuple[int, str]] = []

    cache = tmp_path / "cache"

    def ready() -> Path:
        return ready_index(find_set(work.root), cache, on_start=lambda total, unit: built.append((total, unit)))

    path = ready()
    assert ready() == path and len(built) == 1 and built[0][1] == "clips"
    tar = next(work.shards.glob("*.tar"))
    os.utime(tar, ns=(1, 1))
    assert not is_fresh(path, stamp_of(find_set(work.root)))
    assert ready() == path and len(built) == 2
    path.write_bytes(b"no database at all")
    assert ready() == path and len(built) == 3
    assert [entry.name for entry in cache.iterdir()] == [path.name]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValorDataError, match=r"the index cannot be written .*; name another folder with --cache"):
        ready_index(find_set(work.root), tmp_path / "file" / "below")


def test_a_change_is_noticed_and_not_looked_for_at_every_question(work: WorkDir) -> None:
    found, now = find_set(work.root), [0.0]
    watch = SetWatch(found, stamp_of(found), clock=lambda: now[0])
    now[0] = 100.0
    assert not watch.changed()
    os.utime(next(work.shards.glob("*.tar")), ns=(2, 2))
    assert not watch.changed(), "looked a moment ago"
    now[0] = 106.0
    assert watch.changed() and watch.changed()


def test_a_set_that_is_gone_has_changed(work: WorkDir) -> None:
    found, now = find_set(work.root), [0.0]
    watch = SetWatch(found, stamp_of(found), clock=lambda: now[0])
    shutil.rmtree(work.root)
    now[0] = 10.0
    assert watch.changed()


def test_the_same_rows_from_shards_and_from_their_work_folder(finished: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(finished.shards, tmp_path / "shards")
    shutil.copytree(finished.index, tmp_path / "index")
    of_work = {clip.key: clip for clip, _ in rows_of(find_set(finished.root))}
    of_shards = {clip.key: clip for clip, _ in rows_of(find_set(tmp_path))}
    kept = {key for key, clip in of_work.items() if clip.standing == "kept"}
    assert {key for key, clip in of_shards.items() if clip.standing == "kept"} == kept
    for key in kept:
        one, other = of_work[key], of_shards[key]
        assert (one.split, one.captions, one.labels, one.shard) == (
            other.split, other.captions, other.labels, other.shard,
        )  # fmt: skip
        assert one.facts["rms_dbfs"] == other.facts["rms_dbfs"]
    assert {key: clip.reason for key, clip in of_shards.items()} == {
        key: clip.reason for key, clip in of_work.items() if key in of_shards
    }


def test_removed_clips_are_not_in_it(finished: WorkDir, tmp_path: Path) -> None:
    """An old copy of the shards with the list of what was removed since."""
    shutil.copytree(finished.shards, tmp_path / "shards")
    keys_there = [clip.key for clip, _ in rows_of(find_set(tmp_path))]
    stamp = stamp_of(find_set(tmp_path))
    add_tombstones(tmp_path / FILE_NAME, [keys_there[0]], [], reason="request", why="", date="2026-11-23")
    assert [clip.key for clip, _ in rows_of(find_set(tmp_path))] == keys_there[1:]
    assert stamp_of(find_set(tmp_path)) != stamp
    with pytest.raises(ValorDataError, match="no clip"):
        show_from_shards(find_set(tmp_path), keys_there[0])


def test_the_index_of_a_work_folder_lies_in_it_and_for_its_owner_alone(work: WorkDir, tmp_path: Path) -> None:
    assert default_cache(find_set(work.root)) == work.root / "cache"
    assert default_cache(find_set(work.shards)).parts[-2:] == ("valor-data", "view")
    path = ready_index(find_set(work.root), default_cache(find_set(work.root)))
    assert path.parent == work.root / "cache" and path.stat().st_mode & 0o077 == 0


def test_the_same_rows_from_an_address(finished: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(finished.shards, tmp_path / "set" / "shards")
    near = [clip for clip, _ in rows_of(find_set(tmp_path / "set"))]
    assert [clip for clip, _ in rows_of(find_set(f"file://{tmp_path}/set"))] == near
    shutil.copytree(finished.index, tmp_path / "set" / "index")
    near = [clip for clip, _ in rows_of(find_set(tmp_path / "set"))]
    assert [clip for clip, _ in rows_of(find_set(f"file://{tmp_path}/set/shards"))] == near
    assert any(clip.standing == "dropped" for clip in near)
