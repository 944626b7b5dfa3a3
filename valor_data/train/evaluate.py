"""How good a model is on a set: retrieval, captions, answers.

    data = EvaluationData(DataSet(shards="my-set", task="ret%tva", split="test"), loader, vocabulary)
    scores = evaluate(model, data, parse_tasks("ret%tva"), EvalSettings(dsl=True))
    scores["retrieval/tva/r1"], scores["retrieval/tva/clip_to_text/r5"], scores["retrieval/tva/dsl/text_to_clip/r1"]

Shares are in percent, as papers print them. Several processes (torchrun) each take their part of the data and all
get the same scores; every clip counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from valor_data.clip import certificate
from valor_data.errors import ConfigError, ShardError
from valor_data.train.batch import Batch
from valor_data.train.data import EvaluationData
from valor_data.train.gather import gather_objects
from valor_data.train.retrieval import Encodings, Gallery, first_rows, rows_of
from valor_data.train.tasks import Tasks
from valor_data.train.valor import Valor
from valor_data.train.written import answer_worth, caption_worth, write_lines

NOTHING = "no clip can be used: nothing was measured; run `valor-data verify`"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """How to measure.

    Attributes:
        every_caption: retrieval asks with every caption of a clip, whether or not the loader gives a row for each;
            else with those of the loader's rows.
        dsl: retrieval also with dual softmax, which looks at all queries of the test at once.
        num_beams: for captions; 1 is greedy. VALOR: 3. Answers are always greedy.
        max_words: longest caption, in word pieces. VALOR: 30.
        max_answer_words: longest answer, in word pieces. VALOR: 5, and the end.
        tokenizer: of the caption scores; see `caption_scores.score_captions`.
        bfloat16: encoders and decoder in bfloat16 where it pays; similarities stay float32.
    """

    every_caption: bool = True
    dsl: bool = False
    num_beams: int = 3
    max_words: int = 30
    max_answer_words: int = 6
    tokenizer: str = "auto"
    bfloat16: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and on what.

    Attributes:
        scores: `retrieval/tva/text_to_clip/r1`, …; shares in percent, ranks from 1.
        keys: of the clips, sorted.
        num_clips: clips (for answers, questions) behind the scores of a task and group, `retrieval/tva`, ….
        notes: what a reader of the scores must know.
        predictions: by task and group, `caption/tva`, what was written, by key of the clip or `key#id` of the question.
    """

    scores: dict[str, float]
    keys: tuple[str, ...]
    num_clips: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    predictions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def certificate(self) -> str:
        """Hash of the keys, see `valor_data.clip.certificate`: equal where the same clips were asked."""
        return certificate(self.keys)


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
    if not (tasks.contrastive or tasks.caption or tasks.qa):
        raise ConfigError(f"task {tasks.text!r}: nothing to measure; expected ret%…, cap%… or qa%…, such as ret%tva")
    was_training = model.training
    model.eval()
    try:
        parts = [_retrieval(model, data, tasks, settings)] if tasks.contrastive else []
        parts += [_captions(model, data, group, settings) for group in tasks.caption]
        parts += [_answers(model, data, group, settings) for group in tasks.qa]
    finally:
        model.train(was_training)
    return _joined(parts)


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of several of the same set."""
    return Evaluation(
        scores={name: value for part in parts for name, value in part.scores.items()},
        keys=tuple(sorted({key for part in parts for key in part.keys})),
        num_clips={name: number for part in parts for name, number in part.num_clips.items()},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        predictions={name: lines for part in parts for name, lines in part.predictions.items()},
    )


def _retrieval(model: Valor, data: EvaluationData, tasks: Tasks, settings: EvalSettings) -> Evaluation:
    encodings = _encode(model, data, tasks, settings)
    gallery = Gallery(model, encodings)
    if not gallery.keys:
        raise ShardError(NOTHING)
    found = gallery.search(tasks.contrastive, settings.dsl)
    return Evaluation(
        scores={f"retrieval/{name}": value for name, value in found.scores.items()},
        keys=tuple(gallery.keys),
        num_clips={f"retrieval/{group}": number for group, number in found.num_clips.items()},
        notes=tuple(_notes(data, encodings.num_wordless)),
    )


def _captions(model: Valor, data: EvaluationData, group: str, settings: EvalSettings) -> Evaluation:
    lines = write_lines(model, data, "caption", group, settings.num_beams, settings.max_words, settings.bfloat16)
    if not lines:
        raise ShardError(NOTHING)
    scores, num_clips, notes = caption_worth(lines, settings.tokenizer)
    name = f"caption/{group}"
    return Evaluation(
        scores={f"{name}/{measure}": value for measure, value in scores.items()},
        keys=tuple(lines),
        num_clips={name: num_clips},
        notes=(*notes, *_notes(data)),
        predictions={name: {key: line.text for key, line in lines.items()}},
    )


def _answers(model: Valor, data: EvaluationData, group: str, settings: EvalSettings) -> Evaluation:
    lines = write_lines(model, data, "qa", group, 1, settings.max_answer_words, settings.bfloat16)
    if not lines:
        raise ShardError(NOTHING)
    name = f"qa/{group}"
    return Evaluation(
        scores={f"{name}/{measure}": value for measure, value in answer_worth(lines, data.vocabulary).items()},
        keys=tuple(sorted({line.clip for line in lines.values()})),
        num_clips={name: sum(bool(line.references) for line in lines.values())},
        notes=tuple(_notes(data)),
        predictions={name: {key: line.text for key, line in lines.items()}},
    )


def _encode(model: Valor, data: EvaluationData, tasks: Tasks, settings: EvalSettings) -> Encodings:
    device = model.contrast.temperature.device
    encodings = Encodings()
    letters = "".join(tasks.contrastive)
    for batch in new_clips(step.batch for step in data):
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
            encodings.add(model, batch.to(device), letters, _queries(batch, data, settings).to(device))
    return encodings


def _queries(batch: Batch, data: EvaluationData, settings: EvalSettings) -> Batch:
    """The captions that ask for a batch's clips, a row each; a clip without any has none."""
    references = batch.references or [[] for _ in batch.keys]
    if not settings.every_caption:
        return rows_of(batch, [row for row, texts in enumerate(references) if texts])
    asking = [(batch.keys[row], text) for row in first_rows(batch.keys) for text in references[row]]
    ids = data.vocabulary.encode([text for _, text in asking], data.settings.text.max_tokens)
    return Batch([key for key, _ in asking], captions=ids)


def new_clips(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches without clips that an earlier one of this process had."""
    seen: set[str] = set()
    for batch in batches:
        rows = [row for row, key in enumerate(batch.keys) if key not in seen]
        seen.update(batch.keys)
        if rows:
            yield batch if len(rows) == len(batch) else rows_of(batch, rows)


def _notes(data: EvaluationData, num_wordless: int = 0) -> Iterable[str]:
    """What was left out, over all processes."""
    left_out: list[tuple[Any, int, int]] = gather_objects((data.broken, num_wordless, data.num_removed))
    broken = {str(one) for part, _, _ in left_out for one in part}
    wordless, removed = sum(number for _, number, _ in left_out), sum(number for *_, number in left_out)
    if broken:
        yield f"{len(broken)} broken samples left out; the first: {min(broken)}"
    if removed:
        yield "samples that were removed from the set are left out (tombstones)"
    if wordless:
        yield f"{wordless} clips without a caption left out"
