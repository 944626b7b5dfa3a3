"""`--init`: small models saved as transformers and torchvision save theirs, and what our encoders then compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_models import CLIP, LANGUAGE, SOUND, SWIN, tiny_model
from torchvision.models.video.swin_transformer import SwinTransformer3d
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    ASTModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
)

from valor_data.errors import ConfigError
from valor_data.train.initialise import SOURCES, initialise, sources_for
from valor_data.train.presets import PRESETS, ModelConfig
from valor_data.train.valor import Valor


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def bert_config(**changes: int) -> BertConfig:
    values = {
        "vocab_size": 200, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 96, "max_position_embeddings": 64,
    }  # fmt: skip
    return BertConfig(**{**values, **changes})


def clip_vision(**changes: int) -> dict[str, int]:
    values = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1,
        "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    return {**values, **changes}


def test_bert_and_its_word_head(tmp_path: Path) -> None:
    """Ours without a clip is BERT: the same hidden states and the same words' scores."""
    theirs = BertForMaskedLM(bert_config()).eval()
    with torch.no_grad():
        theirs.cls.predictions.bias.normal_()
    theirs.save_pretrained(tmp_path)
    model = tiny_model()
    prompt = model.language.bert.embeddings.token_type_embeddings.weight[2].clone()
    cross = model.language.bert.encoder.layer[0].crossattention.self.key.weight.clone()
    notes = initialise(model, {"text": str(tmp_path)})
    assert notes == [f"text: BERT and its word head from {tmp_path}; at random: cross-attention, prompt vector"]
    ids = torch.randint(106, 200, (3, 9))
    ids[1, 6:] = 0
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids != 0).long())
        hidden = model.language(ids)
    seen = ids != 0
    torch.testing.assert_close(model.language.scores(hidden)[seen], expected.logits[seen], atol=1e-5, rtol=1e-5)
    assert torch.equal(model.language.bert.embeddings.token_type_embeddings.weight[2], prompt)
    assert torch.equal(model.language.bert.encoder.layer[0].crossattention.self.key.weight, cross)


def test_bert_without_a_word_head(tmp_path: Path) -> None:
    BertModel(bert_config()).save_pretrained(tmp_path)
    model = tiny_model()
    before = model.language.head.dense.weight.clone()
    (note,) = initialise(model, {"text": str(tmp_path)})
    assert "at random: word head, cross-attention, prompt vector" in note
    assert torch.equal(model.language.head.dense.weight, before)


@pytest.mark.parametrize("kind", ["vision", "whole"])
def test_clip(tmp_path: Path, kind: str) -> None:
    """From the vision half alone or from a whole CLIP."""
    config = CLIPVisionConfig(**clip_vision())
    if kind == "vision":
        theirs = CLIPVisionModel(config)
        theirs.save_pretrained(tmp_path)
    else:
        text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        whole = CLIPModel(CLIPConfig(vision_config=config.to_dict(), text_config={**text, "vocab_size": 60}))
        theirs = whole.vision_model
        whole.save_pretrained(tmp_path)
    model = tiny_model()
    assert initialise(model, {"vision": str(tmp_path)}) == [f"vision: CLIP's ViT from {tmp_path}"]
    pixels = torch.randn(2, 1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.eval()(pixel_values=pixels[:, 0])
        found = model.vision(pixels)[:, 0]
    torch.testing.assert_close(found[:, 0], expected.pooler_output, atol=1e-5, rtol=1e-5)
    if kind == "whole":
        exact = tiny_model(reference_exact=True)
        with torch.no_grad():
            whole.logit_scale.fill_(3.0)
        whole.save_pretrained(tmp_path)
        (note,) = initialise(exact, {"vision": str(tmp_path)})
        assert "CLIP's ViT and its temperature" in note
        assert float(exact.contrast.scale().detach()) == pytest.approx(20.0855, rel=1e-4)


def test_clip_of_another_picture_size(tmp_path: Path) -> None:
    """L/14 at 336 px starts a model at 224 px: here 96 and 64."""
    theirs = CLIPVisionModel(CLIPVisionConfig(**clip_vision(image_size=96)))
    theirs.save_pretrained(tmp_path)
    model = tiny_model()
    (note,) = initialise(model, {"vision": str(tmp_path)})
    assert note.endswith(", positions resized from 6 × 6 to 4 × 4")
    table = model.vision.clip.embeddings.position_embedding.weight
    assert torch.equal(table[0], theirs.embeddings.position_embedding.weight[0])


def test_ast_of_another_grid(tmp_path: Path) -> None:
    """AudioSet's AST: 128 bands, overlapping patches, a distillation token; layers as they are, positions resized."""
    config = ASTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, num_labels=5)
    theirs = ASTForAudioClassification(config)
    inner = theirs.audio_spectrogram_transformer
    with torch.no_grad():
        inner.embeddings.position_embeddings.normal_()
        inner.embeddings.cls_token.normal_()
    theirs.save_pretrained(tmp_path)
    model = tiny_model()
    (note,) = initialise(model, {"sound": str(tmp_path)})
    assert note == f"sound: AST from {tmp_path}, positions resized from 12 × 101 to 4 × 32"
    ours = model.sound.ast
    assert torch.equal(ours.layers[2].mlp.fc1.weight, inner.layers[2].mlp.fc1.weight)
    assert torch.equal(ours.embeddings.class_token, inner.embeddings.cls_token[0, 0])
    assert torch.equal(ours.embeddings.positions[0], inner.embeddings.position_embeddings[0, 0])
    assert torch.equal(ours.embeddings.patch.weight, inner.embeddings.patch_embeddings.projection.weight)
    assert bool(ours.embeddings.positions[1:].std() < inner.embeddings.position_embeddings.std())


