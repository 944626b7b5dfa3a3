"""Released checkpoints: every key of the three published variants at reduced width, and files that are none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_models import random_batch
from torch import Tensor

from valor_data.errors import ConfigError
from valor_data.train.convert import Converted, convert_state, infer_config, read_checkpoint
from valor_data.train.tasks import parse_tasks
from valor_data.train.valor import Valor
from valor_data.train.weights import load_model, save_converted, save_model

REDUCED = {768: 48, 1024: 64, 3072: 96, 4096: 256, 2048: 96, 512: 32, 30522: 400, 49408: 50}
"""Widths of the published parts, and what they become here."""


def reduced(name: str, shape: list[int], swin: bool) -> list[int]:
    """A parameter's shape in a model as deep as the published one and much narrower."""
    if name.startswith("video_encoder."):  # widths double from stage to stage: 128 becomes 24
        return [size * 3 // 16 if size >= 128 and "position_bias" not in name else size for size in shape]
    if swin and name in ("hidden_trans_video_multimodal.0.weight", "contra_head_v.linear.weight"):
        return [REDUCED[shape[0]], shape[1] * 3 // 16]
    if "in_proj" in name:
        return [3 * REDUCED[shape[0] // 3], *(REDUCED[size] for size in shape[1:])]
    if "position" in name:
        return [shape[0], REDUCED[shape[1]]]
    return [REDUCED.get(size, size) for size in shape]


def released(shared: Path, variant: str) -> dict[str, Tensor]:
    """Random weights under all names of a variant."""
    told = json.loads((shared / "golden" / "keys.json").read_text())["variants"][variant]
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for name, shape in told["shapes"].items():
        if name.endswith("relative_position_index"):
            state[name] = torch.zeros(392, 392, dtype=torch.int64)
        else:
            state[name] = torch.randn(reduced(name, shape, "swin" in variant), generator=generator)
    state |= {name: state[first] for name, first in told["aliases"].items()}
    return {**state, "contra_temp": torch.tensor(0.05)}


def fitted(state: dict[str, Tensor], **changes: Any) -> Any:
    """The config read off the shapes, with heads that divide the reduced widths."""
    config = infer_config(state)
    vision = replace(config.vision, heads=4) if config.vision.kind == "clip" else config.vision
    return replace(
        config,
        language=replace(config.language, heads=4),
        sound=replace(config.sound, heads=4),
        vision=vision,
        **changes,
    )


@pytest.mark.parametrize("variant", ["valor_base_videoswin", "valor_large_clip"])
def test_every_key_has_a_place_or_a_reason(shared: Path, variant: str) -> None:
    """No number of a checkpoint is lost: each is in the model, or is named among what was left out."""
    state = released(shared, variant)
    converted = convert_state(state, fitted(state))
    Valor(converted.config).load_state_dict(converted.state)
    taken = sum(tensor.numel() for name, tensor in state.items() if name not in converted.left_out)
    assert sum(tensor.numel() for tensor in converted.state.values()) == taken
    assert all(reason for reason in converted.left_out.values())
    everywhere = torch.cat([t.flatten().float() for t in converted.state.values()]).sort().values
    for name, tensor in state.items():
        if name not in converted.left_out and name != "contra_temp":
            place = torch.searchsorted(everywhere, tensor.flatten()[0])
            assert float(everywhere[place]) == float(tensor.flatten()[0]), name


def test_what_is_left_out_is_said(shared: Path) -> None:
    state = released(shared, "valor_large_clip")
    left_out = convert_state(state, fitted(state)).left_out
    heads = {re.sub(r"\..*", "", name): reason for name, reason in left_out.items()}
    assert set(heads) == {"clip_model", "txt_encoder", "cls", "multimodal_encoder", "contra_temp"}
    assert left_out["clip_model.visual.proj"] == "CLIP's own projection is not used beside BERT"
    assert left_out["clip_model.token_embedding.weight"] == "CLIP's text half is not used beside BERT"
    assert "contra_temp" in left_out and "clip_model.logit_scale" not in left_out


def test_sizes_of_the_released_models(shared: Path) -> None:
    """At full width, on the meta device: the presets are what the checkpoints are."""
    from valor_data.train.presets import preset

    told = json.loads((shared / "golden" / "keys.json").read_text())["variants"]
    for variant, name in (("valor_base_videoswin", "base-swin"), ("valor_large_clip", "large")):
        state = {key: torch.empty(shape, device="meta") for key, shape in told[variant]["shapes"].items()}
        assert infer_config(state) == preset(name)
    state = {key: torch.empty(s, device="meta") for key, s in told["valor_base_json_clip_b16"]["shapes"].items()}
    with pytest.raises(ConfigError, match="no contra_head_t: its text encoder is CLIP's"):
        infer_config(state)


def test_the_temperature_keeps_its_meaning(shared: Path) -> None:
    swin, clip = released(shared, "valor_base_videoswin"), released(shared, "valor_large_clip")
    for exact in (False, True):
        model = Valor(fitted(swin, reference_exact=exact))
        model.load_state_dict(convert_state(swin, model.config).state)
        assert float(model.contrast.scale().detach()) == pytest.approx(1 / 0.05)
        clip["clip_model.logit_scale"] = torch.tensor(3.2)
        model = Valor(fitted(clip, reference_exact=exact))
        model.load_state_dict(convert_state(clip, model.config).state)
        assert float(model.contrast.scale().detach()) == pytest.approx(24.5325, rel=1e-4)


def test_a_converted_checkpoint_in_a_folder_computes(shared: Path, tmp_path: Path) -> None:
    """Saved as the reference saves, converted, written, read again, and run."""
    state = released(shared, "valor_large_clip")
    config = fitted(state)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "released.pt")
    converted = convert_state(read_checkpoint(tmp_path / "released.pt"), config)
    save_converted(converted, tmp_path / "ours")
    model = load_model(tmp_path / "ours")
    assert model.config == config and not model.training
    assert json.loads((tmp_path / "ours" / "model.json").read_text())["left_out"] == converted.left_out
    model.set_prompts(lambda text: [101, 110, 102])
    batch = random_batch(2)
    batch.frames = torch.zeros(2, 1, 3, 224, 224, dtype=torch.uint8)
    losses = model(batch, parse_tasks("pt_contra%tva_caption%tva"), torch.Generator().manual_seed(0))
    assert bool(losses["loss"].isfinite())
    save_model(model, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.prompt_ids == model.prompt_ids
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def broken(state: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    changed = {**state, **changes}
    return {name: tensor for name, tensor in changed.items() if tensor is not None}


def test_what_does_not_fit_is_named_all_at_once(shared: Path) -> None:
    state = released(shared, "valor_base_videoswin")
    config = fitted(state)
    wrong = broken(
        state,
        **{
            "extra.weight": torch.zeros(3),
            "cls.dense.bias": None,
            "cls.dense.weight": torch.zeros(2, 2),
            "txt_encoder.embeddings.word_embeddings.weight": torch.zeros(400, 48),
        },
    )
    with pytest.raises(ConfigError) as error:
        convert_state(wrong, config)
    for words in (
        "not a checkpoint of this VALOR: 4 problems",
        "extra.weight [3]: no rule knows this name",
        "language.head.dense.bias: the checkpoint has nothing for it",
        "language.head.dense.weight: [2, 2] in the checkpoint, [48, 48] in the model",
        "txt_encoder.embeddings.word_embeddings.weight should be the same as multimodal_encoder.",
    ):
        assert words in str(error.value)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_checkpoint(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ConfigError, match="not a checkpoint that torch can read as data alone"):
        read_checkpoint(tmp_path / "text.pt")
    torch.save({"weights": [1, 2]}, tmp_path / "list.pt")
    with pytest.raises(ConfigError, match="holds something else"):
        read_checkpoint(tmp_path / "list.pt")
    with pytest.raises(ConfigError, match="not a checkpoint of VALOR: it has no multimodal_encoder"):
        convert_state({"a": torch.zeros(1)})


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.system, (f"touch {Path('/tmp') / 'valor-evil'}",))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    Path("/tmp/valor-evil").unlink(missing_ok=True)
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ConfigError, match="as data alone"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not Path("/tmp/valor-evil").exists()


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no model: .*model\.json is not there"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ConfigError, match="holds no model that can be read"):
        load_model(tmp_path)


def test_a_model_of_other_sizes_than_its_description(shared: Path, tmp_path: Path) -> None:
    state = released(shared, "valor_base_videoswin")
    config = fitted(state)
    converted = convert_state(state, config)
    save_converted(Converted(replace(config, max_frames=5), converted.state, {}), tmp_path)
    with pytest.raises(ConfigError, match=r"the weights do not fit model.json: (?s:.*)look.frames"):
        load_model(tmp_path)
