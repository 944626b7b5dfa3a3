"""Words to numbers: BERT's own on every golden row, learned vocabularies, and errors that say what to do."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from valor_data.errors import ConfigError
from valor_data.train.text import Vocabulary, clean_up

SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


@pytest.fixture(scope="module")
def rows(shared: Path) -> list[dict[str, Any]]:
    return json.loads((shared / "golden/text.json").read_text())["rows"]


@pytest.fixture(scope="module")
def bert(rows: list[dict[str, Any]]) -> Vocabulary:
    """BERT's vocabulary as far as the golden rows show it: longest match first finds the same pieces."""
    tokens = [f"[unused{n}]" for n in range(30522)]
    for token, number in SPECIAL.items():
        tokens[number] = token
    for row in rows:
        for token, number in zip(row["wordpieces"], row["ids"], strict=True):
            tokens[number] = token
    return Vocabulary(tokens)


def test_golden_rows(rows: list[dict[str, Any]], bert: Vocabulary) -> None:
    assert len(rows) == 31
    for row in rows:
        assert clean_up(row["caption"]) == row["cleaned"]
        assert bert.ids(row["cleaned"]) == row["ids"]
    cleaned = [row["cleaned"] for row in rows]
    for length in (42, 32):
        expected = torch.tensor([row[f"padded_{length}"] for row in rows])
        assert bert.encode(cleaned, length - 2).equal(expected)


def test_the_numbers_of_bert(bert: Vocabulary) -> None:
    assert (bert.pad, bert.unknown, bert.start, bert.end, bert.mask, bert.first_word) == (0, 100, 101, 102, 103, 106)
    assert bert.size == len(bert) == 30522


def test_decoding_joins_pieces_and_stops_at_the_end(bert: Vocabulary) -> None:
    ids = bert.encode(["birds chirp in the background"], 20)[0]
    assert bert.decode(ids) == "birds chirp in the background"
    assert bert.decode([*ids[:4].tolist(), 102, 1996]) == "birds chirp"
    assert bert.decode(torch.tensor([101, 102, 0])) == ""


def test_it_travels_to_workers(bert: Vocabulary) -> None:
    assert pickle.loads(pickle.dumps(bert)).encode(["the birds"], 5).equal(bert.encode(["the birds"], 5))


CAPTIONS = ["A red circle hums, and hums.", "A blue square: beep beep!", "a red square", "Ein Vögelchen"]


def test_a_learned_vocabulary() -> None:
    words = Vocabulary.learn(CAPTIONS, 400)
    assert words.tokens == Vocabulary.learn(reversed(CAPTIONS), 400).tokens
    assert {token: words.tokens.index(token) for token in SPECIAL} == SPECIAL
    assert words.first_word == 106
    for known in ("red", "square", "hums", "beep"):
        assert known in words.tokens[106:]
    ids = words.encode(["a red circle", "square voge", "日本"], 12)
    assert words.decode(ids[0]) == "a red circle"  # spelled in characters, joined again
    assert words.decode(ids[1]) == "square voge"
    assert ids[2, 1] == words.unknown


def test_a_learned_vocabulary_keeps_its_size() -> None:
    captions = [f"{chr(0x100 + n)}{chr(0x400 + n)} word{n // 4}" for n in range(300)]
    words = Vocabulary.learn(captions, 200)
    assert words.size == 200
    learned = words.tokens[106:]
    assert sum(len(token.removeprefix("##")) == 1 for token in learned) == 47, "rare letters leave room for words"
    assert sum(token.startswith("word") for token in learned) >= 45


def test_saved_and_read(tmp_path: Path) -> None:
    words = Vocabulary.learn(CAPTIONS, 300)
    assert words.save(tmp_path / "model") == tmp_path / "model" / "vocab.txt"
    for place in (tmp_path / "model", tmp_path / "model/vocab.txt"):
        assert Vocabulary.read(place).tokens == words.tokens == Vocabulary.of(place).tokens
    assert words.save(tmp_path / "other.txt") == tmp_path / "other.txt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[PAD]\n[UNK]\n", r"no \[CLS\], \[SEP\], \[MASK\] among its 2 tokens"),
        ("\n".join([*SPECIAL, "a", "b", "a"]), "the token 'a' is there twice"),
        (b"\xff\xfe", "cannot be read as a BERT vocabulary"),
        (None, "no such file; expected a BERT vocabulary, one token a line"),
    ],
)
def test_no_vocabulary(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    path = tmp_path / "vocab.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words) as caught:
        Vocabulary.read(path)
    assert str(caught.value).startswith(str(path))


def test_no_vocabulary_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"'bert-base-uncased': no such file or folder, and the Hub .*vocab\.txt$"):
        Vocabulary.of("bert-base-uncased")
    with pytest.raises(ConfigError, match="the Hub has none to give"):
        Vocabulary.of("no/such/place")


def test_a_size_without_room() -> None:
    with pytest.raises(ConfigError, match="vocabulary size 100: expected more than the 106 places"):
        Vocabulary.learn(CAPTIONS, 100)
