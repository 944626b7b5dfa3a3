"""Admission: which video is asked for next, from which address, and when. All of it in the driver.

However many workers or machines fetch, there is one budget for each address, and it is kept here.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from valor_data.config import FetchSection
from valor_data.errors import ConfigError, ValorDataError
from valor_data.execute import IDLE, Idle
from valor_data.fetch import VideoUnit
from valor_data.fetch.pace import AddressPace, SuccessWatch, Turn, is_address_reason, soonest

YOUTUBE_REQUESTS_PER_HOUR = 250.0
"""What yt-dlp's maintainers estimate a guest may ask for is 300 videos an hour; we stay below."""

CEILING_ABOVE_RATE = 1.2
MAX_RETURNS = 3
"""A video that met a refused address so often in one run waits for the next one: it may be the video after all."""

NETWORK_DOWN_AFTER = 4
"""So many failed connections in a row, and no success before: the network is the problem."""

NETWORK_PAUSE_AFTER = 20
"""So many in a row after successes: pause, and try again."""

DISK_FAILURES = 4
"""So many videos in a row that this machine could not write: it is the machine."""

HEALTHY_SECONDS = 600.0
"""An address that brought a video so short a while ago is believed when it says that another one is gone."""

log = logging.getLogger("valor_data")


@dataclass(slots=True)
class Admission:
    """The queue of videos, the addresses, and the guards.

    Args:
        videos: what to fetch, in order; drawn one by one.
        addresses: by name.
        proxies: the proxy of each address; `direct` has none.
        settings: the `[fetch]` section.
        folder: where files go, for the disk guard.
        clock: seconds since 1970.
        is_watched: whether the source counts and refuses (YouTube): see `fetch.Source`.
        probe: makes a unit that only asks for a known-good video, from an address; None: no such video.
        tell: says something to the person who watches.
        doubted: videos that were reported gone once. Before one of them is asked for, the address must have
            shown that it is well: by a video that came, or by the known-good one.
    """

    videos: Iterator[VideoUnit]
    addresses: dict[str, AddressPace]
    proxies: Mapping[str, str]
    settings: FetchSection
    folder: Path
    clock: Callable[[], float]
    is_watched: bool
    probe: Callable[[], VideoUnit] | None
    tell: Callable[[str], None]
    doubted: frozenset[str] = frozenset()
    stopped: ValorDataError | None = None
    num_asked: int = 0
    _returned: deque[VideoUnit] = field(default_factory=deque)
    _last: deque[VideoUnit] = field(default_factory=deque)
    _returns: Counter[str] = field(default_factory=Counter)
    _in_hand: Counter[str] = field(default_factory=Counter)
    _watch: SuccessWatch = field(init=False)
    _network_failures: int = 0
    _last_failure: str = ""
    _num_successes: int = 0
    _disk_failures: int = 0
    _pause_until: float = 0.0
    _health_asked: dict[str, float] = field(default_factory=dict)
    _probes: Counter[str] = field(default_factory=Counter)
    _said: str = ""

    def __post_init__(self) -> None:
        self._watch = SuccessWatch(least_share=self.settings.min_success_share)

    def units(self) -> Iterator[VideoUnit | Idle]:
        """Gives the next video as soon as an address may ask for it; `IDLE` while none may.

        Ends when nothing is queued and nothing can come back, when the run is stopped, or, without
        `fetch.wait`, when every address pauses.
        """
        in_hand = self._in_hand
        while self.stopped is None:
            if not self._returned and not self._draw():
                if not in_hand.total():
                    if self.is_watched and 0 < self._network_failures == self.num_asked:
                        self._stop_without_network(self._last_failure)
                    return
                yield IDLE
                continue
            blocked = self._blocked()
            unit = None if blocked else self._next_unit()
            if unit is None:
                if not self.settings.wait and not in_hand.total() and (blocked or self._all_pause()):
                    self.tell(f"ended without waiting: {blocked or self._pause_words()}")
                    return
                yield IDLE
                continue
            in_hand[unit.video_id] += 1
            self.num_asked += 1
            yield unit

    def _blocked(self) -> str:
        """Why nothing at all may be asked for now; empty when something may."""
        free = shutil.disk_usage(self.folder).free
        if free < self.settings.min_free_bytes:
            words = (
                f"only {free / 1e9:.1f} GB of the disk are free, fetch.min_free_bytes asks for "
                f"{self.settings.min_free_bytes / 1e9:.1f}: waiting for room"
            )
            self._say(words)
            return words
        if self.clock() < self._pause_until:
            return "the network is down"
        return ""

    def _next_unit(self) -> VideoUnit | None:
        now = self.clock()
        for address in self.addresses.values():
            turn = address.turn(now)
            if turn is Turn.WAIT or (self._probes[address.name] and self._returned[0].video_id in self.doubted):
                continue
            if self.probe is not None and (turn is Turn.PROBE or self._health_in_doubt(address.name, now)):
                self._health_asked[address.name] = now
                self._probes[address.name] += 1
                unit = self.probe()
            else:
                unit = self._returned.popleft()
            address.take(now)
            return replace(unit, address=address.name, proxy=self.proxies.get(address.name, ""))
        self._say(self._pause_words())
        return None

    def _health_in_doubt(self, name: str, now: float) -> bool:
        """Whether the next video's answer would only be believed from an address that is known to be well."""
        asked_lately = now - self._health_asked.get(name, -HEALTHY_SECONDS) < HEALTHY_SECONDS
        return self._returned[0].video_id in self.doubted and not asked_lately and not self.is_healthy(name, now)

    def _all_pause(self) -> bool:
        """Whether every address is shut, as opposed to waiting for its next turn."""
        now = self.clock()
        return all(address.state.open_until > now for address in self.addresses.values())

    def _pause_words(self) -> str:
        now = self.clock()
        opened = [a for a in self.addresses.values() if a.state.open_until > now]
        if not opened:
            return ""
        minutes = soonest(list(self.addresses.values()), now) / 60
        names = ", ".join(f"{address.name} ({address.state.opened_by})" for address in opened)
        return f"pausing {names}: the next request is in {minutes:.0f} min; no clip is blamed"

    def _say(self, words: str) -> None:
        if words and words.split(":")[0] != self._said:
            self._said = words.split(":")[0]
            self.tell(words)

    def settle(self, unit: VideoUnit, refusal: str, detail: str, retry_after_seconds: float | None) -> bool:
        """Takes note of what came of a unit.

        Args:
            unit: as it was given out.
            refusal: the reason that holds for the video as a whole; empty when it came.
            detail: the raw text behind it.
            retry_after_seconds: how long the server asked to wait.

        Returns:
            Whether the outcome is the clip's own. False: the address was refused, the video is queued
            again, and no attempt counts.
        """
        self._in_hand[unit.video_id] -= 1
        self._probes[unit.address] -= unit.is_probe
        now, address = self.clock(), self.addresses[unit.address]
        if is_address_reason(refusal):
            log.warning("%s: %s %s", unit.address, refusal, detail)
            address.refused(now, refusal, retry_after_seconds)
            return self._give_back(unit)
        if refusal == "js_runtime":
            self.stopped = ConfigError(
                f"yt-dlp cannot work here: {detail}; pip install 'yt-dlp[default,deno]', then run this again "
                "(no clip was marked)"
            )
            return self._give_back(unit)
        if refusal == "network":
            return self._network_failed(unit, detail, now)
        self._network_failures = 0
        self._note_answer(unit, refusal, now, retry_after_seconds)
        self._disk_failures = self._disk_failures + 1 if refusal == "disk" else 0
        if self._disk_failures >= DISK_FAILURES:
            self.stopped = ValorDataError(
                f"this machine cannot write what it fetches: {detail}. Free space or mend the permissions, then run "
                "the same command again; no clip was marked"
            )
        if unit.is_probe:
            return False
        came = not refusal
        self._num_successes += came
        if unit.video_id not in self.doubted:  # of those, most are gone indeed
            self._watch.add(came)
        if self.is_watched and self._watch.hopeless:
            self.stopped = ValorDataError(
                f"nearly nothing succeeds any more (the last answer: {refusal} {detail}): yt-dlp may need an update "
                "(pip install -U 'yt-dlp[default,deno]'), or the site has changed. Stopped before more is blamed; "
                "run the same command again when it is mended (fetch.min_success_share = 0 turns this off)"
            )
        return True

    def _note_answer(self, unit: VideoUnit, refusal: str, now: float, retry_after_seconds: float | None) -> None:
        """What an answer that blames no address tells of the address all the same."""
        address, is_probe = self.addresses[unit.address], unit.is_probe or self.probe is None
        if refusal == "forbidden" and self.is_watched:
            address.refused(now, refusal, retry_after_seconds)
        elif refusal not in ("extractor", "disk"):
            address.answered(now, came=not refusal, is_probe=is_probe)
        elif is_probe:
            address.probe_failed(now)

    def _give_back(self, unit: VideoUnit) -> bool:
        """Queues a video again: at once, but behind all others when it met a refusal before."""
        if unit.is_probe:
            return False
        self._returns[unit.video_id] += 1
        if self._returns[unit.video_id] > MAX_RETURNS:
            return True
        if self._returns[unit.video_id] == 1:
            self._returned.appendleft(unit)
        else:
            self._last.append(unit)
        return False

    def _draw(self) -> bool:
        """Puts the next video where it can be taken from; False when there is none."""
        unit = next(self.videos, None)
        if unit is None and self._last:
            unit = self._last.popleft()
        if unit is not None:
            self._returned.append(unit)
        return unit is not None

    def _network_failed(self, unit: VideoUnit, detail: str, now: float) -> bool:
        self._network_failures += 1
        self._last_failure = detail
        if unit.is_probe or self.probe is None:
            self.addresses[unit.address].probe_failed(now)
        if not self._num_successes and self._network_failures >= NETWORK_DOWN_AFTER:
            self._stop_without_network(detail)
        elif self._num_successes and self._network_failures % NETWORK_PAUSE_AFTER == 0:
            self._pause_until = now + min(600.0, 15.0 * self._network_failures / NETWORK_PAUSE_AFTER)
            self._say("the network seems to be down: pausing")
        return not unit.is_probe

    def _stop_without_network(self, detail: str) -> None:
        self.stopped = ValorDataError(
            f"the network is the problem, not the clips: {detail}. Check the connection (and the proxy, if one "
            "is set), then run the same command again; no clip was marked dead"
        )

    def is_healthy(self, name: str, now: float) -> bool:
        """Whether an address brought a video a short while ago: only then is a removal believed."""
        return now - self.addresses[name].state.last_success <= HEALTHY_SECONDS


