"""The bucket never gives more than its budget, and the breaker tells its whole story, by a clock that is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valor_data.fetch.pace import (
    FIRST_PAUSE_SECONDS,
    HOUR_SECONDS,
    LONGEST_PAUSE_SECONDS,
    SESSION_PAUSE_SECONDS,
    AddressPace,
    BreakerState,
    SuccessWatch,
    Turn,
)

START = 1_700_000_000.0


def pace(rate: float = 250.0, ceiling: float = 300.0, burst: int = 5) -> AddressPace:
    return AddressPace("direct", rate, ceiling, burst)


def ask_as_often_as_allowed(address: AddressPace, now: float, seconds: float, step: float = 1.0) -> list[float]:
    times = []
    end = now + seconds
    while now < end:
        while address.turn(now) is Turn.ASK:
            address.take(now)
            address.answered(now)
            times.append(now)
        now += step
    return times


def test_a_day_stays_within_the_ceiling() -> None:
    address = pace()
    times = ask_as_often_as_allowed(address, START, 24 * HOUR_SECONDS, step=2.0)
    assert len(times) <= 5 + 24 * 300
    assert len(times) > 24 * 200, "the jitter costs little"
    assert address.state.requests_per_hour == 300.0


answers = st.sampled_from(["ok", "bot_check", "session_limited", "ip_blocked", "rate_limited", "forbidden", "lost"])


@given(
    history=st.lists(st.tuples(st.floats(0.0, 4000.0), answers), max_size=120),
    burst=st.integers(1, 10),
    rate=st.floats(1.0, 2000.0),
)
def test_no_history_exceeds_the_budget_or_asks_while_open(
    history: list[tuple[float, str]], burst: int, rate: float
) -> None:
    address = AddressPace("direct", rate, rate * 1.2, burst)
    now, asked = START, []
    for wait, answer in history:
        now += wait
        turn = address.turn(now)
        if turn is Turn.WAIT:
            assert address.seconds_to_next(now) >= 0.0
            continue
        if turn is Turn.PROBE:
            assert now >= address.state.open_until
        address.take(now)
        asked.append(now)
        if answer == "ok":
            address.answered(now)
            assert address.state.breaker is BreakerState.CLOSED
        elif answer == "lost":
            address.probe_failed(now)
        else:
            address.refused(now, answer)
            if answer in ("bot_check", "session_limited", "ip_blocked"):
                assert address.turn(now) is Turn.WAIT
        assert 0.0 < address.state.requests_per_hour <= rate * 1.2
    # Whatever happened: in any stretch of time no more than the burst and what the ceiling refills; a probe
    # may come on top for each time the breaker opened.
    probes = sum(1 for _, answer in history if answer != "ok")
    for first in range(len(asked)):
        for last in range(first, len(asked)):
            budget = burst + (asked[last] - asked[first]) * rate * 1.2 / HOUR_SECONDS + probes
            assert last - first + 1 <= budget + 1e-6


def test_the_breakers_story() -> None:
    address = pace()
    now = START
    address.take(now)
    address.refused(now, "bot_check")
    assert address.state.breaker is BreakerState.OPEN
    assert address.state.requests_per_hour == 125.0
    assert address.seconds_to_next(now) == FIRST_PAUSE_SECONDS
    for second in range(0, int(FIRST_PAUSE_SECONDS), 30):
        assert address.turn(now + second) is Turn.WAIT
    now += FIRST_PAUSE_SECONDS
    assert address.turn(now) is Turn.PROBE
    address.take(now)
    assert address.turn(now) is Turn.WAIT, "one probe at a time"
    address.refused(now, "bot_check")
    assert address.seconds_to_next(now) == 2 * FIRST_PAUSE_SECONDS
    now += 2 * FIRST_PAUSE_SECONDS
    address.take(now)
    address.answered(now)
    assert address.state.breaker is BreakerState.CLOSED
    assert address.state.requests_per_hour < 70.0, "halved twice"
    later = ask_as_often_as_allowed(address, now + 1, 72 * HOUR_SECONDS, step=30.0)
    assert later and address.state.requests_per_hour > 300.0 * 0.9, "slow growth when clean"


def test_pauses_grow_to_six_hours() -> None:
    address, now = pace(), START
    pauses = []
    for _ in range(9):
        address.take(now)
        address.refused(now, "bot_check")
        pauses.append(address.seconds_to_next(now))
        now += pauses[-1]
    assert pauses[:3] == [900.0, 1800.0, 3600.0] and pauses[-1] == LONGEST_PAUSE_SECONDS


def test_what_the_server_asks_for_is_honoured() -> None:
    address = pace()
    address.take(START)
    address.refused(START, "rate_limited", retry_after_seconds=77.0)
    assert address.seconds_to_next(START) == 77.0
    address = pace()
    address.take(START)
    address.refused(START, "session_limited")
    assert address.seconds_to_next(START) == SESSION_PAUSE_SECONDS


def test_a_burst_of_refusals_opens_and_single_ones_do_not() -> None:
    address, now = pace(rate=3600.0, ceiling=3600.0, burst=100), START
    for number in range(60):
        address.turn(now)
        address.take(now)
        if number % 15 == 0:
            address.refused(now, "forbidden")
        else:
            address.answered(now)
        now += 5
    assert address.state.breaker is BreakerState.CLOSED
    for _ in range(3):
        address.take(now)
        address.refused(now, "forbidden")
    assert address.state.breaker is BreakerState.OPEN


def test_a_new_run_goes_on_with_the_pause() -> None:
    address = pace()
    address.take(START)
    address.refused(START, "ip_blocked")
    again = pace()
    again.load_json(address.to_json())
    assert again.turn(START + 100) is Turn.WAIT
    assert again.turn(START + FIRST_PAUSE_SECONDS) is Turn.PROBE
    smaller = AddressPace("direct", 10.0, 20.0)
    smaller.load_json(address.to_json())
    assert smaller.state.requests_per_hour <= 20.0, "this run's ceiling counts"


@pytest.mark.parametrize(("successes", "hopeless"), [(0, True), (9, True), (10, False), (200, False)])
def test_a_run_in_which_nearly_nothing_succeeds(successes: int, hopeless: bool) -> None:
    watch = SuccessWatch()
    for number in range(200):
        assert not watch.hopeless
        watch.add(number < successes)
    assert watch.hopeless is hopeless
