"""Writing with remembered keys and values gives what writing without them gives."""

from __future__ import annotations

import pytest
import torch
from golden_models import random_batch, tiny_model
from torch import Tensor

from valor_data.errors import ConfigError
from valor_data.train.generate import Search, generate
from valor_data.train.language import Clip, Language
from valor_data.train.masking import END, MASK, START
from valor_data.train.valor import Valor


def uncached(language: Language, clip: Clip, prompt: Tensor | None, num_beams: int, max_tokens: int) -> list[list[int]]:
    """Beam search one clip at a time in plain Python; every step reads the whole text again."""
    written = []
    for row in range(clip.tokens.shape[0]):
        one = Clip(clip.tokens[row : row + 1], None if clip.valid is None else clip.valid[row : row + 1])
        own_prompt = prompt if prompt is None or prompt.ndim == 1 else prompt[row : row + 1]
        beams: list[tuple[float, list[int]]] = [(0.0, [START])]
        for _ in range(max_tokens):
            candidates = []
            for total, ids in beams:
                if ids[-1] == END:
                    candidates.append((total, ids))
                    continue
                hidden = language(torch.tensor([[*ids, MASK]]), "causal", one, own_prompt)[:, len(ids)]
                for word, score in enumerate(language.scores(hidden)[0].log_softmax(-1).tolist()):
                    candidates.append((total + score, [*ids, word]))
            beams = sorted(candidates, key=lambda beam: -beam[0])[:num_beams]
        best = beams[0][1][1:]
        written.append(best[: best.index(END)] if END in best else best)
    return written


@pytest.fixture(scope="module")
def model() -> Valor:
    model = tiny_model(seed=3)
    with torch.no_grad():
        for parameter in model.language.parameters():  # so that clips differ in what is said of them
            if parameter.ndim == 2:
                parameter.mul_(4)
        model.language.head.bias[END] += 1.0  # so that some texts end
    return model


@pytest.mark.parametrize("num_beams", [1, 2, 3])
@pytest.mark.parametrize("kind", ["plain", "prompt", "questions", "missing"])
def test_remembering_changes_nothing(model: Valor, num_beams: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(4, 9, 48, generator=generator)
    valid = torch.rand(4, 9, generator=generator) < 0.5 if kind == "missing" else None
    if valid is not None:
        valid[2] = False  # nothing to look at: looked at whole
    questions = torch.tensor([[101, 150, 151, 102, 0], [101, 152, 102, 0, 0], [101, 102, 0, 0, 0], [101, 9, 8, 7, 102]])
    prompt = {"prompt": torch.tensor([101, 120, 130, 102]), "questions": questions}.get(kind)
    clip = Clip(tokens, valid)
    with torch.no_grad():
        expected = uncached(model.language, clip, prompt, num_beams, 8)
    assert generate(model.language, clip, prompt, Search(num_beams, 8)).ids == expected
    assert len({tuple(text) for text in expected}) > 1


def test_every_step_s_scores_are_the_same(model: Valor) -> None:
    """Not only the winners: the scores that they were chosen by."""
    from valor_data.train.generate import Decoder

    clip = Clip(torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(2)))
    ids = torch.randint(106, 200, (3, 10), generator=torch.Generator().manual_seed(3))
    prompt = torch.tensor([101, 111, 102])
    with torch.no_grad():
        decoder = Decoder(model.language, clip, prompt, num_beams=1, max_tokens=10)
        for length in range(10):
            found = decoder.step(ids[:, length], length)
            text = torch.cat((ids[:, : length + 1], torch.full((3, 1), MASK)), 1)
            expected = model.language.scores(model.language(text, "causal", clip, prompt)[:, length + 1])
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_captions_and_answers_of_a_batch() -> None:
    model = tiny_model(seed=4, prompts=True)
    batch = random_batch(3, slices=2)
    with pytest.raises(ConfigError, match="call set_prompts first"):
        model.generate(batch, "tva")
    model.set_prompts(lambda text: [101, *(106 + len(word) for word in text.split()), 102])
    model.train()
    captions = model.generate(batch, "tva", num_beams=2, max_tokens=5)
    assert len(captions) == 3 and all(len(caption) <= 5 for caption in captions)
    assert model.training
    assert captions == model.generate(batch, "tva", num_beams=2, max_tokens=5)  # no dropout in it
    with pytest.raises(ConfigError, match="the batch has no questions"):
        model.generate(batch, "tva", task="qa")
    batch.questions = torch.tensor([[101, 150, 102, 0]]).expand(3, -1)
    assert len(model.generate(batch, "ta", task="qa", num_beams=1, max_tokens=3)) == 3
    batch.mel = None
    with pytest.raises(
        ConfigError, match=r"task 'tva' needs mel, which these samples have not: choose groups without a"
    ):
        model.generate(batch, "tva")


def test_a_clip_without_sound_is_described_by_its_frames() -> None:
    model = tiny_model(seed=5)
    batch = random_batch(3, seed=1)
    assert batch.mel is not None and batch.has_sound is not None
    batch.has_sound = torch.tensor([True, False, True])
    batch.mel[1] = 0
    with torch.no_grad():
        clips = model.clips(model.encode(batch), ("tva", "tv"))
        text = torch.tensor([[101, 103]]).expand(3, -1)
        both, frames = (model.language(text, "causal", clips[group]) for group in ("tva", "tv"))
    torch.testing.assert_close(both[1], frames[1], atol=1e-5, rtol=0)
    assert (both[0] - frames[0]).abs().max() > 1e-3
