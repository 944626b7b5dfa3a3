"""What the validation set says of a model on the way: its loss, and retrieval where the task compares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from valor_data.config import TrainSection
from valor_data.train.data import EvaluationData
from valor_data.train.evaluate import EvalSettings, evaluate
from valor_data.train.learner import Learner
from valor_data.train.parallel import plain
from valor_data.train.retrieval import rows_of
from valor_data.train.tasks import parse_tasks


@torch.no_grad()
def validate(learner: Learner, data: EvaluationData, section: TrainSection) -> dict[str, float]:
    """Scores of the model as it is now, the same on every process.

    Args:
        learner: whose model is looked at; nothing of it is changed.
        data: the validation set.
        section: completed.

    Returns:
        `loss` and its parts, with the same words hidden each time; `retrieval/…` as `evaluate` gives them, where
        the model is not sharded; `caption/…` or `qa/…` where the best checkpoint is chosen by one of them.
    """
    ranks, tasks = learner.ranks, parse_tasks(data.source.task)
    generator = torch.Generator(ranks.device).manual_seed(section.seed)
    sums, num_batches = Counter[str](), 0
    learner.model.eval()
    try:
        for _, batch in data:
            # a rank may have a clip more than another, and clips are compared over all ranks
            size = min(ranks.collect(len(batch)))
            ready = (batch if size == len(batch) else rows_of(batch, range(size))).to(ranks.device)
            with learner.autocast():
                losses = learner.model(ready, tasks, generator)
            sums.update({name: float(value) for name, value in losses.items()})
            num_batches += 1
        names = sorted(sums)
        means = torch.tensor([sums[name] / max(num_batches, 1) for name in names], device=ranks.device)
        scores = dict(zip(names, ranks.mean(means).tolist(), strict=True))
        written: dict[str, Any] = {task: () for task in ("caption", "qa") if not section.best_by.startswith(f"{task}/")}
        asked = replace(tasks, **written)  # writing captions and scoring them takes minutes: only when it decides
        if (asked.contrastive or asked.caption or asked.qa) and section.parallel != "fsdp":
            scores |= evaluate(plain(learner.model), data, asked, EvalSettings(bfloat16=learner.low_precision))
    finally:
        learner.model.train()
    return scores


def is_better(metric: str, value: float, before: float) -> bool:
    """Whether a score is better than another: losses and ranks fall, everything else rises."""
    return value < before if "loss" in metric or "rank" in metric or "/" not in metric else value > before
