"""Writing captions and answers: greedy or with beams, every key and value computed once.

The decoder was trained to guess hidden words, so a word is asked for by a `[MASK]` behind the text so far; its
guess takes the mask's place. A step therefore feeds two tokens, the last word and a new mask, and the mask's keys
and values are overwritten in the next step. The keys and values of the clip are shared by all its beams.

    B  clips    K  beams of a clip   R  B · K rows of text   N  tokens of the clip   P  prompt tokens
    H  heads    D  width of a head   W  width                V  vocabulary           L  tokens written so far
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .language import PROMPT_TYPE, Clip, Language
from .masking import END, MASK, PAD, START


@dataclass(frozen=True, slots=True)
class Search:
    """How to look for a text.

    Attributes:
        num_beams: texts kept for each clip; 1 is greedy.
        max_tokens: words written at most, the end mark included.
    """

    num_beams: int = 3
    max_tokens: int = 30


@dataclass(frozen=True, slots=True)
class Written:
    """What was found.

    Attributes:
        ids: for each clip the best text, without start and end.
        scores: [B]: summed log-probability of its words, the end mark included.
    """

    ids: list[list[int]]
    scores: Tensor


class Decoder:
    """A `Language` that remembers: the keys and values of prompt, text and clip, layer by layer.

    Args:
        language: in evaluation mode, or its dropout will show.
        clip: what to look at.
        prompt: [B, P] or [P], int64, or None.
        num_beams: rows of text for each clip.
        max_tokens: room for so many words.
    """

    def __init__(self, language: Language, clip: Clip, prompt: Tensor | None, num_beams: int, max_tokens: int) -> None:
        self.language = language
        self.num_beams = num_beams
        self.layers: list[Any] = list(language.bert.encoder.layer)
        self.num_heads = language.config.heads
        batch = clip.tokens.shape[0]
        self.clip_mask = clip.mask()
        self.clip_keys = [
            (
                self._heads(layer.crossattention.self.key(clip.tokens)),
                self._heads(layer.crossattention.self.value(clip.tokens)),
            )
            for layer in self.layers
        ]
        prompt = None if prompt is None else prompt.expand(batch, -1)
        self.prompt_length = 0 if prompt is None else prompt.shape[1]
        room = (batch * num_beams, self.num_heads, self.prompt_length + max_tokens + 1, self._head_width)
        like = self.clip_keys[0][0]
        self.text_keys = [(like.new_zeros(room), like.new_zeros(room)) for _ in self.layers]
        self.visible = torch.ones(room[0], self.prompt_length, dtype=torch.bool, device=like.device)
        if prompt is not None:
            self._read_prompt(prompt)

    @property
    def _head_width(self) -> int:
        return self.language.config.width // self.num_heads

    def _heads(self, projected: Tensor) -> Tensor:
        """[R, L, W] to [R, H, L, D]."""
        heads: Tensor = projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads

    def _read_prompt(self, prompt: Tensor) -> None:
        """Fills the first places of the text's keys with the prompt's, which sees itself alone."""
        rows = prompt.repeat_interleave(self.num_beams, 0)
        self.visible = rows != PAD
        hidden = self._embed(rows, 0, PROMPT_TYPE)
        self._through_layers(hidden, 0, self.visible[:, None, None, :])

    def step(self, words: Tensor, length: int) -> Tensor:
        """Scores of the next word, [R, V].

        Args:
            words: [R], the last word of each row.
            length: L, words before it.
        """
        ids = torch.stack((words, torch.full_like(words, MASK)), 1)
        own = torch.ones(2, length + 2, dtype=torch.bool, device=ids.device)
        own[0, -1] = False  # the word does not see the mask behind it
        mask = torch.cat(
            (self.visible[:, None, :].expand(-1, 2, -1), own.expand(ids.shape[0], -1, -1)),
            2,
        )
        hidden = self._through_layers(self._embed(ids, length, 0), self.prompt_length + length, mask[:, None])
        return self.language.scores(hidden[:, 1]).float()

    def follow(self, rows: Tensor, length: int) -> None:
        """Makes row i go on from what row `rows[i]` has written, of the same clip.

        Args:
            rows: [R].
            length: words in the cache.
        """
        start, end = self.prompt_length, self.prompt_length + length
        for pair in self.text_keys:
            for cache in pair:
                cache[:, :, start:end] = cache[rows, :, start:end]

    def _embed(self, ids: Tensor, start: int, kind: int) -> Tensor:
        positions = torch.arange(start, start + ids.shape[1], device=ids.device).expand_as(ids)
        embedded: Tensor = self.language.bert.embeddings(
            input_ids=ids, position_ids=positions, token_type_ids=torch.full_like(ids, kind)
        )
        return embedded

    def _through_layers(self, hidden: Tensor, start: int, mask: Tensor) -> Tensor:
        """[R, L, W] through all layers; its keys and values go to the cache from place `start` on."""
        end = start + hidden.shape[1]
        for layer, (keys, values), clip_keys in zip(self.layers, self.text_keys, self.clip_keys, strict=True):
            own = layer.attention.self
            keys[:, :, start:end] = self._heads(own.key(hidden))
            values[:, :, start:end] = self._heads(own.value(hidden))
            seen = functional.scaled_dot_product_attention(
                self._heads(own.query(hidden)), keys[:, :, :end], values[:, :, :end], attn_mask=mask
            )
            hidden = layer.attention.output(seen.transpose(1, 2).flatten(2), hidden)
            looked = self._look(layer.crossattention.self.query(hidden), *clip_keys)
            hidden = layer.crossattention.output(looked, hidden)
            hidden = layer.output(layer.intermediate(hidden), hidden)
        return hidden

    def _look(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention to the clip: all beams of a clip ask the same keys at once. [R, L, W] to the same."""
        rows, length, _ = query.shape
        together = query.reshape(-1, self.num_beams * length, query.shape[2])
        seen = functional.scaled_dot_product_attention(self._heads(together), keys, values, attn_mask=self.clip_mask)
        return seen.transpose(1, 2).reshape(rows, length, -1)


