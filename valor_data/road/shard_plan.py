"""The plan of shards, fixed on first use: clips that come later get places behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from valor_data.config import ShardSection
from valor_data.errors import ConfigError
from valor_data.road.driver import Driver
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, rows_of, tar_of
from valor_data.shard.plan import plan_rows

PLAN_FIELDS = ("max_clips", "max_bytes", "seed")


def fix_plan(
    driver: Driver,
    section: ShardSection,
    explicit: Collection[str],
    clips_for_bytes: Callable[[], int],
    *,
    replan_at: Output | None = None,
) -> None:
    """Makes the plan on first use, and gives clips that came later places behind it.

    Args:
        driver: of the work folder.
        section: the `[shard]` settings.
        explicit: names of the settings that were given for this run.
        clips_for_bytes: how many clips `max_bytes` allows a shard; asked only when it is set and new.
        replan_at: give up the plan, with every shard made from it, which stand here.

    Raises:
        ConfigError: another plan is asked for than the one that is fixed.
    """
    ledger = driver.ledger
    if replan_at is not None:
        _remove_shards(driver, replan_at)
        ledger.drop_plan()
        ledger.set_meta("plan", "{}")
        ledger.set_meta("plan_digest", "")
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
    new = ledger.unplanned()
    ledger.add_to_plan(plan_rows(new, ledger.num_shards(), seed=plan["seed"], max_clips=plan["clips_a_shard"]))
    if new or not ledger.get_meta("plan_digest"):
        ledger.set_meta("plan_digest", ledger.plan_digest())
    ledger.commit()


def _remove_shards(driver: Driver, output: Output) -> None:
    """Deletes every planned shard's files; the JSON first, for without it a shard is not finished."""
    standing = output.sizes()
    shards = [shard_name(split, shard) for split, shard in driver.ledger.planned_shards()]
    for kind in (json_of, rows_of, tar_of):
        output.remove([name for name in map(kind, shards) if name in standing])
