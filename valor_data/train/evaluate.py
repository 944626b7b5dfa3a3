"""How good a model is on a set: retrieval, captions, answers.

    data = EvaluationData(DataSet(shards="my-set", task="ret%tva", split="test"), loader, vocabulary)
    scores = evaluate(model, data, parse_tasks("ret%tva"), EvalSettings(dsl=True))
    scores["retrieval/tva/r1"], scores["retrieval/tva/clip_to_text/r5"], scores["retrieval/tva/dsl/text_to_clip/r1"]

Shares are in percent, as papers print them. Several processes (torchrun) each take their part of the data and all
get the same scores; every clip counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from valor_data.errors import ConfigError, ShardError
from valor_data.train.batch import Batch
from valor_data.train.data import EvaluationData
from valor_data.train.gather import gather_objects
from valor_data.train.retrieval import Encodings, Gallery, rows_of
from valor_data.train.tasks import Tasks
from valor_data.train.valor import Valor


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """How to measure.

    Attributes:
        dsl: retrieval also with dual softmax, which looks at all queries of the test at once.
        bfloat16: encoders and decoder in bfloat16 where it pays; similarities stay float32.
    """

    dsl: bool = False
    bfloat16: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and on what.

    Attributes:
        scores: `retrieval/tva/text_to_clip/r1`, …; shares in percent, ranks from 1.
        keys: of the clips, sorted.
        num_clips: clips behind the scores of a task and group, `retrieval/tva`, ….
        notes: what a reader of the scores must know.
    """

    scores: dict[str, float]
    keys: tuple[str, ...]
    num_clips: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def certificate(self) -> str:
        """SHA-256 of the sorted keys, a line each: equal where the same clips were asked."""
        return hashlib.sha256("".join(f"{key}\n" for key in self.keys).encode()).hexdigest()


def evaluate(
    model: Valor, data: EvaluationData, tasks: Tasks, settings: EvalSettings | None = None
) -> dict[str, float]:
    """The scores alone; see `evaluate_fully`."""
    return evaluate_fully(model, data, tasks, settings).scores


@torch.no_grad()
def evaluate_fully(
    model: Valor, data: EvaluationData, tasks: Tasks, settings: EvalSettings | None = None
) -> Evaluation:
    """Measures a model on every clip of a set, once.

    Args:
        model: on the device where it is to run; left in the mode it was in.
        data: the set; with several processes each has its part.
        tasks: what to measure, from which modalities.
        settings: how.

    Raises:
        ConfigError: the tasks hold nothing that can be measured.
        ShardError: the set has no clip that can be used.
        ValorDataError: the model's similarities are no numbers.
    """
    settings = settings or EvalSettings()
    if not tasks.contrastive:
        raise ConfigError(f"task {tasks.text!r}: nothing to measure; expected ret%…, cap%… or qa%…, such as ret%tva")
    was_training = model.training
    model.eval()
    try:
        encodings = _encode(model, data, tasks, settings)
        gallery = Gallery(model, encodings)
        if not gallery.keys:
            raise ShardError("no clip can be used: nothing was measured; run `valor-data verify`")
        found = gallery.search(tasks.contrastive, settings.dsl)
    finally:
        model.train(was_training)
    return Evaluation(
        scores={f"retrieval/{name}": value for name, value in found.scores.items()},
        keys=tuple(gallery.keys),
        num_clips={f"retrieval/{group}": number for group, number in found.num_clips.items()},
        notes=tuple(_notes(data, encodings)),
    )


def _encode(model: Valor, data: EvaluationData, tasks: Tasks, settings: EvalSettings) -> Encodings:
    device = model.contrast.temperature.device
    encodings = Encodings()
    letters = "".join(tasks.contrastive)
    for batch in new_clips(step.batch for step in data):
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
            encodings.add(model, batch.to(device), letters)
    return encodings


def new_clips(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches without clips that an earlier one of this process had."""
    seen: set[str] = set()
    for batch in batches:
        rows = [row for row, key in enumerate(batch.keys) if key not in seen]
        seen.update(batch.keys)
        if rows:
            yield batch if len(rows) == len(batch) else rows_of(batch, rows)


def _notes(data: EvaluationData, encodings: Encodings) -> Iterable[str]:
    """What was left out, over all processes."""
    left_out: list[tuple[Any, int]] = gather_objects((data.broken, encodings.num_wordless))
    broken = {str(one) for part, _ in left_out for one in part}
    wordless = sum(number for _, number in left_out)
    if broken:
        yield f"{len(broken)} broken samples left out; the first: {min(broken)}"
    if wordless:
        yield f"{wordless} clips without a caption left out"
