"""What was measured on the media of many clips, as histograms: facts are read as columns, some thousand at a time."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from valor_data.errors import Status
from valor_data.look.histogram import Histogram, counted, counts_of

BATCH = 20_000

SHORT_SIDES_PX = (1, 144, 240, 360, 480, 720, 1080, 2160)
"""Edges of the resolutions: the short side of the picture as shown."""

GROUPS = {Status.KEPT.value: "kept", Status.DROPPED.value: "refused"}
"""What a clip's facts are counted under, by what `filter` made of it."""

UNDECIDED = "undecided"


def _loudness() -> Histogram:
    return Histogram("dBFS", tuple(float(edge) for edge in range(-100, 4, 4)))


def _silence() -> Histogram:
    return Histogram("percent of the clip", tuple(float(edge) for edge in range(0, 101, 5)))


def _resolution() -> Histogram:
    return Histogram("px, short side", tuple(float(edge) for edge in SHORT_SIDES_PX))


@dataclass(slots=True)
class Measured:
    """Histograms of facts, each with a group for the kept and one for the refused clips.

    Attributes:
        num: clips that were measured.
        loudness: RMS over all channels; clips without sound count as below.
        silence: share of the clip below the level of silence.
        resolution: short side of the picture; clips without picture count as below.
        codecs: clips by codec of picture and sound.
        num_still: clips whose pictures are all alike.
        num_clipping: clips with clipped samples.
    """

    num: int = 0
    loudness: Histogram = field(default_factory=_loudness)
    silence: Histogram = field(default_factory=_silence)
    resolution: Histogram = field(default_factory=_resolution)
    codecs: Counter[str] = field(default_factory=Counter)
    num_still: int = 0
    num_clipping: int = 0

    def add(self, facts: Iterable[tuple[str, str | None]]) -> None:
        """Counts clips.

        Args:
            facts: facts as JSON in one line, and what `filter` made of the clip (None: nothing yet).
        """
        rows = iter(facts)
        while batch := list(islice(rows, BATCH)):
            table = _read([text for text, _ in batch])
            groups = np.array([GROUPS.get(status or "", UNDECIDED) for _, status in batch])
            self._add(table, groups)

    def _add(self, table: Any, groups: Any) -> None:
        columns = {name: np.asarray(table[name]) for name in ("rms_dbfs", "silence_share", "width_px", "height_px")}
        has_audio, has_video = np.asarray(table["has_audio"]), np.asarray(table["has_video"])
        loudness = np.where(has_audio, columns["rms_dbfs"], -np.inf)
        silence = np.where(has_audio, columns["silence_share"] * 100, np.nan)
        sides = np.where(has_video, np.minimum(columns["width_px"], columns["height_px"]), 0)
        for group in ("kept", "refused", UNDECIDED):
            here = groups == group
            if here.any():
                self.loudness.add(group, loudness[here])
                self.silence.add(group, silence[here])
                self.resolution.add(group, sides[here])
        self.num += table.num_rows
        self.num_still += int(np.count_nonzero(np.asarray(table["still"])))
        self.num_clipping += int(np.count_nonzero(np.asarray(table["clipping_share"]) > 0))
        self._count_codecs(table)

    def _count_codecs(self, table: Any) -> None:
        for name in ("video_codec", "audio_codec"):
            for codec, number in counts_of(table[name]).items():
                if codec:
                    self.codecs[f"{name.removesuffix('_codec')}: {codec}"] += number

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "clips": self.num,
            "still": self.num_still,
            "clipping": self.num_clipping,
            "loudness": self.loudness.to_dict(),
            "silence": self.silence.to_dict(),
            "resolution": self.resolution.to_dict(),
            "codecs": counted(self.codecs, "codec"),
        }


def _read(texts: list[str]) -> Any:
    """Facts as a table of the columns that are counted."""
    import pyarrow as pa
    import pyarrow.json

    real, text, flag, whole = pa.float64(), pa.string(), pa.bool_(), pa.int64()
    columns: dict[str, Any] = {
        "rms_dbfs": real, "silence_share": real, "clipping_share": real, "width_px": whole, "height_px": whole,
        "has_audio": flag, "has_video": flag, "still": flag, "video_codec": text, "audio_codec": text,
    }  # fmt: skip
    options = pyarrow.json.ParseOptions(explicit_schema=pa.schema(columns), unexpected_field_behavior="ignore")
    data = "\n".join(texts).encode()
    reading = pyarrow.json.ReadOptions(block_size=max(len(data), 1))
    return pyarrow.json.read_json(io.BytesIO(data), parse_options=options, read_options=reading)
