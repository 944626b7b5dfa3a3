"""The card: real numbers, YAML that the Hub and its client take, a person's own text, Croissant."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml
from hub_server import check_card
from huggingface_hub import DatasetCard, DatasetCardData, metadata_load

from valor_data.config import PublishSection
from valor_data.ledger import Ledger
from valor_data.look.status import read_status
from valor_data.publish import card_facts
from valor_data.publish.built import read_built
from valor_data.publish.card import OWN_BEGIN, OWN_END, make_card, own_text
from valor_data.publish.contents import Contents, gather
from valor_data.publish.funnel import funnel_svg
from valor_data.publish.preview import card_only
from valor_data.publish.version import Version
from valor_data.shard.reader import find_shards, read_samples
from valor_data.workdir import WorkDir

EDITIONS = ("ids", "features", "media")
Gather = Callable[..., Contents]


@pytest.fixture
def gathered(builds: dict[str, WorkDir], tmp_path: Path) -> Gather:
    """Works out an edition of the full build."""

    def gathered(edition: str = "features", former: str | None = None, **settings: Any) -> Contents:
        folder = tmp_path / edition
        shutil.rmtree(folder, ignore_errors=True)
        with Ledger(builds["full"].ledger, read_only=True) as ledger:
            built = read_built(builds["full"], ledger)
            section = PublishSection(edition=edition, **settings)
            where = ("org/my-set", "https://huggingface.co/datasets/org/my-set")
            return gather(built, ledger, section, Version(), where, folder, former)

    return gathered


def text_of(contents: Contents) -> str:
    return (contents.folder / "README.md").read_text(encoding="utf-8")


def yaml_of(contents: Contents) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text_of(contents).split("---\n")[1])
    return found


@pytest.mark.parametrize("edition", EDITIONS)
def test_the_yaml_is_what_the_hub_takes(gathered: Gather, edition: str) -> None:
    contents = gathered(edition, licence="cc-by-4.0")
    assert check_card(text_of(contents)) == {"errors": [], "warnings": []}
    loaded = metadata_load(contents.folder / "README.md")
    data = DatasetCardData(**loaded)
    assert data.to_dict() == loaded
    assert DatasetCard(text_of(contents)).data.pretty_name == "my-set"
    assert loaded["license"] == ("cc-by-4.0" if edition == "ids" else "other")
    assert loaded["size_categories"] == ["n<1K"]


@pytest.mark.parametrize("edition", EDITIONS)
def test_splits_and_sizes_are_those_of_the_files(gathered: Gather, edition: str) -> None:
    contents = gathered(edition)
    tree = yaml_of(contents)
    infos = tree["dataset_info"] if isinstance(tree["dataset_info"], list) else [tree["dataset_info"]]
    default = next(info for info in infos if info.get("config_name", "default") == "default")
    told = {split["name"]: split["num_examples"] for split in default["splits"]}
    assert told == {"train": 11, "test": 9, "val": 3}
    names = [name for name in contents.files if name.startswith("metadata/kept/" if edition == "ids" else "shards/")]
    assert default["download_size"] == sum(contents.files[name].size_bytes for name in names)
    patterns = {
        f["split"]: f["path"] for c in tree["configs"] if c["config_name"] == "default" for f in c["data_files"]
    }
    for split, pattern in patterns.items():
        assert {n for n in names if Path(n).match(pattern)} == {n for n in names if Path(n).name.startswith(split)}


def test_a_split_whose_name_begins_like_another_is_kept_apart() -> None:
    splits = ["train", "train-extra"]
    shards = [f"{split}-{number:06d}.tar" for split in splits for number in range(3)]
    for split in splits:
        pattern = f"{card_facts.pattern_of(split, splits)}.tar"
        assert [name for name in shards if Path(name).match(pattern)] == [f"{split}-{n:06d}.tar" for n in range(3)]
    assert card_facts.split_name("train-extra") == "train_extra"


def test_the_numbers_are_those_of_the_run(gathered: Gather, builds: dict[str, WorkDir]) -> None:
    text = text_of(gathered())
    with Ledger(builds["full"].ledger, read_only=True) as ledger:
        status = read_status(ledger)
    assert f"23 clips of 17 videos, {40} s in all, with 23 captions" in text
    for (stage, _, reason), number in status.all.losses.items():
        assert f"| `{reason}` | {stage} | {number:,} |" in text
    assert "RMS at least -60 dBFS" in text
    assert "| all | 32 |" in text


@pytest.mark.parametrize("edition", EDITIONS)
def test_each_edition_says_whose_the_media_are(gathered: Gather, edition: str) -> None:
    words = {
        "ids": "No part of a video is in this edition",
        "features": "made from videos that belong to their uploaders",
        "media": "excerpts of videos that belong to their uploaders",
    }
    text = text_of(gathered(edition, licence="cc-by-4.0", licence_name="CC BY 4.0", contact="care@example.org"))
    assert words[edition] in text
    assert "the list of clips: CC BY 4.0." in text
    assert ("does not cover them" in text) == (edition != "ids")
    assert "[care@example.org](mailto:care@example.org)" in text
    assert "## Removal" in text
    assert "@article{chen2023valor" in text


def test_a_persons_own_text_is_kept(gathered: Gather) -> None:
    first = text_of(gathered(summary="First summary."))
    mine = "Read **this** first.\n\n---\n\n```\ncode\n```"
    edited = first.replace(f"{OWN_BEGIN}\n{OWN_END}", f"{OWN_BEGIN}\n{mine}\n{OWN_END}")
    second = text_of(gathered(former=edited, summary="Second summary."))
    assert own_text(second) == mine
    assert "Second summary." in second
    assert "First summary." not in second
    assert text_of(gathered(former=second.replace("\n", "\r\n"), summary="Second summary.")) == second


def test_a_card_that_no_push_made_is_kept_as_own_text(gathered: Gather) -> None:
    former = "---\nlicense: mit\n---\n# A set\n\nBy hand.\n"
    assert own_text(text_of(gathered(former=former))) == "# A set\n\nBy hand."


def test_what_strangers_wrote_is_no_markup(gathered: Gather) -> None:
    contents = gathered()
    contents.facts.figures.licences["CC | [x](http://evil) <script>alert(1)</script>\n# big"] = 1
    card = make_card(contents.facts)
    assert "<script>" not in card
    assert "\n# big" not in card
    assert "CC \\| \\[x\\](http://evil) &lt;script&gt;" in card


def test_the_settings_file_describes_the_card(full: WorkDir, tmp_path: Path) -> None:
    files = card_only(
        full, PublishSection(pretty_name="My Set", text="Mine.", citation="@misc{me}"), "a/b", tmp_path / "o"
    )
    assert [path.relative_to(tmp_path / "o").as_posix() for path in files] == [
        "README.md", "croissant.json", "card/funnel.svg",
    ]  # fmt: skip
    text = files[0].read_text()
    assert "# My Set\n" in text
    assert "Mine." in text
    assert "@misc{me}" in text
    assert not full.tmp.exists()


@pytest.mark.parametrize("edition", EDITIONS)
def test_croissant_is_valid_and_reads_the_rows(gathered: Gather, edition: str) -> None:
    contents = gathered(edition)
    tree = json.loads((contents.folder / "croissant.json").read_text())
    found = mlcroissant.Dataset(jsonld=tree)
    assert found.metadata.ctx.issues.errors == set()
    assert found.metadata.ctx.issues.warnings == set()
    assert found.metadata.version == "1.0.0"
    patterns = [s["includes"] for s in tree["distribution"] if s["@type"] == "cr:FileSet"]
    assert len(patterns) == (2 if edition == "ids" else 3)
    for pattern in patterns:
        assert any(Path(name).match(pattern) for name in contents.files)


def test_captions_are_counted_as_the_statistics_do(gathered: Gather, builds: dict[str, WorkDir]) -> None:
    figures = gathered().facts.figures
    shards = find_shards(str(builds["full"].shards))
    lengths = [len(c.text.split()) for sample in read_samples(shards) for c in sample.clip.captions]
    assert figures.caption_words == Counter(lengths)
    assert figures.all.num_words == sum(lengths)
    assert figures.without_letters == 0


def test_the_funnel_is_a_picture_with_words(builds: dict[str, WorkDir]) -> None:
    with Ledger(builds["full"].ledger, read_only=True) as ledger:
        funnel = read_status(ledger).all
    root = ET.fromstring(funnel_svg(funnel))
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}desc").text == "manifest 32, fetched 28, kept 23, in shards 23"  # type: ignore[union-attr]
    lengths = [float(bar.get("width") or 0) for bar in root.findall(f"{space}rect")[1:]]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] / lengths[0] == pytest.approx(23 / 32, abs=0.001)
