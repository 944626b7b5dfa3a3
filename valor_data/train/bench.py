"""A trained model measured on a set, as the command line asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from valor_data.train.checkpoint import checkpoint_folder, load_model
from valor_data.train.data import DataSet, EvaluationData
from valor_data.train.evaluate import EvalSettings, evaluate_fully
from valor_data.train.parallel import together
from valor_data.train.settings import completed, doubts, loader_settings
from valor_data.train.tasks import parse_tasks


def measure(
    checkpoint: Path,
    data: str,
    task: str,
    *,
    split: str = "test",
    captions: str = "",
    settings: EvalSettings | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> dict[str, Any] | None:
    """Everything about a model on a set, JSON-able; None on processes of torchrun's other than the first.

    Args:
        checkpoint: a run, a checkpoint, or a converted model.
        data: shards.
        task: what to measure.
        split: of a folder.
        captions: an annotation file in the place of the shards' captions.
        settings: how to measure.
        changes: settings of `[train]` that differ from those of the training (`num_frames`, …); None: the same.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: no model there, or settings that cannot be.
        ShardError: no clip that can be used.
    """
    settings, tasks = settings or EvalSettings(), parse_tasks(task)
    model, vocabulary, section = load_model(checkpoint)
    warned = doubts(section, task)
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    section = completed(replace(section, **given), data)
    loader = loader_settings(section, model.config)
    with together(device) as ranks:
        data_set = DataSet(shards=data, task=task, split=split, captions=captions)
        held = EvaluationData(data_set, loader, vocabulary, rank=ranks.rank, world=ranks.world)
        if ranks.device.type == "cuda":
            settings = replace(settings, bfloat16=True)
        found = evaluate_fully(model.to(ranks.device), held, tasks, settings)
        if not ranks.is_first:
            return None
    return {
        "checkpoint": str(checkpoint_folder(checkpoint)),
        "data": data,
        "split": split,
        "task": task,
        "settings": {**asdict(settings), "num_frames": section.num_frames, "num_slices": section.num_slices},
        "scores": found.scores,
        "num_clips": found.num_clips,
        "certificate": found.certificate,
        "notes": [*warned, *found.notes],
        "predictions": found.predictions,
    }
