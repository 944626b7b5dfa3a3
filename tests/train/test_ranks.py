"""Several processes compute what one computes: real processes, gloo, DDP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_models import tiny_model
from ranks import CASES, TASKS, whole

HERE = Path(__file__).parent
DEADLINE_SECONDS = 300


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every case gave in its processes."""
    folder = tmp_path_factory.mktemp("ranks")
    paths = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "random"}
    command = [sys.executable, str(HERE / "ranks.py"), str(folder)]
    answer = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=DEADLINE_SECONDS, check=False
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in CASES}


def in_one(name: str) -> dict[str, Any]:
    _, exact, silent = CASES[name]
    model = tiny_model(reference_exact=exact)
    batch, masked = whole(silent)
    losses = model(batch, TASKS, masked={"caption": masked})
    losses["loss"].backward()
    return {"losses": losses, "gradients": {name: p.grad for name, p in model.named_parameters() if p.grad is not None}}


@pytest.mark.parametrize("name", ["two", "four"])
def test_ranks_equal_one_process(in_processes: dict[str, Any], name: str) -> None:
    """The losses and every parameter's gradient; captions of different lengths, and a rank without any sound."""
    found, expected = in_processes[name], in_one(name)
    for part, loss in expected["losses"].items():
        assert float(found["losses"][part]) == pytest.approx(float(loss.detach()), abs=2e-6, rel=1e-6), part
    assert set(found["gradients"]) == set(expected["gradients"])
    for part, gradient in expected["gradients"].items():
        torch.testing.assert_close(found["gradients"][part], gradient, atol=2e-6, rtol=1e-4, msg=part)


def test_the_reference_s_gradient_of_two_ranks(in_processes: dict[str, Any]) -> None:
    """Its encoders get half of the contrastive gradient, its token weights and temperature all of it."""
    found, expected = in_processes["two_exact"]["gradients"], in_one("two_exact")["gradients"]
    for name in ("contrast.project.t.weight", "contrast.project.v.weight", "contrast.project.a.weight"):
        torch.testing.assert_close(found[name] * 2, expected[name], atol=2e-6, rtol=1e-4)
    for name in ("contrast.temperature", "contrast.weigh.t.0.weight", "contrast.weigh.v.2.weight"):
        torch.testing.assert_close(found[name], expected[name], atol=2e-6, rtol=1e-4)
