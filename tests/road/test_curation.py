"""Curation over a work folder of real files: copies and leaks are found, media are read once, and all comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import go, standings, tar_bytes
from planting import Planted, copied

import valor_data.road.measuring as measuring
from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.errors import ConfigError
from valor_data.ledger import Ledger
from valor_data.look.why import explain
from valor_data.manifest import build_manifest, write_manifest
from valor_data.media.content import CONTENT_VERSION
from valor_data.road import Driver, run_fetch, run_filter, run_shard
from valor_data.road.filter import REMEMBERED, preview_filter
from valor_data.workdir import WorkDir

FILES = {"Chr0me__008": ("chrome.mp4", 5, 11), "Panc4ke_009": ("flipping_a_pancake.mkv", 0, 6),
         "M0nster_013": ("mdn_monster.mp4", 0, 6), "Rabb1t__020": ("rabbit320.mp4", 0, 6)}  # fmt: skip
SHARDING = ShardSection(workers=1, max_clips=2, partial=True)
DUPLICATES = FilterSection(workers=1, duplicates=True)


@pytest.fixture(scope="module")
def videos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real videos, a copy of one with a longer caption to come, and one in test that a train clip shows."""
    folder = tmp_path_factory.mktemp("videos")
    for name, (file, start, end) in FILES.items():
        plain = Planted(shared / "media/audible" / file, float(start), float(end), name, "real")
        copied(plain, "re-encoded", folder / f"{name}.mkv")
    for name, origin in (("CopyChrome1", "Chr0me__008"), ("TestPancake", "Panc4ke_009")):
        copied(Planted(folder / f"{origin}.mkv", 0.0, 6.0, origin, "real"), "all together", folder / f"{name}.mkv")
    return folder


