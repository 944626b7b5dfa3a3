"""How planned shards stand: finished, stale or missing. What nothing has touched is not looked at again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from valor_data.errors import Status
from valor_data.ledger import Ledger, PlannedClip, ShardRow
from valor_data.road.driver import Driver
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, tar_of
from valor_data.shard.sample import SampleSettings
from valor_data.shard.writer import ShardResult, clip_digest, shard_digest


@dataclass(frozen=True, slots=True)
class ShardState:
    """A planned shard: how many of its clips wait, and whether what stands is what should stand.

    Attributes:
        num_wanted: clips that belong into it, those included that are measured while it is made.
        num_waiting: clips that fetch or filter has not decided about.
        digest: of what it should be made of; empty while that is not known.
        state: `finished`, `stale` or `missing`.
    """

    split: str
    shard: int
    num_wanted: int
    num_waiting: int
    digest: str
    state: str

    @property
    def name(self) -> str:
        """The shard's name."""
        return shard_name(self.split, self.shard)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What stands at the output: everything by one listing, a JSON only where it must be looked at."""

    output: Output
    sizes: Mapping[str, int]

    def sidecar(self, name: str) -> dict[str, Any] | None:
        """A shard's JSON, if the shard stands complete beside it."""
        if json_of(name) not in self.sizes:
            return None
        try:
            beside: dict[str, Any] = json.loads(self.output.read(json_of(name)))
            whole = beside["num_samples"] == 0 or self.sizes.get(tar_of(name)) == beside["tar_bytes"]
        except (OSError, ValueError, KeyError):
            return None
        return beside if whole else None

    def holds(self, known: ShardRow) -> bool:
        """Whether a finished shard is still there. Of objects, the JSON is not read: a request a shard is too many."""
        name = shard_name(known.split, known.shard)
        if not self.output.is_remote:
            beside = self.sidecar(name)
            return beside is not None and beside["digest"] == known.digest
        tar = self.sizes.get(tar_of(name))
        return json_of(name) in self.sizes and (known.num_samples == 0 or tar == known.size_bytes)


def shard_states(
    driver: Driver, settings: SampleSettings, output: Output
) -> tuple[list[ShardState], list[ShardResult]]:
    """How every planned shard stands.

    Args:
        driver: of the work folder.
        settings: what a sample should be made with.
        output: where the shards stand.

    Returns:
        The states, and what killed runs finished without noting it: to be recorded now.
    """
    states: list[ShardState] = []
    adopted: list[ShardResult] = []
    for state, result, looked_at in states_in(driver.ledger, settings, output):
        if result is not None:
            adopted.append(result)
        elif looked_at is not None and state.state == "finished":
            driver.ledger.record_shard(replace(looked_at, settings=settings_hash(settings), touched=0))
        states.append(state)
    return states, adopted


def states_in(
    ledger: Ledger, settings: SampleSettings, output: Output
) -> Iterator[tuple[ShardState, ShardResult | None, ShardRow | None]]:
    """How every planned shard stands, for those who only look: nothing is written.

    Args:
        ledger: of the work folder.
        settings: what a sample should be made with.
        output: where the shards stand.

    Yields:
        The state; what a killed run finished without noting it; what the ledger knows of a shard that something has
        touched since it was noted.
    """
    finished = ledger.finished_shards()
    told = settings_hash(settings)
    standing = _Standing(output, output.sizes())
    for split, shard in ledger.planned_shards():
        known = finished.get((split, shard))
        state = _untouched(standing, known, told) if known is not None else None
        if state is not None:
            yield state, None, None
            continue
        looked = _look(standing, settings, list(ledger.planned(split, shard)), known)
        yield *looked, known


def settings_hash(settings: SampleSettings) -> str:
    """Tells whether a shard was made with the same sample settings."""
    return hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _untouched(standing: _Standing, known: ShardRow, settings: str) -> ShardState | None:
    """A finished shard about which nothing has changed; None when it must be looked at."""
    if known.touched or known.settings != settings or not standing.holds(known):
        return None
    return ShardState(known.split, known.shard, known.num_samples, 0, known.digest, "finished")


def _look(
    standing: _Standing, settings: SampleSettings, clips: list[PlannedClip], known: ShardRow | None
) -> tuple[ShardState, ShardResult | None]:
    split, shard = clips[0].split, clips[0].shard
    wanted = [clip for clip in clips if clip.wanted]
    unmeasured = sum(clip.unmeasured for clip in clips)
    waiting = sum(clip.standing()[0] == Status.WAITING.value for clip in clips) - unmeasured
    state = ShardState(split, shard, len(wanted) + unmeasured, waiting, "", "missing")
    beside = standing.sidecar(state.name)
    if unmeasured:
        return replace(state, state="missing" if beside is None else "stale"), None
    digest = shard_digest(settings, map(digest_of, wanted))
    state = replace(state, digest=digest)
    if beside is None:
        return state, None
    if known is not None and known.digest == digest == beside["digest"]:
        return replace(state, state="finished"), None
    # The shard may have been finished by a run that was killed before it could note it.
    names = {clip.key or clip.identity: clip.clip_id for clip in clips}
    dropped = {names[name]: (why[0], why[1]) for name, why in beside["dropped_here"].items() if name in names}
    made_of = [clip for clip in wanted if clip.clip_id not in dropped]
    if shard_digest(settings, map(digest_of, made_of)) != beside["digest"]:
        return replace(state, state="stale"), None
    adopted = ShardResult(
        split, shard, dropped, digest=beside["digest"], num_samples=beside["num_samples"],
        size_bytes=beside["tar_bytes"], tar_sha256=beside["tar_sha256"],
    )  # fmt: skip
    return replace(state, state="finished", num_wanted=len(made_of), digest=beside["digest"]), adopted


def digest_of(clip: PlannedClip) -> str:
    """The digest of a clip that was measured."""
    return clip_digest(clip.key or "", clip.content.hex(), clip.facts or "", clip.source or "")
