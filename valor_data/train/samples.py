"""From a stored sample to a clip the model can take, and from several clips to a batch.

Shapes: B rows of a batch, F pictures, S slices, M mel bands, L mel frames of a slice, T tokens, P `size_px`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valor_data.errors import ValorDataError
from valor_data.manifest.overrides import Overrides
from valor_data.shard.reader import clip_of
from valor_data.train.batch import Batch
from valor_data.train.captions import Row, TextSettings, caption_rows, question_rows
from valor_data.train.choice import choose_names, rng_of
from valor_data.train.mel_slices import MelSliceSettings, cut_mel
from valor_data.train.pictures import PictureSettings, decode_pictures
from valor_data.train.shards import Held
from valor_data.train.text import Vocabulary


class BrokenSampleError(ValorDataError):
    """A sample that cannot be used; the loader leaves it out, names it and counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """What becomes of a sample.

    Attributes:
        modalities: `av`, `v` or `a`: what the tasks of its set take.
        asks: the words are questions with answers, not captions.
        pictures: how pictures are chosen and sized.
        mel: how the mel is cut and scaled.
        text: how words are chosen and cut.
        num_mel_bins: bands that every mel of the set has (M); 0 where no sound is taken.
    """

    modalities: str = "av"
    asks: bool = False
    pictures: PictureSettings = field(default_factory=PictureSettings)
    mel: MelSliceSettings = field(default_factory=MelSliceSettings)
    text: TextSettings = field(default_factory=TextSettings)
    num_mel_bins: int = 64


@dataclass(frozen=True, slots=True)
class ReadyClip:
    """A clip that the model can take.

    Attributes:
        key: its key.
        frames: `[F, 3, P, P]`; None where no picture is taken.
        mel: `[S, M, L]`; None where no sound is taken.
        mel_valid: `[S, L]`; None where no sound is taken.
        has_sound: whether the clip has any.
        rows: its words, one row of the batch each.
    """

    key: str
    frames: Tensor | None
    mel: Tensor | None
    mel_valid: Tensor | None
    has_sound: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """What decides about everything that is drawn for a clip; None in its place means an evaluation.

    Attributes:
        seeds: seed of the run, name of the set, number of the pass, and whatever else tells draws apart.
    """

    seeds: tuple[int | str, ...]

    def rng(self, key: str, what: str) -> np.random.Generator:
        """The generator for one purpose and clip."""
        return rng_of(*self.seeds, key, what)


def hold(key: str, files: Mapping[str, Any], settings: ClipSettings, draw: Draw | None) -> Held:
    """Keeps of a sample what will be needed: its JSON, the chosen pictures, its mel.

    Args:
        key: the sample's.
        files: extension to bytes.
        settings: what is taken.
        draw: draws the pictures in training.
    """
    names: list[str] = []
    if "v" in settings.modalities:
        names = sorted(name for name in files if name.startswith("frame_") and name.endswith(".jpg"))
    rng = draw.rng(key, "frames") if draw and names else None
    chosen = choose_names(names, settings.pictures.count, rng) if names else []
    return Held(
        details=files.get("json", b""),
        jpegs=tuple(files[name] for name in chosen),
        mel=files.get("mel.npy") if "a" in settings.modalities else None,
        num_jpegs=len(names),
    )


def make_ready(
    key: str, held: Held, settings: ClipSettings, overrides: Overrides | None, draw: Draw | None
) -> ReadyClip:
    """Decodes what is kept of a sample.

    Args:
        key: the sample's.
        held: what was kept.
        settings: what is taken, and how.
        overrides: words that take the place of the sample's.
        draw: draws slices, crops and words in training; None for an evaluation.

    Raises:
        BrokenSampleError: the sample cannot be used; the message says why.
    """
    rng = draw.rng(key, "rest") if draw else None
    details = _details(held.details)
    frames = _frames(held, settings, rng) if "v" in settings.modalities else None
    mel, valid, has_sound = None, None, False
    if "a" in settings.modalities:
        mel, valid, has_sound = _sound(held, details, settings, rng)
    return ReadyClip(key, frames, mel, valid, has_sound, tuple(_rows(key, details, settings, overrides, rng)))


def _details(data: bytes) -> dict[str, Any]:
    if not data:
        raise BrokenSampleError("no json")
    try:
        details = json.loads(data)
    except ValueError as error:
        raise BrokenSampleError(f"json: {error}") from None
    if not isinstance(details, dict):
        raise BrokenSampleError(f"json: expected an object, found a {type(details).__name__}")
    return details