@torch.no_grad()
def generate(language: Language, clip: Clip, prompt: Tensor | None, search: Search) -> Written:
    """The most likely text about each clip that the search finds.

    Ordinary beam search: a finished text keeps its place among the beams, once, at its score. No penalty for
    length and none for repetition, as in VALOR. Scores only fall, so the search ends when the best beam of every
    clip is finished.

    Args:
        language: reader and writer.
        clip: what to look at.
        prompt: [B, P] or [P], int64, or None.
        search: how.
    """
    batch, beams = clip.tokens.shape[0], search.num_beams
    device = clip.tokens.device
    decoder = Decoder(language, clip, prompt, beams, search.max_tokens)
    texts = torch.full((batch, beams, search.max_tokens + 1), END, device=device)
    texts[:, :, 0] = START
    sums = torch.full((batch, beams), float("-inf"), device=device)
    sums[:, 0] = 0.0  # the beams are alike at the start: only one of them may go on
    finished = torch.zeros(batch, beams, dtype=torch.bool, device=device)
    first_row = torch.arange(batch, device=device)[:, None] * beams
    for length in range(search.max_tokens):
        scores = decoder.step(texts[:, :, length].flatten(), length).log_softmax(-1).unflatten(0, (batch, beams))
        sums, origin, words = _best(sums, scores, finished)
        texts = texts.gather(1, origin[:, :, None].expand_as(texts))
        texts[:, :, length + 1] = words
        finished = finished.gather(1, origin) | (words == END)
        if bool(finished[:, 0].all()):
            break
        if beams > 1:
            decoder.follow((first_row + origin).flatten(), length + 1)
    best = [_until_end(row) for row in texts[:, 0, 1:].tolist()]
    return Written(best, sums[:, 0])


def _best(sums: Tensor, scores: Tensor, finished: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each clip's beams: their sums, the beams they come from, their new words, [B, K] each.

    Args:
        sums: [B, K].
        scores: [B, K, V], log-probabilities of the next word.
        finished: [B, K]: goes on as it is, by another end mark that costs nothing.
    """
    num_beams, vocabulary = scores.shape[1:]
    stay = torch.full_like(scores[0, 0], float("-inf"))
    stay[END] = 0.0
    candidates = sums[:, :, None] + torch.where(finished[:, :, None], stay, scores)
    best, place = candidates.flatten(1).topk(num_beams, 1)
    return best, place // vocabulary, place % vocabulary


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END)] if END in ids else ids
