"""Captions for any video file: pictures and sound are taken from it as `shard` takes them, then described."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from valor_data.config import MODALITIES
from valor_data.errors import ConfigError
from valor_data.media.extract import ClipFeatures
from valor_data.media.mel import MelSettings
from valor_data.train.batch import Batch
from valor_data.train.checkpoint import Trained, load_model
from valor_data.train.intake import Intake, Isolated, Request, take
from valor_data.train.parallel import together
from valor_data.train.samples import ClipSettings, collate, hold, make_ready
from valor_data.train.settings import completed, doubts, loader_settings

MAX_WORDS = 30
"""Longest caption, in word pieces: VALOR's."""


@dataclass(frozen=True, slots=True)
class Described:
    """What was written about a file.

    Attributes:
        file: as it was named.
        caption: what was written; None where the file cannot be described.
        problem: why not: a reason code and its detail.
        note: what a reader must know: that there was no sound, or no picture, or that the model never learned to write.
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
    modalities: str = "av",
    num_beams: int = 3,
    device: str = "auto",
    isolated: bool = False,
) -> list[Described]:
    """Writes a caption for each file.

    Args:
        files: videos.
        checkpoint: a run, a checkpoint, or a converted model.
        span: seconds of the file to describe; an end of None is ten seconds after the start, or the file's end.
        modalities: `av`, `v` or `a`: what to look at and listen to, where it is there.
        num_beams: 1 is greedy.
        device: `auto`, `cpu` or `cuda`.
        isolated: files are opened in a process of their own, for those of strangers. A script must then keep to
            Python's rule for processes: what it does stands under `if __name__ == "__main__"`.

    Raises:
        ConfigError: no model there, a span that ends before it begins, or no such modalities.
    """
    start, end = span
    problems = []
    if end is not None and end <= start:
        problems.append(f"--end is {end:g} and --start {start:g}: the end must come after the start")
    if modalities not in MODALITIES:
        problems.append(f"--modalities {modalities}: expected one of {', '.join(MODALITIES)}")
    if problems:
        raise ConfigError(problems)
    trained = load_model(checkpoint)
    mel = MelSettings.valor() if trained.model.config.sound.mel_bins == 64 else MelSettings.ast()
    opener: AbstractContextManager[Callable[[Request], Intake]] = (
        Isolated() if isolated else contextlib.nullcontext(take)
    )
    with together(device) as ranks, opener as take_one:
        trained.model.to(ranks.device).eval()
        requests = [Request(file, start, end, modalities, mel) for file in files]
        return [_describe(trained, request.file, take_one(request), num_beams) for request in requests]


def _describe(trained: Trained, file: Path, found: Intake, num_beams: int) -> Described:
    if found.features is None:
        return Described(str(file), None, problem=found.problem)
    group = "t" + "".join(letter for letter in "va" if letter in found.modalities)
    batch = batch_of(found.features, found.modalities, (found.start, found.end), trained)
    batch = batch.to(trained.model.contrast.temperature.device)
    ids = trained.model.generate(batch, group, num_beams=num_beams, max_tokens=MAX_WORDS)[0]
    note = "; ".join(filter(None, (found.note, *doubts(trained.settings, f"cap%{group}"))))
    return Described(str(file), trained.vocabulary.decode(ids), note=note, start=found.start, end=found.end)


def batch_of(features: ClipFeatures, modalities: str, span: tuple[float, float], trained: Trained) -> Batch:
    """A batch of one clip, made by the loader's own steps.

    Args:
        features: what was taken.
        modalities: what of it is used.
        span: seconds of the file.
        trained: whose sizes and choices count.
    """
    section = completed(trained.settings, "")
    loader = loader_settings(section, trained.model.config)
    settings = ClipSettings(
        modalities=modalities,
        pictures=loader.pictures,
        mel=loader.mel,
        text=loader.text,
        num_mel_bins=trained.model.config.sound.mel_bins,
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
