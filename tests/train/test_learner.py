"""One step of training: the same on two processes as on one, several batches as one, refusals in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_models import tiny_model
from learning import CLIPS, STEPS, TASK, figures, learn, run, section_for

from valor_data.errors import ValorDataError
from valor_data.train.learner import Learner
from valor_data.train.parallel import Ranks, plain

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def in_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes came to, with DDP and with FSDP2, started by torchrun."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
               "--rdzv-endpoint", "127.0.0.1:0", HERE / "learning.py", folder]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return {kind: torch.load(folder / f"{kind}.pt", weights_only=True) for kind in ("ddp", "fsdp")}


@pytest.fixture(scope="module")
def in_one() -> dict[str, Any]:
    return run(Ranks(), "ddp")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_as_one_with_a_double_batch(
    kind: str, in_two: dict[str, Any], in_one: dict[str, Any]
) -> None:
    """Losses, gradients and weights; clips without sound and captions of other lengths on either side."""
    assert len(in_two[kind]["steps"]) == STEPS
    for found, expected in zip(in_two[kind]["steps"], in_one["steps"], strict=True):
        assert found == pytest.approx(expected, rel=2e-4, abs=2e-5)
    assert in_two[kind]["weights"].keys() == in_one["weights"].keys()
    far = {
        name: float((tensor - in_one["weights"][name]).abs().mean()) for name, tensor in in_two[kind]["weights"].items()
    }
    assert max(far.values()) < 1e-4, max(far, key=far.__getitem__)  # four steps at a rate of 1e-3


@pytest.mark.timeout(300)
def test_what_fsdp_saves_goes_on_without_it(in_two: dict[str, Any], in_one: dict[str, Any]) -> None:
    model = tiny_model()
    model.load_state_dict(in_two["fsdp"]["weights"])
    learner = Learner(model, section_for(), Ranks(), STEPS)
    learner.load_state(in_two["fsdp"]["optimiser"])
    other = tiny_model()
    other.load_state_dict(in_one["weights"])
    undisturbed = Learner(other, section_for(), Ranks(), STEPS)
    undisturbed.load_state(in_one["optimiser"])
    found, expected = (learn(one, STEPS, [(0, CLIPS)]) for one in (learner, undisturbed))
    assert figures(found) == pytest.approx(figures(expected), rel=2e-3)


def test_several_batches_a_step_are_one_large_batch_for_the_words() -> None:
    """Losses and weights, although the batches hide different numbers of words and one has a clip without sound."""
    task = "cap%tva%tv%ta"
    whole, parts = (Learner(tiny_model(), section_for(task), Ranks(), STEPS) for _ in range(2))
    for step in range(1, STEPS + 1):
        expected = figures(learn(whole, step, [(0, CLIPS)]))
        found = figures(learn(parts, step, [(0, 2), (2, 5), (5, CLIPS)]))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for name, tensor in whole.model.state_dict().items():
        assert float((parts.model.state_dict()[name] - tensor).abs().mean()) < 1e-4, name


def test_similarities_of_several_batches_are_those_of_small_batches() -> None:
    """Clips are compared inside their own batch: with fewer others to tell apart the loss is lower."""
    one, several = (Learner(tiny_model(), section_for("ret%tva"), Ranks(), STEPS) for _ in range(2))
    together = learn(one, 1, [(0, CLIPS)]).losses["contrastive/tva"]
    apart = learn(several, 1, [(0, 4), (4, CLIPS)]).losses["contrastive/tva"]
    assert apart < together


def test_memory_that_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(tiny_model(), section_for(batch_size=512, accumulate=2), Ranks(), STEPS)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 3 GiB free. See docs")

    monkeypatch.setattr(plain(learner.model), "encode", full)
    with pytest.raises(ValorDataError) as caught:
        learn(learner, 3, [(0, CLIPS)])
    assert str(caught.value) == (
        "step 3: memory is short (CUDA out of memory); try batch_size (now 512) lower and accumulate (now 2) higher, "
        "or --checkpoint-activations, or precision = bf16, or num_frames (now 4) lower"
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.model.state_dict().items())


def test_other_runtime_errors_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(tiny_model(), section_for(), Ranks(), STEPS)

    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(plain(learner.model), "encode", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        learn(learner, 1, [(0, CLIPS)])


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    learner = Learner(tiny_model(), section_for(), Ranks(), STEPS)
    with torch.no_grad():
        plain(learner.model).contrast.project["t"].weight.fill_(float("nan"))
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    with pytest.raises(ValorDataError, match=r"^step 2: .*contrastive/tv.* is no number, over the clips clip0, clip1"):
        learn(learner, 2, [(0, CLIPS)])
    after = learner.model.state_dict()
    assert all(torch.equal(before[name].nan_to_num(7), after[name].nan_to_num(7)) for name in before)


def test_parameters_that_no_task_reaches_are_left_alone() -> None:
    learner = Learner(tiny_model(), section_for("ret%tv"), Ranks(), STEPS)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learn(learner, 1, [(0, CLIPS)])
    changed = {name for name, tensor in learner.model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert any(name.startswith("vision.") for name in changed)
    assert not any(name.startswith(("sound.", "listen.", "contrast.project.a", "language.head")) for name in changed)


def test_less_memory_for_activations_changes_no_number() -> None:
    plainly, again = (
        Learner(tiny_model(), section_for(TASK, checkpoint_activations=on), Ranks(), STEPS) for on in (False, True)
    )
    for step in (1, 2):
        assert figures(learn(again, step, [(0, CLIPS)])) == pytest.approx(figures(learn(plainly, step, [(0, CLIPS)])))
