"""Making a clip's preview in a worker: strangers' files are never decoded in the process that writes a page."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from valor_data.execute import Lost
from valor_data.execute.local import LocalExecutor, available_cores
from valor_data.guard import working_on
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings
from valor_data.media.preview import Preview, preview_clip

CLIP_SECONDS = 30.0
CLIP_BYTES = 2_000_000_000
"""What the preview of one clip may take; see `guard.working_on`."""


PRELOAD = ("valor_data.media.preview", "torchaudio.compliance.kaldi")
"""Imported once for all workers; torch alone takes each of them seconds."""


@dataclass(frozen=True, slots=True)
class PreviewUnit:
    """A clip to make a preview of.

    Attributes:
        clip_id: which.
        path: its media.
        sound_file: the bytes of a sound file of exactly its span, where there is one and no media; else empty.
        offset_seconds: the second of the video at which the file's own second 0 lies.
        start: its first second, video seconds.
        end: the second after its last.
        frames: which pictures; None: none.
        mel: which log-mel; None: none.
    """

    clip_id: int
    path: Path | None
    sound_file: bytes
    offset_seconds: float
    start: float
    end: float
    frames: FrameSettings | None
    mel: MelSettings | None


def make_preview(unit: PreviewUnit) -> Preview:
    """What a worker runs; nothing that the file causes is raised."""
    with working_on(str(unit.clip_id), CLIP_SECONDS, CLIP_BYTES):
        try:
            if unit.path is not None:
                span = (unit.offset_seconds, unit.start, unit.end)
                return preview_clip(unit.path, *span, frames=unit.frames, mel=unit.mel)
            with tempfile.TemporaryDirectory(prefix="valor-data-preview-") as folder:
                file = Path(folder) / "clip.flac"
                file.write_bytes(unit.sound_file)
                return preview_clip(file, 0.0, 0.0, unit.end - unit.start, mel=unit.mel)
        except MemoryError:
            return Preview(faults=("it takes more memory than a preview may",))


def run_previews(units: Iterable[PreviewUnit]) -> Iterator[tuple[PreviewUnit, Preview]]:
    """Previews as they are done, in any order; a clip that ends its worker gets one that says so."""
    with tempfile.TemporaryDirectory(prefix="valor-data-previews-") as notes:
        executor = LocalExecutor(available_cores(), Path(notes), preload=PRELOAD)
        try:
            for unit, made in executor.run(make_preview, units, deadline_seconds=2 * CLIP_SECONDS):
                yield unit, Preview(faults=(f"{made.reason}: {made.detail}",)) if isinstance(made, Lost) else made
        finally:
            executor.close()


def without_paths(text: str) -> str:
    """A message without the places of files on this machine, which are nobody's business who reads a page."""
    return re.sub(r"(?:file:)?(?<![\w:/.])/(?:[^/\s'\"]+/)+", "…/", re.sub(r"file:(?=/)", "", text))
