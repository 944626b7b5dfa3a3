"""Which words go with a clip in a batch: one of its captions, or a question with its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from valor_data.clip import ROLES, Caption, Question
from valor_data.errors import ConfigError
from valor_data.train.text import clean_up

EVALUATIONS = ("first", "all")
ANSWERS = ("random", "frequent")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How captions, questions and answers are chosen and cut.

    Attributes:
        max_tokens: most word pieces of a caption or question. VALOR: 40 in pretraining, 30 in most tasks.
        max_answer_tokens: most word pieces of an answer (VALOR: 5).
        clean_up: the reference's: single spaces, lower case, no punctuation.
        roles: only captions of these roles, in order of preference for the first; empty: all.
        evaluate: a row for the first caption of a clip, or for all of them.
        answer: in training, any of a question's answers, or the most frequent.

    Raises:
        ConfigError: a value that cannot be; all of them at once.
    """

    max_tokens: int = 40
    max_answer_tokens: int = 5
    clean_up: bool = False
    roles: tuple[str, ...] = ()
    evaluate: str = "first"
    answer: str = "random"

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value!r}: expected one of {', '.join(allowed)}"
            for name, value, allowed in (
                ("evaluate", self.evaluate, EVALUATIONS),
                ("answer", self.answer, ANSWERS),
                *(("roles", role, ROLES) for role in self.roles),
            )
            if value not in allowed
        ]
        problems += [
            f"{name} = {value}: expected at least 1"
            for name, value in (("max_tokens", self.max_tokens), ("max_answer_tokens", self.max_answer_tokens))
            if value < 1
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Row:
    """The words of one row of a batch.

    Attributes:
        text: the caption, or the answer; empty where an evaluation has none.
        references: every caption or answer that is right.
        question: the question; empty without one.
        question_key: its id.
    """

    text: str
    references: tuple[str, ...]
    question: str = ""
    question_key: str = ""


def caption_rows(captions: Sequence[Caption], settings: TextSettings, rng: np.random.Generator | None) -> list[Row]:
    """The rows of a clip whose captions count.

    Args:
        captions: the clip's.
        settings: which roles, and how many rows in an evaluation.
        rng: draws one caption in training; None for an evaluation.

    Returns:
        One row in training; in an evaluation one or one a caption, and one with empty text where there is none.

    Raises:
        ValueError: no caption to train on.
    """
    if settings.roles:
        captions = [caption for role in settings.roles for caption in captions if caption.role == role]
    texts = tuple(clean_up(caption.text) if settings.clean_up else caption.text for caption in captions)
    if rng is not None:
        if not texts:
            raise ValueError(f"no caption{' of role ' + ' or '.join(settings.roles) if settings.roles else ''}")
        return [Row(texts[int(rng.integers(len(texts)))], texts)]
    shown = texts[:1] if settings.evaluate == "first" else texts
    return [Row(text, texts) for text in shown or ("",)]


def question_rows(
    key: str, questions: Sequence[Question], settings: TextSettings, rng: np.random.Generator | None
) -> list[Row]:
    """The rows of a clip whose questions count: a random one in training, all of them in an evaluation.

    Args:
        key: the clip's; with the question's number it stands for an id that is missing.
        questions: the clip's.
        settings: which answer is trained on.
        rng: draws in training; None for an evaluation.

    Raises:
        ValueError: no question, or none with an answer.
    """
    rows = []
    for number, question in enumerate(questions):
        answers = [clean_up(answer) if settings.clean_up else answer for answer in question.answers]
        if answers or rng is None:
            asked = clean_up(question.question) if settings.clean_up else question.question
            rows.append(Row("", tuple(answers), asked, question.question_id or f"{key}#{number}"))
    if not rows:
        raise ValueError("no question with an answer")
    if rng is not None:
        rows = [rows[int(rng.integers(len(rows)))]]
    return [Row(_answer(row.references, settings, rng), row.references, row.question, row.question_key) for row in rows]


def _answer(answers: Sequence[str], settings: TextSettings, rng: np.random.Generator | None) -> str:
    if not answers:
        return ""
    if rng is not None and settings.answer == "random":
        return answers[int(rng.integers(len(answers)))]
    return Counter(answers).most_common(1)[0][0]
