"""What a model writes about every clip of a set: captions, or answers to questions, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from valor_data.train.batch import Batch
from valor_data.train.caption_scores import score_captions
from valor_data.train.data import EvaluationData
from valor_data.train.gather import from_first, gather_objects
from valor_data.train.gather import rank as own_rank
from valor_data.train.retrieval import rows_of
from valor_data.train.text import Vocabulary
from valor_data.train.valor import Valor


@dataclass(frozen=True, slots=True)
class Line:
    """A text that was written, and those it is compared with."""

    text: str
    references: tuple[str, ...]


def write_lines(
    model: Valor, data: EvaluationData, task: str, group: str, num_beams: int, max_tokens: int, bfloat16: bool = False
) -> dict[str, Line]:
    """Has a caption (or an answer) written for every clip (every question) of a set, once, over all processes.

    Args:
        model: on its device.
        data: the set; each process has its part.
        task: `caption` or `qa`.
        group: `tva`, `tv` or `ta`: what to look at.
        num_beams: 1 is greedy.
        max_tokens: longest text.
        bfloat16: the precision of the encoders and the decoder.

    Returns:
        By key of the clip, or id of the question; in their order.
    """
    device = model.contrast.temperature.device
    own: dict[str, Line] = {}
    for _, batch in data:
        names = batch.question_keys if task == "qa" else batch.keys
        todo = _first_of_each(names or [], own)
        references = _references(names or [], batch)
        if todo:
            part = rows_of(batch, todo)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                found = model.generate(part.to(device), group, task=task, num_beams=num_beams, max_tokens=max_tokens)
            for row, ids in zip(todo, found, strict=True):
                own[(names or [])[row]] = Line(data.vocabulary.decode(ids), ())
        for name, texts in references.items():
            known = own[name]
            own[name] = Line(known.text, tuple(dict.fromkeys((*known.references, *texts))))
    everything: dict[str, Line] = {}
    for part_of_all in gather_objects(own):
        everything |= part_of_all
    return dict(sorted(everything.items()))


def _first_of_each(names: Sequence[str], done: Mapping[str, Line]) -> list[int]:
    """Rows whose name was not written about yet, the first of each."""
    first = {name: row for row, name in reversed(list(enumerate(names))) if name not in done}
    return sorted(first.values())


def _references(names: Sequence[str], batch: Batch) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, texts in zip(names, batch.references or [], strict=True):
        found.setdefault(name, []).extend(texts)
    return found


def caption_worth(lines: Mapping[str, Line], tokenizer: str) -> tuple[dict[str, float], int, list[str]]:
    """BLEU, METEOR, ROUGE-L and CIDEr of captions, the same on every process; clips behind them; what to know.

    Only the first process counts: METEOR takes a process and 1.2 GB of memory.

    Raises:
        ConfigError: no clip has a caption to compare with.
    """
    told: tuple[dict[str, float], int, list[str]] | None = None
    if own_rank() == 0:
        found = score_captions(
            {key: line.text for key, line in lines.items()},
            {key: line.references for key, line in lines.items()},
            tokenizer=tokenizer,
        )
        told = (found.scores, found.num_clips, list(found.notes))
    answer = from_first(told)
    return ({}, 0, []) if answer is None else answer


def answer_worth(lines: Mapping[str, Line], vocabulary: Vocabulary) -> dict[str, float]:
    """Share of questions whose answer is, word for word, one of those given, in percent.

    Both sides are read as the model reads and writes words: lower case, in word pieces, unknown ones alike.
    """
    asked = [line for line in lines.values() if line.references]
    right = sum(_as_written(line.text, vocabulary) in _all_as_written(line.references, vocabulary) for line in asked)
    return {"accuracy": 100.0 * right / max(len(asked), 1)}


def _all_as_written(texts: Iterable[str], vocabulary: Vocabulary) -> set[str]:
    return {_as_written(text, vocabulary) for text in texts}


def _as_written(text: str, vocabulary: Vocabulary) -> str:
    return vocabulary.decode(vocabulary.ids(text))
