"""Figures of what is published: worked out from the rows of the edition, in columns, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valor_data.errors import Status
from valor_data.look.words import caption_figures


@dataclass(slots=True)
class SplitFigures:
    """Figures of the kept clips of one split (or of all).

    Attributes:
        num_clips: clips.
        seconds: length of all of them.
        num_captions: sentences.
        num_words: words of all captions, cut at white space.
    """

    num_clips: int = 0
    seconds: float = 0.0
    num_captions: int = 0
    num_words: int = 0


@dataclass(slots=True)
class Figures:
    """Figures of a published set.

    Attributes:
        splits: of each split.
        num_videos: different videos among the kept clips.
        roles: captions by role.
        licences: kept clips by the licence that the uploader set; "" where the source says nothing.
        durations_seconds: lengths of kept clips, rounded to whole seconds, with their numbers.
        rms_dbfs: loudness of kept clips, rounded to whole decibels, with their numbers.
        short_sides_px: short side of the source picture, with the number of kept clips.
        labels: kept clips with labels.
        questions: questions about kept clips.
        still: kept clips whose pictures are all alike.
        half_silent: kept clips of which more than half is silence.
        partly_covered: kept clips of which sound or picture covers less than 95 %.
        clipped: kept clips of which more than 1 % of the samples are at full scale.
        without_captions: kept clips without a caption.
        caption_words: captions by their number of words, as blanks divide them.
        without_letters: captions with no letter at all.
    """

    splits: dict[str, SplitFigures] = field(default_factory=dict)
    num_videos: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    durations_seconds: Counter[int] = field(default_factory=Counter)
    rms_dbfs: Counter[int] = field(default_factory=Counter)
    short_sides_px: Counter[int] = field(default_factory=Counter)
    labels: int = 0
    questions: int = 0
    still: int = 0
    half_silent: int = 0
    partly_covered: int = 0
    clipped: int = 0
    without_captions: int = 0
    caption_words: Counter[int] = field(default_factory=Counter)
    without_letters: int = 0

    @property
    def all(self) -> SplitFigures:
        """Of all splits together."""
        total = SplitFigures()
        for one in self.splits.values():
            total.num_clips += one.num_clips
            total.seconds += one.seconds
            total.num_captions += one.num_captions
            total.num_words += one.num_words
        return total


def read_figures(folder: Path, names: Sequence[str], modalities: str) -> Figures:
    """Counts through the rows of kept clips.

    Args:
        folder: where `rows.write_rows` wrote.
        names: the files it wrote.
        modalities: what the set holds; what it does not is not counted.
    """
    import pyarrow.parquet as pq

    figures, videos = Figures(), set()
    for name in names:
        with pq.ParquetFile(folder / name) as file:
            for batch in file.iter_batches():
                if batch.num_rows and batch["status"][0].as_py() == Status.KEPT.value:
                    _count(figures, batch, modalities)
                    videos.update(batch["video_id"].to_pylist())
    figures.num_videos = len(videos)
    return figures


def _count(figures: Figures, batch: Any, modalities: str) -> None:
    pc = _compute()

    texts: Any = pc.struct_field(pc.list_flatten(batch["captions"]), "text")
    lengths: Any = pc.subtract(batch["end"], batch["start"])
    one = figures.splits.setdefault(batch["split"][0].as_py(), SplitFigures())
    one.num_clips += batch.num_rows
    one.seconds += pc.sum(lengths).as_py() or 0.0
    one.num_captions += len(texts)
    told = caption_figures(batch["split"][0].as_py(), texts)
    words = {number: count for number, count in enumerate(told.lengths.tolist()) if count}
    one.num_words += sum(number * count for number, count in words.items())
    figures.caption_words.update(words)
    figures.without_letters += told.num_without_letters
    roles: Any = pc.struct_field(pc.list_flatten(batch["captions"]), "role")
    _add(figures.roles, roles)
    _add(figures.licences, pc.fill_null(pc.struct_field(batch["source"], "license"), ""))
    _add(figures.durations_seconds, pc.cast(pc.round(lengths), "int64"))
    figures.labels += _num(pc.greater(pc.list_value_length(batch["labels"]), 0))
    figures.questions += pc.sum(pc.list_value_length(batch["questions"])).as_py() or 0
    figures.without_captions += _num(pc.equal(pc.list_value_length(batch["captions"]), 0))
    facts = {field.name: pc.struct_field(batch["facts"], field.name) for field in batch["facts"].type}
    _count_facts(figures, facts, modalities)


def _count_facts(figures: Figures, facts: dict[str, Any], modalities: str) -> None:
    pc = _compute()

    covered = []
    if "v" in modalities:
        sides: Any = pc.min_element_wise(facts["width_px"], facts["height_px"])
        _add(figures.short_sides_px, pc.drop_null(sides))
        figures.still += _num(facts["still"])
        covered.append(facts["video_coverage"])
    if "a" in modalities:
        _add(figures.rms_dbfs, pc.cast(pc.round(pc.drop_null(facts["rms_dbfs"])), "int64"))
        figures.half_silent += _num(pc.greater(facts["silence_share"], 0.5))
        figures.clipped += _num(pc.greater(facts["clipping_share"], 0.01))
        covered.append(facts["audio_coverage"])
    figures.partly_covered += _num(pc.less(pc.min_element_wise(*covered), 0.95))


def _compute() -> Any:
    """Arrow's functions; their stubs know less than they do."""
    from pyarrow import compute

    return compute


def _add(counter: Counter[Any], values: Any) -> None:
    pc = _compute()

    found: Any = pc.value_counts(values)
    counter.update({entry["values"]: entry["counts"] for entry in found.to_pylist()})


def _num(flags: Any) -> int:
    pc = _compute()

    return int(pc.sum(flags).as_py() or 0)


def percentile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least this share (0 to 1) of the clips does not pass; 0 of none."""
    wanted, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0
