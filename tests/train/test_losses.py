"""Losses where some clips have no sound, against sums by hand; and what else a batch may lack."""

from __future__ import annotations

import math

import pytest
import torch
from golden_models import random_batch, tiny_model
from torch import Tensor
from torch.nn import functional

from valor_data.errors import ConfigError
from valor_data.train.batch import Batch
from valor_data.train.losses import symmetric_loss, word_loss
from valor_data.train.masking import NOT_PREDICTED, Masked, mask_tokens
from valor_data.train.presets import PRESETS, preset
from valor_data.train.similarity import scores
from valor_data.train.tasks import parse_tasks
from valor_data.train.valor import Valor

PRETRAIN = parse_tasks("pt_contra%tva%tv%ta_caption%tva%tv%ta")


def subset(batch: Batch, rows: list[int]) -> Batch:
    values = {name: getattr(batch, name)[rows] for name in ("frames", "mel", "mel_valid", "has_sound", "captions")}
    return Batch(keys=[batch.keys[row] for row in rows], **values)


def silent_batch() -> tuple[Batch, list[int]]:
    """Six clips, of which 1 and 4 have no sound."""
    batch = random_batch(6, seed=2, slices=2)
    assert batch.mel is not None and batch.mel_valid is not None and batch.has_sound is not None
    for row in (1, 4):
        batch.mel[row], batch.mel_valid[row], batch.has_sound[row] = 0, False, False
    return batch, [0, 2, 3, 5]


def fixed_mask(batch: Batch) -> dict[str, Masked]:
    assert batch.captions is not None
    return {"caption": mask_tokens(batch.captions, 0.6, 200, torch.Generator().manual_seed(3))}


def test_clips_without_sound_are_left_out_of_the_audio_groups() -> None:
    """The loss of a group with `a` is that of the clips that have sound; T-V sees all clips."""
    model = tiny_model()
    batch, heard = silent_batch()
    masked = fixed_mask(batch)["caption"]
    losses = model(batch, PRETRAIN, masked={"caption": masked})
    part = {"caption": Masked(masked.ids[heard], masked.labels[heard])}
    expected = model(subset(batch, heard), PRETRAIN, masked=part)
    for name in ("contrastive/tva", "contrastive/ta", "caption/tva", "caption/ta"):
        torch.testing.assert_close(losses[name], expected[name], atol=2e-6, rtol=1e-6)
    for name in ("contrastive/tv", "caption/tv"):
        assert float((losses[name] - expected[name]).detach().abs()) > 1e-3
    grads, other = (
        torch.autograd.grad(found["contrastive/ta"] + found["caption/ta"], list(model.sound.parameters()))
        for found in (losses, expected)
    )
    for found, one in zip(grads, other, strict=True):
        torch.testing.assert_close(found, one, atol=1e-5, rtol=1e-4)


def test_the_audio_groups_by_hand() -> None:
    """T-A of four clips written out: softmax along rows and columns, then the mean of eight."""
    model = tiny_model()
    batch, heard = silent_batch()
    with torch.no_grad():
        found = float(model(batch, parse_tasks("ret%ta"))["contrastive/ta"])
        tokens = model.embed(batch)
        matrix = scores(tokens, tokens, ["ta"])["ta"] / 0.07
    total = 0.0
    for i in heard:
        total += math.log(sum(math.exp(float(matrix[i, j])) for j in heard)) - float(matrix[i, i])
        total += math.log(sum(math.exp(float(matrix[j, i])) for j in heard)) - float(matrix[i, i])
    assert found == pytest.approx(total / (2 * len(heard)), abs=1e-5)


def test_a_batch_without_any_sound_costs_nothing_and_moves_nothing() -> None:
    model = tiny_model()
    batch = random_batch(3)
    assert batch.mel is not None and batch.has_sound is not None and batch.mel_valid is not None
    batch.mel.zero_(), batch.has_sound.zero_(), batch.mel_valid.zero_()
    losses = model(batch, PRETRAIN, torch.Generator().manual_seed(0))
    for name in ("contrastive/tva", "contrastive/ta", "caption/tva", "caption/ta"):
        assert float(losses[name].detach()) == 0
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name
        if name.startswith("sound."):
            assert parameter.grad is not None and float(parameter.grad.abs().max()) == 0, name


