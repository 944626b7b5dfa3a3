"""The two places where VALOR's Video-Swin is not torchvision's: patches, and attention inside a window.

torchvision's attention builds every window's scores for every clip; this one has the same parameters and goes
through `scaled_dot_product_attention`.

    B  clips   F, Y, X  steps, rows and columns of the grid   C  channels   H  heads   D  width of a head
    M  windows of a clip   N  places of a window
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

Size = tuple[int, int, int]

BLOCKED = -100.0
"""What Swin adds to the score of two places that a shift brought together (its own figure; not −∞)."""


class FramePatches(nn.Module):
    """Patches of 2 frames × 4 × 4 px, a frame apart: step f sees frames f and f + 1, the last one sees zeros.

    Takes the arguments that `SwinTransformer3d` gives its patch embedding.
    """

    def __init__(self, patch_size: list[int], embed_dim: int, norm_layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        steps, rows, columns = patch_size
        self.patch = steps, rows, columns
        self.proj = nn.Conv3d(3, embed_dim, kernel_size=self.patch, stride=(1, rows, columns))
        self.norm = norm_layer(embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, F, H, W] to [B, F, Y, X, C]."""
        below, right = (-size % patch for size, patch in zip(pixels.shape[-2:], self.patch[1:], strict=True))
        padded = functional.pad(pixels, (0, right, 0, below, 0, self.patch[0] - 1))
        patches: Tensor = self.norm(self.proj(padded).permute(0, 2, 3, 4, 1))
        return patches


class WindowAttention(ShiftedWindowAttention3d):  # type: ignore[misc]
    """The windowed attention of torchvision, parameters and all, computed by `scaled_dot_product_attention`.

    Args:
        corner_bias: where a window has shrunk to a small grid, take the bias from the top left corner of the full
            window's table, as the reference and torchvision do, instead of by the true offsets. They are the same
            as long as height and width have not shrunk (224 px: never).
    """

    def __init__(self, *args: Any, corner_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.corner_bias = corner_bias

    def define_relative_position_index(self) -> None:
        """Keeps the index out of checkpoints: it follows from the window."""
        super().define_relative_position_index()
        index = self.relative_position_index
        del self.relative_position_index
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, F, Y, X, C] to the same."""
        grid: Size = (x.shape[1], x.shape[2], x.shape[3])
        window, shift = self._fit(grid)
        pad = [-size % side for size, side in zip(grid, window, strict=True)]
        padded = functional.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        size: Size = (padded.shape[1], padded.shape[2], padded.shape[3])
        if any(shift):
            padded = padded.roll([-s for s in shift], (1, 2, 3))
        windows = _split(padded, window)  # [B, M, N, C]
        mixed = self._attend(windows, self._bias(window, shift, size, windows))
        out = _join(mixed, window, size)
        if any(shift):
            out = out.roll(list(shift), (1, 2, 3))
        return out[:, : grid[0], : grid[1], : grid[2]].contiguous()

    def _fit(self, grid: Size) -> tuple[Size, Size]:
        """Window and shift: an axis no longer than the window is one window, unshifted."""
        window, shift = list(self.window_size), list(self.shift_size)
        for axis, size in enumerate(grid):
            if size <= window[axis]:
                window[axis], shift[axis] = size, 0
        return (window[0], window[1], window[2]), (shift[0], shift[1], shift[2])

    def _bias(self, window: Size, shift: Size, size: Size, like: Tensor) -> Tensor:
        """What is added to the scores: [H, N, N], or [M·H, N, N] where a shift blocks some pairs."""
        num = window[0] * window[1] * window[2]
        index = self.relative_position_index
        if self.corner_bias:
            index = index[:num, :num]
        else:
            f, y, x = window
            full = tuple(self.window_size)
            index = index.view(*full, *full)[:f, :y, :x, :f, :y, :x].reshape(num, num)
        bias: Tensor = (
            self.relative_position_bias_table[index.flatten()].view(num, num, -1).permute(2, 0, 1).to(like.dtype)
        )
        if not any(shift):
            return bias
        blocked = _blocked_pairs(size, window, shift).to(like.device)  # [M, N, N]
        return (bias + blocked[:, None].to(like.dtype) * BLOCKED).flatten(0, 1)

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention inside each window, [B, M, N, C] to the same.

        Windows ride on the batch or, where each has a mask of its own, on the heads.
        """
        batch, num_windows, num_places, channels = windows.shape
        qkv = self.qkv(windows).view(batch, num_windows, num_places, 3, self.num_heads, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind()  # [B, M, H, N, D]
        per_window = bias.shape[0] != self.num_heads
        fold = (1, 2) if per_window else (0, 1)
        query, key, value = (part.flatten(*fold) for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        mixed = mixed.reshape(batch, num_windows, self.num_heads, num_places, -1).transpose(2, 3)
        projected: Tensor = self.proj(mixed.reshape(batch, num_windows, num_places, channels))
        return projected


def make_block(corner_bias: bool) -> Callable[..., nn.Module]:
    """A Swin block of torchvision with the attention above, for `SwinTransformer3d(block=…)`."""

    def block(*args: Any, **kwargs: Any) -> nn.Module:
        kwargs["attn_layer"] = partial(WindowAttention, corner_bias=corner_bias)
        made: nn.Module = SwinTransformerBlock(*args, **kwargs)
        return made

    return block


def _split(grid: Tensor, window: Size) -> Tensor:
    """[B, F, Y, X, C] to [B, M, N, C]."""
    batch, *size, channels = grid.shape
    f, y, x = (whole // side for whole, side in zip(size, window, strict=True))
    parts = grid.view(batch, f, window[0], y, window[1], x, window[2], channels)
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, f * y * x, -1, channels)


def _join(windows: Tensor, window: Size, size: Size) -> Tensor:
    """[B, M, N, C] to [B, F, Y, X, C]."""
    batch, channels = windows.shape[0], windows.shape[-1]
    f, y, x = (whole // side for whole, side in zip(size, window, strict=True))
    parts = windows.view(batch, f, y, x, *window, channels)
    return parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, *size, channels)


@lru_cache(maxsize=64)
def _blocked_pairs(size: Size, window: Size, shift: Size) -> Tensor:
    """Which two places of a window come from different regions of the shifted grid: [M, N, N], bool.

    Along an axis the grid after the shift holds three regions: whole windows, what was left of the last one, and
    what came round from the front.
    """
    regions = torch.zeros(1, *size, 1)
    for axis in range(3):
        if not shift[axis]:
            continue
        place = torch.arange(size[axis])
        region = (place >= size[axis] - window[axis]).long() + (place >= size[axis] - shift[axis]).long()
        regions = regions * 3 + region.view([-1 if a == axis + 1 else 1 for a in range(5)])
    names = _split(regions, window)[0, :, :, 0]
    return names[:, :, None] != names[:, None, :]
