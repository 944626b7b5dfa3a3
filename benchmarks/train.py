"""Masking, fine-grained similarity and captioning against a plain rendering of what the reference does.

    python benchmarks/train.py [--rounds 7]

CPU seconds on one thread, both sides in turns in one run, medians; peak memory of the tensors that torch hands out.
The shapes are those of the golden timings (`../shared/golden/timings.json`, or VALOR_DATA_SHARED), beside which the
plain side is put: it should come within 25 % of them on a machine as fast.

  masking      64 captions of 42 tokens, 60 %: a Python loop over tokens that lists the vocabulary for each random word
  similarity   128 texts of 42 tokens against 4 + 1 tokens of 512: the whole B × B × Nt × Nx tensor, three groups,
               loss and gradients
  captioning   30 words about six clips by four layers of BERT's width over 917 tokens of a clip: every step reads
               everything anew
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from valor_data.train.generate import Search, generate
from valor_data.train.language import Clip, Language
from valor_data.train.losses import contrastive_losses
from valor_data.train.masking import MASK, START, mask_tokens
from valor_data.train.presets import LanguageConfig
from valor_data.train.similarity import Tokens

B, NT, NV, NA, C = 128, 42, 4, 1, 512
GROUPS = {"tva": ("v", "a"), "tv": ("v",), "ta": ("a",)}
WORDS, VOCABULARY, CLIPS = 30, 30_522, 6


# -- masking


def plain_masking(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Token by token, in Python, each token read out of its tensor."""
    texts, labels = ids.tolist(), []
    for row, text in enumerate(texts):
        label = [-1] * len(text)
        while all(one == -1 for one in label):
            for place in range(1, len(text)):
                if ids[row][place] != 0 and random.random() < 0.6:
                    label[place] = text[place]
                    chance = random.random()
                    if chance < 0.8:
                        text[place] = MASK
                    elif chance < 0.9:
                        text[place] = random.choice(list(range(106, VOCABULARY)))
        labels.append(label)
    return torch.tensor(texts), torch.tensor(labels)


def captions(full: bool) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(106, VOCABULARY, (64, NT), generator=generator)
    if not full:
        lengths = torch.randint(12, NT + 1, (64, 1), generator=generator)
        ids[torch.arange(NT)[None] >= lengths] = 0
    ids[:, 0] = START
    return ids


# -- similarity


class Features(nn.Module):
    """Raw features of a batch, and the heads that weigh tokens."""

    def __init__(self, alone: bool, batch: int = B) -> None:
        super().__init__()
        self.alone, self.batch = alone, batch
        torch.manual_seed(0)
        sizes = {"t": NT, "v": NV, "a": NA}
        self.raw = nn.ParameterDict({letter: torch.randn(batch, n, C) for letter, n in sizes.items()})
        self.weigh = nn.ModuleDict(
            {letter: nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, 1)) for letter in sizes}
        )
        self.tau = nn.Parameter(torch.tensor(0.07))
        self.text_valid = torch.arange(NT)[None] < torch.randint(12, NT + 1, (batch, 1))
        self.logits = nn.ParameterDict({letter: torch.randn(batch, n) for letter, n in sizes.items()})

    def features(self, letter: str) -> Tensor:
        return self.raw[letter] if self.alone else functional.normalize(self.raw[letter], dim=-1)

    def weights(self, letter: str, features: Tensor) -> Tensor:
        return self.logits[letter] if self.alone else self.weigh[letter](features).squeeze(-1)

    def tokens(self, letter: str) -> Tokens:
        features = self.features(letter)
        valid = self.text_valid if letter == "t" else None
        return Tokens(features, self.weights(letter, features), valid)


def plain_similarity(model: Features) -> Tensor:
    """Everything against everything, in one tensor; every group asks all its heads anew.

    That they are asked anew is read off the golden timings: T-AV alone takes 39 % of what the three groups take. Here
    it takes 45 %, and 63 % if the words' weights are computed once.
    """
    features = {letter: model.features(letter) for letter in "tva"}
    text, mask = features["t"], model.text_valid
    losses = []
    for letters in GROUPS.values():
        text_logits = model.weights("t", text)
        clips = torch.cat([features[letter] for letter in letters], 1)
        logits = torch.cat([model.weights(letter, features[letter]) for letter in letters], 1)
        there = torch.ones_like(logits, dtype=torch.bool)
        every = torch.einsum("atc,bnc->abtn", text, clips)
        every = torch.einsum("abtn,at->abtn", every, mask.float())
        every = torch.einsum("abtn,bn->abtn", every, there.float())
        text_weights = text_logits.masked_fill(~mask, -torch.inf).softmax(-1)
        by_text = torch.einsum("abt,at->ab", every.max(-1).values, text_weights)
        by_clip = torch.einsum("abn,bn->ab", every.max(-2).values, logits.softmax(-1))
        scores = (by_text + by_clip) / 2 / model.tau
        diagonal = torch.arange(model.batch)
        losses.append((functional.cross_entropy(scores, diagonal) + functional.cross_entropy(scores.T, diagonal)) / 2)
    return torch.stack(losses).mean()


