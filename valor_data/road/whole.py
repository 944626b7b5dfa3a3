"""The whole road in one call: manifest, fetch, filter, shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from valor_data.config import Config, config_from_dict
from valor_data.fetch.sources import absolute_source
from valor_data.filter.leak import absolute_sets
from valor_data.filter.recipe import check_recipe
from valor_data.manifest import ManifestOptions, build_manifest, write_manifest
from valor_data.road.driver import Driver, StageReport
from valor_data.road.fetch import run_fetch
from valor_data.road.filter import REMEMBERED as FILTER_FIELDS
from valor_data.road.filter import filter_report, run_filter
from valor_data.road.shard import run_shard
from valor_data.storage import absolute_place


def run_road(driver: Driver, tree: Mapping[str, Any], base: Path) -> Iterator[StageReport]:
    """Goes the whole road, from where it stands.

    Args:
        driver: of the work folder.
        tree: the settings as they are written in a TOML file.
        base: the folder that file names in it are relative to.

    Yields:
        The report of each stage when it is over.

    Raises:
        ConfigError: wrong settings; all problems at once, before anything is done.
        ValorDataError: a stage cannot go on.
    """
    config = config_from_dict(tree)
    filtering = replace(config.filter, leak=absolute_sets(config.filter.leak, base))
    check_recipe(filtering)
    manifest = build_listed(driver, config, base)
    modalities = config.modalities if "modalities" in tree else driver.ledger.get_meta("modalities") or "av"
    driver.ledger.pin("modalities", modalities, advice="what a run holds cannot change; use another work folder")

    def explicit(stage: str) -> frozenset[str]:
        return frozenset(tree.get(stage, {}))

    fetch = config.fetch
    if "source" in explicit("fetch"):
        fetch = replace(fetch, source=absolute_source(fetch.source, base))
    yield run_fetch(driver, fetch, manifest=manifest, explicit=explicit("fetch"))
    # What is new is measured while its shard is made, in one pass; here only thresholds that moved are applied.
    run_filter(driver, filtering, modalities, explicit=explicit("filter"), measure=False)
    thresholds = driver.remember("filter", filtering, explicit("filter"), FILTER_FIELDS)
    shard = config.shard
    if "output" in explicit("shard"):
        shard = replace(shard, output=absolute_place(shard.output, base))
    sharded = run_shard(driver, shard, modalities, thresholds=thresholds, explicit=explicit("shard"))
    yield filter_report(driver)
    yield sharded


def build_listed(driver: Driver, config: Config, base: Path) -> Path | None:
    """Builds the manifest of the files that `[manifest]` names; None when it names none."""
    section = config.manifest
    if not section.files:
        return None
    options = ManifestOptions(
        format=section.format or None,
        split=section.split or None,
        join="outer" if section.join == "outer" else "left",
        on_leak="drop" if section.on_leak == "drop" else "error",
        tombstones=str(driver.work.tombstones) if driver.work.tombstones.exists() else "",
    )
    result = build_manifest([base / name for name in section.files], options=options)
    write_manifest(result, driver.work.manifest, rejects_path=driver.work.rejects)
    return driver.work.manifest
