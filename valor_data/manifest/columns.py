"""The clips of a build while they come in: columns that grow, with one dictionary entry a clip.

A million clips as Python objects would take gigabytes. Texts go to Arrow in chunks as they come, numbers
to plain arrays; what stays in Python is one short text a clip (to find it again) and one digest a caption
(to see duplicates).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from valor_data.clip import Question, from_ms_array
from valor_data.manifest.layout import key_column, manifest_schema
from valor_data.manifest.row import label_pairs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_CHUNK_ROWS = 20_000
_SLICE_CLIPS = 50_000  # clips that become Arrow rows at a time
_OPEN = -1  # an unknown end


class _Texts:
    """A growing Arrow column of texts, or of lists of texts."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._chunks: list[Any] = []
        self._waiting: list[Any] = []

    def append(self, value: Any) -> None:
        self._waiting.append(value)
        if len(self._waiting) >= _CHUNK_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._chunks.append(pa.array(self._waiting, self._kind))
        self._waiting = []

    def finish(self) -> Any:
        import pyarrow as pa

        self._flush()
        kind: Any = self._kind
        return pa.chunked_array(self._chunks, kind)


class _Parts:
    """The rows of a list column: which clip each belongs to, and its texts."""

    def __init__(self, **kinds: pa.DataType) -> None:
        self.clips = array("i")
        self.columns = {name: _Texts(kind) for name, kind in kinds.items()}

    def append(self, clip: int, *values: Any) -> None:
        self.clips.append(clip)
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def by_clip(self, num_clips: int) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
        """Offsets of each clip's parts, the order that brings them together (None: as they are), the columns."""
        offsets, order = group(self.clips, num_clips)
        return offsets, order, {name: column.finish() for name, column in self.columns.items()}


