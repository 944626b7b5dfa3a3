"""Dead links: what is lost is remembered for a time, and can be given to others, so that nobody asks twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.errors import REASONS, ManifestError, Status
from valor_data.ledger import Ledger, Outcome
from valor_data.workdir import WorkDir, written_aside

if TYPE_CHECKING:
    from valor_data.config import FetchSection
    from valor_data.fetch import Source
    from valor_data.road.driver import Driver, StageReport

DAY_SECONDS = 86_400.0

COLUMNS = ("source", "video_id", "reason", "seen", "detail")

SHAREABLE = frozenset({"gone", "private", "copyright", "members", "drm", "live", "age", "geo"})
"""Reasons that are about the video itself. What this machine's settings refused is not told to others."""


def export_deadlinks(work: WorkDir, target: Path) -> int:
    """Writes the videos that are lost for good: those of the ledger, and those that were imported.

    Returns:
        How many.

    Raises:
        ValorDataError: there is no ledger.
    """
    with Ledger(work.ledger, read_only=True) as ledger:
        source = _source_name(ledger)
        rows = {
            (source, video_id, reason): (seen, detail)
            for video_id, reason, detail, seen in ledger.final_losses()
            if reason in SHAREABLE
        }
    for row in read_deadlinks(work.deadlinks) if work.deadlinks.exists() else ():
        rows.setdefault((row["source"], row["video_id"], row["reason"]), (row["seen"], row["detail"]))
    _write([(*name, *told) for name, told in sorted(rows.items())], target)
    return len(rows)


def import_deadlinks(work: WorkDir, origin: Path) -> int:
    """Adds somebody's list to `WORK/deadlinks.parquet`; the later sighting of a video counts.

    Returns:
        How many videos the list of the work folder names now.

    Raises:
        ManifestError: the file is no list of dead links.
    """
    rows: dict[tuple[str, str], tuple[Any, ...]] = {}
    for path in (work.deadlinks, origin):
        for row in read_deadlinks(path) if path.exists() or path == origin else ():
            name = (row["source"], row["video_id"])
            if name not in rows or rows[name][3] < row["seen"]:
                rows[name] = tuple(row[column] for column in COLUMNS)
    _write(rows.values(), work.deadlinks)
    return len(rows)


def rewrite_deadlinks(path: Path, is_left_out: Callable[[dict[str, Any]], bool]) -> int:
    """Takes rows out of a list of dead links; it is written anew only where there are such.

    Returns:
        How many rows went.

    Raises:
        ManifestError: the file is no list of dead links.
    """
    rows = read_deadlinks(path)
    kept = [tuple(row[column] for column in COLUMNS) for row in rows if not is_left_out(row)]
    if len(kept) < len(rows):
        _write(kept, path)
    return len(rows) - len(kept)


def read_deadlinks(path: Path) -> list[dict[str, Any]]:
    """The rows of a list of dead links: source, video_id, reason, seen (seconds since 1970), detail.

    Raises:
        ManifestError: no such file, not Parquet, other columns, or an unknown reason.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    except FileNotFoundError:
        raise ManifestError("no such file; expected what `deadlinks export` writes", file=path) from None
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ManifestError(
            f"no list of dead links ({error}); expected columns {', '.join(COLUMNS)}", file=path
        ) from None
    for number, row in enumerate(rows, 1):
        if row["reason"] not in SHAREABLE or not isinstance(row["seen"], float) or not row["video_id"]:
            raise ManifestError(f"expected one of {', '.join(sorted(SHAREABLE))}, an id and a time; found {row}",
                                file=path, row=number)  # fmt: skip
    return rows


def apply_deadlinks(driver: Driver, section: FetchSection, source: Source, now: float, report: StageReport) -> None:
    """Drops pending clips that are known to be dead, and gives old losses another chance.

    A loss older than `fetch.deadlink_days` is asked for once more; an imported one that old is not believed.
    """
    ledger = driver.ledger
    oldest = now - section.deadlink_days * DAY_SECONDS
    if section.deadlink_days:
        number = ledger.reopen_old(sorted(SHAREABLE), oldest)
        if number:
            report.notices.append(
                f"{number} clips lost more than {section.deadlink_days:g} days ago are tried once more"
            )
    if not driver.work.deadlinks.exists():
        return
    known = {
        row["video_id"]: row
        for row in read_deadlinks(driver.work.deadlinks)
        if row["source"] == source.name and row["seen"] > oldest
    }
    dropped = 0
    for clip in ledger.due_fetch(now):
        row = known.get(clip.video_id)
        if row is not None:
            outcome = Outcome(Status.DROPPED, row["reason"], f"from an imported list of dead links: {row['detail']}")
            ledger.record(clip.clip_id, "fetch", outcome, counts=False, now=now)
            report.count(outcome)
            dropped += 1
    ledger.commit()
    if dropped:
        report.notices.append(f"{dropped} clips are on the imported list of dead links: not asked for")


def _source_name(ledger: Ledger) -> str:
    import json

    text = str(json.loads(ledger.get_meta("settings.fetch") or "{}").get("source", "youtube"))
    if text in ("youtube", "column"):
        return text
    return "template" if "{video_id}" in text else "folder"


def _write(rows: Iterable[tuple[Any, ...]], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.string(), pa.string(), pa.float64(), pa.string())
    listed = list(rows)
    arrays = [pa.array([row[i] for row in listed], kind) for i, kind in enumerate(types)]
    with written_aside(target) as path:
        pq.write_table(pa.Table.from_arrays(arrays, names=list(COLUMNS)), os.fspath(path), compression="zstd")


def final_reasons() -> list[str]:
    """Codes of every final reason, for `fetch --retry`'s check."""
    return [code for code, reason in REASONS.items() if reason.status is Status.DROPPED]
