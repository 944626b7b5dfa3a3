"""What the processes of an evaluation tell one another; alone, every function gives back what it got.

N  items of this process    M  items of all processes, in the order of the processes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from valor_data.train.losses import num_ranks
from valor_data.train.similarity import Tokens

ItemT = TypeVar("ItemT")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def gather_objects(own: ItemT) -> list[ItemT]:
    """Every process's object, in their order. For small things: they are pickled."""
    if num_ranks() == 1:
        return [own]
    found: list[ItemT | None] = [None] * num_ranks()
    dist.all_gather_object(found, own)
    return [item for item in found if item is not None]


def on_first(work: Callable[[], ItemT]) -> ItemT:
    """Does something on the first process alone and gives its result to all; what it raises, all raise.

    Args:
        work: what is to be done once.
    """
    found: list[tuple[ItemT | None, Exception | None]] = [(None, None)]
    if rank() == 0:
        try:
            found = [(work(), None)]
        except Exception as error:  # noqa: BLE001 - raised below, where the others wait
            found = [(None, error)]
    if num_ranks() > 1:
        dist.broadcast_object_list(found, src=0)
    result, raised = found[0]
    if raised is not None:
        raise raised
    return cast(ItemT, result)


def highest(own: Tensor) -> Tensor:
    """The elementwise maximum over all processes, on the CPU."""
    return _reduced(own, dist.ReduceOp.MAX)


def total(own: Tensor) -> Tensor:
    """The elementwise sum over all processes, on the CPU."""
    return _reduced(own, dist.ReduceOp.SUM)


def gather_items(own: Tensor) -> Tensor:
    """[N, …] of all processes as one [M, …], on the CPU; N may differ between them."""
    if num_ranks() == 1:
        return own.cpu()
    counts = gather_objects(len(own))
    dtype = own.dtype
    sent = own.to(_meeting_place())
    if dtype == torch.bool:
        sent = sent.to(torch.uint8)
    padded = sent.new_zeros((max(counts), *own.shape[1:]))
    padded[: len(own)] = sent
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count].cpu() for part, count in zip(parts, counts, strict=True)]).to(dtype)


def gather_tokens(own: Tokens) -> Tokens:
    """The tokens of all processes, on the CPU."""
    valid = None if own.valid is None else gather_items(own.valid)
    return Tokens(gather_items(own.features), gather_items(own.logits), valid)


def _reduced(own: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if num_ranks() == 1:
        return own.cpu()
    sent = own.to(_meeting_place()).clone()
    dist.all_reduce(sent, operation)
    return sent.cpu()


def _meeting_place() -> torch.device:
    """The device over which the processes speak: NCCL knows GPUs only."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
