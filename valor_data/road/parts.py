"""Several drivers of one work folder: each does the shards of its part, and their ledgers are merged.

The plan says which clip is in which shard, so parts cannot collide. While the ledgers of parts are not merged, nobody
writes the whole ledger: what a part began with is what it is brought back into.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from valor_data.errors import ConfigError, ValorDataError
from valor_data.ledger import Ledger, cut_part, unwritten
from valor_data.workdir import Part, WorkDir, written_aside

_WORDS = {"manifest": "manifest", "plan": "plan", "plan_digest": "plan"}


def open_ledger_to_write(work: WorkDir) -> Ledger:
    """The ledger of a driver: the whole one, or that of its part, which is made when it is not there.

    Raises:
        ConfigError: there is no plan to take a part of, or the part was made from another one.
        ValorDataError: another driver writes it, or (the whole) parts are not merged yet.
    """
    if work.part is not None:
        return _open_part(work, work.part)
    ledger = Ledger(work.ledger)
    parts = list(work.part_ledgers())
    if parts:
        ledger.close()
        raise ValorDataError(
            f"{work.parts}: the ledgers of parts are here that are not merged ({_listed(parts)}): when they have ended "
            f"run `valor-data ledger merge --work {work.root}`, or delete the folder to give up what they recorded"
        )
    return ledger


def _open_part(work: WorkDir, part: Part) -> Ledger:
    whole = work.whole
    if not whole.ledger.exists():
        raise ConfigError(f"--part {part}: no ledger at {whole.ledger}: run `fetch` on this work folder first")
    with unwritten(whole.ledger):
        others = [other for other in whole.part_ledgers() if other.total != part.total]
        if others:
            raise ConfigError(
                f"--part {part}: there are ledgers of {others[0].total} parts here ({_listed(others)}): go on with "
                f"these, or run `valor-data ledger merge --work {work.root}` first"
            )
        with Ledger(whole.ledger, read_only=True) as ledger:
            pinned = ledger.pinned()
            num_unplanned = len(ledger.unplanned())
        if num_unplanned or not pinned.get("plan_digest"):
            lack = f"{num_unplanned} clips have no place in the shard plan" if num_unplanned else "no shard plan yet"
            raise ConfigError(f"--part {part}: {lack}: run `valor-data shard --plan-only --work {work.root}` first")
        if not work.ledger.exists():
            with written_aside(work.ledger) as path:
                cut_part(whole.ledger, path, part.number, part.total)
        opened = Ledger(work.ledger, is_part=True)
        problem = _mismatch(work.ledger.name, opened.pinned(), pinned)
        if problem:
            opened.close()
            raise ConfigError(problem)
    return opened


@dataclass(frozen=True, slots=True)
class Merged:
    """What `merge_parts` did.

    Attributes:
        parts: those that were merged.
        missing: those of the same run that were not there.
        num_shards: finished shards that the ledger holds now.
    """

    parts: tuple[Part, ...]
    missing: tuple[Part, ...]
    num_shards: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "merged": [str(part) for part in self.parts],
            "missing": [str(part) for part in self.missing],
            "shards": self.num_shards,
        }


def merge_parts(work: WorkDir) -> Merged:
    """Brings what every part recorded into the whole ledger, in one transaction, and removes their ledgers.

    Killed at any moment, the same again ends the same: parts are removed once the whole ledger is on the disk.

    Raises:
        ConfigError: a part was made from another manifest, plan or settings; nothing is merged.
        ValorDataError: there is no ledger, or a driver of the whole or of a part is still at work.
    """
    if not work.ledger.exists():
        raise ValorDataError(f"no ledger at {work.ledger}: name the work folder with --work")
    with ExitStack() as held:
        whole = held.enter_context(Ledger(work.ledger))
        ledgers = work.part_ledgers()
        parts = {part: held.enter_context(Ledger(path, is_part=True)) for part, path in ledgers.items()}
        pinned = whole.pinned()
        problems = [_mismatch(ledgers[part].name, ledger.pinned(), pinned) for part, ledger in parts.items()]
        if any(problems):
            raise ConfigError([problem for problem in problems if problem])
        try:
            for ledger in parts.values():
                whole.take_part(ledger)
        except BaseException:
            whole.rollback()  # all parts or none
            raise
        whole.flush()
        num_shards = len(whole.finished_shards())
        for path in ledgers.values():
            for name in (path.name, f"{path.name}-journal", f"{path.name}.lock"):
                path.with_name(name).unlink(missing_ok=True)
    if work.parts.is_dir() and not any(work.parts.iterdir()):
        work.parts.rmdir()
    expected = {Part(part.total, number + 1) for part in parts for number in range(part.total)}
    return Merged(tuple(parts), tuple(sorted(expected - set(parts))), num_shards)


def _mismatch(name: str, part: dict[str, str], whole: dict[str, str]) -> str:
    """In what a part does not fit the whole, in words; empty when it does."""
    different = [key for key in part if key in whole and part[key] != whole[key]]
    if not different:
        return ""
    told = ", ".join(dict.fromkeys(_WORDS.get(key, key) for key in different))
    return (
        f"parts/{name}: was made from another {told} than the work folder has now; put back what it was made from, "
        "or delete it to give up what it recorded (finished shards are found again)"
    )


def _listed(parts: list[Part]) -> str:
    return ", ".join(map(str, parts[:5])) + (", …" if len(parts) > 5 else "")
