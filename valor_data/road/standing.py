"""How the clips stand before curation: each decided by its own facts, and those that are kept as columns."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from valor_data.config import FilterSection
from valor_data.errors import PRECEDENCE, Status
from valor_data.filter.clips import COLUMNS, ClipTable
from valor_data.filter.decide import all_refusals
from valor_data.ledger import FilterRow, Ledger, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_ROWS = 20_000
_KEPT = "kept"


@dataclass(slots=True)
class Standing:
    """What `read_standing` found.

    Attributes:
        changed: outcomes that the facts alone decide and that the ledger does not have yet, and whether the reason is
            another one (else only the figures in its detail are).
        partial: clips that would be kept, but whose picture was never looked at.
        kept: the clips that their facts keep, in the order of their ids; curation decides about these.
        former: for each of them the reason it had (`kept`, or empty for none), and the hash of its detail.
        basis: for each of them, a number that changes with its annotation, int64 `[N]`.
        alone: how many clips each reason fits, whatever else does; for a look before the act.
        first: how many clips each reason decided about.
        num_clips: clips with facts.
    """

    changed: list[tuple[int, Outcome, bool]] = field(default_factory=list)
    partial: list[int] = field(default_factory=list)
    kept: ClipTable = field(default_factory=lambda: _Columns().table(None, with_licences=False))
    former: list[tuple[str, int]] = field(default_factory=list)
    basis: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    alone: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)
    num_clips: int = 0


@dataclass(slots=True)
class _Columns:
    """The kept clips while they come in."""

    clip_ids: array[int] = field(default_factory=lambda: array("q"))
    manifest_rows: array[int] = field(default_factory=lambda: array("q"))
    areas_px: array[int] = field(default_factory=lambda: array("q"))
    basis: array[int] = field(default_factory=lambda: array("q"))
    former: list[tuple[str, int]] = field(default_factory=list)
    texts: dict[str, list[Any]] = field(default_factory=lambda: {"key": [], "licence": []})
    waiting: dict[str, list[str]] = field(default_factory=lambda: {"key": [], "licence": []})

    def add(self, row: FilterRow, facts: dict[str, Any], licence: str | None) -> None:
        """Takes a clip that its facts keep."""
        self.clip_ids.append(row.clip_id)
        self.manifest_rows.append(row.manifest_row)
        self.areas_px.append(int(facts["width_px"]) * int(facts["height_px"]))
        self.basis.append(int.from_bytes(row.content[:8], "big", signed=True))
        self.former.append(_former(row))
        self.waiting["key"].append(row.key)
        if licence is not None:
            self.waiting["licence"].append(licence)
        if len(self.waiting["key"]) >= _CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Texts go to Arrow in chunks."""
        import pyarrow as pa

        for name, waiting in self.waiting.items():
            self.texts[name].append(pa.array(waiting, pa.string()))
            waiting.clear()

    def table(self, listed: pa.Table | None, *, with_licences: bool) -> ClipTable:
        """The clips, with the manifest's columns of them."""
        import pyarrow as pa

        self.flush()
        rows = np.array(self.manifest_rows, np.int64)
        return ClipTable(
            clip_ids=np.array(self.clip_ids, np.int64),
            manifest_rows=rows,
            keys=pa.chunked_array(self.texts["key"], pa.string()),
            rows=None if listed is None else listed.select(list(COLUMNS)).take(pa.array(rows, pa.int64())),
            areas_px=np.array(self.areas_px, np.int64),
            licences=pa.chunked_array(self.texts["licence"], pa.string()) if with_licences else None,
        )


def _former(row: FilterRow) -> tuple[str, int]:
    if row.status is None:
        return "", 0
    return (_KEPT, 0) if row.status == Status.KEPT.value else (row.reason or "", hash(row.detail))


def read_standing(ledger: Ledger, listed: pa.Table | None, section: FilterSection, modalities: str) -> Standing:
    """Decides about every clip that has facts, by its facts alone.

    Args:
        ledger: of the work folder.
        listed: the manifest's rows, where rules of curation look at them; else None.
        section: the thresholds.
        modalities: what the run holds.
    """
    with_licences = bool(section.licences_allowed or section.licences_denied)
    columns, found = _Columns(), Standing()
    for row in ledger.filter_rows():
        facts = json.loads(row.facts)
        found.num_clips += 1
        refusals = all_refusals(facts, section, modalities)
        found.alone.update(refusals.keys())
        reason = next((code for code in PRECEDENCE if code in refusals), "")
        if reason:
            found.first[reason] += 1
            outcome = Outcome.refused(reason, refusals[reason])
            if (outcome.reason, outcome.detail) != (row.reason, row.detail):
                found.changed.append((row.clip_id, outcome, outcome.reason != row.reason))
        elif row.status != Status.KEPT.value and _is_partial(facts, modalities):
            found.partial.append(row.clip_id)
        elif row.fetch_status == Status.KEPT.value:
            columns.add(row, facts, _licence(row.source) if with_licences else None)
        elif row.status != Status.KEPT.value:
            found.changed.append((row.clip_id, Outcome.kept(), True))
    found.kept = columns.table(listed, with_licences=with_licences)
    found.former, found.basis = columns.former, np.array(columns.basis, np.int64)
    return found


def _is_partial(facts: dict[str, Any], modalities: str) -> bool:
    """Whether the sound alone refused a clip while its shard was made: its picture was never looked at."""
    return "v" in modalities and facts["has_video"] and facts["decodable"] and not facts["num_pictures_decoded"]


def _licence(source: str | None) -> str:
    return str(json.loads(source or "{}").get("license") or "")
