"""A checkpoint of the published VALOR as one of ours: every name in it is mapped or left out for a reason.

    state, left_out = convert_state(torch.load(path, weights_only=True), config)

What the names are was taken from the published model classes (`tests/train` checks them against a list of all keys
and shapes of VALOR-B and VALOR-L).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valor_data.errors import ConfigError

from .presets import ClipConfig, LanguageConfig, ModelConfig, SoundConfig, SwinConfig

_BERT = r"multimodal_encoder\."
_CLIP = r"clip_model\.visual\."
_SWIN = r"video_encoder\."
_BERT_LAYER, _OUR_BERT_LAYER = _BERT + r"encoder\.layer\.(\d+)\.", r"language.bert.encoder.layer.\1."
_CLIP_LAYER, _OUR_CLIP_LAYER = _CLIP + r"transformer\.resblocks\.(\d+)\.", r"vision.clip.encoder.layers.\1."
_AST_LAYER, _OUR_AST_LAYER = r"audio_encoder\.layer\.(\d+)\.", r"sound.ast.layers.\1."

RULES: tuple[tuple[str, str], ...] = (
    # language: BERT, with transformers' word for cross-attention
    (_BERT + r"embeddings\.((?:word|position)_embeddings\.weight|LayerNorm\.\w+)", r"language.bert.embeddings.\1"),
    (_BERT_LAYER + r"cross_attn\.cross\.(.+)", _OUR_BERT_LAYER + r"crossattention.self.\2"),
    (_BERT_LAYER + r"cross_attn\.output\.(.+)", _OUR_BERT_LAYER + r"crossattention.output.\2"),
    (_BERT_LAYER + r"((?:attention|intermediate|output)\..+)", _OUR_BERT_LAYER + r"\2"),
    (r"cls\.dense\.(\w+)", r"language.head.dense.\1"),
    (r"cls\.layernorm\.(\w+)", r"language.head.norm.\1"),
    (r"cls\.decoder\.bias", r"language.head.bias"),
    # sound
    (r"audio_embeddings\.first_conv\.(\w+)", r"sound.ast.embeddings.patch.\1"),
    (r"audio_embeddings\.position_embeddings\.weight", r"sound.ast.embeddings.positions"),
    (r"audio_embeddings\.cls_token", r"sound.ast.embeddings.class_token"),
    (_AST_LAYER + r"attention\.linears\.0\.(\w+)", _OUR_AST_LAYER + r"attention.q_proj.\2"),
    (_AST_LAYER + r"attention\.linears\.1\.(\w+)", _OUR_AST_LAYER + r"attention.k_proj.\2"),
    (_AST_LAYER + r"attention\.linears\.2\.(\w+)", _OUR_AST_LAYER + r"attention.v_proj.\2"),
    (_AST_LAYER + r"attention\.linears\.3\.(\w+)", _OUR_AST_LAYER + r"attention.o_proj.\2"),
    (_AST_LAYER + r"ff_layer\.linear1\.(\w+)", _OUR_AST_LAYER + r"mlp.fc1.\2"),
    (_AST_LAYER + r"ff_layer\.linear2\.(\w+)", _OUR_AST_LAYER + r"mlp.fc2.\2"),
    (_AST_LAYER + r"layernorm1\.(\w+)", _OUR_AST_LAYER + r"layernorm_before.\2"),
    (_AST_LAYER + r"layernorm2\.(\w+)", _OUR_AST_LAYER + r"layernorm_after.\2"),
    (r"audio_encoder\.last_layernorm\.(\w+)", r"sound.ast.layernorm.\1"),
    # vision: CLIP (the three-in-one projection is cut apart before)
    (_CLIP + r"class_embedding", r"vision.clip.embeddings.class_embedding"),
    (_CLIP + r"positional_embedding", r"vision.clip.embeddings.position_embedding.weight"),
    (_CLIP + r"conv1\.weight", r"vision.clip.embeddings.patch_embedding.weight"),
    (_CLIP + r"ln_pre\.(\w+)", r"vision.clip.pre_layrnorm.\1"),
    (_CLIP + r"ln_post\.(\w+)", r"vision.clip.post_layernorm.\1"),
    (_CLIP_LAYER + r"attn\.([qkv]|out)_proj\.(\w+)", _OUR_CLIP_LAYER + r"self_attn.\2_proj.\3"),
    (_CLIP_LAYER + r"ln_([12])\.(\w+)", _OUR_CLIP_LAYER + r"layer_norm\2.\3"),
    (_CLIP_LAYER + r"mlp\.c_fc\.(\w+)", _OUR_CLIP_LAYER + r"mlp.fc1.\2"),
    (_CLIP_LAYER + r"mlp\.c_proj\.(\w+)", _OUR_CLIP_LAYER + r"mlp.fc2.\2"),
    # vision: Video-Swin (under torchvision's names already, see rename_swin)
    (_SWIN + r"(.+)", r"vision.swin.\1"),
    # what joins them
    (r"hidden_trans_video_multimodal\.(.+)", r"look.project.\1"),
    (r"hidden_trans_audio_multimodal\.(.+)", r"listen.project.\1"),
    (r"video_frame_embedding", r"look.frames"),
    (r"audio_frame_embedding", r"listen.frames"),
    (r"video_type_embeddings", r"look.kind"),
    (r"audio_type_embeddings", r"listen.kind"),
    (r"contra_head_([tva])\.linear\.weight", r"contrast.project.\1.weight"),
    (r"contra_temp", r"contrast.temperature"),
    (r"text_fine_weight\.(.+)", r"contrast.weigh.t.\1"),
    (r"video_fine_weight\.(.+)", r"contrast.weigh.v.\1"),
    (r"audio_fine_weight\.(.+)", r"contrast.weigh.a.\1"),
)
"""Patterns of whole names, and our names."""

LEADING_ONES = {
    "audio_embeddings.cls_token": 2,
    "video_type_embeddings": 2,
    "audio_type_embeddings": 2,
    "video_frame_embedding": 1,
    "audio_frame_embedding": 1,
}
"""Parameters that the reference keeps with axes of length 1 in front, and how many."""

LEFT_OUT: tuple[tuple[str, str], ...] = (
    (r"txt_encoder\..+", "the text encoder is the decoder, saved a second time"),
    (r"cls\.decoder\.weight", "the table of words, saved a second time"),
    (_BERT + r"pooler\..+", "BERT's pooler is never used"),
    (_SWIN + r".*relative_position_index", "follows from the window"),
    (_CLIP + r"proj", "CLIP's own projection is not used beside BERT"),
    (r"clip_model\.(?!visual\.|logit_scale).+", "CLIP's text half is not used beside BERT"),
)
"""Patterns of names that have no place in ours, and why."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A checkpoint under our names.

    Attributes:
        config: of the model it fits.
        state: every parameter of that model.
        left_out: names of the checkpoint that have no place in it, and why.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    left_out: dict[str, str]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a released checkpoint, read as data alone: nothing in the file is run.

    Raises:
        ConfigError: the file is no checkpoint, or holds other things than tensors.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except Exception as error:
        raise ConfigError(f"{path}: not a checkpoint that torch can read as data alone ({error})") from error
    for inner in ("model", "state_dict", "module"):
        if isinstance(found, Mapping) and isinstance(found.get(inner), Mapping):
            found = found[inner]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{path}: a checkpoint of VALOR maps names to tensors; this file holds something else")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def convert_state(
    state: Mapping[str, Tensor], config: ModelConfig | None = None, *, reference_exact: bool = False
) -> Converted:
    """A checkpoint's tensors under our names.

    Args:
        state: by the reference's names.
        config: of the model; None: read off the shapes, with heads of 64 as BERT, AST and CLIP have them.
        reference_exact: for a config that is read off the shapes.

    Raises:
        ConfigError: a name that no rule knows, a parameter that is not there, a shape that does not fit, or a second
            copy that differs from the first; all of them at once.
    """
    if config is None:
        config = replace(infer_config(state), reference_exact=reference_exact)
    ours, left_out, unknown = _mapped(state)
    ours["contrast.temperature"], unused = _temperature(state, config)
    problems = [*_different_copies(state), *unknown, *_misfits(ours, _shapes(config))]
    if problems:
        raise ConfigError([f"not a checkpoint of this VALOR: {len(problems)} problems", *problems])
    return Converted(config, ours, left_out | unused)


