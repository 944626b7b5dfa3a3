"""Label rows in memory, to be joined into captions: spans and labels by video."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from valor_data.manifest.row import Row

_OPEN = -1  # end of a segment whose end is unknown


class SegmentStore:
    """The spans and labels of joined label files.

    Two million rows (AudioSet's unbalanced list) take about 360 MB.
    """

    def __init__(self) -> None:
        self._by_video: dict[str, int | list[int]] = {}
        self._starts_ms, self._ends_ms = array("q"), array("q")
        self._codes: dict[str, int] = {}
        self._texts: list[str] = []
        self._labels, self._labels_end = array("i"), array("q", [0])  # codes of all rows, and where each row's end
        self._used = bytearray()

    def __len__(self) -> int:
        return len(self._starts_ms)

    @property
    def num_unused(self) -> int:
        """Label rows that no caption asked for."""
        return len(self._used) - sum(self._used)

    def add(self, row: Row) -> None:
        """Keeps a label row. One without a span is of no use for joining and is counted as unused."""
        index = len(self._starts_ms)
        self._starts_ms.append(_OPEN if row.start_ms is None else row.start_ms)
        self._ends_ms.append(_OPEN if row.end_ms is None else row.end_ms)
        self._used.append(0)
        for label in row.labels:
            code = self._codes.setdefault(label, len(self._texts))
            if code == len(self._texts):
                self._texts.append(label)
            self._labels.append(code)
        self._labels_end.append(len(self._labels))
        known = self._by_video.get(row.video_id)
        if known is None:
            self._by_video[row.video_id] = index
        elif isinstance(known, int):
            self._by_video[row.video_id] = [known, index]
        else:
            known.append(index)

    def spans(self, video_id: str) -> set[tuple[int, int]]:
        """The different complete spans of a video, as (start, end) in milliseconds."""
        pairs = {(self._starts_ms[i], self._ends_ms[i]) for i in self._indices(self._by_video.get(video_id))}
        return {pair for pair in pairs if _OPEN not in pair}

    def labels(self, video_id: str, start_ms: int, end_ms: int | None) -> list[tuple[str, ...]]:
        """The label sets of rows with the same video and equal times; these rows count as used."""
        end = _OPEN if end_ms is None else end_ms
        found = []
        for i in self._indices(self._by_video.get(video_id)):
            if self._starts_ms[i] == start_ms and self._ends_ms[i] == end:
                self._used[i] = 1
                codes = self._labels[self._labels_end[i] : self._labels_end[i + 1]]
                found.append(tuple(self._texts[code] for code in codes))
        return found

    def is_used(self, video_id: str, start_ms: int | None, end_ms: int | None) -> bool:
        """Whether a caption has asked for this span."""
        start, end = (_OPEN if ms is None else ms for ms in (start_ms, end_ms))
        return any(
            self._used[i]
            for i in self._indices(self._by_video.get(video_id))
            if self._starts_ms[i] == start and self._ends_ms[i] == end
        )

    @staticmethod
    def _indices(known: int | list[int] | None) -> Sequence[int]:
        if known is None:
            return ()
        return (known,) if isinstance(known, int) else known
