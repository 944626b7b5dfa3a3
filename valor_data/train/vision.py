"""Frames to tokens: CLIP's ViT from transformers, or Video-Swin from torchvision.

B  clips        F  frames of a clip       N  tokens of a frame      W  width of a token
H, W  height and width of a frame in pixels, where three colours stand before them
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.models.video.swin_transformer import SwinTransformer3d
from transformers import CLIPVisionConfig, CLIPVisionModel

from valor_data.errors import ConfigError

from .presets import ClipConfig, SwinConfig
from .windows import FramePatches, make_block

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Colours of CLIP's own training pictures."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VisionEncoder(nn.Module):
    """What both encoders share: the size they take, and colours made ready on the device.

    Args:
        image_px: height and width of a frame.
        mean: of each colour in 0 … 1.
        std: the same.
    """

    def __init__(self, image_px: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.image_px = image_px
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def normalise(self, frames: Tensor) -> Tensor:
        """Pixels as the encoder wants them.

        Args:
            frames: [B, F, 3, H, W], uint8 or float in 0 … 1.

        Raises:
            ConfigError: the frames are of another size than the model.
        """
        height, width = frames.shape[-2:]
        if (height, width) != (self.image_px, self.image_px):
            raise ConfigError(
                f"frames are {height} × {width} px and the model takes {self.image_px} × {self.image_px}: "
                "set the data's frame size to the model's, or model.vision.image_px to the data's"
            )
        scale = 255.0 if frames.dtype == torch.uint8 else 1.0
        return (frames.float() / scale - self.mean) / self.std


class ClipVision(VisionEncoder):
    """CLIP's ViT, each frame by itself; its last norm is put on every token, nothing is projected."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config.image_px, CLIP_MEAN, CLIP_STD)
        self.clip = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.feed_forward,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                image_size=config.image_px,
                patch_size=config.patch_px,
                attn_implementation="sdpa",
            )
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, F, 3, H, W] normalised pixels to [B, F, N, W]: the class token, then the patches row by row."""
        hidden = self.clip(pixel_values=pixels.flatten(0, 1)).last_hidden_state
        tokens: Tensor = self.clip.post_layernorm(hidden)
        return tokens.view(*pixels.shape[:2], *tokens.shape[1:])

    def pool(self, tokens: Tensor) -> Tensor:
        """One vector a frame, [B, F, W]: the class token."""
        return tokens[:, :, 0]

    @property
    def layers(self) -> Iterable[nn.Module]:
        """The blocks."""
        return list(self.clip.encoder.layers)


class SwinVision(VisionEncoder):
    """Video-Swin whose patches are two frames deep and one frame apart: as many steps out as frames in.

    Args:
        config: sizes.
        corner_bias: see `windows.WindowAttention`.
    """

    def __init__(self, config: SwinConfig, corner_bias: bool = False) -> None:
        super().__init__(config.image_px, IMAGENET_MEAN, IMAGENET_STD)
        self.swin = SwinTransformer3d(
            patch_size=[2, 4, 4],
            embed_dim=config.width,
            depths=list(config.depths),
            num_heads=list(config.heads),
            window_size=list(config.window),
            stochastic_depth_prob=config.drop_path,
            num_classes=1,
            block=make_block(corner_bias),
            patch_embed=FramePatches,
        )
        self.swin.head = nn.Identity()  # classes of the data set it was trained on: no part of VALOR

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, F, 3, H, W] normalised pixels to [B, F, N, W]: the places of the last stage, row by row."""
        hidden = self.swin.patch_embed(pixels.transpose(1, 2))
        tokens: Tensor = self.swin.norm(self.swin.features(hidden))
        return tokens.flatten(2, 3)

    def pool(self, tokens: Tensor) -> Tensor:
        """One vector a frame, [B, F, W]: the mean of its places."""
        return tokens.mean(2)

    @property
    def layers(self) -> Iterable[nn.Module]:
        """The blocks of all stages."""
        return [block for stage in self.swin.features if isinstance(stage, nn.Sequential) for block in stage]


def make_vision(config: ClipConfig | SwinConfig, corner_bias: bool = False) -> ClipVision | SwinVision:
    """The encoder that a config describes."""
    return ClipVision(config) if isinstance(config, ClipConfig) else SwinVision(config, corner_bias)
