"""One annotation row, and how the values that annotations hold become its parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from valor_data.clip import MAX_ID_CHARACTERS, MAX_MS, ROLES, Question, escape_id, to_ms
from valor_data.manifest.options import SPLIT_NAME
from valor_data.manifest.rejects import RowRefused

MAX_CAPTION_CHARACTERS = 10_000
"""No sentence is longer; VALOR-32K's longest caption has under 1 000 characters."""

DEFAULT_ROLE = "audiovisual"

_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_YOUTUBE_SPAN = re.compile(r"([A-Za-z0-9_-]{11})_(-?[0-9]+(?:\.[0-9]+)?)_(-?[0-9]+(?:\.[0-9]+)?)")
_ANY_SPAN = re.compile(r"(.+)_(-?[0-9]+\.[0-9]+)_(-?[0-9]+\.[0-9]+)", re.DOTALL)
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]+)?)")
_LETTER = re.compile(r"[^\W\d_]")
_MIDS = re.compile(r"/[a-z]/[^,/\s]+(?:\s*,\s*/[a-z]/[^,/\s]+)*")

SPLIT_WORDS: dict[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""The words that name a split, in file names and in split columns."""


@dataclass(slots=True)
class Row:
    """What one annotation row says, its span in whole milliseconds.

    Attributes:
        number: line or item in its file, counted from 1.
        raw: the row's text, for rejects.
        video_id: checked id.
        start_ms: first millisecond; None where the row has no span at all.
        end_ms: millisecond after the last; None where the row does not say.
        captions: (text, role) pairs, texts not yet checked.
        labels: class labels as written.
        questions: questions with answers; an empty id is filled in later.
        split: the row's own split.
        url: the video's address.
    """

    number: int
    raw: str
    video_id: str
    start_ms: int | None = None
    end_ms: int | None = None
    captions: list[tuple[str, str]] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    split: str | None = None
    url: str | None = None


def clean(text: str) -> str:
    """The text without blanks around it.

    Raises:
        RowRefused: it holds what UTF-8 cannot (`not_utf8`).
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowRefused("not_utf8", f"not UTF-8 at character {error.start + 1}; save the file as UTF-8") from error
    return text.strip()


def read_id(value: Any, *, youtube: bool) -> str:
    """A video id.

    Raises:
        RowRefused: it is none (`bad_id`).
    """
    if isinstance(value, str):
        video_id = clean(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        video_id = str(value)
    else:
        raise RowRefused("bad_id", f"id {value!r}: expected a text")
    if youtube:
        if not _YOUTUBE_ID.fullmatch(video_id):
            raise RowRefused("bad_id", f"id {video_id!r}: expected YouTube's 11 characters A-Z a-z 0-9 _ -")
    elif not video_id or len(video_id) > MAX_ID_CHARACTERS or len(escape_id(video_id)) > MAX_ID_CHARACTERS:
        raise RowRefused("bad_id", f"id {video_id!r}: expected 1 to {MAX_ID_CHARACTERS} characters once escaped")
    return video_id


def read_spanned_id(value: Any, *, youtube: bool) -> tuple[str, int | None, int | None]:
    """An id that may carry its span as `<id>_<start>_<end>` in seconds: id, start and end in milliseconds.

    Ids may hold and begin with `_` and `-`. Where ids need not be YouTube's, a span has decimals
    (`_30.000_40.000`), so that an id that ends in whole numbers stays an id.

    Raises:
        RowRefused: no id (`bad_id`) or no span (`bad_span`).
    """
    text = clean(value) if isinstance(value, str) else ""
    bare = youtube and len(text) == 11
    match = None if bare else (_YOUTUBE_SPAN if youtube else _ANY_SPAN).fullmatch(text)
    if match is None:
        return read_id(value, youtube=youtube), None, None
    start_ms, end_ms = read_span(match[2], match[3])
    return read_id(match[1], youtube=youtube), start_ms, end_ms


def read_seconds(value: Any) -> float | None:
    """A time in seconds: a number, its text, or a clock (`00:01:02.500`); None where there is none.

    Raises:
        RowRefused: something else (`bad_span`).
    """
    if value is None or (isinstance(value, float | int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            clock = _CLOCK.fullmatch(value.strip())
        if clock is not None:
            return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
        if not value.strip():
            return None
    raise RowRefused("bad_span", f"time {value!r}: expected seconds, such as 30 or 30.000")


def read_span(start: Any, end: Any) -> tuple[int | None, int | None]:
    """A span in milliseconds: (None, None) where there is none, (start, None) where the end is unknown.

    Raises:
        RowRefused: no number, negative, end not after start, beyond 27.7 h (`bad_span`).
    """
    first, last = read_seconds(start), read_seconds(end)
    if first is None and last is None:
        return None, None
    first = 0.0 if first is None else first
    wrong = not 0 <= first * 1000 <= MAX_MS  # also true of NaN
    if last is None:
        if wrong:
            raise RowRefused("bad_span", f"start {start!r}: expected 0 to {MAX_MS // 1000} seconds")
        return to_ms(first), None
    if not wrong and 0 <= last * 1000 <= MAX_MS:
        first_ms, last_ms = to_ms(first), to_ms(last)
        if first_ms < last_ms:
            return first_ms, last_ms
    raise RowRefused("bad_span", f"span [{start}, {end}): expected 0 <= start < end <= {MAX_MS // 1000} seconds")


def read_split(value: Any) -> str | None:
    """A row's own split, its usual synonyms made one (`training`, `validation`, `eval`); None where empty.

    Raises:
        RowRefused: not a name that a shard's file name can hold (`bad_split`).
    """
    if value is None or value == "":
        return None
    name = str(value).strip()
    if not SPLIT_NAME.fullmatch(name):
        raise RowRefused("bad_split", f"split {name!r}: expected up to 32 letters, digits, _ or -")
    return SPLIT_WORDS.get(name.lower(), name)


def read_role(value: Any) -> str:
    """What a caption describes.

    Raises:
        RowRefused: none of the known roles (`caption_bad_role`).
    """
    if value is None or value == "":
        return DEFAULT_ROLE
    if value not in ROLES:
        raise RowRefused("caption_bad_role", f"role {value!r}: expected one of {', '.join(ROLES)}")
    return str(value)


def read_captions(value: Any, role: str = DEFAULT_ROLE) -> list[tuple[str, str]]:
    """Captions with roles from a text, a list of texts, or objects with `text` (or `caption`) and `role`.

    Raises:
        RowRefused: something else (`caption_not_text`, `caption_bad_role`).
    """
    if isinstance(value, str):
        return [(value, role)]
    if value is None:
        return []
    if isinstance(value, dict):
        text = value.get("text", value.get("caption"))
        return read_captions(text, read_role(value.get("role", role)))
    if isinstance(value, list | tuple):
        return [pair for item in value for pair in read_captions(item, role)]
    raise RowRefused("caption_not_text", f"caption {value!r}: expected a text or a list of texts")


def read_labels(value: Any) -> tuple[str, ...]:
    """Class labels from a list, AudioSet's `/m/a,/m/b`, a JSON list as text, or one label as text.

    Raises:
        RowRefused: something else (`bad_label`).
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = _split_labels(clean(value))
    if isinstance(value, list | tuple) and all(isinstance(label, str) for label in value):
        return tuple(dict.fromkeys(label for label in map(clean, value) if label))
    raise RowRefused("bad_label", f"labels {value!r}: expected a text or a list of texts")


def _split_labels(text: str) -> Any:
    """The labels that one text holds."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise RowRefused("bad_label", f"labels {text!r}: expected a JSON list") from error
    return text.split(",") if _MIDS.fullmatch(text) else [text]


def is_question(value: Any) -> bool:
    """Whether a JSON value is a question with answers and not a caption."""
    return isinstance(value, dict) and "question" in value


def read_question(value: dict[str, Any]) -> Question:
    """A question from `{question, answer | answers, question_id?}`; an id that is missing stays empty.

    Raises:
        RowRefused: blank, or without an answer (`question_bad`).
    """
    answers = value.get("answers", value.get("answer"))
    texts = tuple(dict.fromkeys(clean(str(a)) for a in _as_list(answers) if a is not None and str(a).strip()))
    question = value.get("question")
    if not isinstance(question, str) or not clean(question) or not texts:
        raise RowRefused("question_bad", f"question {question!r} with answers {answers!r}: expected a text and answers")
    question_id = value.get("question_id")
    return Question("" if question_id is None else clean(str(question_id)), clean(question), texts)


def _as_list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def caption_problem(text: str) -> tuple[str, str] | None:
    """Why a caption cannot be used, as reject code and detail; None where it can."""
    if not text.strip():
        return "caption_empty", "the caption is blank: expected a sentence"
    if len(text) > MAX_CAPTION_CHARACTERS:
        return "caption_too_long", f"{len(text)} characters: expected at most {MAX_CAPTION_CHARACTERS}"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return "not_utf8", f"not UTF-8 at character {error.start + 1} of the caption; save the file as UTF-8"
    if not _LETTER.search(text):
        return "caption_no_letters", f"caption {text.strip()!r}: expected a sentence, found no letter"
    return None


def label_pairs(labels: Iterable[str], names: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    """Each label with its name: a class list's, or the label itself where it is in words already."""
    for label in labels:
        yield label, names.get(label) or (None if label.startswith("/") else label)
