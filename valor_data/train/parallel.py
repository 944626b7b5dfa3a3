"""The processes that train together, as torchrun starts them: one a device, DDP or FSDP2; or a single one.

    torchrun --nproc-per-node 8 -m valor_data train --work my-set --preset base

torchrun says in RANK, LOCAL_RANK and WORLD_SIZE who is who; without them there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from valor_data.errors import ConfigError
from valor_data.train.tasks import Tasks
from valor_data.train.valor import Valor

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""A sharded state is put together again, on the first process."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Who this process is.

    Attributes:
        rank: its number, from 0.
        world: processes that train together.
        device: what it computes on.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes of some figures, on every process."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def collect(self, value: Any) -> list[Any]:
        """What each process has, by rank, on every process; anything that can be pickled."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found


def rank_of_environment() -> int:
    """The number of this process as torchrun says it; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def together(device: str = "auto") -> Iterator[Ranks]:
    """Joins the processes that torchrun started, and lets go of them at the end.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: a GPU was asked for and there is none for this process.
    """
    rank, world = rank_of_environment(), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device is cuda and torch finds no GPU here; give cpu, or see to the driver")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and local >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}; "
            f"give torchrun --nproc-per-node {torch.cuda.device_count()}"
        )
    place = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    if world > 1:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Ranks(rank, world, place)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def freeze_unused(model: Valor, tasks: Sequence[Tasks]) -> set[str]:
    """Takes parameters that no task reaches out of the training; gives their names."""
    unused = set.intersection(*(model.unused(one) for one in tasks))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in unused)
    return unused


def spread(model: Valor, ranks: Ranks, tasks: Sequence[Tasks], parallel: str, low_precision: bool) -> nn.Module:
    """The model as several processes train it.

    Args:
        model: on its device; what `freeze_unused` found is frozen.
        ranks: who trains.
        tasks: what is learned; where they differ, DDP must look for parameters that a step did not reach.
        parallel: `ddp`: every process has the model; `fsdp`: each has a share of every layer.
        low_precision: whether FSDP sends the layers' parameters as bfloat16. The rest, the gradients and the
            optimiser stay float32.

    Raises:
        ConfigError: FSDP with a single process.
    """
    if parallel == "fsdp":
        if ranks.world == 1:
            raise ConfigError("train.parallel is fsdp and there is one process; start several by torchrun, or give ddp")
        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if low_precision else None, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for layer in model.layers():
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh)
        return model
    if ranks.world == 1:
        return model
    differ = len({frozenset(model.unused(one)) for one in tasks}) > 1
    device_ids = [ranks.device] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(
        model, device_ids=device_ids, find_unused_parameters=differ, gradient_as_bucket_view=True
    )


def plain(model: nn.Module) -> Valor:
    """The model inside its wrapping."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(inner, Valor):
        raise TypeError(f"not a model of ours: {type(inner).__name__}")
    return inner


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights, on the CPU; every process must ask, and with FSDP only the first is given them."""
    return cast("dict[str, Tensor]", get_model_state_dict(model, options=WHOLE))
