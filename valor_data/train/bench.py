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
    data: DataSet,
    *,
    only: frozenset[str] | None = None,
    settings: EvalSettings | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> dict[str, Any] | None:
    """Everything about a model on a set, JSON-able; None on processes of torchrun's other than the first.

    Args:
        checkpoint: a run, a checkpoint, or a converted model.
        data: the set, and in its task what to measure.
        only: keys of the clips to measure on; None: all of the split.
        settings: how to measure.
        changes: settings of `[train]` that differ from those of the training (`num_frames`, …); None: the same.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: no model there, or settings that cannot be.
        ShardError: no clip that can be used.
    """
    settings, tasks = settings or EvalSettings(), parse_tasks(data.task)
    model, vocabulary, section = load_model(checkpoint)
    warned = doubts(section, data.task)
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    section = completed(replace(section, **given), str(data.shards))
    loader = loader_settings(section, model.config)
    with together(device) as ranks:
        held = EvaluationData(data, loader, vocabulary, rank=ranks.rank, world=ranks.world, only=only)
        if ranks.device.type == "cuda":
            settings = replace(settings, bfloat16=True)
        found = evaluate_fully(model.to(ranks.device), held, tasks, settings)
        if not ranks.is_first:
            return None
    return {
        "checkpoint": str(checkpoint_folder(checkpoint)),
        "data": str(data.shards),
        "split": data.split,
        "task": data.task,
        "settings": {**asdict(settings), "num_frames": section.num_frames, "num_slices": section.num_slices},
        "scores": found.scores,
        "num_clips": found.num_clips,
        "certificate": found.certificate,
        "notes": [*warned, *found.notes, *_not_there(frozenset(found.keys), only)],
        "predictions": found.predictions,
    }


def _not_there(measured: frozenset[str], only: frozenset[str] | None) -> list[str]:
    """A note where clips that were asked for are not in the set, or cannot be used."""
    missing = sorted(only - measured) if only is not None else []
    if not missing:
        return []
    return [f"{len(missing)} of the {len(only or ())} clips asked for were not measured; the first: {missing[0]}"]
