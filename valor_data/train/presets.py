"""The sizes and choices of a model, and the four that have a name.

    preset("base")                        CLIP B/16 + BERT-base + AST
    preset("base-swin")                   VALOR-B: Video-Swin-B + BERT-base + AST
    preset("large")                       VALOR-L: CLIP L/14 at 224 px + BERT-base + AST, with prompts
    preset("tiny")                        a few million parameters: seconds a step on two CPU cores
    preset("base", reference_exact=True)  the reference's arithmetic, its mistakes included

`reference_exact` brings back each of these at once:

| what | the reference (`reference_exact`) | ours |
|---|---|---|
| padding in the similarity | its dot products become 0, which floors the maxima at 0 | left out of the maxima |
| clips without sound | zeros, positives like any other | left out of every group with `a` |
| padded mel frames | tokens like any other | not attended to, not compared |
| gradient of gathered features | the encoders get 1/ranks of it | what one process would compute |
| mean over masked tokens | of each rank, then over ranks | over all ranks |
| temperature | Swin: τ itself, free; CLIP: 1/exp(scale), free | 1/exp(scale), τ ≥ 0.01 |
| Swin windows smaller than 7×7 | bias of a corner of the full table | bias of the true offsets |
| weight decay | all but biases and BERT's norms | matrices and convolutions only |

The golden numbers hold these together. Dropout, prompts and sizes are not touched by the switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args

from valor_data.errors import ConfigError

VisionKind = Literal["clip", "swin"]


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """BERT, text encoder and decoder in one. The defaults are BERT-base (uncased)."""

    vocabulary: int = 30522
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    positions: int = 512
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """A CLIP ViT; every frame on its own. The defaults are B/16.

    `projection` is the width of CLIP's own shared space; ours does not use it, a checkpoint has it.
    """

    kind: Literal["clip"] = "clip"
    image_px: int = 224
    patch_px: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072

    @property
    def out_width(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def tokens_per_frame(self) -> int:
        """Class token and patches."""
        return (self.image_px // self.patch_px) ** 2 + 1


@dataclass(frozen=True, slots=True)
class SwinConfig:
    """Video-Swin with one step a frame. The defaults are Video-Swin-B as VALOR-B has it."""

    kind: Literal["swin"] = "swin"
    image_px: int = 224
    width: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: tuple[int, int, int] = (8, 7, 7)
    drop_path: float = 0.2

    @property
    def out_width(self) -> int:
        """Width of a token: doubled from stage to stage."""
        return int(self.width * 2 ** (len(self.depths) - 1))

    @property
    def tokens_per_frame(self) -> int:
        """Places of the last stage."""
        side = -(-self.image_px // 4)
        for _ in self.depths[1:]:
            side = -(-side // 2)
        return side**2


@dataclass(frozen=True, slots=True)
class SoundConfig:
    """AST as VALOR has it: 64 bands, slices of 512 frames, patches of 16 × 16 that do not overlap."""

    mel_bins: int = 64
    slice_frames: int = 512
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    dropout: float = 0.1

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along mel and along time: 4 × 32."""
        return self.mel_bins // self.patch, self.slice_frames // self.patch

    @property
    def tokens_per_slice(self) -> int:
        """Class token and patches: 129."""
        return self.grid[0] * self.grid[1] + 1


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that decides what a model computes.

    Attributes:
        contrastive_width: width of the space where similarities are taken; VALOR: 512.
        max_frames: rows of the tables of frame and slice embeddings; VALOR: 32.
        prompts: whether a task's sentence is appended to the text; VALOR: in L only.
        contrastive_weight: α of α·MGA + MGC; VALOR: 1.5. It was tuned where the encoders got 1/8 of that gradient.
        caption_mask: share of caption tokens to predict; VALOR: 0.6.
        mlm_mask: the same for masked language modelling; VALOR: 0.15.
        answer_mask: the same for answers; VALOR: 0.99.
        temperature: τ at the start; VALOR: 0.07, with CLIP 0.01.
        reference_exact: the reference's arithmetic, see the table above.
    """

    language: LanguageConfig = field(default_factory=LanguageConfig)
    vision: ClipConfig | SwinConfig = field(default_factory=ClipConfig)
    sound: SoundConfig = field(default_factory=SoundConfig)
    contrastive_width: int = 512
    max_frames: int = 32
    prompts: bool = False
    contrastive_weight: float = 1.5
    caption_mask: float = 0.6
    mlm_mask: float = 0.15
    answer_mask: float = 0.99
    temperature: float = 0.07
    reference_exact: bool = False

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ConfigError(problems)

    @property
    def free_temperature(self) -> bool:
        """Whether the parameter is τ itself, as in the reference without CLIP."""
        return self.reference_exact and self.vision.kind == "swin"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The config that `to_dict` wrote.

        Raises:
            ConfigError: a name that no setting has, or a value that does not fit.
        """
        values = dict(values)
        vision = dict(values.pop("vision", {}))
        kinds: dict[str, type] = {"clip": ClipConfig, "swin": SwinConfig}
        kind = vision.get("kind", "clip")
        if kind not in kinds:
            raise ConfigError(f"model.vision.kind is {kind!r}; it can be {' or '.join(get_args(VisionKind))}")
        parts = {"language": LanguageConfig, "sound": SoundConfig, "vision": kinds[kind]}
        given = {"language": values.pop("language", {}), "sound": values.pop("sound", {}), "vision": vision}
        problems = [p for name, part in parts.items() for p in _unknown(part, given[name], f"model.{name}.")]
        problems += _unknown(cls, values, "model.")
        if problems:
            raise ConfigError(problems)
        made = {name: part(**_as_tuples(given[name])) for name, part in parts.items()}
        return cls(**made, **values)


