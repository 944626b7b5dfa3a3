"""A trained model in a folder: `model.safetensors`, and `model.json` that says how to build it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from valor_data.errors import ConfigError

from .convert import Converted
from .presets import ModelConfig
from .valor import Valor

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def describe(model: Valor) -> dict[str, Any]:
    """What `model.json` holds: the config, and the prompts' ids where they are set."""
    return {"config": model.config.to_dict(), "prompts": model.prompt_ids}


def save_model(model: Valor, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Writes a model's two files; whoever needs them to appear at once renames the folder.

    Args:
        model: whose description is written.
        folder: created where it is missing.
        state: its weights, where the model itself holds only a share of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.state_dict() if state is None else state
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    _write_description(folder, describe(model))


def save_converted(converted: Converted, folder: Path) -> None:
    """The same for a converted checkpoint; what was left out of it, and why, is kept in `model.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    # a copy of each: parts of a tensor that was cut apart share its memory, which safetensors refuses
    save_file({name: tensor.float().clone() for name, tensor in converted.state.items()}, folder / WEIGHTS)
    description = {"config": converted.config.to_dict(), "prompts": {}, "left_out": converted.left_out}
    _write_description(folder, description)


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_model(folder: Path) -> Valor:
    """The model that a folder holds, in evaluation mode.

    Args:
        folder: with the two files.

    Raises:
        ConfigError: a file is missing, or the weights are of another model than the description.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no model: {error.filename or error} is not there") from error
    except (json.JSONDecodeError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no model that can be read: {error}") from error
    config = ModelConfig.from_dict(description["config"])
    model = Valor(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{folder}: the weights do not fit {DESCRIPTION}: {error}") from error
    model.prompt_ids = {task: list(ids) for task, ids in description.get("prompts", {}).items()}
    return model.eval()
