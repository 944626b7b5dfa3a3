"""Whatever a site answers, in whatever order, over kills and a clock that is set back: the books stay right.

The real driver, admission and ledger over an executor that plays a history drawn by hypothesis, in one process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hostile import name_of, over_budget, write_list
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from valor_data.clip import make_key
from valor_data.config import FetchSection
from valor_data.errors import REASONS, ValorDataError
from valor_data.execute import Idle, Lost
from valor_data.fetch import FetchedClip, VideoResult, VideoUnit
from valor_data.ledger import Ledger, MediaRow, Outcome
from valor_data.road import Driver, run_fetch
from valor_data.workdir import WorkDir

DAY = 86_400.0
RATE, BURST = 250.0, 5
NAMES = [name_of(f"v{number}") for number in range(7)]
ANSWERS = ["", "", "", "gone", "private", "extractor", "network", "forbidden", "server_error", "disk", "bot_check",
           "session_limited", "rate_limited", "ip_blocked", "js_runtime", "lost: timeout", "lost: crashed"]  # fmt: skip


class Killed(BaseException):
    """The driver was killed: what is in hand is lost."""


class World:
    """Time, the site, and an executor in this process.

    Attributes:
        true_seconds: time that has really passed; the clock shows something else once it was set back.
    """

    def __init__(self, draw: Callable[[Any], Any], work: Path, manifest: Path) -> None:
        self.draw, self.work, self.manifest = draw, WorkDir.at(work), manifest
        self.true_seconds, self.set_back = 1_800_000_000.0, 0.0
        self.asked: list[float] = []
        self.probed: list[str] = []
        self.final: dict[int, tuple[str, str]] = {}
        self.in_hand: list[VideoUnit] = []
        self.calm = False
        self.steps = 0

    def clock(self) -> float:
        return self.true_seconds - self.set_back

    def run(
        self, function: Any, units: Any, *, deadline_seconds: float | None = None, in_flight: int | None = None
    ) -> Iterator[tuple[VideoUnit, VideoResult | Lost]]:
        """The executor's: as long as there is something to do."""
        self.in_hand = []
        source, over = iter(units), False
        while True:
            idle = False
            while not over and not idle and len(self.in_hand) < (in_flight or 4):
                unit = next(source, None)
                over, idle = unit is None, isinstance(unit, Idle)
                if unit is not None and not isinstance(unit, Idle):
                    self.take(unit)
            if not self.in_hand and not idle:
                return
            self.pass_time(idle and not self.in_hand)
            if self.in_hand:
                number = 0 if self.calm else self.draw(st.integers(0, len(self.in_hand) - 1))
                unit = self.in_hand.pop(number)
                yield unit, self.answer(unit)
                self.look(self.driver.ledger)

    def close(self) -> None:
        self.in_hand = []

    def take(self, unit: VideoUnit) -> None:
        if not unit.is_probe:
            assert unit.video_id not in {u.video_id for u in self.in_hand if not u.is_probe}, "asked for twice at once"
        assert not {clip.clip_id for clip in unit.clips} & self.final.keys(), "asked for again though it is final"
        self.in_hand.append(unit)
        self.asked.append(self.true_seconds)

    def pass_time(self, idle: bool) -> None:
        self.steps += 1
        assert self.steps < 20_000, "the run hangs"
        if self.calm:
            self.true_seconds += 60.0 if idle else 0.0
            return
        if idle:
            self.true_seconds += self.draw(st.sampled_from([5.0, 60.0, 900.0, 4000.0]))
        what = self.draw(st.sampled_from(["go", "go", "go", "go", "go", "go", "wait", "set back", "kill"]))
        if what == "wait":
            self.true_seconds += self.draw(st.sampled_from([1.0, 20.0, 1800.0]))
        elif what == "set back":
            self.set_back += self.draw(st.sampled_from([1.0, 3600.0, 40 * DAY]))
        elif what == "kill":
            raise Killed

    def answer(self, unit: VideoUnit) -> VideoResult | Lost:
        told = "" if self.calm else self.draw(st.sampled_from(ANSWERS))
        if told.startswith("lost: "):
            return Lost(told.removeprefix("lost: "), "", "the worker is gone")
        if told:
            wait = self.draw(st.sampled_from([None, 30.0, 1e12])) if told == "rate_limited" else None
            clips = tuple(FetchedClip(c.clip_id, Outcome.refused(told, "so it says")) for c in unit.clips)
            return VideoResult(clips, refusal=told, detail="so it says", retry_after_seconds=wait)
        media = MediaRow("media/x.mp4", 0.0, 1, "{}")
        return VideoResult(tuple(
            FetchedClip(c.clip_id, Outcome.kept(), make_key(unit.video_id, c.start, c.end or 9.0), media)
            for c in unit.clips
        ))  # fmt: skip

    def look(self, ledger: Ledger) -> None:
        """What was final stays as it is; what is new and final is remembered."""
        for clip in ledger.find_all():
            outcome, counted, _ = ledger.outcomes_of(clip.clip_id).get("fetch", (None, 0, 0.0))
            if clip.clip_id in self.final:
                assert outcome is not None, "an outcome was lost"
                assert (outcome.status.value, outcome.reason) == self.final[clip.clip_id]
            elif outcome is not None and outcome.status.value != "waiting":
                self.final[clip.clip_id] = (outcome.status.value, outcome.reason)
            if outcome is not None and outcome.reason in REASONS and not REASONS[outcome.reason].blames_clip:
                assert counted < len(ledger.attempts_of(clip.clip_id)), "a refusal of the address was counted"

    def fetch(self) -> None:
        section = FetchSection(
            source="youtube", workers=3, requests_per_hour=RATE, burst=BURST, deadlink_days=0, min_free_bytes=0,
            min_success_share=0.0,
        )  # fmt: skip
        with Driver(self.work, stages=["fetch"]) as driver:
            self.driver = driver
            driver.executor = lambda _: self  # type: ignore[method-assign, assignment, return-value]
            with contextlib.suppress(Killed, ValorDataError):
                run_fetch(driver, section, manifest=self.manifest, explicit={"source"}, clock=self.clock)
        with Ledger(self.work.ledger, read_only=True) as ledger:
            self.look(ledger)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_list(tmp_path_factory.mktemp("lists") / "m.parquet", NAMES, clips=2)


@pytest.mark.timeout(300)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_history_loses_doubles_or_overruns(data: st.DataObject, manifest: Path) -> None:
    logging.getLogger("valor_data").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        world = World(data.draw, Path(folder) / "work", manifest)
        for _ in range(data.draw(st.integers(1, 4))):
            world.fetch()
            world.true_seconds += data.draw(st.sampled_from([0.0, 300.0, 90_000.0]))
        assert over_budget(world.asked, BURST, RATE * 1.2) == []
        world.calm = True
        for _ in itertools.repeat(None, 50):
            world.fetch()
            if len(world.final) == 2 * len(NAMES):
                break
            world.true_seconds += 2 * DAY
        assert len(world.final) == 2 * len(NAMES), "every clip ends"
        assert over_budget(world.asked, BURST, RATE * 1.2) == []