def group(clips: array[int], num_clips: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Where each clip's parts begin, and the stable order that sorts parts by clip (None: they are sorted)."""
    import numpy as np

    index = np.frombuffer(clips, dtype=np.int32) if len(clips) else np.empty(0, np.int32)
    offsets = np.zeros(num_clips + 1, np.int64)
    np.cumsum(np.bincount(index, minlength=num_clips), out=offsets[1:])
    is_sorted = bool(np.all(index[1:] >= index[:-1]))
    return offsets, None if is_sorted else np.argsort(index, kind="stable")


class ClipColumns:
    """Collects clips, their captions, labels and questions, and hands them out as the manifest's table."""

    def __init__(self) -> None:
        import pyarrow as pa

        self._known: dict[str, dict[str, int]] = {}
        self._seen: set[bytes] = set()
        self._ids, self._urls = _Texts(pa.string()), _Texts(pa.string())
        self._starts_ms, self._ends_ms = array("q"), array("q")
        self._splits: dict[str, int] = {}
        self._split_of = array("i")
        self._captions = _Parts(text=pa.string(), role=pa.dictionary(pa.int8(), pa.string()))
        self._questions = _Parts(question_id=pa.string(), question=pa.string(), answers=pa.list_(pa.string()))
        self._label_clips, self._label_codes = array("i"), array("i")
        self._codes: dict[str, int] = {}
        self.clip_files, self.clip_rows = array("i"), array("q")
        self.caption_files, self.caption_rows = array("i"), array("q")

    def __len__(self) -> int:
        return len(self._starts_ms)

    @property
    def num_captions(self) -> int:
        """Captions kept so far."""
        return len(self._captions.clips)

    def clip(
        self, video_id: str, start_ms: int, end_ms: int | None, split: str, url: str | None, origin: tuple[int, int]
    ) -> tuple[int, bool]:
        """The number of a clip and whether it is new.

        Args:
            video_id: the video.
            start_ms: first millisecond.
            end_ms: millisecond after the last; None while unknown.
            split: the clip's split; the same span in another split is another clip.
            url: where the video is.
            origin: number of the file and row of the annotation.
        """
        end = _OPEN if end_ms is None else end_ms
        known = self._known.setdefault(split, {})
        number = len(self._starts_ms)
        found = known.setdefault(f"{video_id} {start_ms} {end}", number)
        if found != number:
            return found, False
        self._ids.append(video_id)
        self._urls.append(url)
        self._starts_ms.append(start_ms)
        self._ends_ms.append(end)
        self._split_of.append(self._splits.setdefault(split, len(self._splits)))
        self.clip_files.append(origin[0])
        self.clip_rows.append(origin[1])
        return number, True

    def number_of(self, video_id: str, start_ms: int, end_ms: int | None) -> int | None:
        """The number of a clip that is known, in whatever split."""
        name = f"{video_id} {start_ms} {_OPEN if end_ms is None else end_ms}"
        return next((clips[name] for clips in self._known.values() if name in clips), None)

    def is_new(self, clip: int, *content: str) -> bool:
        """Whether this content has not been seen for this clip before."""
        text = "\0".join((str(clip), *content))
        digest = blake2b(text.encode(), digest_size=12).digest()
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True

    def add_caption(self, clip: int, text: str, role: str, origin: tuple[int, int]) -> None:
        """A checked caption of a clip."""
        self._captions.append(clip, text, role)
        self.caption_files.append(origin[0])
        self.caption_rows.append(origin[1])

    def add_question(self, clip: int, question: Question) -> None:
        """A question about a clip."""
        self._questions.append(clip, question.question_id, question.question, list(question.answers))

    def add_labels(self, clip: int, labels: tuple[str, ...]) -> None:
        """Labels of a clip; those it has already are not added twice."""
        for label in labels:
            self._label_clips.append(clip)
            self._label_codes.append(self._codes.setdefault(label, len(self._codes)))

    def caption_origins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """File and row of every caption, captions of one clip together, and the offsets of each clip's."""
        import numpy as np

        offsets, order = group(self._captions.clips, len(self))
        files, rows = np.array(self.caption_files, dtype=np.int32), np.array(self.caption_rows, dtype=np.int64)
        return (files, rows, offsets) if order is None else (files[order], rows[order], offsets)

    def unnamed_labels(self, names: dict[str, str]) -> list[str]:
        """Labels that are codes and that no class list names."""
        return [label for label, name in label_pairs(self._codes, names) if name is None]

    def table(self, names: dict[str, str]) -> pa.Table:
        """All clips as the manifest's columns, in order of first appearance. Frees what finding needed.

        Args:
            names: the name of each label that a class list names.
        """
        import pyarrow as pa

        self._known, self._seen = {}, set()
        slices = list(self._slices(names))
        return pa.concat_tables(slices) if slices else manifest_schema().empty_table()

    def _slices(self, names: dict[str, str]) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        num = len(self)
        ids, urls = self._ids.finish(), self._urls.finish()
        starts, ends = np.array(self._starts_ms, dtype=np.int64), np.array(self._ends_ms, dtype=np.int64)
        splits = np.array(self._split_of, dtype=np.int32)
        captions, questions = self._captions.by_clip(num), self._questions.by_clip(num)
        labels = self._labels_by_clip(num)
        texts, spoken = _label_arrays(self._codes, names)
        for low in range(0, num, _SLICE_CLIPS):
            high = min(num, low + _SLICE_CLIPS)
            video_ids = ids.slice(low, high - low).combine_chunks()
            start = pa.array(from_ms_array(starts[low:high]))
            end = pa.array(from_ms_array(ends[low:high]), mask=ends[low:high] == _OPEN)
            codes, code_offsets = _cut(*labels, low, high)
            named = _names_of(code_offsets, codes, texts, spoken)
            yield pa.Table.from_arrays(
                [
                    key_column(video_ids, start, end),
                    video_ids,
                    start,
                    end,
                    pa.array(list(self._splits), pa.string()).take(pa.array(splits[low:high], pa.int32())),
                    _structs(captions, low, high, "captions"),
                    pa.ListArray.from_arrays(code_offsets, texts.take(codes)),
                    named,
                    _number_questions(_structs(questions, low, high, "questions")),
                    pc.cast(urls.slice(low, high - low).combine_chunks(), pa.string()),
                ],
                schema=manifest_schema(),
            )

    def _labels_by_clip(self, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of each clip's labels, and the label codes, each once a clip in order of appearance."""
        import numpy as np

        clips = np.array(self._label_clips, dtype=np.int64)
        codes = np.array(self._label_codes, dtype=np.int64)
        _, first = np.unique(clips * max(1, len(self._codes)) + codes, return_index=True)
        first.sort()
        clips, codes = clips[first], codes[first]
        order = np.argsort(clips, kind="stable")
        offsets = np.zeros(num_clips + 1, np.int64)
        np.cumsum(np.bincount(clips, minlength=num_clips), out=offsets[1:])
        return offsets, codes[order]


def _cut(offsets: np.ndarray, codes: np.ndarray, low: int, high: int) -> tuple[Any, Any]:
    """The codes of some clips, and their offsets from 0, as Arrow arrays."""
    import pyarrow as pa

    here = offsets[low : high + 1]
    return pa.array(codes[here[0] : here[-1]]), pa.array(here - here[0], pa.int32())


def _label_arrays(codes: dict[str, int], names: dict[str, str]) -> tuple[Any, Any]:
    """Every label and its name (null where none is known), by code."""
    import pyarrow as pa

    pairs = list(label_pairs(codes, names))
    return pa.array([p[0] for p in pairs], pa.string()), pa.array([p[1] for p in pairs], pa.string())


def _names_of(offsets: Any, codes: Any, texts: Any, spoken: Any) -> Any:
    """The labels in words: a clip none of whose labels has a name gets no names, else one a label."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = np.asarray(offsets)
    is_named = np.asarray(pc.is_valid(spoken), dtype=bool)[np.asarray(codes)] if len(codes) else np.zeros(0, bool)
    before = np.concatenate([[0], np.cumsum(is_named)])
    clip_named = before[ends[1:]] > before[ends[:-1]]
    lengths = np.where(clip_named, np.diff(ends), 0)
    keep = np.repeat(clip_named, np.diff(ends))
    names = pc.coalesce(spoken, texts).take(codes).filter(pa.array(keep, pa.bool_()))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), names)


def _structs(parts: tuple[np.ndarray, np.ndarray | None, dict[str, Any]], low: int, high: int, column: str) -> Any:
    """The list column of some clips, from the parts of all of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets, order, columns = parts
    here = offsets[low : high + 1]
    first, num = int(here[0]), int(here[-1] - here[0])
    item = manifest_schema().field(column).type.value_type
    values = []
    for field in item:
        data = columns[field.name]
        cut = data.slice(first, num) if order is None else data.take(pa.array(order[first : first + num]))
        values.append(pc.cast(cut, field.type).combine_chunks())
    structs = pa.StructArray.from_arrays(values, fields=list(item))
    return pa.ListArray.from_arrays(pa.array(here - first, pa.int32()), structs)


def _number_questions(questions: Any) -> Any:
    """Questions without an id get their place in the clip, from 0, as id."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    items = questions.values
    ids = items.field("question_id")
    missing: Any = pc.equal(ids, pa.scalar(""))
    if not pc.any(missing).as_py():
        return questions
    offsets = np.asarray(questions.offsets)
    places = np.arange(len(items)) - np.repeat(offsets[:-1], np.diff(offsets))
    filled = pc.if_else(missing, pa.array(places).cast(pa.string()), ids)
    rest = [items.field(name) for name in ("question", "answers")]
    structs = pa.StructArray.from_arrays([filled, *rest], fields=list(items.type))
    return pa.ListArray.from_arrays(questions.offsets, structs)
