"""Settings: every problem at once, in words that say what would be right."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valor_data.config import (
    Config,
    ExecuteSection,
    FetchSection,
    FilterSection,
    ShardSection,
    config_from_dict,
    override,
    read_toml,
)
from valor_data.errors import ConfigError

SECTIONS = ("manifest", "fetch", "filter", "shard", "execute", "publish", "train")


def problems_of(tree: dict[str, Any], where: str = "valor.toml") -> list[str]:
    with pytest.raises(ConfigError) as error:
        config_from_dict(tree, where=where)
    return error.value.problems


def test_nothing_given_is_the_defaults() -> None:
    assert config_from_dict({}) == Config()
    assert (Config().filter.min_rms_dbfs, Config().filter.min_peak_dbfs, Config().filter.min_coverage) == (
        -60,
        -50,
        0.5,
    )
    assert (Config().shard.num_frames, Config().shard.mel, Config().modalities) == (10, "valor", "av")


def test_the_defaults_are_right_by_their_own_rules() -> None:
    tree = dataclasses.asdict(Config())
    assert config_from_dict(tree) == Config()


def test_every_setting_says_what_it_means() -> None:
    for section in (Config(), *(getattr(Config(), name) for name in SECTIONS)):
        for field in dataclasses.fields(section):
            if field.name not in (*SECTIONS, "validation"):
                assert field.metadata["meaning"], field.name


def test_all_problems_at_once() -> None:
    found = problems_of(
        {
            "modalities": "va",
            "fetsh": {},
            "fetch": {"sorce": "x", "workers": 0, "copy": 1},
            "filter": {"min_rms_dbfs": 3, "min_coverage": "half"},
            "shard": {"include": ["audio", "text"], "max_clips": 2.5, "num_frames": 101},
            "manifest": "files",
        }
    )
    assert found == [
        "valor.toml: modalities: expected one of av, v, a; found 'va'",
        "valor.toml: fetsh: no such setting; did you mean fetch?",
        "valor.toml: fetch.sorce: no such setting; did you mean fetch.source?",
        "valor.toml: fetch.workers: expected 1 to 64; found 0",
        "valor.toml: fetch.copy: expected true or false, found 1",
        "valor.toml: filter.min_rms_dbfs: expected -200 to 0; found 3.0",
        "valor.toml: filter.min_coverage: expected a number, found 'half'",
        "valor.toml: shard.include: expected one of audio, video; found 'text'",
        "valor.toml: shard.max_clips: expected a whole number, found 2.5",
        "valor.toml: shard.num_frames: expected 1 to 100; found 101",
        "valor.toml: manifest: expected a table [manifest], found 'files'",
    ]


def test_a_name_like_no_other_gets_the_list() -> None:
    assert problems_of({"manifest": {"zzz": 1}}) == [
        "valor.toml: manifest.zzz: no such setting; known: files, format, split, join, on_leak"
    ]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"fetch": {"workers": True}}, "fetch.workers: expected a whole number, found True"),
        ({"fetch": {"source": 3}}, "fetch.source: expected a text, found 3"),
        ({"fetch": {"max_video_seconds": False}}, "fetch.max_video_seconds: expected a number, found False"),
        ({"fetch": {"max_video_bytes": -1}}, "fetch.max_video_bytes: expected at least 1; found -1"),
        ({"filter": {"min_rms_dbfs": float("nan")}}, "filter.min_rms_dbfs: expected -200 to 0; found nan"),
        ({"manifest": {"files": "a.json"}}, "manifest.files: expected a list of texts, found 'a.json'"),
        ({"manifest": {"files": [1]}}, "manifest.files: expected a list of texts, found [1]"),
        ({"manifest": {"join": "inner"}}, "manifest.join: expected one of left, outer; found 'inner'"),
        ({"shard": {"mel": "clap"}}, "shard.mel: expected one of valor, ast; found 'clap'"),
        ({"modalities": None}, "modalities: expected a text, found None"),
    ],
)
def test_a_wrong_value(tree: dict[str, Any], words: str) -> None:
    assert problems_of(tree) == [f"valor.toml: {words}"]


def test_values_take_the_type_of_the_setting() -> None:
    config = config_from_dict({"filter": {"min_rms_dbfs": -45}, "shard": {"include": ["video", "audio"]}})
    assert isinstance(config.filter.min_rms_dbfs, float)
    assert config.shard.include == ("video", "audio")


def test_override_takes_what_is_given() -> None:
    section = FilterSection(min_rms_dbfs=-40.0, min_peak_dbfs=-30.0)
    assert override(section, {"min_rms_dbfs": -50, "min_peak_dbfs": None}) == FilterSection(
        min_rms_dbfs=-50.0, min_peak_dbfs=-30.0
    )
    assert override(ShardSection(), {}) == ShardSection()


def test_a_list_of_tables() -> None:
    tree = {"train": {"data": [{"shards": "a", "weight": 2}, {"shards": "b"}], "validation": {"shards": "c"}}}
    train = config_from_dict(tree).train
    assert [(one.shards, one.weight, one.split) for one in train.data] == [("a", 2.0, "train"), ("b", 1.0, "train")]
    assert train.validation.shards == "c"
    assert override(train, {"steps": 5}).data == train.data
    assert problems_of({"train": {"data": "a", "validation": "b"}}) == [
        "valor.toml: train.data: expected tables, each under [[train.data]], found 'a'",
        "valor.toml: train.validation: expected a table [train.validation], found 'b'",
    ]
    assert problems_of({"train": {"data": [{"shards": "a", "weight": -1}, {"shard": "b"}]}}) == [
        "valor.toml: train.data[0].weight: expected at least 1e-09; found -1.0",
        "valor.toml: train.data[1].shard: no such setting; did you mean train.data[1].shards?",
    ]


def test_override_names_the_options() -> None:
    with pytest.raises(ConfigError) as error:
        override(FetchSection(), {"max_short_side_px": 0, "workers": 65})
    assert error.value.problems == [
        "--workers: expected 1 to 64; found 65",
        "--max-short-side-px: expected at least 1; found 0",
    ]


@given(st.integers(-300, 300))
def test_a_range_holds_at_both_ends(value: int) -> None:
    tree = {"filter": {"min_peak_dbfs": value}}
    if -200 <= value <= 0:
        assert config_from_dict(tree).filter.min_peak_dbfs == value
    else:
        with pytest.raises(ConfigError, match=f"filter.min_peak_dbfs: expected -200 to 0; found {float(value)}"):
            config_from_dict(tree)


def test_read_toml(tmp_path: Path) -> None:
    path = tmp_path / "valor.toml"
    with pytest.raises(ConfigError, match=r"valor\.toml: no such file; write one, or pass options"):
        read_toml(path)
    path.write_text('[fetch]\nsource = "youtube"\n')
    assert read_toml(path) == {"fetch": {"source": "youtube"}}
    path.write_text("[fetch\n")
    with pytest.raises(ConfigError, match=r"valor\.toml: not TOML: .*line 1"):
        read_toml(path)
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"not TOML: .*utf-8"):
        read_toml(path)


def test_where_workers_run() -> None:
    tree = {"execute": {"executor": "ray", "address": "auto"}}
    assert config_from_dict(tree).execute == ExecuteSection(executor="ray", address="auto")
    with pytest.raises(ConfigError, match="--executor: expected one of local, ray; found 'slurm'"):
        override(ExecuteSection(), {"executor": "slurm"})
