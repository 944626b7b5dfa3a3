"""Growth beside a finished set: `valor-data extend` makes further members of its clips from the media.

An extension is a second set of tars in `extensions/NAME/`, beside the shards of the first: the same shard names, and in
each the kept clips of the first, in the same order. The first set is only read. Its own members are json, txt and what
was asked for: another log-mel, another number of pictures, the sound or the video itself.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from valor_data.config import FilterSection, ShardSection
from valor_data.errors import ConfigError, ShardError, Status, ValorDataError
from valor_data.execute import Executor, Lost, Suspects
from valor_data.filter.decide import decide
from valor_data.ledger import PlannedClip
from valor_data.manifest import Manifest, read_manifest
from valor_data.road.driver import Driver
from valor_data.road.shard import REMEMBERED
from valor_data.road.shard_records import sample_requests, slice_row
from valor_data.road.shard_states import digest_of
from valor_data.shard import shard_name
from valor_data.shard.output import EXTENSIONS, Output, extension_of, extensions_of, json_of, rows_of, tar_of
from valor_data.shard.sample import SampleSettings
from valor_data.shard.writer import ShardResult, ShardUnit, build_shard, digest_with

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Growth:
    """What an extension holds.

    Attributes:
        mel: front end of a log-mel; empty: none.
        num_frames: pictures a clip; 0: none.
        frame_short_side_px: their short side; 0: as in the first set.
        include: media members: `audio`, `video`.
    """

    mel: str = ""
    num_frames: int = 0
    frame_short_side_px: int = 0
    include: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called unless it is named: `mel-ast`, `frames-32`, `audio-video`."""
        parts = [f"mel-{self.mel}"] if self.mel else []
        parts += [f"frames-{self.num_frames}"] if self.num_frames else []
        parts += [f"{self.frame_short_side_px}px"] if self.frame_short_side_px else []
        return "-".join([*parts, *sorted(self.include)])

    def settings(self, first: ShardSection, modalities: str) -> SampleSettings:
        """How its samples are made.

        Args:
            first: the settings of the first set; what is not asked for otherwise is as there.
            modalities: what the run holds.

        Raises:
            ConfigError: nothing is asked for, or what the run does not hold.
        """
        asked = ("a" if self.mel else "") + ("v" if self.num_frames else "")
        if not asked and not self.include:
            raise ConfigError("nothing to extend by: give --mel, --num-frames or --include")
        missing = set(asked) - set(modalities)
        if missing or ("video" in self.include and "v" not in modalities):
            words = "no sound" if "a" in missing else "no picture"
            raise ConfigError(f"this set was begun with modalities = {modalities}: it has {words} to extend by")
        section = replace(
            first,
            mel=self.mel or first.mel,
            num_frames=self.num_frames or first.num_frames,
            frame_short_side_px=self.frame_short_side_px or first.frame_short_side_px,
            include=self.include,
        )
        # A video member has all that the run holds; else only what is asked for is decoded.
        held = modalities if self.include else "".join(letter for letter in "av" if letter in asked)
        made = SampleSettings.of(section, held)
        parts = (("frames", "v"), ("mel", "a"))
        return replace(made, leaves_out=tuple(part for part, letter in parts if letter in held and letter not in asked))


@dataclass(slots=True)
class Extended:
    """What was done.

    Attributes:
        name: of the extension.
        place: where it stands.
        num_shards: shards that are finished now.
        num_built: those that were built in this run.
        num_samples: samples in all of them.
        num_left_out: clips of the first set that cannot be decoded this way.
        waiting: shards that could not be built, with the reason.
    """

    name: str
    place: str
    num_shards: int = 0
    num_built: int = 0
    num_samples: int = 0
    num_left_out: int = 0
    waiting: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return asdict(self)


def extend(driver: Driver, growth: Growth, *, name: str = "", workers: int = 0) -> Extended:
    """Builds what is missing or stale of an extension.

    Args:
        driver: of the work folder.
        growth: what it holds; nothing: what the extension of this name was begun with.
        name: of the extension; empty: as `growth` calls it.
        workers: processes; 0: one a core.

    Raises:
        ConfigError: no such name, another growth than it was begun with, or what the run does not hold.
        ShardError: the first set has no finished shard.
        StoreError: the store of the shards does not answer; the same call goes on.
    """
    ledger = driver.ledger
    known = extensions_of(ledger)
    name, growth = _chosen(known, name, growth)
    modalities = ledger.get_meta("modalities") or "av"
    first = driver.recall("shard", ShardSection(), (), REMEMBERED)
    settings = growth.settings(first, modalities)
    if not ledger.finished_shards():
        raise ShardError(f"{driver.work.root}: no finished shards to extend; run `valor-data shard` first")
    ledger.set_meta(EXTENSIONS, json.dumps({**known, name: asdict(growth)}))
    run = _Run(
        driver=driver,
        name=name,
        settings=settings,
        listed=read_manifest(driver.work.manifest),
        first=driver.output(),
        output=extension_of(driver.output(), name),
        thresholds=functools.partial(decide, thresholds=FilterSection(), modalities=modalities),
    )
    run.done.place = run.output.place
    executor = driver.executor(workers)
    try:
        run.go(executor)
    finally:
        executor.close()
        driver.progress.finish()
    return run.done


