"""Measuring clips in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from valor_data.clip import Seconds
from valor_data.errors import ClipError
from valor_data.guard import OUT_OF_MEMORY, working_on
from valor_data.media.content import measure_content
from valor_data.media.measure import measure_clip, measure_clip_and_content


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """A clip to measure: its span in seconds of the video, and the file that holds it."""

    clip_id: int
    key: str
    path: Path
    offset_seconds: Seconds
    start: Seconds
    end: Seconds


@dataclass(frozen=True, slots=True)
class MeasureUnit:
    """A few clips, so that handing work over costs little.

    Attributes:
        what: what to measure: `facts`, `content` (for curation), or `both` in one pass.
    """

    clips: tuple[MeasureRequest, ...]
    modalities: str
    clip_deadline_seconds: float
    clip_memory_bytes: int = 0
    what: str = "facts"


@dataclass(frozen=True, slots=True)
class Measured:
    """Facts as canonical JSON, or why there are none. `lost` when the file is not there any more.

    Attributes:
        content: `media.content.Content` as bytes; None when it was not asked for, or nothing came.
    """

    clip_id: int
    facts: str | None = None
    reason: str = ""
    detail: str = ""
    lost: bool = False
    content: bytes | None = None


def measure_clips(unit: MeasureUnit) -> list[Measured]:
    """Measures each clip of a unit; nothing a clip causes is raised."""
    results = []
    for clip in unit.clips:
        with working_on(str(clip.clip_id), unit.clip_deadline_seconds, unit.clip_memory_bytes):
            results.append(_measure(clip, unit))
    return results


def _measure(clip: MeasureRequest, unit: MeasureUnit) -> Measured:
    if not clip.path.is_file():
        return Measured(clip.clip_id, lost=True, detail=f"{clip.path} is gone")
    span = (clip.path, clip.offset_seconds, clip.start, clip.end, unit.modalities)
    try:
        if unit.what == "content":
            return Measured(clip.clip_id, content=measure_content(*span).to_bytes())
        if unit.what == "both":
            facts, content = measure_clip_and_content(*span)
            return Measured(
                clip.clip_id, facts=facts.to_json(), content=None if content is None else content.to_bytes()
            )
        facts = measure_clip(*span)
    except ClipError as refusal:
        return Measured(clip.clip_id, reason=refusal.reason, detail=refusal.detail)
    except MemoryError:
        return Measured(clip.clip_id, reason="too_large", detail=OUT_OF_MEMORY)
    return Measured(clip.clip_id, facts=facts.to_json())
