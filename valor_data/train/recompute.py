"""Activation checkpointing: a layer's inner values are computed again in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(layers: Iterable[nn.Module], on: bool) -> None:
    """Turns it on or off for each layer, in training only.

    Args:
        layers: repeated blocks of a network, of whatever library.
        on: whether to.
    """
    for layer in layers:
        layer.__dict__.pop("forward", None)
        if on:
            layer.__dict__["forward"] = _twice(layer)


def _twice(layer: nn.Module) -> Any:
    """The layer's own forward, run under a checkpoint while it trains."""
    forward = layer.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        if not layer.training:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