def _frames(held: Held, settings: ClipSettings, rng: np.random.Generator | None) -> Tensor:
    if not held.jpegs:
        raise BrokenSampleError("no pictures")
    try:
        return decode_pictures(held.jpegs, settings.pictures, rng)
    except ValueError as error:
        raise BrokenSampleError(f"pictures: {error}") from None


def _sound(
    held: Held, details: Mapping[str, Any], settings: ClipSettings, rng: np.random.Generator | None
) -> tuple[Tensor, Tensor, bool]:
    """Mel, what of it is the clip's, and whether it has sound: without, zeros that are not normalised."""
    if held.mel is None and "a" in str(details.get("modalities", "a")):
        raise BrokenSampleError("no mel.npy, although the set was made with sound")
    spans = details.get("audio_spans", [[0.0, 1.0]])
    if held.mel is None or not any(end > start for start, end in spans):
        count, length = settings.mel.count, settings.mel.length
        nothing = torch.zeros(count, settings.num_mel_bins, length)
        return nothing, torch.zeros(count, length, dtype=torch.bool), False
    slices, valid = cut_mel(read_mel(held.mel, settings.num_mel_bins), settings.mel, rng)
    if not math.isfinite(float(slices.sum())):  # of what was chosen: looking at all of it would double the cost
        raise BrokenSampleError("mel.npy: holds values that are no numbers")
    return slices, valid, True


def read_mel(data: bytes, num_mel_bins: int) -> NDArray[Any]:
    """A stored spectrogram, floating `[T, M]`.

    Args:
        data: a NumPy file.
        num_mel_bins: bands it must have (M).

    Raises:
        BrokenSampleError: it is none.
    """
    try:
        mel: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BrokenSampleError(f"mel.npy: no array ({error})") from None
    if mel.ndim != 2 or mel.shape[1] != num_mel_bins or not len(mel) or mel.dtype.kind != "f":
        raise BrokenSampleError(f"mel.npy: {mel.dtype} of shape {mel.shape}; expected floats [T, {num_mel_bins}]")
    return mel


def _rows(
    key: str,
    details: dict[str, Any],
    settings: ClipSettings,
    overrides: Overrides | None,
    rng: np.random.Generator | None,
) -> list[Row]:
    try:
        clip = clip_of(details)
        if settings.asks:
            questions = overrides.questions_of(clip) if overrides else clip.questions
            return question_rows(key, questions, settings.text, rng)
        return caption_rows(overrides.captions_of(clip) if overrides else clip.captions, settings.text, rng)
    except KeyError as error:
        raise BrokenSampleError(f"json: no field {error}") from None
    except (TypeError, ValueError, ValorDataError) as error:
        raise BrokenSampleError(str(error)) from None


def collate(clips: Sequence[ReadyClip], settings: ClipSettings, vocabulary: Vocabulary) -> Batch:
    """Puts clips into one batch: a row for each of their rows of words.

    Args:
        clips: at least one.
        settings: what they hold.
        vocabulary: words to numbers.
    """
    owners = [number for number, clip in enumerate(clips) for _ in clip.rows]
    rows = [row for clip in clips for row in clip.rows]
    text, has_sound = settings.text, "a" in settings.modalities
    answer_tokens = text.max_answer_tokens if settings.asks else text.max_tokens
    return Batch(
        keys=[clips[owner].key for owner in owners],
        frames=_stack([clips[owner].frames for owner in owners]) if "v" in settings.modalities else None,
        mel=_stack([clips[owner].mel for owner in owners]) if has_sound else None,
        mel_valid=_stack([clips[owner].mel_valid for owner in owners]) if has_sound else None,
        has_sound=torch.tensor([clips[owner].has_sound for owner in owners]) if has_sound else None,
        captions=vocabulary.encode([row.text for row in rows], answer_tokens),
        questions=vocabulary.encode([row.question for row in rows], text.max_tokens) if settings.asks else None,
        question_keys=[row.question_key for row in rows] if settings.asks else None,
        references=[list(row.references) for row in rows],
    )


def _stack(tensors: Sequence[Tensor | None]) -> Tensor:
    """Equal tensors as one; in a worker straight into the memory it shares with the main process."""
    given = [tensor for tensor in tensors if tensor is not None]
    if torch.utils.data.get_worker_info() is None:
        return torch.stack(given)
    num_bytes = given[0].element_size() * len(given) * given[0].numel()
    untyped: Any = torch.UntypedStorage
    storage: torch.UntypedStorage = untyped._new_shared(num_bytes, device="cpu")
    shared = torch.empty(0, dtype=given[0].dtype).set_(storage).view(len(given), *given[0].shape)
    torch.stack(given, out=shared)
    return shared
