"""Captions to numbers and back: BERT's uncased WordPiece, read, fetched or learned.

Shapes: B texts, T tokens of a text, start and end marks included.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from valor_data.errors import ConfigError
from valor_data.workdir import written_aside

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
_SPECIAL_IDS = {PAD: 0, UNKNOWN: 100, START: 101, END: 102, MASK: 103}
_FIRST_WORD = 106
"""BERT's layout, which learned vocabularies keep: VALOR draws random words from 106 upwards."""

_WORD_CHARACTERS = 100
"""A longer word is `[UNK]`, as in BERT."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_up(text: str) -> str:
    """A caption as the reference reads it: single spaces, lower case, without ASCII punctuation.

    Words with hyphens and apostrophes become one word; what is not a space (a tab, a dash of Unicode) stays.

    >>> clean_up("A  dog, it's  barking.")
    'a dog its barking'
    """
    words = [word for word in text.split(" ") if word]
    return " ".join(words).lower().translate(_NO_PUNCTUATION)


class Vocabulary:
    """Words and word pieces with their numbers.

    Attributes:
        tokens: every token, by number.
        pad, unknown, start, end, mask: numbers of the special tokens (BERT: 0, 100, 101, 102, 103).
        first_word: from here on a random token may stand for a masked one (BERT: 106, as in VALOR).
    """

    def __init__(self, tokens: Sequence[str], source: str = "the vocabulary") -> None:
        """A vocabulary of these tokens, in order.

        Raises:
            ConfigError: a special token is missing, or a token is there twice.
        """
        self.tokens = tuple(tokens)
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        missing = [token for token in _SPECIAL_IDS if token not in self._ids]
        if missing:
            raise ConfigError(f"{source}: no {', '.join(missing)} among its {len(tokens)} tokens; expected BERT's form")
        if len(self._ids) != len(self.tokens):
            twice = next(token for number, token in enumerate(tokens) if self._ids[token] != number)
            raise ConfigError(f"{source}: the token {twice!r} is there twice; expected every token once")
        self.pad, self.unknown, self.start, self.end, self.mask = (self._ids[token] for token in _SPECIAL_IDS)
        self.first_word = self.mask + _FIRST_WORD - _SPECIAL_IDS[MASK]
        self._tokenizer = _tokenizer(self._ids)

    @property
    def size(self) -> int:
        """Number of tokens (BERT uncased: 30 522)."""
        return len(self.tokens)

    def __len__(self) -> int:
        return self.size

    def __reduce__(self) -> tuple[type[Vocabulary], tuple[tuple[str, ...]]]:
        return Vocabulary, (self.tokens,)

    @classmethod
    def read(cls, place: str | Path) -> Vocabulary:
        """A vocabulary from a `vocab.txt` (one token a line), or from a folder that holds one.

        Raises:
            ConfigError: there is none, or it is not BERT's form.
        """
        path = Path(place)
        if path.is_dir():
            path = path / "vocab.txt"
        try:
            tokens = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; expected a BERT vocabulary, one token a line") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as a BERT vocabulary: {error}") from None
        while tokens and not tokens[-1]:
            tokens.pop()
        return cls(tokens, str(path))

    @classmethod
    def of(cls, name: str | Path) -> Vocabulary:
        """A vocabulary by name: a file, a folder, or a model on the Hub such as `bert-base-uncased`.

        Raises:
            ConfigError: neither is there, or the Hub does not answer.
        """
        place = Path(name)
        if place.exists():
            return cls.read(place)
        from huggingface_hub import hf_hub_download

        hub_name = "google-bert/bert-base-uncased" if str(name) == "bert-base-uncased" else str(name)
        try:
            return cls.read(hf_hub_download(hub_name, "vocab.txt"))
        except (OSError, ValueError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"vocabulary {str(name)!r}: no such file or folder, and the Hub has none to give ({why}); "
                "give a folder with vocab.txt"
            ) from None

    @classmethod
    def learn(cls, captions: Iterable[str], size: int, *, min_count: int = 2) -> Vocabulary:
        """Learns a vocabulary from captions: for data that need no downloaded one.

        Every character that occurs (as the first of a word and as a later one), then whole words, the most
        frequent first; at most half of the places go to characters. The special tokens get BERT's numbers,
        words begin at 106. The same captions give the same tokens in whatever order they come. (The learners
        of `tokenizers` settle ties by chance, so that two runs differ.)

        Args:
            captions: texts.
            size: most tokens, the 106 in front included.
            min_count: words that occur less often are spelled in characters.

        Raises:
            ConfigError: the size leaves no room for words.
        """
        if size <= _FIRST_WORD:
            raise ConfigError(f"vocabulary size {size}: expected more than the {_FIRST_WORD} places in front of words")
        front = {number: token for token, number in _SPECIAL_IDS.items()}
        tokens = [front.get(number, f"[unused{number}]") for number in range(_FIRST_WORD)]
        splitter = _tokenizer({token: number for number, token in enumerate(tokens)})
        words: Counter[str] = Counter()
        for caption in captions:
            normal = splitter.normalizer.normalize_str(caption)
            words.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(normal))
        pieces: Counter[str] = Counter()
        for word, count in words.items():
            for place, character in enumerate(word):
                pieces[character if not place else f"##{character}"] += count
        room = size - _FIRST_WORD
        characters = _most_frequent(pieces, 1)[: room // 2]
        known = set(characters)
        whole = [word for word in _most_frequent(words, min_count) if word not in known]
        return cls(tokens + characters + whole[: room - len(characters)])

    def save(self, place: str | Path) -> Path:
        """Writes `vocab.txt` into a folder, or to a path that ends in `.txt`; gives back the path."""
        path = Path(place)
        path = path if path.suffix == ".txt" else path / "vocab.txt"
        with written_aside(path) as part:
            part.write_text("".join(f"{token}\n" for token in self.tokens), encoding="utf-8")
        return path

    def ids(self, text: str) -> list[int]:
        """The numbers of a text's word pieces, without marks, not cut."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def encode(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """Texts as rows of numbers: start, word pieces (cut to `max_tokens`), end, padding.

        Args:
            texts: B captions.
            max_tokens: most word pieces of a text (VALOR: 40 in pretraining, 30 after).

        Returns:
            int64 `[B, T]`, T = `max_tokens` + 2.
        """
        rows = torch.full((len(texts), max_tokens + 2), self.pad, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.start, *self.ids(text)[:max_tokens], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of numbers up to the end mark; special tokens are left out, pieces of a word joined."""
        words: list[str] = []
        for number in ids.tolist() if isinstance(ids, Tensor) else ids:
            if number == self.end:
                break
            if number in (self.pad, self.start, self.mask):
                continue
            token = self.tokens[number]
            if token.startswith("##") and words:
                words[-1] += token[2:]
            else:
                words.append(token)
        return " ".join(words)


def _tokenizer(ids: dict[str, int]) -> Tokenizer:
    """BERT's uncased tokenizer over these tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    model: Any = models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=_WORD_CHARACTERS)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _most_frequent(counts: Counter[str], min_count: int) -> list[str]:
    """What was counted at least so often, the most frequent first; ties in the order of the alphabet."""
    return [text for text, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= min_count]
