"""Brings the rows of annotation files together: spans, labels, captions, duplicates, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from valor_data.manifest.columns import ClipColumns
from valor_data.manifest.formats import Format, Plan
from valor_data.manifest.options import ManifestOptions, Progress
from valor_data.manifest.rejects import Reject, RejectList
from valor_data.manifest.row import Row, caption_problem
from valor_data.manifest.segments import SegmentStore
from valor_data.manifest.source import Source
from valor_data.manifest.splits import DEFAULT_SPLIT

_ROWS_BETWEEN_PROGRESS = 5000

Report = Callable[[Progress], None]


@dataclass(slots=True)
class Input:
    """An annotation file with everything that was found out about it.

    Attributes:
        source: the file.
        format: its format.
        plan: how its rows are read.
        number: its place among the inputs, from 0.
        split: the split its name says; None where it says none.
        forced_split: the split somebody named for it; wins over its rows' own.
        num_rows: annotation rows read so far.
    """

    source: Source
    format: Format
    plan: Plan
    number: int
    split: str | None = None
    forced_split: str | None = None
    num_rows: int = 0


@dataclass(slots=True)
class Joiner:
    """Brings the rows of all files together: the state of one build.

    Args:
        options: what was asked for.
        inputs: the annotation files, in the order given.
        report: is told how far reading has come.
    """

    options: ManifestOptions
    inputs: list[Input]
    report: Report | None = None
    columns: ClipColumns = field(default_factory=ClipColumns)
    segments: SegmentStore = field(default_factory=SegmentStore)
    rejects: RejectList = field(default_factory=RejectList)
    notices: list[str] = field(default_factory=list)
    num_label_rows_unused: int = 0
    num_clips_unlabelled: int = 0

    def read(self) -> None:
        """Reads every file, label files first, so that captions find their spans and labels."""
        describing = [file for file in self.inputs if file.plan.has_captions]
        labelling = [file for file in self.inputs if not file.plan.has_captions]
        defining = describing or labelling
        if describing:
            self._store(labelling)
        for file in defining:
            for row in self._rows(file):
                self._take(row, file)
        self.num_label_rows_unused = self.segments.num_unused
        if describing and self.options.join == "outer":
            defining = self.inputs
            self._take_unmatched(labelling)
        for file in defining:
            self._notice_split(file)

    def _store(self, labelling: list[Input]) -> None:
        """Keeps the rows of label files, for captions to find."""
        for file in labelling:
            for row in self._rows(file):
                self.segments.add(row)

    def _rows(self, file: Input) -> Iterator[Row]:
        """The usable rows of a file; the others go to the rejects."""
        done = sum(i.source.position_bytes for i in self.inputs)
        total = sum(i.source.size_bytes for i in self.inputs)
        file.num_rows = 0
        for row in file.format.read(file.source, file.plan):
            file.num_rows += 1
            if self.report is not None and file.num_rows % _ROWS_BETWEEN_PROGRESS == 0:
                self._progress(file, done + file.source.tell_bytes(), total)
            if isinstance(row, Reject):
                self.rejects.add(file.source.name, row)
            else:
                yield row
        file.source.position_bytes = file.source.size_bytes
        self._progress(file, done + file.source.size_bytes, total)

    def _progress(self, file: Input, done: int, total: int) -> None:
        if self.report is not None:
            num_rows = sum(i.num_rows for i in self.inputs)
            found = len(self.columns), len(self.rejects)
            self.report(Progress(file.source.name, num_rows, *found, min(done, total), total))

    def _take(self, row: Row, file: Input) -> None:
        """Adds a row to its clip, or refuses it."""
        if row.start_ms is None and not self._find_span(row, file):
            return
        if file.format.is_set and self.columns.number_of(row.video_id, row.start_ms or 0, row.end_ms) is not None:
            found = f"another sample is the clip {row.video_id!r} too; name what tells them apart with --id-field"
            self._refuse(row, file, "duplicate", f"{found} (__key__: the sample's whole name)")
            return
        if file.plan.has_captions:
            captions = list(self._good_captions(row, file))
            if captions or row.questions:
                clip = self._clip(row, file)
                self._add_texts(clip, captions, row, file)
                self.columns.add_labels(clip, row.labels)
            return
        clip = self._clip(row, file)
        if self.columns.is_new(clip, "labels", *row.labels):
            self.columns.add_labels(clip, row.labels)
        else:
            self._refuse(row, file, "duplicate", "the same clip with the same labels stood earlier")

    def _clip(self, row: Row, file: Input) -> int:
        """The number of a row's clip; a new one gets its labels from the joined lists."""
        split = file.forced_split or row.split or file.split or DEFAULT_SPLIT
        start_ms = row.start_ms or 0
        origin = (file.number, row.number)
        clip, is_new = self.columns.clip(row.video_id, start_ms, row.end_ms, split, row.url, origin)
        if is_new and len(self.segments):
            self._add_joined_labels(clip, row.video_id, start_ms, row.end_ms)
        return clip

    def _good_captions(self, row: Row, file: Input) -> Iterator[tuple[str, str]]:
        """The captions of a row that can be used; the others are refused, and a row that has nothing."""
        if not row.captions and not row.questions:
            self._refuse(row, file, "caption_empty", "the row has no caption: expected a sentence")
        for text, role in row.captions:
            problem = caption_problem(text)
            if problem is None:
                yield text.strip(), role
            else:
                self._refuse(row, file, *problem)

    def _add_texts(self, clip: int, captions: Iterable[tuple[str, str]], row: Row, file: Input) -> None:
        """Adds captions and questions that are new, and refuses those that are not."""
        for text, role in captions:
            if self.columns.is_new(clip, role, text):
                self.columns.add_caption(clip, text, role, (file.number, row.number))
            else:
                self._refuse(row, file, "duplicate", f"the same clip with the same caption {text!r} stood earlier")
        for question in row.questions:
            if self.columns.is_new(clip, "question", question.question, *question.answers):
                self.columns.add_question(clip, question)
            else:
                found = f"the same clip with the same question {question.question!r} stood earlier"
                self._refuse(row, file, "duplicate", found)

    def _find_span(self, row: Row, file: Input) -> bool:
        """Gives a row without a span the one its video has in the joined lists; false when it is refused."""
        if not self.options.whole_videos and len(self.segments):
            spans = self.segments.spans(row.video_id)
            if len(spans) == 1:
                row.start_ms, row.end_ms = next(iter(spans))
                return True
            if spans:
                shown = ", ".join(f"[{a / 1000}, {b / 1000})" for a, b in sorted(spans)[:3])
                found = f"{len(spans)} spans in the joined segment lists: {shown}; expected one"
                self._refuse(row, file, "several_spans", found)
            else:
                self._refuse(row, file, "no_span", f"no span for {row.video_id!r} in the joined segment lists")
            return False
        if self.options.whole_videos or not file.plan.youtube:
            row.start_ms = 0
            return True
        self._refuse(
            row,
            file,
            "no_span",
            f"id {row.video_id!r} has no span: expected <id>_<start>_<end>, a joined segment list, or --whole-videos",
        )
        return False

    def _add_joined_labels(self, clip: int, video_id: str, start_ms: int, end_ms: int | None) -> None:
        found = self.segments.labels(video_id, start_ms, end_ms)
        for labels in found:
            self.columns.add_labels(clip, labels)
        if not found:
            self.num_clips_unlabelled += 1

    def _take_unmatched(self, labelling: list[Input]) -> None:
        """Outer join: label rows that matched no caption become clips. Their rejects are known already."""
        store, self.segments = self.segments, SegmentStore()
        for file in labelling:
            for row in file.format.read(file.source, file.plan):
                if not isinstance(row, Reject) and not store.is_used(row.video_id, row.start_ms, row.end_ms):
                    self._take(row, file)

    def _refuse(self, row: Row, file: Input, reason: str, detail: str) -> None:
        self.rejects.add(file.source.name, Reject(row.number, row.raw, reason, detail))

    def _notice_split(self, file: Input) -> None:
        named = (file.forced_split or file.split) is not None
        if not named and "split" not in file.plan.fields and file.format.name != "vggsound":
            self.notices.append(
                f"{file.source.name}: its name says no split, so its rows are {DEFAULT_SPLIT!r}; --split names another"
            )