def swin_state() -> dict[str, torch.Tensor]:
    theirs = SwinTransformer3d(
        patch_size=[2, 4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=[8, 7, 7], num_classes=3
    )
    return dict(theirs.state_dict())


def theirs_of_video_swin(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of Video-Swin's own repository."""
    renamed = {}
    for name, tensor in state.items():
        stage, _, rest = name.removeprefix("features.").partition(".")
        rest = rest.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        if name.startswith("features.") and int(stage) % 2:
            name = f"layers.{int(stage) // 2}.downsample.{rest}"
        elif name.startswith("features."):
            name = f"layers.{int(stage) // 2}.blocks.{rest}"
        renamed[f"backbone.{name}".replace("backbone.head.", "cls_head.fc_cls.")] = tensor
    return {"state_dict": renamed}  # type: ignore[dict-item]


@pytest.mark.parametrize("names", ["torchvision", "video-swin"])
def test_video_swin_from_a_file(tmp_path: Path, names: str) -> None:
    state = swin_state()
    torch.save(state if names == "torchvision" else theirs_of_video_swin(state), tmp_path / "swin.pth")
    model = Valor(ModelConfig(LANGUAGE, SWIN, SOUND, contrastive_width=32))
    (note,) = initialise(model, {"vision": str(tmp_path / "swin.pth")})
    assert note == f"vision: Video-Swin from {tmp_path / 'swin.pth'}"
    for name, tensor in model.vision.swin.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_sources_that_cannot_be(tmp_path: Path) -> None:
    model = tiny_model()
    BertModel(bert_config(hidden_size=24)).save_pretrained(tmp_path / "narrow")
    CLIPVisionModel(CLIPVisionConfig(**clip_vision())).save_pretrained(tmp_path / "clip")
    ast = ASTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96)
    ASTModel(ast).save_pretrained(tmp_path / "ast")
    swin = Valor(ModelConfig(LANGUAGE, replace(SWIN, width=12), SOUND, contrastive_width=32))
    torch.save(swin_state(), tmp_path / "swin.pth")
    for one, sources, words in (
        (model, {"ears": "x"}, "init: no encoder 'ears'; there are text, vision, sound"),
        (model, {"text": str(tmp_path / "nowhere")}, "cannot be loaded as BertForMaskedLM"),
        (model, {"text": str(tmp_path / "narrow")}, "word_embeddings.weight is [200, 24] there and [200, 48] here"),
        (
            swin,
            {"vision": "Swin9D"},
            "neither a file nor the name of weights in torchvision, such as Swin3D_B_Weights.",
        ),
        (swin, {"vision": str(tmp_path / "swin.pth")}, "Choose the preset that it is for"),
    ):
        before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
        with pytest.raises(ConfigError) as error:
            initialise(one, sources)
        assert words in str(error.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())


def test_sources_of_the_presets() -> None:
    assert set(SOURCES) == set(PRESETS) - {"tiny"}
    assert sources_for("large")["vision"] == "openai/clip-vit-large-patch14-336"
    with pytest.raises(ConfigError, match="preset 'tiny' has sizes of its own and no published weights"):
        sources_for("tiny")


def test_the_golden_sizes_are_what_is_saved_here() -> None:
    """The folders above fit `tiny_model`; were its sizes to change, this says so first."""
    assert (LANGUAGE.width, LANGUAGE.layers, CLIP.width, CLIP.image_px, SOUND.width) == (48, 3, 64, 64, 48)