def _chosen(known: dict[str, dict[str, Any]], name: str, growth: Growth) -> tuple[str, Growth]:
    """Name and growth, as they were begun with where nothing else is said."""
    if growth == Growth():
        if name not in known:
            there = ", ".join(sorted(known)) or "none yet"
            raise ConfigError(f"nothing to extend by: give --mel, --num-frames or --include; extensions here: {there}")
        former = known[name]
        return name, Growth(**{**former, "include": tuple(former["include"])})
    name = name or growth.name
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: expected up to 64 letters, digits, _ or -")
    now = json.loads(json.dumps(asdict(growth)))
    if known.get(name, now) != now:
        begun = ", ".join(f"{key} {value}" for key, value in known[name].items() if value)
        raise ConfigError(f"the extension {name} was begun with {begun}; give the same, or another --name")
    return name, growth


@dataclass(slots=True)
class _Run:
    """One run: what stands, what is built."""

    driver: Driver
    name: str
    settings: SampleSettings
    listed: Manifest
    first: Output
    output: Output
    thresholds: Any
    done: Extended = field(init=False)
    suspects: Suspects = field(default_factory=Suspects)

    def __post_init__(self) -> None:
        self.done = Extended(self.name, "")

    def go(self, executor: Executor) -> None:
        """Brings every shard to what the first set's is."""
        todo = list(self._todo())
        self.driver.progress.start("extend", sum(len(clips) for _, _, clips in todo), "clips")
        units = [(split, shard) for split, shard, _ in todo]
        while units:
            again: list[tuple[str, int]] = []
            for unit, result in executor.run(build_shard, (self._unit(*place) for place in units)):
                name = shard_name(unit.split, unit.shard)
                if isinstance(result, Lost) and self.suspects.is_first_crash(result, name):
                    again.append((unit.split, unit.shard))
                elif isinstance(result, Lost):
                    self.done.waiting.append(f"{name}: {result.reason} on {self._key(result.item)}: {result.detail}")
                else:
                    self._finished(unit, result)
            units = again

    def _key(self, item: str) -> str:
        keys = [c.key for c in self.driver.ledger.planned() if str(c.clip_id) == item]
        return keys[0] or "a clip" if keys else "a clip"

    def _finished(self, unit: ShardUnit, result: ShardResult) -> None:
        name = shard_name(unit.split, unit.shard)
        if result.lost:
            self.done.waiting.append(f"{name}: the media of {len(result.lost)} clips are no longer here")
            self.driver.progress.advance("waiting", count=len(unit.requests))
            return
        self._count(result.num_samples, len(result.dropped))
        self.done.num_built += 1
        self.driver.progress.advance("kept", count=result.num_samples)

    def _count(self, num_samples: int, num_left_out: int) -> None:
        self.done.num_shards += 1
        self.done.num_samples += num_samples
        self.done.num_left_out += num_left_out

    def _todo(self) -> Iterator[tuple[str, int, list[PlannedClip]]]:
        """Shards to build, with their clips; what the first set has no longer is deleted."""
        first, own = self.first.sizes(), self.output.sizes()
        for split, shard in self.driver.ledger.planned_shards():
            name = shard_name(split, shard)
            if json_of(name) not in first or tar_of(name) not in first:
                files = [kind(name) for kind in (json_of, rows_of, tar_of)]
                self.output.remove([file for file in files if file in own])
                continue
            clips = self._clips(split, shard)
            if json_of(name) in own and self._is_finished(name, clips, own.get(tar_of(name))):
                continue
            yield split, shard, clips

    def _clips(self, split: str, shard: int) -> list[PlannedClip]:
        """The clips that the first set's tar holds, in its order."""
        import pyarrow.parquet as pq

        rows = pq.read_table(
            io.BytesIO(self.first.read(rows_of(shard_name(split, shard)))), columns=["key", "status"]
        ).to_pylist()
        planned = {clip.key: clip for clip in self.driver.ledger.planned(split, shard)}
        kept = [row["key"] for row in rows if row["status"] == Status.KEPT.value]
        left = {clip.key for clip in planned.values() if clip.manifest_row is None}  # until `shard` builds it again
        kept = [key for key in kept if key not in left]
        unknown = [key for key in kept if key not in planned]
        if unknown:
            raise ValorDataError(
                f"{shard_name(split, shard)} holds clips that the ledger does not plan there: run `valor-data verify`"
            )
        return [planned[key] for key in kept]

    def _is_finished(self, name: str, clips: Sequence[PlannedClip], tar_bytes: int | None) -> bool:
        try:
            beside = json.loads(self.output.read(json_of(name)))
            whole = beside["num_samples"] == 0 or beside["tar_bytes"] == tar_bytes
            left_out = beside["dropped_here"]
            made_of = digest_with(self.settings.to_dict(), (digest_of(c) for c in clips if c.key not in left_out))
        except (OSError, ValueError, KeyError):
            return False
        if not whole or made_of != beside["digest"]:
            return False
        self._count(beside["num_samples"], len(left_out))
        return True

    def _unit(self, split: str, shard: int) -> ShardUnit:
        clips = self._clips(split, shard)
        tmp = self.driver.work.own_tmp() / EXTENSIONS / self.name
        tmp.mkdir(parents=True, exist_ok=True)
        return ShardUnit(
            split=split,
            shard=shard,
            slice_rows=tuple(slice_row(clip) for clip in clips),
            requests=tuple(sample_requests(self.driver, clips, self.listed)),
            settings=self.settings,
            judge=self.thresholds,
            work=self.driver.work.root,
            tmp=tmp,
            clip_deadline_seconds=ShardSection().clip_deadline_seconds,
            clip_memory_bytes=ShardSection().clip_memory_bytes,
            output=self.output.place,
        )
