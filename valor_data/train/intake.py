"""What a model can use of any media file: pictures and sound of a span, made as `shard` makes them.

Sound that is missing, silent or beyond decoding is left out, and so is a picture that is missing or beyond decoding;
what is left is said. Strangers' files can end a decoder's process: `Isolated` takes them in one of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from valor_data.config import FilterSection, ShardSection
from valor_data.errors import ClipError
from valor_data.execute import Lost
from valor_data.execute.local import LocalExecutor
from valor_data.guard import OUT_OF_MEMORY, working_on
from valor_data.media.extract import ClipFeatures, FeatureSettings
from valor_data.media.facts import Facts
from valor_data.media.mel import MelSettings
from valor_data.media.probe import probe
from valor_data.media.take import take_clip

CLIP_SECONDS = 10.0
"""Of a file whose end is not asked for: VALOR's clips."""

MAX_SPAN_SECONDS = 600.0
"""Longest span: its sound is decoded whole, and a model sees some pictures of it only."""

_PRELOAD = ("valor_data.train.intake", "torchaudio.compliance.kaldi")

_DEFAULTS = ShardSection()  # a clip's deadline and memory are those of `shard`


@dataclass(frozen=True, slots=True)
class Request:
    """What to take.

    Attributes:
        file: any file.
        start: second of the file at which to begin.
        end: second at which to end; None: ten seconds on, or at the file's end.
        modalities: `av`, `v` or `a`: what to use where it is there.
        mel: the front end that the model was trained with.
    """

    file: Path
    start: float
    end: float | None
    modalities: str
    mel: MelSettings


@dataclass(frozen=True, slots=True)
class Intake:
    """What was taken.

    Attributes:
        features: pictures, sound, or both; None where nothing can be used.
        modalities: what they hold: `av`, `v` or `a`.
        start: second of the file at which they begin.
        end: second at which they end.
        problem: why there are none: a reason code and what lies behind it.
        note: what a reader must know: what was asked for and is not there.
    """

    features: ClipFeatures | None = None
    modalities: str = ""
    start: float = 0.0
    end: float = 0.0
    problem: str = ""
    note: str = ""


def take(request: Request) -> Intake:
    """Takes what a model can use of a file; nothing that a file causes is raised."""
    deadline, memory = _DEFAULTS.clip_deadline_seconds, _DEFAULTS.clip_memory_bytes
    with working_on(str(request.file), deadline, memory):
        try:
            return _take(request, *_span(request))
        except ClipError as refusal:
            return Intake(problem=str(refusal))
        except MemoryError:
            return Intake(problem=f"too_large: {OUT_OF_MEMORY}")


def _span(request: Request) -> tuple[float, float]:
    length = probe(request.file).duration_seconds
    start, end = request.start, request.start + CLIP_SECONDS if request.end is None else request.end
    if length is not None and request.end is None:
        end = min(end, length)
    if length is not None and (end <= start or start >= length):
        raise ClipError("short", f"the file ends at {length:.1f} s, the span begins at {start:g}")
    if end - start > MAX_SPAN_SECONDS:
        raise ClipError("too_long", f"{end - start:.0f} s were asked for; at most {MAX_SPAN_SECONDS:.0f} can be told")
    return start, end


def _take(request: Request, start: float, end: float) -> Intake:
    """All that is asked for, or the one of picture and sound that can be used."""
    refusals: list[ClipError] = []
    notes = {"v": "from the picture alone", "a": "from the sound alone"}
    for modalities in dict.fromkeys((request.modalities, *request.modalities)):
        features, refusal = _features(request, start, end, modalities)
        if features is not None:
            why = f"{notes[modalities]}: {_lack(refusals[0], modalities)}" if refusals else ""
            return Intake(features, modalities, start, end, note=why)
        if refusal is not None:
            refusals.append(refusal)
    by_reason: dict[str, str] = {}
    for one in refusals:
        by_reason.setdefault(one.reason, str(one))
    return Intake(problem="; ".join(by_reason.values()))


def _features(
    request: Request, start: float, end: float, modalities: str
) -> tuple[ClipFeatures | None, ClipError | None]:
    """The features of exactly these modalities, or why there are none."""
    settings = replace(FeatureSettings(), modalities=modalities, mel=request.mel)
    taken = take_clip(request.file, 0.0, start, end, lambda facts: True, settings)
    if taken.refusal is None and "a" in modalities and _is_silent(taken.facts):
        return None, ClipError("silent", f"{taken.facts.rms_dbfs:.0f} dBFS")
    return taken.features, taken.refusal


def _is_silent(facts: Facts) -> bool:
    """As `filter` decides by default: such clips no model was trained on."""
    limits = FilterSection()
    return facts.rms_dbfs < limits.min_rms_dbfs or facts.peak_dbfs < limits.min_peak_dbfs


def _lack(refusal: ClipError, modalities: str) -> str:
    """What is wrong with the other one."""
    other = "sound" if modalities == "v" else "picture"
    if refusal.reason in ("no_audio", "no_video"):
        return f"there is no {other}"
    return "the sound is silent" if refusal.reason == "silent" else f"the {other} cannot be used ({refusal})"


class Isolated:
    """Takes files in a process of its own: one that hangs or dies costs its file, not the others."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="valor-data-")
        self._executor = LocalExecutor(1, Path(self._folder.name), preload=_PRELOAD)

    def __enter__(self) -> Callable[[Request], Intake]:
        return self._take

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()
        self._folder.cleanup()

    def _take(self, request: Request) -> Intake:
        deadline = 2 * _DEFAULTS.clip_deadline_seconds  # the clip's own comes first
        found = self._executor.run_one(take, request, "file", deadline_seconds=deadline)
        return Intake(problem=f"{found.reason}: {found.detail}") if isinstance(found, Lost) else found
