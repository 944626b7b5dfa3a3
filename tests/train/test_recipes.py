"""Every recipe is one that the trainer takes, and published figures are those of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from valor_data.config import config_from_dict
from valor_data.errors import ConfigError
from valor_data.train.recipes import BENCHMARKS, assumption, benchmark, published_beside, recipe_settings
from valor_data.train.settings import completed, loader_settings, model_config
from valor_data.train.tasks import parse_tasks


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("preset", ["base", "base-swin", "large"])
def test_every_recipe_is_a_run(name: str, preset: str) -> None:
    found = benchmark(name)
    section = completed(
        config_from_dict({"train": {**recipe_settings(name, preset), "preset": preset}}).train, "somewhere"
    )
    loader = loader_settings(section, model_config(section, 30_522))
    assert loader.pictures.count == found.train["num_frames"]
    assert parse_tasks(section.task).groups
    assert found.evaluate["num_frames"] >= found.train["num_frames"]
    assert found.published


def test_published_figures_stand_beside_ours() -> None:
    rows = published_beside("valor32k-ret", {"retrieval/tva/text_to_clip/r1": 12.5})
    assert rows[0] == ("r1", 12.5, {"VALOR-B": 67.9, "VALOR-L": 73.2, "VALOR-L-DSL": 80.9, "VAST": 80.0})
    assert rows[1][1] is None


def test_figures_are_those_of_the_fact_sheet(shared: Path) -> None:
    text = (shared / "reference" / "valor.md").read_text()
    for found in BENCHMARKS.values():
        for figures in found.published.values():
            for figure in figures.values():
                assert f"{figure:g}" in text or f"{figure:.1f}" in text, (found.title, figure)


def test_what_is_not_known_is_said() -> None:
    """Of VALOR-32K all is known; of the others at least not the epochs."""
    assert assumption("valor32k-ret") == "" == assumption("valor32k-cap")
    assert assumption("vatex-ret") == (
        "recipe vatex-ret: num_slices, epochs as for other benchmarks, not known of this one"
    )
    for name, found in BENCHMARKS.items():
        assert set(found.assumed) <= set(found.train), name


def test_a_figure_that_one_model_lacks_leaves_its_place_empty() -> None:
    rows = {measure: figures for measure, _, figures in published_beside("didemo-ret", {})}
    assert rows["r1"] == {"VALOR-B": 52.2, "VALOR-L": 57.6, "VALOR-L-DSL": 61.5}
    assert rows["r5"] == {"VALOR-B": 80.8, "VALOR-L": 83.3}


def test_clip_learns_slowly_and_swin_like_the_rest() -> None:
    assert recipe_settings("valor32k-ret", "base")["lr_vision"] == 5e-7
    assert "lr_vision" not in recipe_settings("valor32k-ret", "base-swin")


def test_a_recipe_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'valor32k-rte'; did you mean valor32k-ret\?"):
        benchmark("valor32k-rte")
