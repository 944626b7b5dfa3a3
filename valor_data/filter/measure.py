"""Measuring clips in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from valor_data.clip import Seconds
from valor_data.errors import ClipError
from valor_data.guard import OUT_OF_MEMORY, working_on
from valor_data.media.measure import measure_clip


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
    """A few clips, so that handing work over costs little."""

    clips: tuple[MeasureRequest, ...]
    modalities: str
    clip_deadline_seconds: float
    clip_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """Facts as canonical JSON, or why there are none. `lost` when the file is not there any more."""

    clip_id: int
    facts: str | None = None
    reason: str = ""
    detail: str = ""
    lost: bool = False


def measure_clips(unit: MeasureUnit) -> list[Measured]:
    """Measures each clip of a unit; nothing a clip causes is raised."""
    results = []
    for clip in unit.clips:
        with working_on(str(clip.clip_id), unit.clip_deadline_seconds, unit.clip_memory_bytes):
            results.append(_measure(clip, unit.modalities))
    return results


def _measure(clip: MeasureRequest, modalities: str) -> Measured:
    if not clip.path.is_file():
        return Measured(clip.clip_id, lost=True, detail=f"{clip.path} is gone")
    try:
        facts = measure_clip(clip.path, clip.offset_seconds, clip.start, clip.end, modalities)
    except ClipError as refusal:
        return Measured(clip.clip_id, reason=refusal.reason, detail=refusal.detail)
    except MemoryError:
        return Measured(clip.clip_id, reason="too_large", detail=OUT_OF_MEMORY)
    return Measured(clip.clip_id, facts=facts.to_json())
