"""What a work folder has to publish: its finished shards, as their JSON files describe them, and how they were made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from valor_data.config import ShardSection
from valor_data.errors import PublishError
from valor_data.ledger import Ledger
from valor_data.look.verify import check_shard
from valor_data.road.shard import SAMPLE_FIELDS
from valor_data.road.shard_states import ShardState, states_in
from valor_data.shard.output import Output, json_of, open_output, output_of, rows_of, tar_of
from valor_data.shard.sample import SampleSettings
from valor_data.workdir import WorkDir

SHOWN = 3
"""Faulty shards that a refusal names."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard.

    Attributes:
        name: `train-000000`.
        sidecar: its JSON.
    """

    name: str
    sidecar: dict[str, Any]

    @property
    def split(self) -> str:
        """Its split."""
        return str(self.sidecar["split"])

    @property
    def num_samples(self) -> int:
        """Samples in its tar; with none there is no tar."""
        return int(self.sidecar["num_samples"])


@dataclass(frozen=True, slots=True)
class Built:
    """The finished shards of a work folder.

    Attributes:
        settings: what its samples hold.
        shards: by name, in order.
        meta: settings that the ledger remembers of the stages, by stage.
    """

    work: WorkDir
    output: Output
    settings: SampleSettings
    shards: dict[str, Shard]
    meta: dict[str, dict[str, Any]]

    @property
    def samples(self) -> Counter[str]:
        """Samples by split, splits without any left out."""
        counts: Counter[str] = Counter()
        for shard in self.shards.values():
            counts[shard.split] += shard.num_samples
        return +counts

    def index(self, name: str) -> bytes:
        """A shard's Parquet."""
        return self.output.read(rows_of(name))


def remembered(ledger: Ledger, stage: str) -> dict[str, Any]:
    """The settings a work folder was last driven with."""
    settings: dict[str, Any] = json.loads(ledger.get_meta(f"settings.{stage}") or "{}")
    return settings


def read_built(work: WorkDir, ledger: Ledger) -> Built:
    """Looks at the shards of a work folder.

    Raises:
        PublishError: there is none, or some are not finished or not what they should be; the message counts them.
        ConfigError: the shards stand at an address that cannot be used.
        StoreError: the store there does not answer.
    """
    if work.part_ledgers():
        raise PublishError(
            f"{len(work.part_ledgers())} parts of the run are not merged: run `valor-data ledger merge` first"
        )
    chosen = {name: value for name, value in remembered(ledger, "shard").items() if name in SAMPLE_FIELDS}
    chosen["include"] = tuple(chosen.get("include", ()))
    settings = SampleSettings.of(replace(ShardSection(), **chosen), ledger.get_meta("modalities") or "av")
    output = open_output(work.root, output_of(ledger))
    states = [state for state, _, _ in states_in(ledger, settings, output)]
    _check_states(work, states)
    shards = {}
    for state in states:
        try:
            shards[state.name] = Shard(state.name, json.loads(output.read(json_of(state.name))))
        except (OSError, ValueError) as error:
            raise PublishError(
                f"{json_of(state.name)}: cannot be read ({error}); run `valor-data shard` again"
            ) from None
    if not any(shard.num_samples for shard in shards.values()):
        raise PublishError(f"{work.root}: not one sample is in its shards; `valor-data status` says why")
    return Built(work, output, settings, shards, {stage: remembered(ledger, stage) for stage in ("filter", "shard")})


def _check_states(work: WorkDir, states: list[ShardState]) -> None:
    if not states:
        raise PublishError(f"{work.root}: no shards here; run `valor-data shard --work {work.root}` first")
    stale = [state for state in states if state.state == "stale"]
    missing = [state for state in states if state.state == "missing"]
    if not stale and not missing:
        return
    waiting = sum(bool(state.num_waiting) for state in missing)
    words = [f"{len(stale)} are stale"] if stale else []
    words += [f"{len(missing)} are not built"] if missing else []
    words += [f"{waiting} of them wait for clips"] if waiting else []
    partial = " (--partial builds those that wait)" if waiting else ""
    first = (stale or missing)[0].name
    raise PublishError(
        f"of {len(states)} shards {', '.join(words)} (the first: {first}): "
        f"run `valor-data shard --work {work.root}`{partial}, then this again"
    )


def check_shards(built: Built, known: dict[str, str], on_shard: Callable[[bool], None]) -> None:
    """Reads every shard that was not read before as a stranger would.

    Args:
        built: the shards.
        known: sha256 of the tars that were found sound before, by shard; those found sound now are added.
        on_shard: told of each shard whether it had to be read.

    Raises:
        PublishError: some are damaged; the message names the first faults.
    """
    sizes = built.output.sizes()
    problems: list[str] = []
    for name, shard in built.shards.items():
        is_new = known.get(name) != shard.sidecar["tar_sha256"]
        if is_new:
            found = check_shard(built.output, name, sizes).problems
            problems += found
            if not found:
                known[name] = shard.sidecar["tar_sha256"]
        on_shard(is_new)
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise PublishError(
            f"the shards are not sound: {'; '.join(problems[:SHOWN])}{more}; "
            f"`valor-data verify --work {built.work.root}` lists all, `valor-data shard` rebuilds what is damaged"
        )


def local_tar(built: Built, name: str, folder: Path) -> Path:
    """A shard's tar as a local file: where it stands, or a copy in `folder`.

    Raises:
        PublishError: it is gone.
    """
    try:
        return built.output.local(tar_of(name), folder)
    except FileNotFoundError:
        raise PublishError(f"{tar_of(name)}: is no longer there; run `valor-data shard` again") from None
