"""What a model writes about every clip of a set: captions, or answers to questions, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from valor_data.errors import ConfigError
from valor_data.train.batch import Batch
from valor_data.train.caption_scores import score_captions
from valor_data.train.data import EvaluationData
from valor_data.train.gather import gather_objects, on_first
from valor_data.train.retrieval import rows_of
from valor_data.train.text import Vocabulary
from valor_data.train.valor import Valor


@dataclass(frozen=True, slots=True)
class Line:
    """A text that was written, those it is compared with, and the key of the clip it is about."""

    text: str
    references: tuple[str, ...]
    clip: str = ""


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
        By key of the clip, or by `key#id` of the question; in their order. What there is nothing to look at for is
        left out: clips without sound where the group is sound alone.
    """
    device = model.contrast.temperature.device
    own: dict[str, Line] = {}
    for _, batch in data:
        batch = rows_of(batch, _seen_or_heard(model, batch, group))
        names = _names(batch) if task == "qa" else batch.keys
        todo = _first_of_each(names, own)
        references = _references(names, batch)
        if todo:
            part = rows_of(batch, todo)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                found = model.generate(part.to(device), group, task=task, num_beams=num_beams, max_tokens=max_tokens)
            for row, ids in zip(todo, found, strict=True):
                own[names[row]] = Line(data.vocabulary.decode(ids), (), batch.keys[row])
        for name, texts in references.items():
            known = own[name]
            own[name] = replace(known, references=tuple(dict.fromkeys((*known.references, *texts))))
    everything: dict[str, Line] = {}
    for part_of_all in gather_objects(own):
        everything |= part_of_all
    return dict(sorted(everything.items()))


def _seen_or_heard(model: Valor, batch: Batch, group: str) -> list[int]:
    """Rows that a group is for: of clips without sound none in `ta`, unless the reference's arithmetic is asked for."""
    if group != "ta" or batch.has_sound is None or model.config.reference_exact:
        return list(range(len(batch)))
    return [row for row, heard in enumerate(batch.has_sound.tolist()) if heard]


def _names(batch: Batch) -> list[str]:
    """What tells the questions of a set apart: ids may be the clip's own, so its key goes before them."""
    keys = batch.question_keys or []
    return [name if name.startswith(key) else f"{key}#{name}" for key, name in zip(batch.keys, keys, strict=True)]


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
    texts = {key: line.text for key, line in lines.items()}
    references = {key: line.references for key, line in lines.items()}
    found = on_first(lambda: score_captions(texts, references, tokenizer=tokenizer))
    return found.scores, found.num_clips, list(found.notes)


def answer_worth(lines: Mapping[str, Line], vocabulary: Vocabulary) -> dict[str, float]:
    """Share of questions whose answer is, word for word, one of those given, in percent.

    Both sides are read as the model reads and writes words: in lower case, in word pieces. What the vocabulary cannot
    spell is no answer. Where the reference deletes punctuation, so does the loader (`train.clean_up`).

    Raises:
        ConfigError: no question has an answer to compare with.
    """
    asked = [line for line in lines.values() if line.references]
    if not asked:
        raise ConfigError("no question has an answer to compare with: give some with --captions")
    right = sum(is_right(line, vocabulary) for line in asked)
    return {"accuracy": 100.0 * right / len(asked)}


def is_right(line: Line, vocabulary: Vocabulary) -> bool:
    """Whether an answer is one of its references."""
    known = [ids for ids in map(vocabulary.ids, line.references) if ids and vocabulary.unknown not in ids]
    return vocabulary.ids(line.text) in known
