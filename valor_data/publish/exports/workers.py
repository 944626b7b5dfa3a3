"""Work on many shards at once, for exports: nothing of it touches the ledger."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from valor_data.errors import ValorDataError
from valor_data.execute import Lost
from valor_data.execute.local import LocalExecutor, available_cores

UnitT = TypeVar("UnitT")
ResultT = TypeVar("ResultT")


def run_units(
    function: Callable[[UnitT], ResultT], units: Iterable[UnitT], workers: int
) -> Iterator[tuple[UnitT, ResultT]]:
    """Gives (unit, result) as they are done, in any order.

    Args:
        function: importable by name.
        units: picklable.
        workers: processes; 0: one a core.

    Raises:
        ValorDataError: a worker died; what is done is done.
    """
    with tempfile.TemporaryDirectory(prefix="valor-data-export-") as notes:
        executor = LocalExecutor(workers or available_cores(), Path(notes), preload=(function.__module__,))
        try:
            for unit, result in executor.run(function, units):
                if isinstance(result, Lost):
                    raise ValorDataError(
                        f"{result.item or 'a shard'}: {result.detail}; the same command again goes on from here"
                    )
                yield unit, result
        finally:
            executor.close()
