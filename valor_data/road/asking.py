"""What fetch and audit share: the videos of a work folder, asked for at the pace their addresses allow."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from valor_data.clip import Clip
from valor_data.config import FetchSection
from valor_data.errors import ClipError
from valor_data.execute import Executor, Idle, Lost
from valor_data.fetch import ClipRequest, Location, Obtained, Source, VideoResult, VideoUnit
from valor_data.fetch.video import fetch_video
from valor_data.ledger import ClipRow, LazyRows
from valor_data.manifest import Manifest
from valor_data.road.admission import Admission, open_addresses
from valor_data.road.driver import Driver

SIGHTING_SECONDS = 86_400.0
"""YouTube's `gone` is believed after a second sighting this much later."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the pending clips to try in this run."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    retry: tuple[str, ...] = ()

    def of(self, clips: LazyRows[ClipRow]) -> LazyRows[ClipRow]:
        """The first `limit` clips, or `sample` clips drawn with a seed, in their order."""
        if self.sample is not None and self.sample < len(clips):
            drawn = sorted(random.Random(self.seed).sample(range(len(clips)), self.sample))  # noqa: S311
            clips = clips.of(clips.clip_ids[i] for i in drawn)
        return clips if self.limit is None else clips.of(clips.clip_ids[: self.limit])


@dataclass(slots=True)
class Asking:
    """The videos of some clips, the addresses they are asked from, and a video that is known to be there.

    Args:
        driver: of the work folder.
        section: the `[fetch]` settings.
        source: where the videos are.
        listed: the clips' spans and URLs.
        clock: seconds since 1970.
        checks_only: the videos are looked for, and nothing is brought.

    Attributes:
        admission: which video is asked for next; made by `begin`.
        known_good: id of a video that the source had not long ago; empty: none yet.
    """

    driver: Driver
    section: FetchSection
    source: Source
    listed: Manifest
    clock: Callable[[], float]
    checks_only: bool = False
    admission: Admission = field(init=False)
    known_good: str = field(init=False)

    def begin(self, clips: LazyRows[ClipRow], doubted: Callable[[], frozenset[str]]) -> None:
        """Opens the addresses as the last run left them, and the queue of the videos of some clips.

        Args:
            clips: what to ask for.
            doubted: gives the videos that were reported gone once.
        """
        ledger, watched = self.driver.ledger, self.source.is_watched
        self.known_good = ledger.get_meta("known_good_video") or self.section.probe_video
        addresses, proxies = open_addresses(self.section, is_watched=watched)
        for name, address in addresses.items():
            kept = ledger.get_address(name) if watched else None
            if kept is not None:
                address.load_json(kept)
        self.admission = Admission(
            videos=self._units(clips),
            addresses=addresses,
            proxies=proxies,
            settings=self.section,
            folder=self.driver.work.own_tmp(),
            clock=self.clock,
            is_watched=watched,
            probe=self._probe if watched else None,
            tell=self.driver.progress.note,
            doubted=doubted() if watched else frozenset(),
        )

    def answers(
        self, executor: Executor, units: Iterator[VideoUnit | Idle]
    ) -> Iterator[tuple[VideoUnit, VideoResult | Lost]]:
        """Sends units to workers, and gives what they come back with."""
        # Where requests are counted, a unit is given out when it may start, not a moment before.
        in_flight = self.section.workers if self.source.is_watched else None
        deadline = self.section.video_deadline_seconds
        return executor.run(fetch_video, units, deadline_seconds=deadline, in_flight=in_flight)

    def note_there(self, unit: VideoUnit) -> None:
        """A source that counts and refuses had this video just now: asking for it tells whether an address is well."""
        if self.source.is_watched:
            self.known_good = unit.video_id

    def keep_addresses(self) -> None:
        """Keeps the state of the addresses: a pause must outlast a kill."""
        for address in self.admission.addresses.values():
            self.driver.ledger.set_address(address.name, address.to_json())
        self.driver.ledger.set_meta("known_good_video", self.known_good)
        self.driver.ledger.commit()

    def look_again(self, unit: VideoUnit, first_seen: float | None, now: float) -> float | None:
        """When to look again for a video that YouTube calls gone; None: it is believed.

        It is on the second sighting, a day after the first, on an address that is well.

        Args:
            unit: what was asked.
            first_seen: when it was first called gone.
            now: seconds since 1970, as `first_seen`.
        """
        if first_seen is None or first_seen > now:  # not seen, or the clock was set back
            return now + SIGHTING_SECONDS
        if now - first_seen >= SIGHTING_SECONDS and self.admission.is_healthy(unit.address, now):
            return None
        return max(now, first_seen + SIGHTING_SECONDS)

    def _probe(self) -> VideoUnit:
        work = self.driver.work
        location = self.source.find(self.known_good, None, ())
        return VideoUnit(self.known_good, (), location, self.section, work.root, work.own_tmp(), is_probe=True)

    def _units(self, clips: LazyRows[ClipRow]) -> Iterator[VideoUnit]:
        """One unit a video, videos in the order of their first clip in the manifest."""
        order = np.fromiter(self.driver.ledger.ids_by_video(), np.int64)
        in_order = clips.of(order[np.isin(order, np.array(clips.clip_ids))].tolist())
        work = self.driver.work
        for video_id, group in itertools.groupby(self._with_spans(in_order), lambda pair: pair[0].video_id):
            rows, spans = zip(*group, strict=True)
            requests = tuple(
                ClipRequest(row.clip_id, self._name(row), span.start, span.end, span.url)
                for row, span in zip(rows, spans, strict=True)
            )
            try:
                location: Location = self.source.find(video_id, spans[0].url, requests)
            except ClipError as refusal:
                location = _Nowhere(refusal.reason, refusal.detail)
            yield VideoUnit(
                video_id, requests, location, self.section, work.root, work.own_tmp(), checks_only=self.checks_only
            )

    def _name(self, row: ClipRow) -> str:
        """What was brought once may have found its end; what is to be brought is asked for as it was listed."""
        return row.key or row.identity if self.checks_only else row.identity

    def _with_spans(self, rows: LazyRows[ClipRow]) -> Iterator[tuple[ClipRow, Clip]]:
        """Rows of the ledger with those of the manifest, some hundred at a time: a single one costs 2 ms."""
        source = iter(rows)
        while batch := list(itertools.islice(source, LazyRows.BATCH)):
            numbers = [row.manifest_row for row in batch if row.manifest_row is not None]
            yield from zip(batch, self.listed.clips(numbers), strict=True)


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """The location of a video that its source could not give one."""

    reason: str
    detail: str

    def obtain(
        self, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
    ) -> dict[int, Obtained | ClipError]:
        """Refuses."""
        raise ClipError(self.reason, self.detail)

    def probe(self, into: Path, settings: FetchSection) -> None:
        """Refuses."""
        raise ClipError(self.reason, self.detail)
