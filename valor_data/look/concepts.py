"""AudioSet's classes, and the audio concepts that are counted in captions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from valor_data.errors import ConfigError
from valor_data.schema import shipped_file

_CLASS_LIST = "audioset-eval.parquet"
"""A shipped manifest with AudioSet's evaluation clips; each of the 527 classes has some."""

PAPER_CONCEPTS = 759
"""Concepts in the paper, from the 632 nodes of AudioSet's ontology; 527 of them have labelled clips: the classes."""

PAPER_DENSITY = {"VALOR-1M": 0.097, "VALOR-32K": 0.091}
"""Audio-concept density that the paper gives (table of data sets)."""


@cache
def audioset_classes() -> dict[str, str]:
    """Code and name of AudioSet's 527 classes, as the labels of its released clips have them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(shipped_file("manifests", _CLASS_LIST), columns=["labels", "label_names"])
    codes: Any
    names: Any
    codes, names = (pc.list_flatten(table[name]).to_pylist() for name in ("labels", "label_names"))
    return dict(sorted(zip(codes, names, strict=True)))


@dataclass(frozen=True, slots=True)
class Concepts:
    """Words and phrases that name sounds, lower case and without punctuation.

    Attributes:
        source: where they come from, in words.
        single: those of one word.
        phrases: those of several.
    """

    source: str
    single: frozenset[str]
    phrases: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.single) + len(self.phrases)

    @classmethod
    def of_names(cls, names: Iterable[str], source: str) -> Concepts:
        """As the paper makes them: names split at commas, lower case, punctuation away, each once."""
        found = {normalise(part) for name in names for part in name.split(",")} - {""}
        return cls(source, frozenset(c for c in found if " " not in c), tuple(sorted(c for c in found if " " in c)))

    def phrase_pattern(self) -> str:
        """A regular expression for any of the phrases, longest first; empty when there are none."""
        return "|".join(re.escape(p) for p in sorted(self.phrases, key=len, reverse=True))

    def phrases_in(self, texts: Iterable[str]) -> Counter[str]:
        """How often each phrase stands in normalised texts; a phrase inside of another counts too."""
        starting: dict[str, list[tuple[str, list[str]]]] = {}
        for phrase in self.phrases:
            words = phrase.split()
            starting.setdefault(words[0], []).append((phrase, words))
        found: Counter[str] = Counter()
        for text in texts:
            words = text.split()
            for place, word in enumerate(words):
                for phrase, wanted in starting.get(word, ()):
                    if words[place : place + len(wanted)] == wanted:
                        found[phrase] += 1
        return found


def normalise(text: str) -> str:
    """Lower case, without punctuation, one blank between words."""
    return " ".join(re.sub(r"[^\w\s]|_", "", text.lower()).split())


def read_concepts(path: Path | None) -> Concepts:
    """The list to count with: AudioSet's class names, or a file.

    Args:
        path: AudioSet's `ontology.json` (then the figures are the paper's own), or a text with one name a line;
            None: the 527 class names, which are at hand.

    Raises:
        ConfigError: the file cannot be read, or holds no names.
    """
    if path is None:
        return Concepts.of_names(audioset_classes().values(), "AudioSet's 527 class names")
    try:
        text = path.read_text("utf-8")
        names = _names_of_json(json.loads(text)) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--concepts {path}: {error}; expected ontology.json, or one name a line") from None
    concepts = Concepts.of_names(names, path.name)
    if not len(concepts):
        raise ConfigError(f"--concepts {path}: no names in it; expected ontology.json, or one name a line")
    return concepts


def _names_of_json(tree: Any) -> list[str]:
    if not all(isinstance(node, dict) and isinstance(node.get("name"), str) for node in tree):
        raise ValueError("not a list of objects with a name")
    return [node["name"] for node in tree]
