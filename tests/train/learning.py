"""What a process of `test_learner.py` runs: some steps of training on its share of the clips.

torchrun --nproc-per-node 2 learning.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from golden_models import random_batch, tiny_model

from valor_data.config import TrainDataSection, TrainSection
from valor_data.train.batch import Batch
from valor_data.train.data import Step
from valor_data.train.learner import Learned, Learner
from valor_data.train.masking import Masked, mask_tokens
from valor_data.train.parallel import Ranks, together, whole_state
from valor_data.train.settings import completed

TASK = "pt_contra%tva%tv%ta_caption%tva%tv%ta"
CLIPS, STEPS = 8, 4


def section_for(task: str = TASK, **changes: Any) -> TrainSection:
    values = {"lr": 1e-3, "device": "cpu", "tensorboard": False, **changes}
    return completed(TrainSection(task=task, data=(TrainDataSection(shards="x", task=task),), **values), "x")


def clips_of(step: int) -> tuple[Batch, Masked]:
    """A step's clips and their masked captions, the same in every process; two clips have no sound."""
    batch = random_batch(CLIPS, seed=step)
    assert batch.mel is not None and batch.mel_valid is not None and batch.has_sound is not None
    gone = torch.tensor([1, 6])
    batch.mel[gone], batch.mel_valid[gone], batch.has_sound[gone] = 0, False, False
    assert batch.captions is not None
    return batch, mask_tokens(batch.captions, 0.6, 200, torch.Generator().manual_seed(step))


def part(batch: Batch, masked: Masked, first: int, stop: int) -> tuple[Batch, Masked]:
    rows = slice(first, stop)
    values = {name: getattr(batch, name)[rows] for name in ("frames", "mel", "mel_valid", "has_sound", "captions")}
    return Batch(batch.keys[rows], **values), Masked(masked.ids[rows], masked.labels[rows])


def learn(learner: Learner, step: int, cuts: list[tuple[int, int]]) -> Learned:
    """One step over some parts of the clips, one batch each."""
    parts = [part(*clips_of(step), first, stop) for first, stop in cuts]
    task = next(iter(learner.tasks))
    batches = [Step(task, batch) for batch, _ in parts]
    return learner.learn(batches, step, [{"caption": masked} for _, masked in parts])


def figures(learned: Learned) -> dict[str, float]:
    return {**learned.losses, "grad_norm": learned.grad_norm, "temperature": learned.temperature}


def run(ranks: Ranks, parallel: str) -> dict[str, Any]:
    """The figures of some steps, and the weights after them."""
    learner = Learner(tiny_model(), section_for(parallel=parallel), ranks, STEPS)
    size = CLIPS // ranks.world
    own = [(ranks.rank * size, (ranks.rank + 1) * size)]
    steps = [figures(learn(learner, step, own)) for step in range(1, STEPS + 1)]
    return {"steps": steps, "weights": whole_state(learner.model), "optimiser": learner.state()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with together("cpu") as everybody:
        for kind in ("ddp", "fsdp"):
            found = run(everybody, kind)
            if everybody.is_first:
                torch.save(found, Path(sys.argv[1]) / f"{kind}.pt")
