"""A small loader of the published trainer's layout, written from its description (reference/valor.md B to D).

It knows nothing of valor_data: folders of pictures listed and sorted, wavs by id, JSON lists and mappings.
"""

from __future__ import annotations

import json
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchaudio.compliance import kaldi


def split_list(items: list[Any], k: int) -> list[list[Any]]:
    """Cuts a list in k contiguous near-equal groups, the first ones longer; short lists repeat their last item."""
    items = items + [items[-1]] * (k - len(items))
    size, longer = divmod(len(items), k)
    return [items[i * size + min(i, longer) : (i + 1) * size + min(i + 1, longer)] for i in range(k)]


class ReferenceSet:
    """A data set as its configuration names it.

    Args:
        checkout: the folder that the paths of the configuration start from.
        paths: `ids_path`, `txt`, `video`, `audio`, `annfile`.
    """

    def __init__(self, checkout: Path, paths: dict[str, str]) -> None:
        self.ids: list[str] = json.loads((checkout / paths["ids_path"]).read_text())
        self.texts = json.loads((checkout / paths["txt"]).read_text())
        self.annotations = json.loads((checkout / paths["annfile"]).read_text())["annotations"]
        self.video = checkout / paths.get("video", "none")
        self.audio = checkout / paths.get("audio", "none")

    def frames(self, name: str, k: int) -> list[bytes]:
        """The pictures of a test: the lower middle of each group."""
        listed = sorted(os.listdir(self.video / name))
        groups = split_list(listed, k)
        return [(self.video / name / group[(len(group) + 1) // 2 - 1]).read_bytes() for group in groups]

    def captions(self, name: str) -> list[str]:
        found = self.texts[name]
        return found if isinstance(found, list) else [found]

    def waveform(self, name: str) -> torch.Tensor | None:
        """The wav as float `[1, N]`; none where there is no file."""
        path = self.audio / f"{name}.wav"
        if not path.exists():
            return None
        with wave.open(os.fspath(path)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return torch.from_numpy(data.astype(np.float32) / 32768.0).unsqueeze(0)

    def fbank(self, name: str) -> torch.Tensor:
        """Log-mel `[T, 64]`, before it is padded, cut and normalised."""
        waveform = self.waveform(name)
        assert waveform is not None
        waveform = waveform - waveform.mean()
        return kaldi.fbank(
            waveform, htk_compat=True, sample_frequency=22_050, use_energy=False, window_type="hanning",
            num_mel_bins=64, dither=0.0, frame_shift=10,
        )  # fmt: skip
