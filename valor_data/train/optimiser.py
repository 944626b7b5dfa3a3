"""AdamW with its groups of parameters, and the learning rate of each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from valor_data.config import TrainSection
from valor_data.train.valor import Valor

NEW_PARTS = ("look.", "listen.", "contrast.")
"""What no published encoder has, by the beginnings of names; and the decoder's cross-attention."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share a learning rate and a weight decay.

    Attributes:
        name: `vision`, `new` or `rest`, with `, no decay` behind it for those that do not decay.
        lr: peak learning rate.
        weight_decay: 0 for norms, biases, embeddings and the temperature.
        names: of its parameters.
    """

    name: str
    lr: float
    weight_decay: float
    names: tuple[str, ...]


def parameter_groups(model: Valor, section: TrainSection) -> list[Group]:
    """The groups of the parameters that are trained; none is empty.

    Args:
        model: not wrapped, not sharded.
        section: completed.
    """
    decayed = model.decayed()
    rates = {"vision": section.lr_vision, "new": section.lr_new, "rest": section.lr}
    members: dict[tuple[str, bool], list[str]] = {(part, decays): [] for part in rates for decays in (True, False)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_part(name), name in decayed].append(name)
    return [
        Group(
            part if decays else f"{part}, no decay", rates[part], section.weight_decay if decays else 0.0, tuple(names)
        )
        for (part, decays), names in members.items()
        if names
    ]


def _part(name: str) -> str:
    if name.startswith("vision."):
        return "vision"
    return "new" if name.startswith(NEW_PARTS) or ".crossattention." in name else "rest"


def make_optimiser(model: nn.Module, groups: list[Group], section: TrainSection) -> torch.optim.AdamW:
    """AdamW over the groups; the learning rate is set before each step.

    Args:
        model: where the parameters are looked up: sharded ones, where the model is sharded.
        groups: of `parameter_groups`.
        section: betas and ε.
    """
    parameters = dict(model.named_parameters())
    on_gpu = all(parameters[name].is_cuda for group in groups for name in group.names)
    return torch.optim.AdamW(
        [
            {"params": [parameters[name] for name in group.names], "lr": group.lr, "weight_decay": group.weight_decay}
            for group in groups
        ],
        betas=(section.beta1, section.beta2),
        eps=section.eps,
        fused=on_gpu or None,
    )


def share_of_peak(done: int, steps: int, warmup: float) -> float:
    """The learning rate of a step as a share of its peak: a straight line up, a straight line down to 0.

    Args:
        done: steps before this one.
        steps: of the whole run.
        warmup: share of the steps in which it rises.

    >>> [share_of_peak(done, 10, 0.2) for done in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    rising = round(steps * warmup)
    if done < rising:
        return (done + 1) / rising
    return (steps - done) / max(steps - rising, 1)