def open_addresses(settings: FetchSection, *, is_watched: bool) -> tuple[dict[str, AddressPace], dict[str, str]]:
    """The addresses that settings name, each with its pace, and the proxy of each.

    Raises:
        ConfigError: a proxy is no URL, two have one name, or there is no address at all.
    """
    proxies = {"direct": ""} if settings.direct else {}
    problems = []
    for number, text in enumerate(settings.proxies, 1):
        name, equals, url = text.partition("=")
        if not equals or "://" in name:
            name, url = f"proxy{number}", text
        if "://" not in url:
            problems.append(f"fetch.proxies: entry {number} is no URL; expected http://, https:// or socks5://")
        elif name in proxies:
            problems.append(f"fetch.proxies: two addresses are called {name!r}")
        proxies[name] = url
    if not proxies:
        problems.append("fetch.direct is false and fetch.proxies is empty: there is no address to ask from")
    if problems:
        raise ConfigError(problems)
    rate = settings.requests_per_hour or (YOUTUBE_REQUESTS_PER_HOUR if is_watched else 0.0)
    ceiling = max(rate, settings.max_requests_per_hour or rate * CEILING_ABOVE_RATE)
    addresses = {name: AddressPace(name, rate, ceiling, settings.burst, is_watched) for name in proxies}
    return addresses, proxies