def _mapped(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Tensors under our names, names that are left out with the reason, and a line for each name of neither sort."""
    ours: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    unknown: list[str] = []
    for name, tensor in _prepared(state):
        new = _new_name(name)
        reason = next((why for pattern, why in LEFT_OUT if re.fullmatch(pattern, name)), None)
        if new is not None:
            ours[new] = tensor
        elif reason is not None:
            left_out[name] = reason
        elif name != "clip_model.logit_scale":
            unknown.append(f"{name} {list(tensor.shape)}: no rule knows this name")
    return ours, left_out, unknown


def _misfits(ours: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> Iterator[str]:
    """What of a model the checkpoint lacks, and what does not fit it."""
    for name in wanted:
        if name not in ours:
            yield f"{name}: the checkpoint has nothing for it"
    for name, tensor in ours.items():
        if name not in wanted:
            yield f"{name}: {list(tensor.shape)} in the checkpoint, nothing in the model"
        elif wanted[name] != tensor.shape:
            yield f"{name}: {list(tensor.shape)} in the checkpoint, {list(wanted[name])} in the model"


def convert_part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Some of a checkpoint's tensors under our names, for a part of the model on its own.

    Args:
        state: by the reference's names; names that have no place in ours may be among them.
        prefix: of our names, such as `sound.`; it is taken off.
    """
    named = {_new_name(name): tensor for name, tensor in _prepared(state)}
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name and name.startswith(prefix)}


