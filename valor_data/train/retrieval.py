"""Retrieval: captions find clips and clips find captions, by the fine-grained similarity.

Clips and captions are encoded once, as batches come; then every process compares its own rows with the columns of
all. A clip with several captions is found by any of them, and finds any of them.

    Q  rows of this process    K  columns of all processes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from valor_data.errors import ConfigError, ValorDataError
from valor_data.train.batch import Batch
from valor_data.train.gather import gather_items, gather_objects, gather_tokens, highest, rank
from valor_data.train.ranking import (
    Matrix,
    column_places,
    dual_softmax_of_columns,
    dual_softmax_of_rows,
    row_places,
    summary,
)
from valor_data.train.similarity import Tokens, score_matrix
from valor_data.train.valor import Valor

ROWS_AT_ONCE = 1024
"""Rows compared with 512 columns together: about 100 MB beside the matrix, whatever the size of the set."""

TEXTS_AT_ONCE = 512
"""Captions encoded together: clips of some sets have forty each."""

_SIDES = {"t": "text", "va": "clip", "v": "clip", "a": "clip"}


@dataclass(slots=True)
class Encodings:
    """Clips and captions of this process, encoded and on the CPU.

    Attributes:
        keys: of the clips.
        has_sound: of the clips.
        clips: tokens of the clips by modality letter, batch after batch.
        texts: tokens of the captions.
        owners: for each caption the place of its clip in `keys`.
        num_wordless: clips without a caption: nobody asks for them, and they answer nothing.
    """

    keys: list[str] = field(default_factory=list)
    has_sound: list[bool] = field(default_factory=list)
    clips: dict[str, list[Tokens]] = field(default_factory=dict)
    texts: list[Tokens] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    num_wordless: int = 0

    def add(self, model: Valor, batch: Batch, letters: str, queries: Batch) -> None:
        """Encodes a batch whose clips are all new.

        Args:
            model: in evaluation mode.
            batch: clips; of those that have several rows the first is taken.
            letters: modalities that will be compared.
            queries: keys and `captions` of these clips, as many of a clip as it has.
        """
        firsts = first_rows(batch.keys)
        place = {key: len(self.keys) + number for number, key in enumerate(batch.keys[row] for row in firsts)}
        seen = rows_of(batch, firsts)
        seen.captions = None
        if "v" not in letters:
            seen.frames = None
        if "a" not in letters:
            seen.mel = seen.mel_valid = None
        for letter, tokens in model.embed(seen).items():
            self.clips.setdefault(letter, []).append(tokens.to("cpu"))
        self.keys += place
        self.has_sound += [True] * len(firsts) if seen.has_sound is None else seen.has_sound.tolist()
        if "t" in letters:
            self._add_texts(model, batch, queries)
            self.owners += [place[key] for key in queries.keys]
            self.num_wordless += len(place) - len(set(queries.keys))

    def _add_texts(self, model: Valor, batch: Batch, queries: Batch) -> None:
        if batch.captions is None or queries.captions is None:
            raise ConfigError("retrieval needs captions, and the batch has none")
        if not len(queries):  # none of any shape but the right one
            self.texts.append(model.embed(Batch(batch.keys[:1], captions=batch.captions[:1]))["t"][:0].to("cpu"))
        for start in range(0, len(queries), TEXTS_AT_ONCE):
            part = slice(start, start + TEXTS_AT_ONCE)
            words = Batch(queries.keys[part], captions=queries.captions[part])
            self.texts.append(model.embed(words)["t"].to("cpu"))

    def of(self, letter: str) -> Tokens:
        """All tokens of a modality."""
        return Tokens.join(self.texts if letter == "t" else self.clips[letter])


def first_rows(keys: Sequence[str]) -> list[int]:
    """The first row of each clip of a batch."""
    found: dict[str, int] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, row)
    return list(found.values())


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows of a batch."""
    places = torch.tensor(list(rows), dtype=torch.int64)

    def of(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[places.to(tensor.device)]

    return Batch(
        keys=[batch.keys[row] for row in rows],
        frames=of(batch.frames),
        mel=of(batch.mel),
        mel_valid=of(batch.mel_valid),
        has_sound=of(batch.has_sound),
        captions=of(batch.captions),
        questions=of(batch.questions),
        question_keys=None if batch.question_keys is None else [batch.question_keys[row] for row in rows],
        references=None if batch.references is None else [batch.references[row] for row in rows],
    )


@dataclass(frozen=True, slots=True)
class Side:
    """What stands on one side of a comparison, on this process.

    Attributes:
        tokens: by modality letter.
        owners: [N], int64: number of the clip, over all processes.
    """

    tokens: dict[str, Tokens]
    owners: Tensor

    def gathered(self) -> Side:
        """The same of all processes."""
        tokens = {letter: gather_tokens(tokens) for letter, tokens in self.tokens.items()}
        return Side(tokens, gather_items(self.owners))


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What retrieval came to.

    Attributes:
        scores: `tva/text_to_clip/r1`, …; a text group's first direction also as `tva/r1`, ….
        num_clips: for each group, the clips that took part.
    """

    scores: dict[str, float]
    num_clips: dict[str, int]


class Gallery:
    """The clips of all processes, each once, ready to be searched.

    Args:
        model: in evaluation mode.
        own: what this process encoded; a clip that an earlier process has too is left to that one.
    """

    def __init__(self, model: Valor, own: Encodings) -> None:
        self._model = model
        everyone = gather_objects(own.keys)
        taken = {key for keys in everyone[: rank()] for key in keys}
        self._kept = [place for place, key in enumerate(own.keys) if key not in taken]
        self._own = own
        self._first = len(taken)
        self.keys = sorted({key for keys in everyone for key in keys})

    def search(self, groups: Sequence[str], dsl: bool = False) -> Retrieval:
        """Every group's recall and ranks, both ways.

        Args:
            groups: of `tasks.CONTRASTIVE_GROUPS`.
            dsl: also with dual softmax, as `tva/dsl/text_to_clip/r1`, ….

        Raises:
            ValorDataError: nothing can be compared, or similarities are no numbers.
        """
        scores: dict[str, float] = {}
        num_clips: dict[str, int] = {}
        for group in groups:
            matrix = self._compare(group)
            num_clips[group] = len(set(matrix.column_owners.tolist()))
            scores |= self._both_ways(group, matrix, dsl)
        return Retrieval(scores, num_clips)

    def _both_ways(self, group: str, matrix: Matrix, dsl: bool) -> dict[str, float]:
        there, back = direction_names(group)
        found = {there: summary(row_places(matrix)), back: summary(column_places(matrix))}
        if dsl:
            scale = float(self._model.contrast.scale())
            found[f"dsl/{there}"] = summary(row_places(matrix, dual_softmax_of_rows(matrix, scale)))
            found[f"dsl/{back}"] = summary(column_places(matrix, dual_softmax_of_columns(matrix, scale)))
        scores = {f"{group}/{name}": value for name, value in found[there].items()} if group[0] == "t" else {}
        return scores | {f"{group}/{way}/{name}": v for way, values in found.items() for name, v in values.items()}

    def _compare(self, group: str) -> Matrix:
        exact = self._model.config.reference_exact
        silent_out = not exact and "a" in (group[0], group[1:])  # a side that is sound alone
        worded = set(self._own.owners)
        clips = [
            place
            for place in self._kept
            if (place in worded or "t" not in group) and (self._own.has_sound[place] or not silent_out)
        ]
        numbers = {place: self._first + number for number, place in enumerate(self._kept)}
        rows = self._side(group[0], clips, numbers)
        columns = self._side(group[1:], clips, numbers).gathered()
        if not len(columns.owners) or not int(highest(torch.tensor(len(rows.owners)))):
            raise ValorDataError(f"retrieval {group}: no clip has all of {group!r}; look at what the shards hold")
        matrix = Matrix(similarities(rows.tokens, columns.tokens, group, self._model), rows.owners, columns.owners)
        wrong = matrix.num_wrong()
        if wrong:
            raise ValorDataError(
                f"retrieval {group}: {wrong:,} similarities are no numbers; the checkpoint's weights are damaged "
                "or its training had diverged"
            )
        return matrix

    def _side(self, letters: str, clips: Sequence[int], numbers: Mapping[int, int]) -> Side:
        """The captions of these clips where the side has text, else the clips."""
        if "t" in letters:
            allowed = set(clips)
            texts = [text for text, place in enumerate(self._own.owners) if place in allowed]
            places = [self._own.owners[text] for text in texts]
        else:
            texts, places = [], list(clips)
        tokens = {
            letter: self._tokens(letter)[torch.tensor(texts if letter == "t" else places, dtype=torch.int64)]
            for letter in letters
        }
        return Side(tokens, torch.tensor([numbers[place] for place in places], dtype=torch.int64))

    def _tokens(self, letter: str) -> Tokens:
        tokens = self._own.of(letter)
        if letter != "t" or tokens.valid is None or self._model.config.reference_exact:
            return tokens
        own = max(tokens.valid.sum(1).tolist(), default=0)
        longest = max(1, int(highest(torch.tensor(own))))  # what is padded everywhere need not be compared
        return Tokens(tokens.features[:, :longest], tokens.logits[:, :longest], tokens.valid[:, :longest])


def direction_names(group: str) -> tuple[str, str]:
    """`text_to_clip` and `clip_to_text`; for groups that start from a clip's side, `v_to_ta` and `ta_to_v`."""
    first, rest = group[0], group[1:]
    if first == "t":
        first, rest = _SIDES["t"], _SIDES[rest]
    return f"{first}_to_{rest}", f"{rest}_to_{first}"


def similarities(rows: Mapping[str, Tokens], columns: Mapping[str, Tokens], group: str, model: Valor) -> Tensor:
    """[Q, K], float32, on the CPU, computed where the model lies, in parts of bounded size.

    Args:
        rows: tokens of the group's first letter.
        columns: tokens of its other letters.
        group: of `tasks.CONTRASTIVE_GROUPS`.
        model: says where to compute, and whether as the reference does.
    """
    device = model.contrast.temperature.device
    own = rows[group[0]]
    found = torch.empty(len(own), len(columns[group[1]]))
    for start in range(0, len(own), ROWS_AT_ONCE):
        part = {group[0]: own[start : start + ROWS_AT_ONCE].to(device)}
        found[start : start + ROWS_AT_ONCE] = score_matrix(part, columns, group, model.config.reference_exact)
    return found
