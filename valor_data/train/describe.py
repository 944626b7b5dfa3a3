"""Captions for any video file: pictures and sound are taken from it as `shard` takes them, then described."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from valor_data.errors import ClipError, ConfigError
from valor_data.media.extract import ClipFeatures, extract_clip
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings
from valor_data.media.probe import probe
from valor_data.train.checkpoint import Trained, load_model
from valor_data.train.parallel import together
from valor_data.train.samples import ClipSettings, collate, hold, make_ready
from valor_data.train.settings import completed, loader_settings

CLIP_SECONDS = 10.0
"""Of a file whose end is not asked for: VALOR's clips."""

NOTES = {"av": "", "v": "from the picture alone: there is no sound", "a": "from the sound alone: there is no picture"}
"""What a reader of a caption must know, by what it was written from."""


@dataclass(frozen=True, slots=True)
class Described:
    """What was written about a file.

    Attributes:
        file: as it was named.
        caption: what was written; None where the file cannot be described.
        problem: why not: a reason code and its detail.
        note: what a reader must know: that there was no sound, or no picture.
        start: second of the file at which the described clip begins.
        end: second at which it ends.
    """

    file: str
    caption: str | None
    problem: str = ""
    note: str = ""
    start: float = 0.0
    end: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def describe_files(
    files: Sequence[Path],
    checkpoint: Path,
    *,
    span: tuple[float, float | None] = (0.0, None),
    num_beams: int = 3,
    device: str = "auto",
) -> list[Described]:
    """Writes a caption for each file.

    Args:
        files: videos.
        checkpoint: a run, a checkpoint, or a converted model.
        span: seconds of the file to describe; an end of None is ten seconds after the start, or the file's end.
        num_beams: 1 is greedy.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: no model there, or a span that ends before it begins.
    """
    start, end = span
    if end is not None and end <= start:
        raise ConfigError(f"--end is {end:g} and --start {start:g}: the end must come after the start")
    trained = load_model(checkpoint)
    with together(device) as ranks:
        trained.model.to(ranks.device).eval()
        return [_describe(file, trained, start, end, num_beams) for file in files]


def _describe(file: Path, trained: Trained, start: float, end: float | None, num_beams: int) -> Described:
    try:
        length = probe(file).duration_seconds
        last = start + CLIP_SECONDS if end is None else end
        if length is not None and end is None:
            last = min(last, length)
        if last <= start:
            raise ClipError("short", f"the file ends at {length:.1f} s, the span begins at {start:g}")
        features, modalities = _features(file, start, last, trained)
    except ClipError as refusal:
        return Described(str(file), None, problem=str(refusal))
    group = "t" + "".join(letter for letter in "va" if letter in modalities)
    batch = _batch(features, modalities, (start, last), trained)
    device = trained.model.contrast.temperature.device
    found = trained.model.generate(batch.to(device), group, num_beams=num_beams)
    note = {
        "av": "",
        "v": "from the picture alone: there is no sound",
        "a": "from the sound alone: there is no picture",
    }
    return Described(str(file), trained.vocabulary.decode(found[0]), note=note[modalities], start=start, end=last)


def _features(file: Path, start: float, end: float, trained: Trained) -> tuple[ClipFeatures, str]:
    """Pictures and sound of a span, or the one of them that is there."""
    mel = MelSettings.valor() if trained.model.config.sound.mel_bins == 64 else MelSettings.ast()
    try:
        return extract_clip(file, 0.0, start, end, FrameSettings(), mel, "av"), "av"
    except ClipError as refusal:
        rest = {"no_audio": "v", "no_video": "a"}.get(refusal.reason)
        if rest is None:
            raise
    return extract_clip(file, 0.0, start, end, FrameSettings(), mel, rest), rest


def _batch(features: ClipFeatures, modalities: str, span: tuple[float, float], trained: Trained) -> Any:
    """A batch of one, made by the loader's own steps."""
    section = completed(trained.settings, "")
    loader = loader_settings(section, trained.model.config)
    bins = trained.model.config.sound.mel_bins
    settings = ClipSettings(
        modalities=modalities, pictures=loader.pictures, mel=loader.mel, text=loader.text, num_mel_bins=bins
    )
    details = {
        "key": "file", "video_id": "file", "start": span[0], "end": span[1], "split": "test", "modalities": modalities,
        "captions": [], "labels": [], "label_names": [], "questions": [], "audio_spans": features.audio_spans,
    }  # fmt: skip
    files: dict[str, bytes] = {f"frame_{i:02d}.jpg": jpeg for i, jpeg in enumerate(features.jpegs)}
    if "a" in modalities:
        files["mel.npy"] = _array_bytes(features.mel)
    files["json"] = json.dumps(details).encode()
    ready = make_ready("file", hold("file", files, settings, None), settings, None, None)
    return collate([ready], settings, trained.vocabulary)


def _array_bytes(array: np.ndarray[Any, Any]) -> bytes:
    with io.BytesIO() as stream:
        np.save(stream, array, allow_pickle=False)
        return stream.getvalue()