def infer_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """Sizes read off the shapes of a checkpoint; heads are 64 wide, as in all published parts.

    Raises:
        ConfigError: the checkpoint is of a variant that has no place here, or not of VALOR.
    """
    words = state.get("multimodal_encoder.embeddings.word_embeddings.weight")
    head = state.get("contra_head_t.linear.weight")
    if words is None:
        raise ConfigError("not a checkpoint of VALOR: it has no multimodal_encoder.embeddings.word_embeddings.weight")
    if head is None:
        raise ConfigError(
            "this checkpoint has no contra_head_t: its text encoder is CLIP's. Only VALOR's with BERT as text encoder "
            "(VALOR-B, VALOR-L) can be converted"
        )
    width = words.shape[1]
    language = LanguageConfig(
        vocabulary=words.shape[0],
        width=width,
        layers=_count(state, r"multimodal_encoder\.encoder\.layer\.(\d+)\."),
        heads=max(1, width // 64),
        feed_forward=state["multimodal_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        positions=state["multimodal_encoder.embeddings.position_embeddings.weight"].shape[0],
    )
    sound = SoundConfig(
        width=state["audio_embeddings.first_conv.weight"].shape[0],
        layers=_count(state, r"audio_encoder\.layer\.(\d+)\."),
        heads=max(1, state["audio_embeddings.first_conv.weight"].shape[0] // 64),
        feed_forward=state["audio_encoder.layer.0.ff_layer.linear1.weight"].shape[0],
    )
    vision = _infer_clip(state) if "clip_model.visual.conv1.weight" in state else _infer_swin(state)
    return ModelConfig(
        language=language,
        vision=vision,
        sound=sound,
        contrastive_width=head.shape[0],
        max_frames=state["video_frame_embedding"].shape[1],
        prompts=vision.kind == "clip",
    )


def _infer_clip(state: Mapping[str, Tensor]) -> ClipConfig:
    conv = state["clip_model.visual.conv1.weight"]
    side = round((state["clip_model.visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return ClipConfig(
        image_px=side * conv.shape[-1],
        patch_px=conv.shape[-1],
        width=conv.shape[0],
        layers=_count(state, r"clip_model\.visual\.transformer\.resblocks\.(\d+)\."),
        heads=max(1, conv.shape[0] // 64),
        feed_forward=state["clip_model.visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
    )


def _infer_swin(state: Mapping[str, Tensor]) -> SwinConfig:
    if "video_encoder.patch_embed.proj.weight" not in state:
        raise ConfigError("not a checkpoint of VALOR-B or VALOR-L: it has neither video_encoder nor clip_model.visual")
    stages = range(_count(state, r"video_encoder\.layers\.(\d+)\."))
    table = "video_encoder.layers.{}.blocks.0.attn.relative_position_bias_table"
    return SwinConfig(
        width=state["video_encoder.patch_embed.proj.weight"].shape[0],
        depths=tuple(_count(state, rf"video_encoder\.layers\.{stage}\.blocks\.(\d+)\.") for stage in stages),
        heads=tuple(state[table.format(stage)].shape[1] for stage in stages),
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many layers there are: the greatest number in that place of a name, and one."""
    numbers = [int(found.group(1)) for name in state if (found := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def _prepared(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors, with what the two sides cut differently already cut our way."""
    for name, tensor in state.items():
        if name == "multimodal_encoder.embeddings.token_type_embeddings.weight":
            prompt = state["multimodal_encoder.embeddings.prompt_embedding.weight"]
            yield "language.bert.embeddings.token_type_embeddings.weight", torch.cat((tensor, prompt))
        elif name == "multimodal_encoder.embeddings.prompt_embedding.weight":
            continue
        elif name.startswith("clip_model.visual.") and ".attn.in_proj_" in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                yield name.replace("in_proj_", f"{letter}_proj."), part
        elif name in LEADING_ONES:
            yield name, tensor.reshape(tensor.shape[LEADING_ONES[name] :])
        elif name.startswith("video_encoder.") and not name.endswith("relative_position_index"):
            yield "video_encoder." + rename_swin(name.removeprefix("video_encoder.")), tensor
        else:
            yield name, tensor


def rename_swin(name: str) -> str:
    """Torchvision's name for a parameter of Video-Swin; a name that is torchvision's already stays.

    Its stages are numbered anew: `layers.1.blocks.0.` is `features.2.0.`, the merging behind it `features.3.`.
    """
    found = re.match(r"layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\.(.+)", name)
    if found is None:
        return name
    stage, block, rest = 2 * int(found.group(1)), found.group(2), found.group(3)
    if block is None:
        return f"features.{stage + 1}.{rest}"
    return f"features.{stage}.{block}.{rest.replace('mlp.fc1.', 'mlp.0.').replace('mlp.fc2.', 'mlp.3.')}"


def _new_name(name: str) -> str | None:
    """Our name, or None where no rule fits or the name is left out."""
    if name.startswith("language."):
        return name
    if any(re.fullmatch(pattern, name) for pattern, _ in LEFT_OUT):
        return None
    for pattern, replacement in RULES:
        found = re.fullmatch(pattern, name)
        if found is not None:
            return found.expand(replacement)
    return None


def _different_copies(state: Mapping[str, Tensor]) -> Iterator[str]:
    """Second copies that are not what they are copies of."""
    for name, tensor in state.items():
        first = name
        if name.startswith("txt_encoder."):
            first = "multimodal_encoder." + name.removeprefix("txt_encoder.")
        elif name == "cls.decoder.weight":
            first = "multimodal_encoder.embeddings.word_embeddings.weight"
        if first != name and (first not in state or not torch.equal(state[first], tensor)):
            yield f"{name} should be the same as {first} and is not"


def _temperature(state: Mapping[str, Tensor], config: ModelConfig) -> tuple[Tensor, dict[str, str]]:
    """The temperature in the form that the config asks for, and the parameter that the reference never used."""
    clip = state.get("clip_model.logit_scale")
    tau = state["contra_temp"].float()
    if config.vision.kind == "clip" and clip is not None:
        return clip.float().view(1), {"contra_temp": "with CLIP the reference takes CLIP's own temperature"}
    return (tau if config.free_temperature else -tau.log()).view(1), {}


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Names and shapes of a model, without making one."""
    from .valor import Valor

    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in Valor(config).state_dict().items()}