def test_padded_sound_is_not_heard() -> None:
    """What stands in padded mel frames changes nothing; with `reference_exact` it does."""
    batch = random_batch(3)
    assert batch.mel is not None and batch.mel_valid is not None
    batch.mel_valid[:, :, 256:] = False
    louder = random_batch(3)
    assert louder.mel is not None
    louder.mel_valid = batch.mel_valid
    louder.mel[..., 256:] += 3.0
    for exact in (False, True):
        model = tiny_model(reference_exact=exact)
        with torch.no_grad():
            one, other = (model(b, PRETRAIN, masked=fixed_mask(batch))["loss"] for b in (batch, louder))
        assert (float((one - other).abs()) < 1e-5) is not exact


def test_the_reference_takes_silent_clips_as_they_come() -> None:
    model = tiny_model(reference_exact=True)
    batch, _ = silent_batch()
    with torch.no_grad():
        losses = model(batch, PRETRAIN, masked=fixed_mask(batch))
        batch.has_sound = batch.mel_valid = None
        again = model(batch, PRETRAIN, masked=fixed_mask(batch))
    assert {name: float(loss) for name, loss in losses.items()} == {name: float(loss) for name, loss in again.items()}


def test_symmetric_loss_with_all_present_is_the_plain_one() -> None:
    matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    everyone = symmetric_loss(matrix, torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(symmetric_loss(matrix), everyone)
    far = torch.zeros(64, 64)
    assert float(symmetric_loss(far)) == pytest.approx(math.log(64), abs=1e-5)


def test_word_loss_is_the_mean_over_what_was_asked() -> None:
    hidden = torch.randn(2, 3, 4)
    labels = torch.tensor([[NOT_PREDICTED, 2, NOT_PREDICTED], [1, NOT_PREDICTED, 0]])
    each = [functional.cross_entropy(hidden[i, j][None], labels[i, j][None]) for i, j in ((0, 1), (1, 0), (1, 2))]
    torch.testing.assert_close(word_loss(hidden, labels, lambda x: x), torch.stack(each).mean())
    assert float(word_loss(hidden, torch.full_like(labels, NOT_PREDICTED), lambda x: x)) == 0


def test_all_tasks_of_a_model_with_prompts() -> None:
    model = tiny_model(prompts=True)
    model.set_prompts(lambda text: [101, *(106 + len(word) for word in text.split()), 102])
    batch = random_batch(4)
    losses = model(batch, parse_tasks("pt_contra%tv_caption%tv_mlm%tv%tva"), torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "contrastive/tv", "caption/tv", "mlm/tv", "mlm/tva"}
    total = 1.5 * losses["contrastive/tv"] + losses["caption/tv"] + (losses["mlm/tv"] + losses["mlm/tva"]) / 2
    torch.testing.assert_close(losses["loss"], total)
    batch.questions = random_batch(4, seed=9).captions
    losses = model(batch, parse_tasks("qa%tva"), torch.Generator().manual_seed(0))
    assert bool(losses["qa/tva"].isfinite())
    prompt = model.text_prompt("qa", "tva", torch.empty(0), batch.questions)
    assert prompt is not None and batch.questions is not None
    assert prompt.shape[1] == batch.questions.shape[1] + 3 and prompt[0, :4].tolist() == [101, 112, 109, 114]


def test_an_answer_sees_the_question_and_not_its_own_later_words() -> None:
    model = tiny_model()
    batch = random_batch(2)
    batch.questions = torch.tensor([[101, 150, 151, 102], [101, 152, 102, 0]])
    answers = torch.tensor([[101, 160, 161, 102], [101, 162, 102, 0]])
    with torch.no_grad():
        clip = model.clips(model.encode(batch), ("tva",))["tva"]
        base = model.language(answers, "causal", clip, batch.questions)
        later = answers.clone()
        later[0, 2] = 170
        changed = model.language(later, "causal", clip, batch.questions)
        torch.testing.assert_close(base[0, :2], changed[0, :2])
        torch.testing.assert_close(base[:, 4:], changed[:, 4:])  # the question sees nothing of the answer
        other = batch.questions.clone()
        other[0, 2] = 170
        assert float((model.language(answers, "causal", clip, other)[0, :2] - base[0, :2]).abs().min()) > 0
        padded = torch.nn.functional.pad(batch.questions, (0, 3))
        longer = model.language(answers, "causal", clip, padded)
        torch.testing.assert_close(longer[:, :4], base[:, :4], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("task", "gone", "words"),
    [
        ("ret%tva", ("mel",), "task 'ret%tva' needs mel, which these samples have not: choose groups without a"),
        ("cap%tv", ("frames", "captions"), "needs captions and frames, which these samples have not"),
        ("qa%tv", (), "the batch has no questions"),
    ],
)
def test_what_a_batch_lacks_is_said(task: str, gone: tuple[str, ...], words: str) -> None:
    batch = random_batch(2)
    for name in gone:
        setattr(batch, name, None)
    with pytest.raises(ConfigError) as error:
        tiny_model()(batch, parse_tasks(task))
    assert words in str(error.value)


def test_frames_of_another_size_are_refused() -> None:
    batch = random_batch(2)
    assert batch.frames is not None
    batch.frames = batch.frames[..., :32]
    with pytest.raises(ConfigError, match="frames are 64 × 32 px and the model takes 64 × 64"):
        tiny_model()(batch, parse_tasks("ret%tv"))


def test_pixels_as_bytes_and_as_numbers_are_the_same() -> None:
    model = tiny_model()
    frames = random_batch(2).frames
    assert frames is not None
    torch.testing.assert_close(model.vision.normalise(frames), model.vision.normalise(frames.float() / 255))


@pytest.mark.parametrize(
    "task", ["ret%tva", "ret%tv", "ret%va", "ret%vta", "cap%tva", "cap%ta", "pt_contra%tv_caption%ta_mlm%tv", "qa%tv"]
)
def test_parameters_no_task_reaches_are_known(task: str) -> None:
    model = tiny_model()
    tasks = parse_tasks(task)
    batch = random_batch(3)
    batch.questions = batch.captions
    model(batch, tasks, torch.Generator().manual_seed(0))["loss"].backward()
    assert model.unused(tasks) == {name for name, p in model.named_parameters() if p.grad is None}


def test_computing_layers_twice_changes_nothing() -> None:
    batch = random_batch(3)
    gradients: list[dict[str, Tensor]] = []
    for twice in (False, True):
        model = tiny_model().train()
        model.checkpoint_activations(twice)
        model(batch, PRETRAIN, masked=fixed_mask(batch))["loss"].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_what_weight_decay_is_for() -> None:
    model = tiny_model()
    ours = model.decayed()
    parameters = dict(model.named_parameters())
    assert ours <= set(parameters)
    assert all(parameters[name].ndim >= 2 for name in ours)
    for away in ("temperature", "norm", "embeddings.word", "frames", "kind", "class_token", "positions", "bias"):
        assert not [name for name in ours if away in name.lower()], away
    theirs = tiny_model(reference_exact=True).decayed()
    assert "contrast.temperature" in theirs and "sound.ast.layernorm.weight" in theirs
    assert "language.bert.embeddings.LayerNorm.weight" not in theirs


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_can_be_built(name: str) -> None:
    """Sizes as the paper has them; nothing is allocated."""
    with torch.device("meta"):
        model = Valor(preset(name))
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    low, high = {"tiny": (4, 8), "base": (300, 320), "base-swin": (310, 318), "large": (525, 535)}[name]
    assert low < millions < high
