"""What the loader hands to the model.

Shapes, here and in the whole room:

    B  clips of a batch            T  text tokens, start and end marks included
    F  frames of a clip            H, W  height and width of a frame, pixels
    S  slices of a clip's mel      M  mel bands        L  mel frames of a slice (VALOR: 512)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class Batch:
    """Clips ready for the model. Whatever the task or the data set does not have is None.

    Attributes:
        keys: [B] of the clips.
        frames: [B, F, 3, H, W], uint8; or float32 in 0 … 1 where the reference's arithmetic is asked for. Not
            normalised: the vision encoder does it, on its device.
        mel: [B, S, M, L], float32, normalised; where there is no sound, 0.
        mel_valid: [B, S, L], bool: True where the mel holds sound of the clip, False where it was padded.
        has_sound: [B], bool: False for a clip whose sound is missing (its mel is 0 throughout).
        captions: [B, T], int64: start, words, end, padding. For question answering, the answers.
        questions: [B, T], int64: start, words, end, padding.
        question_keys: [B] ids of the questions, for the evaluation.
        references: [B] every caption or answer of a clip as text, for the evaluation.
    """

    keys: list[str]
    frames: Tensor | None = None
    mel: Tensor | None = None
    mel_valid: Tensor | None = None
    has_sound: Tensor | None = None
    captions: Tensor | None = None
    questions: Tensor | None = None
    question_keys: list[str] | None = None
    references: list[list[str]] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: Any) -> Batch:
        """The batch with its tensors on a device, copied while the host goes on."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; called by torch's loader."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Any) -> Batch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: change(value) if isinstance(value, Tensor) else value for name, value in values.items()})