def our_similarity(model: Features) -> Tensor:
    own = {letter: model.tokens(letter) for letter in "tva"}
    return torch.stack(list(contrastive_losses(own, tuple(GROUPS), 1 / model.tau).values())).mean()


def step(loss_of: Callable[[Features], Tensor], model: Features) -> float:
    model.zero_grad(set_to_none=True)
    loss = loss_of(model)
    loss.backward()
    return float(loss.detach())


def peak_megabytes(loss_of: Callable[[Features], Tensor], model: Features) -> float:
    """Most memory that a step's tensors take at once, above what is there before it: what torch hands out, counted."""
    step(loss_of, model)
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step(loss_of, model)
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


# -- captioning


@torch.no_grad()
def plain_captioning(language: Language, clip: Clip) -> Tensor:
    """Greedy, the whole prefix and the whole clip read at every word."""
    ids = torch.full((CLIPS, 1), START)
    for _ in range(WORDS):
        hidden = language(torch.cat((ids, torch.full((CLIPS, 1), MASK)), 1), "causal", clip)
        ids = torch.cat((ids, language.scores(hidden[:, -1]).argmax(-1)[:, None]), 1)
    return ids


@torch.no_grad()
def our_captioning(language: Language, clip: Clip) -> None:
    generate(language, clip, None, Search(num_beams=1, max_tokens=WORDS))


# -- all of it


def paired(rounds: int, *sides: Callable[[], object]) -> list[float]:
    """Median CPU seconds of each side, in turns."""
    found: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(rounds):
        for times, side in zip(found, sides, strict=True):
            began = time.process_time()
            side()
            times.append(time.process_time() - began)
    return [statistics.median(times) for times in found]


def golden(name: str) -> str:
    path = Path(os.environ.get("VALOR_DATA_SHARED", "../shared")) / "golden" / "timings.json"
    if not path.is_file():
        return ""
    value = json.loads(path.read_text())["threads_1"][name]
    value = value.get("three_groups_fwd_bwd", value)
    return f"{1000 * value['median_cpu_s']:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| | plain, ms | golden, ms | ours, ms | plain / ours |\n|---|---|---|---|---|")
    for full, name in ((True, "b_masker_64x42_no_padding_p0.6"), (False, "b2_masker_64x42_padded_len12to42_p0.6")):
        ids = captions(full)
        plain, ours = paired(
            options.rounds, lambda ids=ids: plain_masking(ids), lambda ids=ids: mask_tokens(ids, 0.6, VOCABULARY)
        )
        told = "masking" if full else "masking, padded"
        print(f"| {told} | {1000 * plain:.1f} | {golden(name)} | {1000 * ours:.2f} | {plain / ours:.0f} |")
    name = "c_fine_similarity_B128_Nt42_Nv4_Na1_C512"
    for alone, told in ((False, "similarity, heads included"), (True, "similarity alone")):
        model = Features(alone)
        plain, ours = paired(
            options.rounds,
            lambda model=model: step(plain_similarity, model),
            lambda model=model: step(our_similarity, model),
        )
        beside = "" if alone else golden(name)
        print(f"| {told} | {1000 * plain:.0f} | {beside} | {1000 * ours:.0f} | {plain / ours:.2f} |")
        memory = [peak_megabytes(side, model) for side in (plain_similarity, our_similarity)]
        print(f"| its peak memory, MB | {memory[0]:.0f} | | {memory[1]:.1f} | {memory[0] / memory[1]:.2f} |")
    model = Features(alone=True, batch=512)
    memory = [peak_megabytes(side, model) for side in (plain_similarity, our_similarity)]
    print(f"| peak memory of 512, MB | {memory[0]:.0f} | | {memory[1]:.0f} | {memory[0] / memory[1]:.1f} |")
    torch.manual_seed(0)
    language = Language(LanguageConfig(layers=4)).eval()
    clip = Clip(torch.randn(CLIPS, 4 * 197 + 129, 768))
    plain, ours = paired(
        max(1, options.rounds // 3), lambda: plain_captioning(language, clip), lambda: our_captioning(language, clip)
    )
    print(f"| captioning | {1000 * plain:.0f} | | {1000 * ours:.0f} | {plain / ours:.1f} |")


if __name__ == "__main__":
    main()