@pytest.fixture
def work(videos: Path, tmp_path: Path) -> Path:
    train = [{"video_id": f"{name}_0.000_6.000", "desc": f"A clip of {name} is seen and heard."} for name in FILES]
    train.append({"video_id": "CopyChrome1_0.000_6.000", "desc": "The same clip once more, told with many more words."})
    train.append({"video_id": "M0nster_013_2.000_6.000", "desc": "Once again."})
    test = [{"video_id": "TestPancake_0.000_6.000", "desc": "A pancake flies."}]
    (tmp_path / "desc_train.json").write_text(json.dumps(train))
    (tmp_path / "desc_test.json").write_text(json.dumps(test))
    result = build_manifest([tmp_path / "desc_train.json", tmp_path / "desc_test.json"])
    write_manifest(result, tmp_path / "manifest.parquet")
    go(tmp_path / "work", tmp_path / "manifest.parquet", str(videos), filtering=FilterSection(workers=1),
       sharding=SHARDING)  # fmt: skip
    return tmp_path / "work"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was handed to workers to be measured, a word for each unit."""
    asked: list[str] = []
    unit = measuring.MeasureUnit

    def noted(*arguments: object) -> object:
        asked.append(str(arguments[-1]))
        return unit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "MeasureUnit", noted)
    yield asked


def curate(work: Path, section: FilterSection, **explicit: object) -> dict[str, str]:
    """Filters with a section, every setting of which counts; gives back why clips were dropped, by their id."""
    with Driver(WorkDir.at(work)) as driver:
        run_filter(driver, section, "av", explicit=REMEMBERED)
    return {key: reason for key, (_, reason) in standings(work).items() if reason}


def why(work: Path, key: str) -> str:
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        return str(explain(ledger, key)[0].stages["filter"]["detail"])


def test_duplicates_go_and_come_back(work: Path, decoded: list[str]) -> None:
    before = tar_bytes(work)
    assert curate(work, DUPLICATES) == {
        "Chr0me__008_00000000_00006000": "near_duplicate", "M0nster_013_00002000_00006000": "near_duplicate",
    }  # fmt: skip
    assert decoded == ["content"], "the facts were there"
    assert why(work, "Chr0me__008_00000000_00006000").startswith("a copy of CopyChrome1_00000000_00006000: ")
    assert "overlapping by 100%" in why(work, "M0nster_013_00002000_00006000")
    go(work, None, "", stages=("shard",), sharding=SHARDING)
    fewer = tar_bytes(work)
    changed = {name for name in before if fewer.get(name) != before[name]}
    assert changed and changed < set(before), "only the shards of those two were made anew"
    strict = FilterSection(workers=1, duplicates=True, max_picture_bits=0, max_sound_error=0.0, duplicate_overlap=1.0)
    assert curate(work, strict) == {"M0nster_013_00002000_00006000": "near_duplicate"}
    assert decoded == ["content"], "another threshold decodes nothing"
    assert curate(work, FilterSection(workers=1)) == {}
    go(work, None, "", stages=("shard",), sharding=SHARDING)
    assert tar_bytes(work) == before, "turned off, the same bytes stand again"


def test_a_leak_is_found_by_id_and_by_content(work: Path, tmp_path: Path, videos: Path, decoded: list[str]) -> None:
    listing = tmp_path / "elsewhere.csv"
    listing.write_text("video_id,start,end,caption\nRabb1t__020,4,14,A rabbit.\nUnknown__00,0,10,Nothing.\n")
    assert curate(work, FilterSection(workers=1, leak=(str(listing),))) == {"Rabb1t__020_00000000_00006000": "leak"}
    assert why(work, "Rabb1t__020_00000000_00006000").startswith("a clip of its video that overlaps it is in elsewhere")
    assert decoded == [], "by id nothing is decoded"
    assert curate(work, FilterSection(workers=1, leak=("splits",))) == {"Panc4ke_009_00000000_00006000": "leak"}
    assert "shows the same as TestPancake_00000000_00006000 of test: " in why(work, "Panc4ke_009_00000000_00006000")

    other = tmp_path / "other"
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    (renamed / "Strange_001.mkv").symlink_to(videos / "CopyChrome1.mkv")
    listing.write_text("video_id,start,end,caption\nStrange_001,0,6,The film.\n")
    write_manifest(build_manifest([listing]), tmp_path / "other.parquet")
    go(other, tmp_path / "other.parquet", str(renamed), stages=("fetch", "filter"))
    with Driver(WorkDir.at(work)) as driver:
        report = run_filter(driver, FilterSection(workers=1, leak=(str(other),)), "av", explicit={"leak"})
    assert any("other is compared by id only; `valor-data filter --content` there" in note for note in report.notices)
    assert curate(other, FilterSection(workers=1, content=True)) == {}, "measured, and nothing removed"
    found = curate(work, FilterSection(workers=1, leak=(str(other),)))
    assert set(found) == {"Chr0me__008_00000000_00006000", "CopyChrome1_00000000_00006000"}
    assert "Strange_001_00000000_00006000 of other" in why(work, "Chr0me__008_00000000_00006000")


def test_a_dry_run_says_the_same_and_decodes_nothing(work: Path, decoded: list[str]) -> None:
    section = FilterSection(workers=1, duplicates=True, leak=("splits",), leak_match="video", caption_min_words=3)
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        told = preview_filter(WorkDir.at(work), ledger, section, "av")
    assert told.notices == ("7 clips are not judged by what they show: it was not measured, or their media are gone",)
    assert {rule.reason: rule.in_order for rule in told.rules if rule.in_order} == {"caption_length": 1}
    assert decoded == []
    found = curate(work, section)
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        told = preview_filter(WorkDir.at(work), ledger, section, "av")
    counts = {rule.reason: (rule.alone, rule.in_order) for rule in told.rules if rule.alone}
    assert counts == {"caption_length": (1, 1), "leak": (1, 1), "near_duplicate": (2, 1)}
    assert sorted(found.values()) == ["caption_length", "leak", "near_duplicate"] and told.kept == 7 - 3
    assert told.notices == ()


def test_a_first_filter_measures_all_in_one_pass(videos: Path, work: Path, tmp_path: Path, decoded: list[str]) -> None:
    fresh = tmp_path / "fresh"
    go(fresh, work / "manifest.parquet", str(videos), stages=("fetch",))
    curate(fresh, DUPLICATES)
    assert decoded == ["both"]
    with (
        Ledger(WorkDir.at(fresh).ledger, read_only=True) as one,
        Ledger(WorkDir.at(work).ledger, read_only=True) as other,
    ):
        assert [row.facts for row in one.filter_rows()] == [row.facts for row in other.filter_rows()]
        assert len(list(one.scores("content", CONTENT_VERSION))) == 7


def test_shard_measures_before_it_builds_where_the_set_is_curated(videos: Path, work: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    go(fresh, work / "manifest.parquet", str(videos), stages=("fetch",))
    with Driver(WorkDir.at(fresh)) as driver:
        driver.note_settings("filter", DUPLICATES, ("duplicates",))
    go(fresh, None, "", stages=("shard",), sharding=SHARDING)
    assert {reason for _, reason in standings(fresh).values()} == {"", "near_duplicate"}
    curate(work, DUPLICATES)
    go(work, None, "", stages=("shard",), sharding=SHARDING)
    assert tar_bytes(fresh) == tar_bytes(work)


def test_new_media_are_measured_anew(videos: Path, work: Path) -> None:
    curate(work, DUPLICATES)
    with Driver(WorkDir.at(work)) as driver:
        clip = driver.ledger.find_clips("Rabb1t__020")[0]
        media = driver.ledger.media_of(clip.clip_id)
        assert media is not None and driver.ledger.score_of(clip.clip_id, "content") is not None
        driver.ledger.record_media(clip.clip_id, media)
        assert driver.ledger.score_of(clip.clip_id, "content") is None


def test_this_folder_is_no_other_set(work: Path) -> None:
    with pytest.raises(ConfigError, match='is this work folder: its other splits are named "splits"'):
        curate(work, FilterSection(workers=1, leak=(str(work),)))
    with pytest.raises(ConfigError, match=r"a folder without manifest\.parquet is no work folder"):
        curate(work, FilterSection(workers=1, leak=(str(work / "index"),)))


def test_a_part_measures_and_the_whole_decides(videos: Path, work: Path, tmp_path: Path) -> None:
    fresh, section = tmp_path / "fresh", FetchSection(source=str(videos))
    with Driver(WorkDir.at(fresh)) as driver:
        run_fetch(driver, section, manifest=work / "manifest.parquet", explicit={"source"})
        driver.note_settings("filter", DUPLICATES, REMEMBERED)
        run_shard(driver, SHARDING, "av", plan_only=True)
    from valor_data.road.parts import merge_parts

    for part in ("1/2", "2/2"):
        with Driver(WorkDir.at(fresh).of_part(part)) as driver:
            with pytest.raises(ConfigError, match="curation looks at the whole set, and clips of this part are"):
                run_shard(driver, SHARDING, "av")
            report = run_filter(driver, DUPLICATES, "av")
            assert "run `filter` without --part after `ledger merge`" in report.notices[0]
    merge_parts(WorkDir.at(fresh))
    assert {reason for _, reason in standings(fresh).values()} == {""}
    with Ledger(WorkDir.at(fresh).ledger, read_only=True) as ledger:
        assert len(list(ledger.scores("content", CONTENT_VERSION))) == 7
    assert set(curate(fresh, DUPLICATES).values()) == {"near_duplicate"}


def test_why_tells_the_figures_of_a_kept_clip_too(work: Path) -> None:
    curate(work, FilterSection(workers=1, content=True))
    with Ledger(WorkDir.at(work).ledger, read_only=True) as ledger:
        told = explain(ledger, "Rabb1t__020")[0].to_dict()["content"]
    assert told["picture_change"] > 10 and 0.5 < told["moving_share"] <= 1 and told["border_share"] == 0
    assert told["num_pictures_that_tell"] == 5 and told["seconds_of_sound_that_tell"] > 4
