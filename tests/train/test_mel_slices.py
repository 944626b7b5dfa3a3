"""Mel slices: the reference's to the last bit where that is asked for, and marked padding where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from valor_data.train.mel_slices import VALOR_MEAN, VALOR_STD, MelSliceSettings, cut_mel

CLIPS = ["tone", "noise", "chirp", "clicks", "silence", "real_nasa", "short_2s3", "short_5s0", "mult512_1024frames"]


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden/fbank.npz") as file:
        return {name: file[name] for name in file.files if not name.endswith(".wave")}


@pytest.mark.parametrize("name", CLIPS)
def test_the_reference_to_the_last_bit(golden: dict[str, np.ndarray], name: str) -> None:
    expected = golden[f"{name}.norm2"]
    two, _ = cut_mel(golden[f"{name}.fbank"], MelSliceSettings(count=2, reference_exact=True))
    one, _ = cut_mel(golden[f"{name}.fbank"], MelSliceSettings(count=1, reference_exact=True))
    assert (two.numpy() == expected).all()
    assert (one.numpy() == golden.get(f"{name}.norm1", expected[:1])).all()


@pytest.mark.parametrize("name", CLIPS)
def test_ours_differs_in_the_padding_alone(golden: dict[str, np.ndarray], name: str) -> None:
    mel = golden[f"{name}.fbank"]
    exact, exact_valid = cut_mel(mel, MelSliceSettings(count=2, reference_exact=True))
    ours, valid = cut_mel(mel, MelSliceSettings(count=2))
    assert ours[~valid.unsqueeze(1).expand_as(ours)].abs().sum() == 0
    if len(mel) % 512:
        assert (valid == exact_valid).all()
        assert torch.where(valid.unsqueeze(1), exact, 0.0).equal(ours)
        assert exact[~valid.unsqueeze(1).expand_as(exact)].numpy() == pytest.approx(0.46703, abs=1e-5)
    else:  # the reference has a third slice, of padding, and takes it
        assert valid.all() and not exact_valid[1].any()


def test_what_is_valid_is_the_clip_normalised() -> None:
    mel = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float16)
    slices, valid = cut_mel(mel, MelSliceSettings(count=2))
    assert slices.shape == (2, 64, 512) and slices.dtype == torch.float32
    assert valid.sum(1).tolist() == [512, 88]
    expected = (mel.astype(np.float64) - VALOR_MEAN) / (2 * VALOR_STD)
    assert slices[1, :, :88].numpy() == pytest.approx(expected[512:].T, abs=1e-6)


def test_training_takes_any_slice() -> None:
    mel = np.arange(4, dtype=np.float32).repeat(512)[:, None].repeat(2, 1)
    settings = MelSliceSettings(mean=0.0, std=0.5)
    seen = {int(cut_mel(mel, settings, np.random.default_rng(seed))[0][0, 0, 0]) for seed in range(40)}
    assert seen == {0, 1, 2, 3}
    assert int(cut_mel(mel, settings)[0][0, 0, 0]) == 1
