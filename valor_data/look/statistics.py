"""Figures of a set: how many clips come how far, what their captions say, what was measured on their media.

    statistics_of_work(WorkDir.at("my-set")).to_dict()

The same figures of a work folder, of a manifest alone, of annotation files as they were released, and of shards
alone; what a place cannot tell is left out. `schemas/statistics.schema.json` describes the dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from valor_data.errors import REASONS, Status, ValorDataError
from valor_data.ledger import STAGES, Ledger
from valor_data.look.caption_columns import CaptionColumns
from valor_data.look.concepts import PAPER_CONCEPTS, PAPER_DENSITY, Concepts, audioset_classes, read_concepts
from valor_data.look.histogram import Histogram, counted, counts_of
from valor_data.look.measured import Measured
from valor_data.look.shard_details import index_funnels, read_clips
from valor_data.look.shard_set import find_set
from valor_data.look.status import Funnel, read_status
from valor_data.look.words import CaptionFigures, Vocabulary, caption_figures, together, word_histogram
from valor_data.manifest import REJECT_CODES, Manifest, ManifestOptions, build_manifest, is_manifest
from valor_data.manifest.table import read_columns
from valor_data.storage import is_address
from valor_data.workdir import WorkDir

STATISTICS_VERSION = 1

PUBLISHED = (
    ("VALOR-1M", "train", 1_180_000),
    ("VALOR-32K", "train", 25_327),
    ("VALOR-32K", "val", 3_500),
    ("VALOR-32K", "test", 3_491),
)
"""Clips of the published sets by split: the paper for VALOR-1M (1.18M), the released files for VALOR-32K."""

COLUMNS = ("video_id", "start_seconds", "end_seconds", "split", "captions", "labels")
"""What is read of a manifest."""

NUM_DURATION_RANGES = 20

Say = Callable[[str], None]


@dataclass(slots=True)
class Statistics:
    """Figures of a set.

    Attributes:
        kind: what they were taken of: `work`, `manifest`, `annotations` or `shards`.
        place: where that is.
        funnels: all clips first, then each split's.
        stages: the stages that the place knows of.
        num_videos: different videos.
        seconds: length of all clips whose end is known.
        durations: histogram of their lengths.
        captions: of all, then of each split.
        captions_per_clip: number of clips by number of captions.
        roles: captions by role.
        vocabulary: words and audio concepts.
        labels: clips by label.
        num_labelled: clips with labels.
        rejected: annotation rows and captions that entered no manifest, by reason.
        measured: facts of the media.
        notes: what to know of the figures, a sentence each.
    """

    kind: str
    place: str
    funnels: list[Funnel]
    stages: tuple[str, ...]
    num_videos: int
    seconds: float
    durations: Histogram
    captions: list[CaptionFigures]
    captions_per_clip: dict[int, int]
    roles: dict[str, int]
    vocabulary: Vocabulary
    labels: dict[str, int]
    num_labelled: int
    rejected: dict[str, int] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    notes: list[str] = field(default_factory=list)

    @property
    def num_clips(self) -> int:
        """Clips in all."""
        return self.funnels[0].num_clips

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "schema_version": STATISTICS_VERSION,
            "kind": self.kind,
            "place": self.place,
            "clips": self.num_clips,
            "videos": self.num_videos,
            "hours": round(self.seconds / 3600, 4),
            "funnel": [self._funnel_to_dict(funnel) for funnel in self.funnels],
            "rejected": [{**entry, "meaning": REJECT_CODES.get(entry["reason"], "")}
                         for entry in counted(self.rejected, "reason")],
            "published": self.published(),
            "durations": self.durations.to_dict(),
            "captions": [figures.to_dict() for figures in self.captions],
            "caption_words": word_histogram(self.captions[0]).to_dict(),
            "captions_per_clip": [{"captions": n, "clips": self.captions_per_clip[n]}
                                  for n in sorted(self.captions_per_clip)],
            "roles": counted(self.roles, "role"),
            "vocabulary": self.vocabulary.to_dict(),
            "audio_concepts": {
                **self.vocabulary.concepts_to_dict(),
                "paper": {"concepts": PAPER_CONCEPTS, "density": PAPER_DENSITY},
            },
            "classes": self._classes_to_dict(),
            "measured": self.measured.to_dict(),
            "notes": self.notes,
        }  # fmt: skip

    def _funnel_to_dict(self, funnel: Funnel) -> dict[str, Any]:
        steps = [{"step": "manifest", "clips": funnel.num_clips}]
        steps += [{"step": _STEP_NAMES[stage], "clips": funnel.kept[stage]} for stage in self.stages]
        losses = [
            {"stage": stage, "status": status, "reason": reason, "count": number,
             "meaning": REASONS[reason].meaning if reason in REASONS else "",
             "action": REASONS[reason].action if reason in REASONS else ""}
            for (stage, status, reason), number in sorted(funnel.losses.items(), key=lambda item: (-item[1], item[0]))
        ]  # fmt: skip
        return {"split": funnel.split, "steps": steps, "losses": losses}

    def published(self) -> list[dict[str, Any]]:
        """The published sets beside this one, split by split; splits that are not here are left out.

        A set without captions stands beside none of them.
        """
        splits = {funnel.split: funnel for funnel in self.funnels[1:]}
        return [
            {
                "set": name,
                "split": split,
                "published": number,
                "manifest": splits[split].num_clips,
                "in_shards": splits[split].kept["shard"],
                "share": round((splits[split].kept["shard"] if self.stages else splits[split].num_clips) / number, 6),
            }
            for name, split, number in PUBLISHED
            if split in splits and self.captions[0].num
        ]

    def _classes_to_dict(self) -> dict[str, Any]:
        known = audioset_classes()
        code_of = {name: code for code, name in known.items()}
        clips: dict[str, int] = {}
        for label, number in self.labels.items():
            code = label if label in known else code_of.get(label, "")
            clips[code] = clips.get(code, 0) + number
        others = clips.pop("", 0)
        found = [
            {"code": code, "name": known[code], "clips": number}
            for code, number in sorted(clips.items(), key=lambda pair: (-pair[1], known[pair[0]]))
        ]
        return {
            "of": len(known),
            "seen": len(found),
            "clips_with_labels": self.num_labelled,
            "other_labels": len(self.labels) - len(found) if others else 0,
            "clips_by_class": found,
            "missing": [name for code, name in known.items() if code not in clips],
        }


_STEP_NAMES = dict(zip(STAGES, ("fetched", "kept", "in_shards"), strict=True))


def statistics_of_work(work: WorkDir, *, concepts: Path | None = None, say: Say = lambda _: None) -> Statistics:
    """Figures of a work folder: its manifest, its rejects, its ledger.

    Args:
        work: the folder.
        concepts: see `read_concepts`.
        say: is told what is being read.

    Raises:
        ValorDataError: no manifest there, or what is there cannot be read.
    """
    say("manifest")
    if not work.manifest.exists():
        raise ValorDataError(
            f"{work.root}: no manifest.parquet here; name a work folder with --work, or a manifest, annotation "
            "files or shards: valor-data stats PLACE"
        )
    found = _of_table(read_columns(work.manifest, COLUMNS), read_concepts(concepts), say)
    found.kind, found.place = "work", str(work.root)
    if work.rejects.exists():
        found.rejected = _rejected(work.rejects)
    if work.ledger.exists():
        with Ledger(work.ledger, read_only=True) as ledger:
            status = read_status(ledger)
            if status.all.num_clips:
                found.funnels, found.stages = [status.all, *status.splits], STAGES
            say("facts")
            found.measured.add((facts, filtered) for _, facts, filtered, _ in ledger.all_facts())
    return found


def statistics_of(
    places: Sequence[str],
    *,
    sample: int | None = None,
    seed: int = 0,
    concepts: Path | None = None,
    say: Say = lambda _: None,
) -> Statistics:
    """Figures of whatever is named: a work folder, a manifest, annotation files, or shards.

    Args:
        places: paths or addresses; several are annotation files.
        sample: see `statistics_of_shards`.
        seed: see there.
        concepts: see `read_concepts`.
        say: is told what is being read.

    Raises:
        ValorDataError: nothing of that kind there.
    """
    if len(places) == 1:
        place = Path(places[0])
        if (place / "manifest.parquet").is_file():
            return statistics_of_work(WorkDir.at(place), concepts=concepts, say=say)
        if place.is_file() and is_manifest(place):
            return statistics_of_manifest(place, concepts=concepts, say=say)
        if is_address(places[0]) or place.is_dir() or place.suffix == ".tar":
            return statistics_of_shards(places[0], sample=sample, seed=seed, concepts=concepts, say=say)
    return statistics_of_annotations([Path(place) for place in places], concepts=concepts, say=say)


def statistics_of_manifest(path: Path, *, concepts: Path | None = None, say: Say = lambda _: None) -> Statistics:
    """Figures of a manifest alone.

    Raises:
        ManifestError: it is none.
    """
    say("manifest")
    found = _of_table(read_columns(path, COLUMNS), read_concepts(concepts), say)
    found.place = str(path)
    return found


def statistics_of_clips(
    manifest: Manifest, *, place: str = "", concepts: Path | None = None, say: Say = lambda _: None
) -> Statistics:
    """Figures of a manifest in memory."""
    found = _of_table(manifest.table, read_concepts(concepts), say)
    found.place = place
    return found


def statistics_of_annotations(
    files: Sequence[Path], *, concepts: Path | None = None, say: Say = lambda _: None
) -> Statistics:
    """Figures of annotation files as they were released: the captions that a manifest refuses are counted too.

    Raises:
        ManifestError: a file cannot be read or recognised, or no row can be used.
    """
    options, using = ManifestOptions(on_leak="drop"), read_concepts(concepts)
    say("annotations")
    built = build_manifest(list(files), options=options)
    say("captions as they stand")
    columns = CaptionColumns.of_rows(files, options)
    found = _of_table(built.manifest.table, using, say, columns)
    found.kind, found.place = "annotations", ", ".join(map(str, files))
    found.rejected = built.rejects_by_reason
    found.notes += built.notices
    if found.rejected:
        found.notes.append("captions are counted as they stand in the files, those that a manifest refuses among them")
    return found


def statistics_of_shards(
    place: str,
    *,
    sample: int | None = None,
    seed: int = 0,
    concepts: Path | None = None,
    say: Say = lambda _: None,
) -> Statistics:
    """Figures of shards alone: a folder or an address, with its index or without, or one tar.

    Args:
        place: where they are.
        sample: only so many clips, drawn by a hash of their keys; None: all. The funnel counts all of them anyhow.
        seed: which draw.
        concepts: see `read_concepts`.
        say: is told what is being read.

    Raises:
        ShardError: no shards there, or they cannot be read.
    """
    shards = find_set(place)
    say(f"{len(shards.shards)} shards")
    table = read_clips(shards, sample=sample, seed=seed)
    found = _of_table(table, read_concepts(concepts), say)
    found.kind, found.place = "shards", place
    funnels = index_funnels(shards)
    if funnels:
        found.funnels, found.stages = funnels, ("shard",)
    say("facts")
    found.measured.add((text, Status.KEPT.value) for text in table["facts"].to_pylist())
    if sample is not None and table.num_rows < (found.funnels[0].kept["shard"] or table.num_rows + 1):
        found.notes.append(f"of {table.num_rows:,} clips drawn with seed {seed}; the funnel counts all")
    return found


def _of_table(table: Any, concepts: Concepts, say: Say, captions: CaptionColumns | None = None) -> Statistics:
    """Figures of the manifest's columns; of other captions than theirs where some are given."""
    import pyarrow.compute as pc

    captions = captions or CaptionColumns.of_table(table)
    say("clips")
    seconds = np.asarray(pc.subtract(table["end_seconds"], table["start_seconds"]).drop_null())
    counts = counts_of(table["split"])
    funnels = [Funnel("all", table.num_rows), *(Funnel(split, number) for split, number in counts.items())]
    say("captions")
    parts = [caption_figures(name, captions.of_split(name)) for name in captions.names()]
    whole = replace(parts[0], split="all") if len(parts) == 1 else together(parts, captions.texts)
    say("words")
    vocabulary = Vocabulary.of(captions.texts, concepts)
    say("labels")
    return Statistics(
        kind="manifest",
        place="",
        funnels=funnels,
        stages=(),
        num_videos=int(pc.count_distinct(table["video_id"]).as_py()),
        seconds=float(seconds.sum()),
        durations=_durations(seconds),
        captions=[whole, *parts],
        captions_per_clip=counts_of(pc.list_value_length(table["captions"])),
        roles=captions.roles(),
        vocabulary=vocabulary,
        labels=_labels(table),
        num_labelled=int(np.count_nonzero(np.asarray(pc.list_value_length(table["labels"])))),
    )


def _durations(seconds: np.ndarray[Any, Any]) -> Histogram:
    """Lengths in ranges of equal, round width up to what nearly all clips stay under."""
    longest = max(1.0, float(np.percentile(seconds, 99.5))) if len(seconds) else 10.0
    step = next(w for w in (1, 2, 5, 10, 30, 60, 300, 600, 3600, 1e9) if longest / w <= NUM_DURATION_RANGES)
    edges = tuple(float(step * n) for n in range(int(np.ceil(longest / step)) + 1))
    found = Histogram("seconds", edges)
    found.add("all", np.round(seconds, 3))
    return found


def _labels(table: Any) -> dict[str, int]:
    """Clips by label."""
    import pyarrow.compute as pc

    return {label: number for label, number in counts_of(pc.list_flatten(table["labels"])).items() if label}


def _rejected(path: Path) -> dict[str, int]:
    """Refused annotation rows by reason."""
    import pyarrow.parquet as pq

    return counts_of(pq.read_table(path, columns=["reason"])["reason"])
