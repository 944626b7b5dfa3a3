"""Which language a caption is in, by py3langid.

Why this library: its model (140 languages) lies in its wheel of 4.6 MB and needs NumPy alone, it is kept up, and it
gives the same answer every time. On the 25 327 captions of VALOR-32K's train list, short and in places odd English,
it takes 0.07 ms each and finds another language in 9 (5 of them are numbers), in none of them by nine to one;
lingua, which is said to be the best on short texts, calls 37 of the first 2 000 something else in its small form and
takes 1 GB and 4 ms a caption in its large one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

LANGUAGE_VERSION = 1
"""Raised whenever the same caption would be judged differently: scores of another version are made again."""

NUM_LIKELY = 8
"""Languages that are remembered of a caption."""

_SURE = 0.95


def likely_languages(text: str) -> list[tuple[str, float]]:
    """The most likely languages of a text, ISO 639 codes, with their probabilities.

    Returns:
        The first alone where it is all but sure, else `NUM_LIKELY` of them, the likeliest first.
    """
    code, probability = _identifier().classify(text)
    if probability >= _SURE:
        return [(str(code), round(float(probability), 4))]
    return [(str(code), round(float(p), 6)) for code, p in _identifier().rank(text)[:NUM_LIKELY]]


def known_languages() -> list[str]:
    """Codes of all languages that can be told apart."""
    return sorted(set(_identifier().labels))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
