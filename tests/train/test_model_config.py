"""Presets, settings and task strings: what they give, and the words of their errors."""

from __future__ import annotations

import json

import pytest

from valor_data.errors import ConfigError
from valor_data.train.presets import PRESETS, ClipConfig, ModelConfig, SwinConfig, preset
from valor_data.train.tasks import parse_tasks


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_config_survives_json(name: str) -> None:
    config = preset(name, max_frames=8, reference_exact=True)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_sizes_of_the_published_encoders() -> None:
    assert SwinConfig().out_width == 1024 and SwinConfig().tokens_per_frame == 49
    assert preset("base").vision.tokens_per_frame == 197
    assert preset("large").vision.tokens_per_frame == 257 and preset("large").prompts
    assert preset("base").sound.tokens_per_slice == 129
    assert preset("base-swin", reference_exact=True).free_temperature
    assert not preset("base-swin").free_temperature
    assert not preset("base", reference_exact=True).free_temperature


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: preset("huge"), "no preset 'huge'; there are tiny, base, base-swin, large"),
        (lambda: preset("tiny", width=3), "model.width is no setting; there are language, vision"),
        (lambda: preset("tiny", caption_mask=1.5), "model.caption_mask is 1.5; it is a share above 0, at most 1"),
        (lambda: preset("tiny", temperature=0), "model.temperature is 0; it must be above 0"),
        (lambda: ModelConfig(vision=ClipConfig(width=100)), "width is 100, no multiple of its 12 heads"),
        (lambda: ModelConfig(vision=ClipConfig(image_px=100)), "image_px is 100, no multiple of patch_px, 16"),
        (lambda: ModelConfig(vision=SwinConfig(depths=(2,))), "1 depths and 4 heads; one of each a stage"),
        (lambda: ModelConfig.from_dict({"vision": {"kind": "vit"}}), "kind is 'vit'; it can be clip or swin"),
        (lambda: ModelConfig.from_dict({"sound": {"bands": 3}}), "model.sound.bands is no setting"),
    ],
)
def test_a_wrong_setting_is_named(make: object, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()  # type: ignore[operator]
    assert words in str(error.value)


def test_task_strings_of_valor() -> None:
    tasks = parse_tasks("pt_contra%tva%tv%ta_caption%tva%tv%ta")
    assert tasks.contrastive == tasks.caption == ("tva", "tv", "ta") and tasks.modalities == "tva"
    tasks = parse_tasks("pt_contra%tv_caption%tv_mlm%tv")
    assert tasks.mlm == ("tv",) and not tasks.needs_audio and tasks.needs_video
    assert parse_tasks("ret%tva").contrastive == ("tva",)
    assert parse_tasks("cap%tva%tv%ta").caption == ("tva", "tv", "ta")
    assert parse_tasks("qa%ta").qa == ("ta",) and parse_tasks("qa%ta").modalities == "ta"
    assert parse_tasks("ret%va").modalities == "va"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("guess%tva", "no task 'guess'; there are contra, ret, caption, cap, mlm, qa"),
        ("", "no task ''"),
        ("cap", "cap has no group; write cap%tva, or any of tva, tv, ta"),
        ("cap%va", "cap has no group 'va'; it takes tva, tv, ta"),
        ("ret%tvx", "ret has no group 'tvx'; it takes tva, tv, ta, va, vta, atv"),
        ("ret%tv%tv", "a group of ret is there twice"),
        ("cap%tv_caption%ta", "caption is there twice; give it all its groups at once"),
        ("qa%tva_cap%tva", "qa stands alone"),
    ],
)
def test_a_wrong_task_says_what_is_right(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_tasks(text)
    assert words in str(error.value)
