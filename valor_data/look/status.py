"""The funnel of a run: manifest, fetched, kept, in shards; per split, with the losses by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from valor_data.errors import REASONS, Status
from valor_data.ledger import STAGES, Ledger
from valor_data.shard.output import output_of


@dataclass(slots=True)
class Funnel:
    """How the clips of one split (or of all) stand.

    Attributes:
        split: its name, or `all`.
        num_clips: clips of the manifest.
        kept: clips that each stage kept.
        losses: clips by (stage, status, reason) for every outcome that is not kept.
    """

    split: str
    num_clips: int = 0
    kept: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
    losses: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def not_tried(self, stage: str) -> int:
        """Clips that reached a stage and have no outcome of it yet."""
        before = self.num_clips if stage == STAGES[0] else self.kept[STAGES[STAGES.index(stage) - 1]]
        ended = sum(number for (name, _, _), number in self.losses.items() if name == stage)
        return before - self.kept[stage] - ended

    @property
    def yield_share(self) -> float:
        """Share of the manifest's clips that are in shards, 0 to 1."""
        return self.kept["shard"] / self.num_clips if self.num_clips else 0.0

    def total(self, status: Status, stage: str | None = None) -> int:
        """Clips with a status, at one stage or at any."""
        return sum(n for (s, name, _), n in self.losses.items() if name == status.value and stage in (None, s))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "split": self.split,
            "manifest": self.num_clips,
            "yield": round(self.yield_share, 6),
            **{f"{stage}_kept": self.kept[stage] for stage in STAGES},
            **{f"{stage}_pending": self.not_tried(stage) for stage in STAGES},
            "losses": [
                {"stage": stage, "status": status, "reason": reason, "count": number}
                for (stage, status, reason), number in sorted(self.losses.items())
            ],
        }


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The funnel of each split, of all together, and the shards that are finished.

    Attributes:
        output: where the shards stand; empty: in the work folder.
    """

    splits: list[Funnel]
    all: Funnel
    num_shards: int
    num_samples: int
    shard_bytes: int
    output: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "all": self.all.to_dict(),
            "splits": [funnel.to_dict() for funnel in self.splits],
            "shards": {
                "finished": self.num_shards,
                "samples": self.num_samples,
                "bytes": self.shard_bytes,
                "output": self.output,
            },
        }


def read_status(ledger: Ledger) -> RunStatus:
    """Counts the outcomes in a ledger."""
    funnels: dict[str, Funnel] = {}
    total = Funnel("all")
    for (split, stage, status, reason), number in sorted(ledger.counts().items()):
        for funnel in (funnels.setdefault(split, Funnel(split)), total):
            if stage == "manifest":
                funnel.num_clips += number
            elif status == Status.KEPT.value:
                funnel.kept[stage] += number
            else:
                funnel.losses[(stage, status, reason)] += number
    shards = ledger.finished_shards().values()
    return RunStatus(
        splits=list(funnels.values()),
        all=total,
        num_shards=len(shards),
        num_samples=sum(shard.num_samples for shard in shards),
        shard_bytes=sum(shard.size_bytes for shard in shards),
        output=output_of(ledger),
    )


def next_step(status: RunStatus) -> str:
    """What to do next, in one sentence."""
    funnel, waiting = status.all, status.all.total(Status.WAITING)
    steps = (
        (not funnel.num_clips, "run `valor-data fetch MANIFEST`: there are no clips here yet"),
        (funnel.not_tried("fetch"), "run `valor-data fetch` to go on with the clips that were not tried yet"),
        (funnel.not_tried("filter"), "run `valor-data filter` to measure what was fetched"),
        (funnel.not_tried("shard") and waiting,
         f"run `valor-data fetch` again for {waiting} waiting clips, or `valor-data shard --partial`"),
        (funnel.not_tried("shard"), "run `valor-data shard`"),
        (waiting, "run `valor-data fetch` again for the waiting clips; everything else is in shards"),
    )  # fmt: skip
    final = "run `valor-data verify` to read every shard as a stranger would"
    return next((words for is_due, words in steps if is_due), final)


def action(reason: str) -> str:
    """What to do about a reason."""
    return REASONS[reason].action if reason in REASONS else ""