def _as_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _unknown(kind: type, values: Mapping[str, Any], prefix: str) -> list[str]:
    known = [f.name for f in fields(kind)] if is_dataclass(kind) else []
    return [f"{prefix}{name} is no setting; there are {', '.join(known)}" for name in values if name not in known]


def _problems(config: ModelConfig) -> Iterator[str]:
    """What in a config cannot be built, one line each."""
    for name, part in (("language", config.language), ("sound", config.sound), ("vision", config.vision)):
        if isinstance(part, SwinConfig):
            if len(part.depths) != len(part.heads):
                yield f"model.vision has {len(part.depths)} depths and {len(part.heads)} heads; one of each a stage"
        elif part.width % part.heads:
            yield f"model.{name}.width is {part.width}, no multiple of its {part.heads} heads"
    if isinstance(config.vision, ClipConfig) and config.vision.image_px % config.vision.patch_px:
        yield f"model.vision.image_px is {config.vision.image_px}, no multiple of patch_px, {config.vision.patch_px}"
    sound = config.sound
    if sound.mel_bins % sound.patch or sound.slice_frames % sound.patch:
        yield f"model.sound: {sound.mel_bins} × {sound.slice_frames} does not divide into patches of {sound.patch}"
    for name in ("caption_mask", "mlm_mask", "answer_mask"):
        share = getattr(config, name)
        if not 0 < share <= 1:
            yield f"model.{name} is {share}; it is a share above 0, at most 1"
    if config.temperature <= 0:
        yield f"model.temperature is {config.temperature}; it must be above 0"


def _tiny() -> ModelConfig:
    return ModelConfig(
        language=LanguageConfig(width=128, layers=3, heads=4, feed_forward=512, positions=128, dropout=0.0),
        vision=ClipConfig(image_px=64, patch_px=16, width=128, layers=3, heads=4, feed_forward=512),
        sound=SoundConfig(width=128, layers=3, heads=4, feed_forward=512, dropout=0.0),
        contrastive_width=128,
    )


def _large() -> ModelConfig:
    vision = ClipConfig(patch_px=14, width=1024, layers=24, heads=16, feed_forward=4096)
    return ModelConfig(vision=vision, prompts=True)


PRESETS = {
    "tiny": _tiny,
    "base": ModelConfig,
    "base-swin": lambda: ModelConfig(vision=SwinConfig()),
    "large": _large,
}
"""What each name stands for, made when it is asked for."""


def preset(name: str, **changes: Any) -> ModelConfig:
    """A config by its name, with some settings changed.

    Args:
        name: one of `PRESETS`.
        changes: settings of `ModelConfig` to replace.

    Raises:
        ConfigError: no such preset, or a changed setting that cannot be.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    unknown = _unknown(ModelConfig, changes, "model.")
    if unknown:
        raise ConfigError(unknown)
    return replace(PRESETS[name](), **changes)
