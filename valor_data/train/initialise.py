"""Encoders that have learned something already: their weights from the Hub, or from a folder that looks like it.

initialise(model, sources_for("base"))                       # downloads what the Hub's cache has not
initialise(model, {"text": "my/bert", "sound": "/weights/ast"})

N  positions   W  width   L  layers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_weight
from transformers import ASTModel, BertForMaskedLM, CLIPModel, CLIPVisionModel
from transformers.utils import logging as transformers_logging

from valor_data.errors import ConfigError

from .convert import read_checkpoint, rename_swin
from .positions import resize_positions
from .valor import Valor
from .vision import SwinVision

BERT = "google-bert/bert-base-uncased"
AST = "MIT/ast-finetuned-audioset-10-10-0.4593"

SOURCES: Mapping[str, Mapping[str, str]] = {
    "base": {"text": BERT, "vision": "openai/clip-vit-base-patch16", "sound": AST},
    "base-swin": {"text": BERT, "vision": "Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1", "sound": AST},
    "large": {"text": BERT, "vision": "openai/clip-vit-large-patch14-336", "sound": AST},
}
"""Where each preset's encoders come from, as in the reference but for Video-Swin: the reference takes Kinetics-600
weights, which are a file of their own (`videoswin_base_k600_22k.pth`, give its path), torchvision has Kinetics-400."""


def sources_for(preset: str) -> dict[str, str]:
    """The published encoders that a preset starts from.

    Raises:
        ConfigError: the preset has none: its sizes are its own.
    """
    if preset not in SOURCES:
        raise ConfigError(f"preset {preset!r} has sizes of its own and no published weights; {', '.join(SOURCES)} have")
    return dict(SOURCES[preset])


def initialise(model: Valor, sources: Mapping[str, str]) -> list[str]:
    """Fills encoders with weights.

    Args:
        model: to be filled.
        sources: by `text`, `vision` and `sound`: a name on the Hub, a folder as `save_pretrained` writes it, for
            Video-Swin the name of torchvision's weights or a file. What is not named keeps its random start.

    Returns:
        One line for each encoder: what was taken from where, and what of it starts at random.

    Raises:
        ConfigError: no such source, a model of another size, or weights that are not there.
    """
    fillers: dict[str, Callable[[Valor, str], str]] = {"text": _text, "vision": _vision, "sound": _sound}
    unknown = [name for name in sources if name not in fillers]
    if unknown:
        raise ConfigError([f"init: no encoder {name!r}; there are {', '.join(fillers)}" for name in unknown])
    with torch.no_grad():
        return [f"{part}: {fillers[part](model, source)}" for part, source in sources.items()]


def _text(model: Valor, source: str) -> str:
    """BERT's layers and tables into the decoder; cross-attention and the prompt vector stay random."""
    found, missing = _pretrained(BertForMaskedLM, source, optional="cls.")
    state = {name.removeprefix("bert."): tensor for name, tensor in found.state_dict().items()}
    types = "embeddings.token_type_embeddings.weight"
    own = model.language.bert.state_dict()
    if state[types].shape[1] == own[types].shape[1]:  # else the misfit is told of below
        state[types] = torch.cat((state[types], own[types][state[types].shape[0] :]))
    state |= {name: tensor for name, tensor in own.items() if ".crossattention." in name}
    _fill(model.language.bert, state, source)
    left = "cross-attention, prompt vector"
    if any(name.startswith("cls.predictions.transform") for name in missing):
        return f"BERT from {source}; at random: word head, {left}"
    head = {
        "dense.weight": state["cls.predictions.transform.dense.weight"],
        "dense.bias": state["cls.predictions.transform.dense.bias"],
        "norm.weight": state["cls.predictions.transform.LayerNorm.weight"],
        "norm.bias": state["cls.predictions.transform.LayerNorm.bias"],
        "bias": state["cls.predictions.bias"],
    }
    _fill(model.language.head, head, source)
    return f"BERT and its word head from {source}; at random: {left}"


