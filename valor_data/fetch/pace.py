"""Pace: how often one network address may ask, and when it must be silent.

An address is where requests come from: this machine's own connection (`direct`) or one of the user's proxies.
Each has a token bucket in extraction requests an hour, and a breaker:

    closed ──bot check, blocked, session limited, or a burst of refusals──▶ open
    open   ──the pause is over──▶ half open: one probe with a video that is known to be good
    half open ──the probe comes──▶ closed, at half the rate   ──refused again──▶ open, twice as long

Nothing here reads a clock or sleeps: the time is an argument, in seconds since 1970, so that a test can tell
a week's story in a millisecond and the state can be kept over runs.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from valor_data.errors import REASONS, ReasonClass

HOUR_SECONDS = 3600.0
GROWTH_AN_HOUR = 1.05
"""A clean hour raises the rate by 5 %, up to the ceiling."""
FIRST_PAUSE_SECONDS = 900.0
LONGEST_PAUSE_SECONDS = 6 * HOUR_SECONDS
LONGEST_RETRY_AFTER_SECONDS = 24 * HOUR_SECONDS
"""A server may ask for so long a silence; more is a mistake of its clock, and would end a run without a word."""
SESSION_PAUSE_SECONDS = HOUR_SECONDS
"""YouTube says of a limited session that it lasts up to an hour."""
BURST_WINDOW = 20
BURST_REFUSALS = 3
"""So many refusals among the last `BURST_WINDOW` answers open the breaker."""
OPENERS = frozenset({"bot_check", "ip_blocked", "session_limited"})
"""Reasons that open the breaker at once."""
REFUSALS = frozenset({"forbidden", "rate_limited"})
"""Reasons that open it when they come in a burst; a 429 that says how long to wait pauses at once."""


class BreakerState(StrEnum):
    """Whether an address may ask."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Turn(StrEnum):
    """What an address may do now."""

    ASK = "ask"
    PROBE = "probe"
    WAIT = "wait"


@dataclass(slots=True)
class PaceState:
    """What of an address is kept over runs."""

    requests_per_hour: float
    tokens: float
    refilled: float
    breaker: BreakerState = BreakerState.CLOSED
    open_until: float = 0.0
    num_openings: int = 0
    last_success: float = 0.0
    opened_by: str = ""


