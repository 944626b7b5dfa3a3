"""A metrics file that Prometheus's textfile collector reads, for runs that last months."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from valor_data.fetch.pace import BreakerState
from valor_data.workdir import WorkDir, written_aside

if TYPE_CHECKING:
    from valor_data.road.admission import Admission
    from valor_data.road.driver import StageReport

WRITE_EVERY_SECONDS = 15.0


class MetricsFile:
    """`logs/metrics.prom`, replaced whole now and then.

    Args:
        work: the work folder.
        admission: whose addresses and counts are told.
        clock: seconds since 1970.
    """

    def __init__(self, work: WorkDir, admission: Admission, clock: Callable[[], float]) -> None:
        self._path = work.logs / "metrics.prom"
        self._admission = admission
        self._clock = clock
        self._size_bytes = 0
        self._written = 0.0

    def add_bytes(self, size_bytes: int) -> None:
        """Counts bytes that were put in place."""
        self._size_bytes += size_bytes

    def write(self, report: StageReport) -> None:
        """Writes the file when the last time is long enough ago."""
        now = self._clock()
        if now - self._written < WRITE_EVERY_SECONDS:
            return
        self._written = now
        with written_aside(self._path) as path:
            path.write_text("\n".join(self._lines(report, now)) + "\n", encoding="utf-8")

    def _lines(self, report: StageReport, now: float) -> Iterator[str]:
        yield "# HELP valor_data_fetch_clips Clips that ended in this run, by status and reason."
        yield "# TYPE valor_data_fetch_clips counter"
        for (status, reason), number in sorted(report.outcomes.items()):
            yield f'valor_data_fetch_clips{{status="{status}",reason="{reason}"}} {number}'
        yield "# HELP valor_data_fetch_requests Videos asked for in this run."
        yield "# TYPE valor_data_fetch_requests counter"
        yield f"valor_data_fetch_requests {self._admission.num_asked}"
        yield "# TYPE valor_data_fetch_bytes counter"
        yield f"valor_data_fetch_bytes {self._size_bytes}"
        yield "# HELP valor_data_address_requests_per_hour Rate that an address may ask at; 0: no limit."
        yield "# TYPE valor_data_address_requests_per_hour gauge"
        yield "# TYPE valor_data_address_open gauge"
        for name, address in self._admission.addresses.items():
            rate, is_open = address.state.requests_per_hour, address.state.breaker is not BreakerState.CLOSED
            yield f'valor_data_address_requests_per_hour{{address="{name}"}} {rate:.1f}'
            yield f'valor_data_address_open{{address="{name}"}} {int(is_open)}'
        yield "# TYPE valor_data_last_write_timestamp_seconds gauge"
        yield f"valor_data_last_write_timestamp_seconds {now:.0f}"