def _vision(model: Valor, source: str) -> str:
    vision = model.vision
    if isinstance(vision, SwinVision):
        return _swin(vision, source)
    note = ""
    if model.config.reference_exact:
        whole, _ = _pretrained(CLIPModel, source)
        found = whole.vision_model
        model.contrast.temperature.copy_(whole.logit_scale)
        note = " and its temperature"
    else:
        found, _ = _pretrained(CLIPVisionModel, source)
    state = found.state_dict()
    positions = "embeddings.position_embedding.weight"
    old = found.config.image_size // found.config.patch_size
    new = vision.image_px // vision.clip.config.patch_size
    state[positions] = resize_positions(state[positions], (old, old), (new, new))
    _fill(vision.clip, state, source)
    resized = f", positions resized from {old} × {old} to {new} × {new}" if old != new else ""
    return f"CLIP's ViT{note} from {source}{resized}"


def _swin(vision: SwinVision, source: str) -> str:
    """Video-Swin: torchvision's weights by their name, or a file of theirs or of Video-Swin's own repository."""
    if Path(source).is_file():
        state = read_checkpoint(Path(source))
    else:
        try:
            state = dict(get_weight(source).get_state_dict(progress=False, check_hash=True))
        except (ValueError, AttributeError, KeyError) as error:
            raise ConfigError(
                f"init: vision {source!r} is neither a file nor the name of weights in torchvision, such as "
                f"{SOURCES['base-swin']['vision']}"
            ) from error
        except OSError as error:
            raise ConfigError(f"init: {source} could not be downloaded: {error}") from error
    state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    state = {rename_swin(name): tensor for name, tensor in state.items()}
    kept = {n: t for n, t in state.items() if not n.startswith(("head.", "cls_head.")) and "position_index" not in n}
    _fill(vision.swin, kept, source)
    return f"Video-Swin from {source}"


def _sound(model: Valor, source: str) -> str:
    """AST's layers; its patches as they are, its positions resized to our grid, the distillation token left out."""
    found, _ = _pretrained(ASTModel, source)
    state = found.state_dict()
    config = found.config
    old = (
        (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1,
        (config.max_length - config.patch_size) // config.time_stride + 1,
    )
    new = model.config.sound.grid
    own = {name: tensor for name, tensor in state.items() if not name.startswith("embeddings.")}
    own["embeddings.patch.weight"] = state["embeddings.patch_embeddings.projection.weight"]
    own["embeddings.patch.bias"] = state["embeddings.patch_embeddings.projection.bias"]
    own["embeddings.class_token"] = state["embeddings.cls_token"].flatten()
    own["embeddings.positions"] = resize_positions(state["embeddings.position_embeddings"][0], old, new, extra=2)
    _fill(model.sound.ast, own, source)
    return f"AST from {source}, positions resized from {old[0]} × {old[1]} to {new[0]} × {new[1]}"


def _pretrained(kind: Any, source: str, optional: str | None = None) -> tuple[Any, list[str]]:
    """A model of transformers, and the names of its parameters that the source has nothing for.

    Args:
        kind: its class.
        source: a name on the Hub or a folder.
        optional: what names may begin with that the source need not have.

    Raises:
        ConfigError: no such source, or one of another kind of model.
    """
    try:
        with _quiet():
            found, info = kind.from_pretrained(source, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            f"init: {source!r} cannot be loaded as {kind.__name__}: {text[:300]} "
            "(give a name on huggingface.co, or a folder with config.json and model.safetensors)"
        ) from error
    missing = sorted(info["missing_keys"])
    lacking = [name for name in missing if optional is None or not name.startswith(optional)]
    if lacking:
        raise ConfigError(
            f"init: {source!r} is no {kind.__name__}: it lacks {len(lacking)} parameters, such as {lacking[0]}"
        )
    return found, missing


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report and bars: what matters of it is said by us."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copies tensors into a module, all of its parameters or none.

    Raises:
        ConfigError: a parameter has no tensor, or one of another shape.
    """
    wanted = module.state_dict()
    problems = list(_misfits(wanted, state))
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ConfigError(
            f"init: {source} does not fit this model: {'; '.join(problems[:3])}{more}. Choose the preset that it is for"
        )
    for name, tensor in wanted.items():
        tensor.copy_(state[name])


def _misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in wanted.items():
        if name not in state:
            yield f"it has no {name}"
        elif state[name].shape != tensor.shape:
            yield f"{name} is {list(state[name].shape)} there and {list(tensor.shape)} here"
