"""The reference's numbers, met part by part and as a whole step, with `reference_exact` on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from golden_models import LANGUAGE, SOUND, SWIN, difference, golden, golden_batch, part, swin_model
from torch import Tensor
from torch.nn import functional

from valor_data.train.convert import convert_part
from valor_data.train.generate import Search, generate
from valor_data.train.language import Clip, Language
from valor_data.train.losses import contrastive_losses, word_loss
from valor_data.train.masking import Masked
from valor_data.train.positions import resize_positions
from valor_data.train.presets import ClipConfig
from valor_data.train.similarity import Tokens, scores
from valor_data.train.sound import Sound
from valor_data.train.tasks import CONTRASTIVE_GROUPS, parse_tasks
from valor_data.train.vision import ClipVision, SwinVision

TOLERANCE = 1e-4
TIGHT = 1e-5
"""What the golden README measured with an independent rewrite; hidden states and losses."""


def test_positions(shared: Path) -> None:
    tensors = golden(shared, "position_resize")
    assert difference(resize_positions(tensors["ast.in"], (12, 101), (4, 32), extra=2), tensors["ast.out"]) == 0
    assert difference(resize_positions(tensors["clip.in"], (24, 24), (16, 16)), tensors["clip.out"]) == 0
    with pytest.raises(ValueError, match="577 positions is not 1 \\+ 23 × 24"):
        resize_positions(tensors["clip.in"], (23, 24), (16, 16))


def test_sound(shared: Path) -> None:
    tensors = golden(shared, "ast")
    sound = Sound(SOUND)
    sound.load_state_dict(convert_part(part(tensors, "sd."), "sound."))
    mel = tensors["in.spectrogram"]
    with torch.no_grad():
        assert (
            difference(sound.ast.embeddings(mel.flatten(0, 1)).view(2, 2, 129, 48), tensors["out.embeddings"])
            < TIGHT * 2
        )
        assert difference(sound(mel), tensors["out.tokens"]) < TIGHT


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("w48h4", ClipConfig(image_px=32, width=48, heads=4, layers=3, feed_forward=192)),
        ("w64h1", ClipConfig(image_px=64, width=64, heads=1, layers=2, feed_forward=256)),
    ],
)
def test_clip_vision(shared: Path, name: str, config: ClipConfig) -> None:
    tensors = part(golden(shared, "clip_vision"), f"{name}.")
    vision = ClipVision(config)
    state = {f"clip_model.visual.{key}": value for key, value in part(tensors, "sd.").items()}
    vision.load_state_dict(convert_part(state, "vision."))
    with torch.no_grad():
        found = vision(tensors["in.pixels"][:, None])[:, 0]
    assert difference(found, tensors["out.tokens"]) < TIGHT


@pytest.mark.parametrize("case", ["T4_64", "T1_56", "T4_56", "T9_56", "T2_60", "T2_28"])
def test_video_swin(shared: Path, case: str) -> None:
    tensors = golden(shared, "videoswin")
    vision = SwinVision(SWIN, corner_bias=True).eval()
    state = {f"video_encoder.{key}": value for key, value in part(tensors, "sd.").items()}
    vision.load_state_dict(convert_part(state, "vision."))
    with torch.no_grad():
        found = vision(tensors[f"{case}.in.pixels"])
        assert difference(found, tensors[f"{case}.out.tokens"]) < TIGHT
        if case == "T4_56":
            patches = vision.swin.patch_embed(tensors["T4_56.in.pixels"].transpose(1, 2)).permute(0, 4, 1, 2, 3)
            assert difference(patches, tensors["T4_56.out.patch_embed"]) < TIGHT
    ours = SwinVision(SWIN).eval()
    ours.load_state_dict(vision.state_dict())
    with torch.no_grad():
        shrunk = difference(ours(tensors[f"{case}.in.pixels"]), found)
    assert (shrunk > 1e-4) == (case == "T2_28")  # the true offsets differ only where rows and columns have shrunk


def test_video_swin_index(shared: Path) -> None:
    tensors = golden(shared, "videoswin")
    index = SwinVision(SWIN).swin.features[0][0].attn.relative_position_index
    assert index[0].tolist() == tensors["check.relative_position_index.first_row"].tolist()
    assert index[:, 0].tolist() == tensors["check.relative_position_index.first_col"].tolist()
    assert int(index.sum()) == int(tensors["check.relative_position_index.sum"])


@pytest.fixture(scope="module")
def decoder(shared: Path) -> tuple[Language, dict[str, Tensor]]:
    tensors = golden(shared, "decoder")
    language = Language(LANGUAGE)
    language.load_state_dict(convert_part(part(tensors, "sd."), "language."))
    return language.eval(), tensors


def clips(tensors: dict[str, Tensor]) -> dict[str, Clip]:
    video, audio = tensors["in.video_tokens"], tensors["in.audio_tokens"]
    return {"v": Clip(video), "a": Clip(audio), "av": Clip(torch.cat((video, audio), 1))}


def test_decoder_states(decoder: tuple[Language, dict[str, Tensor]]) -> None:
    language, tensors = decoder
    ids, masked, prompt = (tensors[f"in.{name}"] for name in ("ids", "masked_ids", "prompt_ids"))
    with torch.no_grad():
        assert difference(language(ids), tensors["out.text_hidden"]) < TIGHT
        assert difference(language(ids, prompt=prompt), tensors["out.text_hidden_with_prompt"]) < TIGHT
        for name, clip in clips(tensors).items():
            causal = language(masked, "causal", clip)
            assert difference(causal, tensors[f"out.hidden_causal.{name}"]) < TIGHT
            assert difference(language.scores(causal), tensors[f"out.logits_causal.{name}"]) < 2 * TIGHT
            assert difference(language(masked, "both", clip), tensors[f"out.hidden_bidirectional.{name}"]) < TIGHT
            prompted = language(masked, "causal", clip, prompt)[:, : ids.shape[1]]
            assert difference(prompted, tensors[f"out.hidden_causal_prompt.{name}"]) < TIGHT


def test_decoder_losses_and_gradients(decoder: tuple[Language, dict[str, Tensor]]) -> None:
    language, tensors = decoder
    tensors = {**tensors}
    for name in ("in.video_tokens", "in.audio_tokens"):
        tensors[name] = tensors[name].clone().requires_grad_()
    losses = {}
    for name, clip in clips(tensors).items():
        hidden = language(tensors["in.masked_ids"], "causal", clip)
        losses[name] = word_loss(hidden, tensors["in.labels"], language.scores)
        assert difference(losses[name], tensors[f"out.loss.{name}"]) < TIGHT
    language.zero_grad()
    sum(losses.values()).div(3).backward()  # type: ignore[union-attr]
    key = language.bert.encoder.layer[0].crossattention.self.key.weight
    for ours, name in (
        (tensors["in.video_tokens"], "video_tokens"),
        (tensors["in.audio_tokens"], "audio_tokens"),
        (language.words, "word_embeddings"),
        (key, "layer0.cross_key"),
    ):
        assert ours.grad is not None
        assert difference(ours.grad, tensors[f"grad.{name}"]) < TIGHT


@pytest.mark.parametrize("mode", ["ref", "fixed"])
def test_fine_similarity(shared: Path, mode: str) -> None:
    """Scores, losses and every gradient; `fixed` is ours."""
    tensors = golden(shared, "fine_similarity")
    inputs = {name: tensors[name].clone().requires_grad_() for name in ("text", "video", "audio")}
    heads = {name: tensors[name].clone().requires_grad_() for name in tensors if name.startswith("head.")}
    tau = torch.tensor(0.07, requires_grad=True)
    tokens = {}
    for name, features in inputs.items():
        hidden = functional.linear(features, heads[f"head.{name}.0.weight"], heads[f"head.{name}.0.bias"]).relu()
        logits = functional.linear(hidden, heads[f"head.{name}.2.weight"], heads[f"head.{name}.2.bias"])[..., 0]
        tokens[name[0]] = Tokens(features, logits, tensors["text_mask"] > 0 if name == "text" else None)
    for group, matrix in scores(tokens, tokens, CONTRASTIVE_GROUPS, mode == "ref").items():
        assert difference(matrix, tensors[f"{mode}.score.{group}"]) < 1e-6
    losses = contrastive_losses(tokens, CONTRASTIVE_GROUPS, 1 / tau, None, mode == "ref")
    for group, loss in losses.items():
        assert difference(loss, tensors[f"{mode}.loss.{group}"]) < TIGHT
    mean = (losses["tva"] + losses["tv"] + losses["ta"]) / 3
    assert difference(mean, tensors[f"{mode}.loss.mean3"]) < TIGHT
    mean.backward()
    for name, leaf in {**inputs, **heads, "tau": tau}.items():
        assert leaf.grad is not None
        assert difference(leaf.grad, tensors[f"{mode}.grad.{name}"]) < TIGHT


def test_pretrain_step(shared: Path) -> None:
    """The whole model: tokens, features, losses, and the gradient of every parameter."""
    tensors = golden(shared, "pretrain_step")
    model = swin_model(tensors)
    batch = golden_batch(model, tensors)
    encoded = model.encode(batch)
    assert encoded.video is not None and encoded.audio is not None
    assert difference(encoded.video, tensors["out.video_encoder"]) < TIGHT
    assert difference(model.look(encoded.video), tensors["out.video_tokens"]) < TIGHT
    assert difference(model.listen(encoded.audio), tensors["out.audio_tokens"]) < TIGHT
    embedded = model.embed(batch)
    for name, found in zip(("audio", "text", "video"), (embedded[letter] for letter in "atv"), strict=True):
        assert difference(found.features, tensors[f"out.feat_{name}"]) < TIGHT
    masked = {"caption": Masked(tensors["in.masked_ids_cap"], tensors["in.labels_cap"])}
    losses = model(batch, parse_tasks("pt_contra%tva%tv%ta_caption%tva%tv%ta"), masked=masked)
    for group in ("tva", "tv", "ta"):
        assert difference(losses[f"contrastive/{group}"], tensors[f"out.mga.{group}"]) < TIGHT
        assert difference(losses[f"caption/{group}"], tensors[f"out.mgc.{group}"]) < TIGHT
    assert difference(losses["loss"], tensors["out.total"]) < TIGHT
    losses["loss"].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_gradient_norms(gradients, part(tensors, "gradnorm."), float(tensors["out.grad_global_norm"]))
    for name, expected in convert_part(part(tensors, "grad."), "").items():
        ours = gradients[name]
        assert difference(ours.view(expected.shape), expected) < TOLERANCE, name


def assert_gradient_norms(gradients: dict[str, Tensor], norms: dict[str, Tensor], total: float) -> None:
    """Every parameter's norm, the reference's names mapped by the converter; the whole norm too."""
    whole = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert float(whole) == pytest.approx(total, rel=1e-5)
    ours = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    types = "language.bert.embeddings.token_type_embeddings.weight"
    assert float(gradients[types][2:].norm()) == 0  # no prompt in this step
    prompt = {"multimodal_encoder.embeddings.prompt_embedding.weight": torch.zeros(())}
    mapped = convert_part({name: norm.view(1) for name, norm in {**norms, **prompt}.items()}, "")
    assert set(mapped) == set(ours)
    for name, norm in mapped.items():
        assert ours[name] == pytest.approx(float(norm.flatten()[0]), rel=1e-4, abs=1e-6), name


def test_extra_groups_and_the_picture_step(shared: Path) -> None:
    tensors = golden(shared, "pretrain_step")
    model = swin_model(tensors)
    batch = golden_batch(model, tensors)
    with torch.no_grad():
        extra = model(batch, parse_tasks("ret%va%vta%atv"))
    for group in ("va", "vta", "atv"):
        assert difference(extra[f"contrastive/{group}"], tensors[f"out.mga_extra.{group}"]) < TIGHT
    masked = {"caption": Masked(tensors["in.masked_ids_cap"], tensors["in.labels_cap"])}
    losses = model(batch, parse_tasks("pt_contra%tv_caption%tv"), masked=masked)
    assert difference(losses["contrastive/tv"] * 1.5, tensors["out.tv_step.contra_loss"]) < TIGHT
    assert difference(losses["caption/tv"], tensors["out.tv_step.caption_loss"]) < TIGHT
    assert difference(losses["loss"], tensors["out.tv_step.total"]) < TIGHT
    losses["loss"].backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(float(tensors["out.tv_step.grad_global_norm"]), rel=1e-5)


def test_captions(shared: Path, decoder: tuple[Language, dict[str, Tensor]]) -> None:
    """Greedy and beam search, all 90 cases of each, and the winners' scores."""
    language, tensors = decoder
    told = json.loads((shared / "golden" / "beam.json").read_text())
    bias = language.head.bias.detach().clone()
    for case in told["cases"]:
        with torch.no_grad():
            language.head.bias.copy_(bias)
            language.head.bias[told["eos"]] += case["eos_bias_shift"]
            language.head.bias[0] += case["pad_bias_shift"]
        for name, clip in clips(tensors).items():
            assert generate(language, clip, None, Search(1, told["max_generation_len"])).ids == case["greedy"][name]
            beams = generate(language, clip, None, Search(told["beam_size"], told["max_generation_len"]))
            assert beams.ids == case["beam3"][name] == case["beam3_standard"][name]
            assert difference(beams.scores, torch.tensor(case["beam3_score"][name])) < TOLERANCE
    with torch.no_grad():
        language.head.bias.copy_(bias)
