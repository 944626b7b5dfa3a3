"""The stages in order: what is pending goes to an executor, what comes back goes into the ledger.

The one place that writes the ledger. Whatever is killed here goes on with the same command.
"""

from __future__ import annotations

from valor_data.road.driver import Driver, NoProgress, Progress, StageReport
from valor_data.road.fetch import run_fetch
from valor_data.road.filter import run_filter
from valor_data.road.shard import run_shard
from valor_data.road.whole import run_road

__all__ = ["Driver", "NoProgress", "Progress", "StageReport", "run_fetch", "run_filter", "run_road", "run_shard"]
