"""What `test_ranks.py` runs: processes that each take a step of a small model on their share of the clips.

ranks.py FOLDER
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist
from golden_models import random_batch, tiny_model
from torch.nn.parallel import DistributedDataParallel

from valor_data.train.batch import Batch
from valor_data.train.masking import Masked, mask_tokens
from valor_data.train.tasks import parse_tasks

CLIPS = 8
CASES = {"four": (4, False, True), "two": (2, False, False), "two_exact": (2, True, False)}
"""How many ranks, `reference_exact`, and whether some clips have no sound."""

TASKS = parse_tasks("pt_contra%tva%tv%ta_caption%tva%tv%ta")


def whole(silent: bool) -> tuple[Batch, Masked]:
    """Clips and their masked captions, the same in every process; captions differ in length between ranks."""
    batch = random_batch(CLIPS, seed=11)
    assert batch.mel is not None and batch.mel_valid is not None and batch.has_sound is not None
    if silent:
        gone = torch.tensor([0, 1, 5])  # with four ranks the first has no sound at all
        batch.mel[gone], batch.mel_valid[gone], batch.has_sound[gone] = 0, False, False
    assert batch.captions is not None
    return batch, mask_tokens(batch.captions, 0.6, 200, torch.Generator().manual_seed(7))


def share(batch: Batch, masked: Masked, rank: int, ranks: int) -> tuple[Batch, Masked]:
    size = CLIPS // ranks
    part = slice(rank * size, (rank + 1) * size)
    values = {name: getattr(batch, name)[part] for name in ("frames", "mel", "mel_valid", "has_sound", "captions")}
    return Batch(batch.keys[part], **values), Masked(masked.ids[part], masked.labels[part])


def step(exact: bool, silent: bool) -> dict[str, dict[str, torch.Tensor]]:
    """Losses, as means over ranks, and the gradients that DDP leaves behind."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = tiny_model(reference_exact=exact)
    with torch.no_grad():  # DDP copies rank 0's parameters over these
        for parameter in model.parameters():
            parameter.add_(rank)
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    batch, masked = share(*whole(silent), rank, ranks)
    losses = parallel(batch, TASKS, masked={"caption": masked})
    losses["loss"].backward()
    for loss in losses.values():
        dist.all_reduce(loss.detach().div_(ranks))
    return {
        "losses": {name: loss.detach() for name, loss in losses.items()},
        "gradients": {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
    }


def run_rank(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    for name, (ranks, exact, silent) in CASES.items():
        if rank >= ranks:
            continue
        meeting = f"file://{folder}/meet_{name}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
        found = step(exact, silent)
        if rank == 0:
            torch.save(found, folder / f"{name}.pt")
        dist.destroy_process_group()


def main(folder: Path) -> int:
    """Forks the ranks, so that what takes longest, the imports, is done once; nothing has been computed yet."""
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(folder, rank)) for rank in range(4)]
    for process in ranks:
        process.start()
    while any(process.is_alive() for process in ranks):
        wait([process.sentinel for process in ranks if process.is_alive()])
        if any(process.exitcode for process in ranks):  # the others would wait for it
            for process in ranks:
                process.kill()
    return max(abs(process.exitcode or 0) for process in ranks)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
