"""One step of training: batches in, parameters changed, figures out.

With several batches a step (`accumulate`) the gradient is that of one large batch for the words: the words of all
batches count alike, however many each has. Similarities are another matter: a clip is compared with the clips of
its own batch, so more batches a step means less noise, and no harder choice; only a larger batch, or more
processes, gives that.

    A  batches of a step
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn.parallel import DistributedDataParallel

from valor_data.config import TrainSection
from valor_data.errors import ValorDataError
from valor_data.train.batch import Batch
from valor_data.train.data import Step
from valor_data.train.masking import NOT_PREDICTED, Masked
from valor_data.train.optimiser import make_optimiser, parameter_groups, share_of_peak
from valor_data.train.parallel import WHOLE, Ranks, freeze_unused, plain, spread
from valor_data.train.tasks import Tasks, parse_tasks
from valor_data.train.valor import Valor

SHOWN_KEYS = 4
"""So many clips of a batch are named in a message."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a step did.

    Attributes:
        losses: `loss` and its parts, means over processes and batches.
        grad_norm: length of the gradient before it was cut.
        lr: learning rate of the largest group.
        temperature: τ after the step.
    """

    losses: dict[str, float]
    grad_norm: float
    lr: float
    temperature: float


class Learner:
    """A model, its optimiser, and what they need for a step.

    Args:
        model: on its device.
        section: completed.
        ranks: who trains.
        steps: of the whole run.

    Attributes:
        model: wrapped for several processes.
        optimiser: AdamW.
        generator: where masking takes its randomness from; another on every process.
    """

    def __init__(self, model: Valor, section: TrainSection, ranks: Ranks, steps: int) -> None:
        self.section, self.ranks, self.steps = section, ranks, steps
        self.tasks = {one.task: parse_tasks(one.task) for one in section.data}
        self.low_precision = uses_bf16(section, ranks.device)
        freeze_unused(model, list(self.tasks.values()))
        groups = parameter_groups(model, section)
        model.checkpoint_activations(section.checkpoint_activations)
        if section.compile:
            for layer in model.layers():
                layer.compile()
        model.train()
        self.model: nn.Module = spread(model, ranks, list(self.tasks.values()), section.parallel, self.low_precision)
        self.optimiser = make_optimiser(plain(self.model), groups, section)
        self._peaks = [group.lr for group in groups]
        self.generator = torch.Generator(ranks.device).manual_seed(section.seed * 65_537 + ranks.rank)

    def learn(self, batches: Sequence[Step], step: int, masked: Sequence[Mapping[str, Masked]] = ()) -> Learned:
        """One step of the optimiser.

        Args:
            batches: [A], with their task strings.
            step: number of this step, from 1.
            masked: [A], texts already masked; drawn where nothing is given.

        Raises:
            ValorDataError: the loss is no number, or memory is short; nothing was changed.
        """
        try:
            return self._learn(batches, step, masked)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise self._out_of_memory(step, error) from None
            raise

    def _learn(self, batches: Sequence[Step], step: int, masked: Sequence[Mapping[str, Masked]]) -> Learned:
        share = share_of_peak(step - 1, self.steps, self.section.warmup)
        for group, peak in zip(self.optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        ready = [Step(task, batch.to(self.ranks.device)) for task, batch in batches]
        inner = plain(self.model)
        texts = [
            inner.mask(batch, self.tasks[task], self.generator, masked[number] if masked else None)
            for number, (task, batch) in enumerate(ready)
        ]
        factors = self._factors(ready, texts)
        found: list[dict[str, Tensor]] = []
        for number, (task, batch) in enumerate(ready):
            last = number == len(ready) - 1
            with self._sync(last), self.autocast():
                parts = self.model(batch, self.tasks[task], None, texts[number])
                loss = parts["loss"]
                if len(ready) > 1:
                    scaled = {name: value * factors[number].get(name, 1.0) for name, value in parts.items()}
                    loss = inner.total({name: value for name, value in scaled.items() if name != "loss"})
                    parts = {**scaled, "loss": loss}
                (loss / len(ready)).backward()
            found.append({name: value.detach().float() for name, value in parts.items()})
        losses = self._losses(found)
        if not math.isfinite(losses["loss"]):
            raise self._not_a_number(step, losses, batches)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.section.max_grad_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not torch.isfinite(norm):
            raise self._not_a_number(step, {**losses, "length of the gradient": float(norm)}, batches)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return Learned(losses, float(norm), self.section.lr * share, self._temperature())

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the forward pass."""
        context: AbstractContextManager[None] = torch.autocast(
            self.ranks.device.type, torch.bfloat16, enabled=self.low_precision
        )
        return context

    def _sync(self, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between processes once a step, with its last batch."""
        if isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext() if last else self.model.no_sync()
        if self.section.parallel == "fsdp":
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        return contextlib.nullcontext()

    def _factors(self, batches: Sequence[Step], texts: Sequence[Mapping[str, Masked]]) -> list[dict[str, Tensor]]:
        """[A] For each batch and each loss of words: its words over the mean of the step's batches."""
        if len(batches) == 1:
            return [{}]
        exact = plain(self.model).config.reference_exact
        counts: list[dict[str, Tensor]] = []
        for (task, batch), text in zip(batches, texts, strict=True):
            own = _num_words(self.tasks[task], batch, text, exact)
            names = sorted(own)
            both = self.ranks.mean(torch.stack([own[name] for name in names])) if names else torch.empty(0)
            counts.append(dict(zip(names, both, strict=True)))
        return [{name: count / _mean_of(counts, name).clamp(min=1e-6) for name, count in one.items()} for one in counts]

    def _losses(self, found: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Means over the batches that have a loss, and over processes."""
        names = sorted({name for one in found for name in one})
        means = torch.stack([torch.stack([one[name] for one in found if name in one]).mean() for name in names])
        return dict(zip(names, self.ranks.mean(means).tolist(), strict=True))

    def _temperature(self) -> float:
        contrast = plain(self.model).contrast
        value = contrast.temperature.detach()
        scale = float(contrast.scale(value.full_tensor() if hasattr(value, "full_tensor") else value))
        return 1 / scale if scale else math.inf

    def _not_a_number(self, step: int, losses: Mapping[str, float], batches: Sequence[Step]) -> ValorDataError:
        bad = ", ".join(name for name, value in losses.items() if not math.isfinite(value))
        keys = [key for one in self.ranks.collect([key for _, batch in batches for key in batch.keys]) for key in one]
        more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
        return ValorDataError(
            f"step {step}: {bad} is no number, over the clips {', '.join(keys[:SHOWN_KEYS])}{more}; the last "
            "checkpoint is untouched. Give a lower lr or max_grad_norm, or precision = fp32 and --restart; if it "
            "comes back at this step, look at these clips with valor-data verify"
        )

    def _out_of_memory(self, step: int, error: Exception) -> ValorDataError:
        s = self.section
        advice = [f"batch_size (now {s.batch_size}) lower and accumulate (now {s.accumulate}) higher"]
        if not s.checkpoint_activations:
            advice.append("--checkpoint-activations")
        if not self.low_precision:
            advice.append("precision = bf16")
        if s.num_frames > 1:
            advice.append(f"num_frames (now {s.num_frames}) lower")
        told = " ".join(str(error).split()).split(". ")[0]
        return ValorDataError(f"step {step}: memory is short ({told}); try {', or '.join(advice)}")

    def state(self) -> dict[str, Any]:
        """The optimiser's state, whole, by names of parameters. Every process must ask; only the first is given it."""
        return dict(get_optimizer_state_dict(plain(self.model), self.optimiser, options=WHOLE))

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave; every process must have it whole."""
        set_optimizer_state_dict(plain(self.model), self.optimiser, state, options=WHOLE)


def uses_bf16(section: TrainSection, device: torch.device) -> bool:
    """Whether the forward pass computes in bfloat16."""
    return section.precision == "bf16" or (section.precision == "auto" and device.type == "cuda")


def _num_words(tasks: Tasks, batch: Batch, texts: Mapping[str, Masked], exact: bool) -> dict[str, Tensor]:
    """How many words each loss asks for, by the loss's name."""
    counts = {}
    for task, text in texts.items():
        asked = text.labels != NOT_PREDICTED
        for group in getattr(tasks, task):
            there = asked
            if "a" in group and batch.has_sound is not None and not exact:
                there = asked & batch.has_sound[:, None]
            counts[f"{task}/{group}"] = there.sum().float()
    return counts


def _mean_of(counts: Sequence[Mapping[str, Tensor]], name: str) -> Tensor:
    return torch.stack([one[name] for one in counts if name in one]).mean()
