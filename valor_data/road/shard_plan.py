"""The plan of shards, fixed on first use: clips that come later get places behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from valor_data.config import ShardSection
from valor_data.errors import ConfigError
from valor_data.road.driver import Driver
from valor_data.shard import shard_name
from valor_data.shard.plan import plan_rows

PLAN_FIELDS = ("max_clips", "max_bytes", "seed")


def fix_plan(
    driver: Driver,
    section: ShardSection,
    explicit: Collection[str],
    clips_for_bytes: Callable[[], int],
    *,
    replan: bool,
) -> None:
    """Makes the plan on first use, and gives clips that came later places behind it.

    Args:
        driver: of the work folder.
        section: the `[shard]` settings.
        explicit: names of the settings that were given for this run.
        clips_for_bytes: how many clips `max_bytes` allows a shard; asked only when it is set and new.
        replan: give up the plan, with every shard made from it.

    Raises:
        ConfigError: another plan is asked for than the one that is fixed.
    """
    ledger = driver.ledger
    if replan:
        _remove_shards(driver)
        ledger.drop_plan()
        ledger.set_meta("plan", "{}")
    plan = json.loads(ledger.get_meta("plan") or "{}")
    asked = {name: getattr(section, name) for name in PLAN_FIELDS}
    if plan:
        changed = [name for name in PLAN_FIELDS if name in explicit and asked[name] != plan[name]]
        if changed:
            told = ", ".join(f"{name} is {plan[name]}, not {asked[name]}" for name in changed)
            raise ConfigError(f"the shard plan is fixed: {told}; --replan gives it up with every shard made from it")
    else:
        plan = {**asked, "clips_a_shard": clips_for_bytes() if section.max_bytes else section.max_clips}
        ledger.set_meta("plan", json.dumps(plan))
    rows = plan_rows(ledger.unplanned(), ledger.num_shards(), seed=plan["seed"], max_clips=plan["clips_a_shard"])
    ledger.add_to_plan(rows)
    ledger.commit()


def _remove_shards(driver: Driver) -> None:
    """Deletes every planned shard's files; the JSON first, for without it a shard is not finished."""
    for split, number in driver.ledger.num_shards().items():
        for name in (shard_name(split, shard) for shard in range(number)):
            (driver.work.index / f"{name}.json").unlink(missing_ok=True)
            (driver.work.index / f"{name}.parquet").unlink(missing_ok=True)
            (driver.work.shards / f"{name}.tar").unlink(missing_ok=True)
