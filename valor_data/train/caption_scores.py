"""BLEU, METEOR, ROUGE-L and CIDEr of written captions, by pycocoevalcap, as published work gives them.

Words come from Stanford's PTB tokeniser, which runs on Java, as METEOR does. Without Java there is no METEOR, and
words come from `plain_tokens`. Of 2,000 captions of VALOR-32K the two take one apart differently, and scores agree in
four digits; other texts may part them further, so such scores say how they were made.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from valor_data.errors import ConfigError
from valor_data.train.java import HOW_TO_ADD, JavaError, find_java, meteor_score, ptb_tokens

TOKENIZERS = ("auto", "ptb", "plain")

_WORD = re.compile(
    r"\d+(?:[.,:]\d+)*|[^\W_]+(?=n['’]t\b)|n['’]t\b|['’](?:s|re|ve|ll|d|m)\b|[^\W_]+(?:-[^\W_]+)*|[%$#&@+=*/]"
)


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """What captions are worth.

    Attributes:
        scores: `bleu1` … `bleu4`, `meteor` (with Java), `rouge_l`, `cider`; times 100, as papers print them.
        num_clips: clips behind them.
        tokenizer: `ptb` or `plain`.
        notes: what a reader of the scores must know.
    """

    scores: dict[str, float]
    num_clips: int
    tokenizer: str
    notes: tuple[str, ...] = ()


def plain_tokens(sentence: str) -> list[str]:
    """The words of a sentence without Java: near to what the PTB tokeniser leaves after punctuation is taken out.

    Lower case; runs of letters and digits, also joined by hyphens; English clitics apart, as in PTB.

    >>> plain_tokens("The man's dog doesn't stop - a well-known T-shirt, 3.5 km!")
    ['the', 'man', "'s", 'dog', 'does', "n't", 'stop', 'a', 'well-known', 't-shirt', '3.5', 'km']
    """
    return _WORD.findall(sentence.lower().replace("’", "'"))


def score_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: str = "auto",
    meteor: bool = True,
) -> CaptionScores:
    """Scores one caption a clip against all of the clip's references.

    Args:
        predictions: by clip.
        references: by clip; those without any words are left out, and so is a clip without references.
        tokenizer: `ptb`, `plain`, or `auto`: ptb where there is Java.
        meteor: whether to ask for METEOR, which takes seconds to start.

    Raises:
        ConfigError: no such tokeniser, or no clip has a reference, or pycocoevalcap is not installed.
        JavaError: `ptb` was asked for and Java is missing or fails.
    """
    if tokenizer not in TOKENIZERS:
        raise ConfigError(f"tokenizer {tokenizer!r}: expected one of {', '.join(TOKENIZERS)}")
    keys = sorted(key for key in predictions if any(text.strip() for text in references.get(key, ())))
    texts = [predictions[key] for key in keys] + [text for key in keys for text in references[key]]
    used, tokens, notes = _tokenised(texts, tokenizer)
    sentences = iter([" ".join(words) for words in tokens])
    written = {key: [next(sentences)] for key in keys}
    given = {key: [next(sentences) for _ in references[key]] for key in keys}
    given = {key: [text for text in some if text] for key, some in given.items()}
    keys = [key for key in keys if given[key]]
    if not keys:
        raise ConfigError("no clip has a caption to compare with: give some with --captions")
    scores = _plain_scores({key: given[key] for key in keys}, {key: written[key] for key in keys})
    if meteor and used == "ptb":
        try:
            scores["meteor"] = 100 * meteor_score([written[key][0] for key in keys], [given[key] for key in keys])
        except JavaError as error:
            notes.append(f"no METEOR: {error}")
    if len(keys) == 1:
        notes.append("CIDEr weighs words by how few clips have them: with one clip it is 0")
    order = [name for name in ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider") if name in scores]
    return CaptionScores({name: scores[name] for name in order}, len(keys), used, tuple(notes))


def _tokenised(texts: Sequence[str], tokenizer: str) -> tuple[str, list[list[str]], list[str]]:
    """The tokeniser that was used, the words of each text, and what to say about it."""
    if tokenizer == "plain":
        return "plain", [plain_tokens(text) for text in texts], []
    try:
        return "ptb", ptb_tokens(texts), []
    except JavaError as error:
        if tokenizer == "ptb":
            raise
        why = str(error) if find_java() else f"no Java here: {HOW_TO_ADD}"
    note = f"no METEOR, and words by a plain tokeniser, near to that of published scores and not the same ({why})"
    return "plain", [plain_tokens(text) for text in texts], [note]


def _plain_scores(references: dict[str, list[str]], predictions: dict[str, list[str]]) -> dict[str, float]:
    """The scores that need no Java, times 100."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ConfigError(f"caption scores need {error.name}: pip install 'valor-data[train]'") from None
    with contextlib.redirect_stdout(io.StringIO()):
        bleus, _ = Bleu(4).compute_score(references, predictions, verbose=0)
        rouge, _ = Rouge().compute_score(references, predictions)
        cider, _ = Cider().compute_score(references, predictions)
    scores = {f"bleu{n}": 100 * float(bleu) for n, bleu in enumerate(bleus, start=1)}
    return scores | {"rouge_l": 100 * float(rouge), "cider": 100 * float(cider)}
