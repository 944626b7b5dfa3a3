"""The small models behind the golden numbers, and their weights under our names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from valor_data.train.batch import Batch
from valor_data.train.convert import convert_state
from valor_data.train.presets import ClipConfig, LanguageConfig, ModelConfig, SoundConfig, SwinConfig
from valor_data.train.valor import Valor

LANGUAGE = LanguageConfig(vocabulary=200, width=48, layers=3, heads=4, feed_forward=96, positions=64, dropout=0.0)
SOUND = SoundConfig(width=48, layers=3, heads=4, feed_forward=96, dropout=0.0)
SWIN = SwinConfig(image_px=56, width=24, depths=(2, 2), heads=(2, 4), drop_path=0.0)
CLIP = ClipConfig(image_px=64, patch_px=16, width=64, layers=2, heads=1, feed_forward=256)
SWIN_MODEL = ModelConfig(LANGUAGE, SWIN, SOUND, contrastive_width=32, reference_exact=True)


def golden(shared: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a golden file; what is stored in half precision is exact there."""
    tensors = load_file(shared / "golden" / f"{name}.safetensors")
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in tensors.items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours.detach() - theirs).abs().max())


def swin_model(tensors: dict[str, Tensor], config: ModelConfig = SWIN_MODEL) -> Valor:
    """The whole model of `pretrain_step.safetensors`."""
    model = Valor(config)
    model.load_state_dict(convert_state(part(tensors, "sd."), config).state)
    return model


def golden_batch(model: Valor, tensors: dict[str, Tensor]) -> Batch:
    """Its inputs; the golden pixels are normalised already, a batch's are not."""
    frames = tensors["in.pixels"] * model.vision.std + model.vision.mean
    keys = [f"clip{number}" for number in range(frames.shape[0])]
    return Batch(keys, frames=frames, mel=tensors["in.spectrogram"], captions=tensors["in.ids"])


def tiny_model(reference_exact: bool = False, seed: int = 0, **changes: object) -> Valor:
    """A random model of the same sizes, weights large enough that a mistake shows."""
    values: dict[str, object] = {"reference_exact": reference_exact, "contrastive_width": 32, **changes}
    config = ModelConfig(LANGUAGE, CLIP, SOUND, **values)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Valor(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def random_batch(size: int, *, seed: int = 0, frames: int = 2, slices: int = 1, text: int = 12) -> Batch:
    """Clips of noise with captions of different lengths; all have sound."""
    generator = torch.Generator().manual_seed(seed)
    captions = torch.randint(106, 200, (size, text), generator=generator)
    captions[:, 0] = 101
    lengths = torch.randint(3, text + 1, (size,), generator=generator)
    for row, length in enumerate(lengths.tolist()):
        captions[row, length - 1] = 102
        captions[row, length:] = 0
    return Batch(
        keys=[f"clip{number}" for number in range(size)],
        frames=torch.randint(0, 256, (size, frames, 3, 64, 64), generator=generator, dtype=torch.uint8),
        mel=torch.randn(size, slices, 64, 512, generator=generator),
        mel_valid=torch.ones(size, slices, 512, dtype=torch.bool),
        has_sound=torch.ones(size, dtype=torch.bool),
        captions=captions,
    )