@dataclass(slots=True)
class AddressPace:
    """The bucket and the breaker of one address.

    Args:
        name: `direct`, or the proxy's name.
        requests_per_hour: the rate to begin with; 0: no limit, only the breaker counts.
        max_requests_per_hour: the ceiling of slow growth; never exceeded, whatever happens.
        burst: requests that may be made at once after a rest.
        watches_refusals: whether bursts of 403 count (YouTube), or only what a plain server asks for.
    """

    name: str
    requests_per_hour: float
    max_requests_per_hour: float
    burst: int = 5
    watches_refusals: bool = True
    state: PaceState = field(init=False)
    _recent: deque[bool] = field(init=False)
    _jitter: random.Random = field(init=False)
    _not_before: float = field(init=False, default=0.0)
    _probing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.state = PaceState(min(self.requests_per_hour, self.max_requests_per_hour), float(self.burst), 0.0)
        self._recent = deque(maxlen=BURST_WINDOW)
        self._jitter = random.Random(self.name)  # noqa: S311 - spreads requests, guards nothing

    def to_json(self) -> str:
        """The state to keep over runs."""
        return json.dumps(asdict(self.state))

    def load_json(self, text: str) -> None:
        """Goes on from a kept state; the rate stays within this run's ceiling."""
        kept = json.loads(text)
        self.state = PaceState(**{**kept, "breaker": BreakerState(kept["breaker"])})
        if self.state.breaker is BreakerState.HALF_OPEN:
            self.state.breaker = BreakerState.OPEN
        if self.requests_per_hour:
            self.state.requests_per_hour = min(self.state.requests_per_hour or self.requests_per_hour,
                                               self.max_requests_per_hour)  # fmt: skip
        else:
            self.state.requests_per_hour = 0.0
        self.state.tokens = min(self.state.tokens, float(self.burst))

    def turn(self, now: float) -> Turn:
        """What the address may do now; asking nothing changes nothing but the time."""
        self._refill(now)
        if self.state.breaker is BreakerState.OPEN:
            return Turn.PROBE if now >= self.state.open_until else Turn.WAIT
        if self.state.breaker is BreakerState.HALF_OPEN:
            return Turn.WAIT if self._probing else Turn.PROBE
        if now < self._not_before or (self.state.requests_per_hour and self.state.tokens < 1.0):
            return Turn.WAIT
        return Turn.ASK

    def take(self, now: float) -> None:
        """Notes that a request is made; only after `turn` allowed it."""
        self._refill(now)
        if self.state.breaker is not BreakerState.CLOSED:
            self.state.breaker = BreakerState.HALF_OPEN
            self._probing = True
        if self.state.requests_per_hour:
            self.state.tokens -= 1.0
            if self.state.tokens < 1.0:
                # Not like clockwork: up to three tenths of the interval are added, never taken away.
                interval = HOUR_SECONDS / self.state.requests_per_hour
                self._not_before = now + interval * self._jitter.uniform(0.0, 0.3)

    def seconds_to_next(self, now: float) -> float:
        """How long until the address may ask again, as far as it can be known."""
        self._refill(now)
        if self.state.breaker is BreakerState.OPEN:
            return max(0.0, self.state.open_until - now)
        missing = max(0.0, 1.0 - self.state.tokens) if self.state.requests_per_hour else 0.0
        refill = missing * HOUR_SECONDS / self.state.requests_per_hour if missing else 0.0
        return max(0.0, self._not_before - now, refill)

    def answered(self, now: float, *, came: bool = True, is_probe: bool = True) -> None:
        """The site answered as it should: with the video, or with something about the video.

        Args:
            now: the time.
            came: whether it was the video. Only that shows that the address is well: a wall may say "gone", too.
            is_probe: whether this is the answer to what `turn` called a probe. One that was under way when the
                breaker opened closes nothing.
        """
        if came:
            self.state.last_success = now
        self._recent.append(False)
        if is_probe and self.state.breaker is BreakerState.HALF_OPEN:
            self._probing = False
            self.state.breaker = BreakerState.CLOSED
            self.state.num_openings = 0
            self.state.opened_by = ""
            self._recent.clear()

    def refused(self, now: float, reason: str, retry_after_seconds: float | None = None) -> None:
        """The site refused this address, whatever video was asked for."""
        self._refill(now)
        if self.state.requests_per_hour:
            self.state.requests_per_hour = max(1.0, self.state.requests_per_hour / 2)
        self._recent.append(True)
        if self.state.breaker is BreakerState.OPEN:
            # An answer that was under way when the breaker opened: known already.
            wanted = min(retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
            self.state.open_until = max(self.state.open_until, now + wanted)
            return
        burst = self.watches_refusals and sum(self._recent) >= BURST_REFUSALS
        if self.state.breaker is BreakerState.HALF_OPEN or reason in OPENERS or burst or reason == "rate_limited":
            self._open(now, reason, retry_after_seconds)

    def probe_failed(self, now: float) -> None:
        """The probe told nothing (the connection failed, yt-dlp did): the address stays shut, for longer."""
        if self.state.breaker is BreakerState.HALF_OPEN:
            self._open(now, self.state.opened_by, None)

    def _open(self, now: float, reason: str, retry_after_seconds: float | None) -> None:
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self.state.num_openings)
        if reason == "session_limited":
            pause = max(pause, SESSION_PAUSE_SECONDS)
        if retry_after_seconds is not None:
            retry_after_seconds = min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
            pause = max(retry_after_seconds, 1.0) if reason == "rate_limited" else max(pause, retry_after_seconds)
        self.state.breaker = BreakerState.OPEN
        self.state.open_until = now + pause
        self.state.num_openings += 1
        self.state.opened_by = reason
        self._probing = False

    def _refill(self, now: float) -> None:
        rate = self.state.requests_per_hour
        if self.state.refilled == 0.0:
            self.state.refilled = now
            return
        passed = now - self.state.refilled
        if passed < 0.0:
            # The clock was set back: what was told by it goes along, or a pause would last as long again.
            self.state.open_until += passed
            self.state.last_success += passed
            self._not_before += passed
            self.state.refilled = now
            return
        if rate:
            self.state.tokens = min(float(self.burst), self.state.tokens + passed * rate / HOUR_SECONDS)
            if self.state.breaker is BreakerState.CLOSED:
                grown = rate * GROWTH_AN_HOUR ** (passed / HOUR_SECONDS)
                self.state.requests_per_hour = min(self.max_requests_per_hour, grown)
        self.state.refilled = now


def is_address_reason(reason: str) -> bool:
    """Whether a reason blames the address and not the clip."""
    return reason in REASONS and REASONS[reason].reason_class is ReasonClass.ADDRESS


@dataclass(slots=True)
class SuccessWatch:
    """Stops a run in which nearly nothing succeeds, so that a broken release marks nothing dead.

    Args:
        window: attempts looked back on.
        least_share: of successes among them.
    """

    window: int = 200
    least_share: float = 0.05
    _answers: deque[bool] = field(init=False)

    def __post_init__(self) -> None:
        self._answers = deque(maxlen=self.window)

    def add(self, success: bool) -> None:
        """Notes one attempt."""
        self._answers.append(success)

    @property
    def hopeless(self) -> bool:
        """Whether the window is full and nearly nothing in it succeeded."""
        return len(self._answers) == self.window and sum(self._answers) < self.least_share * self.window


def soonest(addresses: Sequence[AddressPace], now: float) -> float:
    """Seconds until the first of some addresses may ask."""
    return min((address.seconds_to_next(now) for address in addresses), default=0.0)
