"""The benchmarks of the VALOR paper: how the reference fine-tunes for each, and what was published.

Frames, slices, learning rates and lengths are those of the reference's configurations, as far as they are known here.
What is not known of a benchmark is named in `Benchmark.assumed`, and stands at what the others share: 2e-5, 30 word
pieces, 10 epochs (VALOR-32K's), the frames and slices of the same videos' other tasks. All share batches of 64 clips
over all processes, warm-up over a tenth of the steps, captions without punctuation, and 5e-7 for a CLIP encoder.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from valor_data.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        title: its name, and what is asked.
        train: settings of `[train]`.
        evaluate: what differs in the evaluation: `num_frames`, `num_slices`.
        published: by model, what the paper reports, in percent; text to clip R@1, R@5, R@10, or BLEU-4, METEOR,
            ROUGE-L, CIDEr, or accuracy.
        assumed: settings that are not known of this benchmark.
    """

    title: str
    train: dict[str, Any]
    evaluate: dict[str, int]
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    assumed: tuple[str, ...] = ("epochs",)


CLIP_LR = 5e-7
"""Peak rate of a CLIP vision encoder in the reference's fine-tuning."""

_CLIP_PRESETS = ("base", "large")


def _ret(**models: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(("r1", "r5", "r10"), figures, strict=False)) for name, figures in models.items()}


def _cap(**models: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(("bleu4", "meteor", "rouge_l", "cider"), f, strict=True)) for name, f in models.items()}


def _acc(**models: float) -> dict[str, dict[str, float]]:
    return {name: {"accuracy": figure} for name, figure in models.items()}


def _settings(task: str, frames: int, slices: int, **more: Any) -> dict[str, Any]:
    common = {"lr": 2e-5, "epochs": 10, "max_tokens": 30, "batch_size": 64, "warmup": 0.1, "clean_up": True}
    return {**common, "task": task, "num_frames": frames, "num_slices": slices, **more}


def _at_test(frames: int, slices: int) -> dict[str, int]:
    return {"num_frames": frames, "num_slices": slices}


BENCHMARKS: dict[str, Benchmark] = {
    "valor32k-ret": Benchmark(
        "VALOR-32K, audiovisual retrieval", _settings("ret%tva", 4, 2), _at_test(8, 2),
        _ret(VALOR_B=(67.9, 89.7, 94.4), VALOR_L=(73.2, 91.6, 95.4), VALOR_L_DSL=(80.9, 93.9, 97.1), VAST=(80.0,)),
        assumed=(),
    ),
    "valor32k-cap": Benchmark(
        "VALOR-32K, audiovisual captions", _settings("cap%tva", 4, 2), _at_test(8, 2),
        {**_cap(VALOR_B=(8.9, 14.8, 30.8, 55.7), VALOR_L=(9.6, 15.4, 31.8, 61.5)), "VAST": {"cider": 62.0}},
        assumed=(),
    ),
    "msrvtt-ret": Benchmark(
        "MSRVTT (1kA), retrieval", _settings("ret%tva", 4, 2, augment="crop_flip", fit="crop"), _at_test(8, 2),
        _ret(VALOR_B=(43.0, 72.2, 82.1), VALOR_L=(54.4, 79.8, 87.6), VALOR_L_DSL=(59.9, 83.5, 89.6)),
    ),
    "msrvtt-cap": Benchmark(
        "MSRVTT, captions",
        _settings("cap%tva", 6, 2, lr=9e-6, warmup=0.05, augment="crop_flip", fit="crop"), _at_test(10, 2),
        _cap(VALOR_B=(53.8, 32.3, 67.0, 66.6), VALOR_L=(54.4, 32.9, 68.0, 74.0)),
    ),
    "msvd-cap": Benchmark(
        "MSVD, captions (no sound)", _settings("cap%tv", 8, 1), _at_test(12, 1),
        _cap(VALOR_B=(76.1, 48.0, 85.2, 162.1), VALOR_L=(80.7, 51.0, 87.9, 178.5)),
    ),
    "vatex-ret": Benchmark(
        "VATEX, retrieval", _settings("ret%tva", 4, 2), _at_test(8, 2),
        _ret(VALOR_B=(67.5, 94.1, 97.4), VALOR_L=(76.9, 96.7, 98.6), VALOR_L_DSL=(78.5,)),
        assumed=("num_slices", "epochs"),
    ),
    "vatex-cap": Benchmark(
        "VATEX, captions", _settings("cap%tva", 8, 2), _at_test(20, 2),
        _cap(VALOR_B=(41.9, 26.6, 54.6, 73.9), VALOR_L_SCST=(45.6, 29.4, 57.4, 95.8)),
        assumed=("num_slices", "epochs"),
    ),
    "didemo-ret": Benchmark(
        "DiDeMo, paragraph retrieval", _settings("ret%tva", 8, 4, lr=9e-6, max_tokens=65), _at_test(32, 8),
        _ret(VALOR_B=(52.2, 80.8, 86.8), VALOR_L=(57.6, 83.3, 88.8), VALOR_L_DSL=(61.5,)),
    ),
    "activitynet-ret": Benchmark(
        "ActivityNet, paragraph retrieval", _settings("ret%tva", 8, 4, max_tokens=74), _at_test(32, 8),
        _ret(VALOR_B=(50.5, 79.6, 89.1), VALOR_L=(63.4, 87.8, 94.1), VALOR_L_DSL=(70.1,)),
    ),
    "lsmdc-ret": Benchmark(
        "LSMDC, retrieval", _settings("ret%tva", 4, 2), _at_test(8, 2),
        _ret(VALOR_B=(25.1, 45.8, 55.2), VALOR_L=(31.8, 52.8, 62.4), VALOR_L_DSL=(34.2,)),
        assumed=("num_slices", "epochs"),
    ),
    "clotho-ret": Benchmark(
        "Clotho v1, text to audio", _settings("ret%ta", 1, 6), _at_test(1, 6), _ret(VALOR_B=(17.5, 42.7, 55.3)),
    ),
    "clotho-cap": Benchmark(
        "Clotho v1, audio captions", _settings("cap%ta", 1, 6), _at_test(1, 6),
        _cap(VALOR_B=(16.2, 17.4, 38.2, 42.3)),
    ),
    "audiocaps-ret": Benchmark(
        "AudioCaps, text to audio", _settings("ret%ta", 1, 2), _at_test(1, 2), _ret(VALOR_B=(40.1, 73.9, 83.1)),
    ),
    "audiocaps-cap": Benchmark(
        "AudioCaps, audio captions", _settings("cap%ta", 1, 2), _at_test(1, 2),
        _cap(VALOR_B=(27.0, 23.1, 49.4, 74.1)),
    ),
    "msrvtt-qa": Benchmark(
        "MSRVTT-QA", _settings("qa%tva", 4, 2), _at_test(8, 2), _acc(VALOR_B=46.7, VALOR_L=49.2),
        assumed=("num_frames", "epochs"),
    ),
    "msvd-qa": Benchmark("MSVD-QA", _settings("qa%tv", 4, 1), _at_test(8, 1), _acc(VALOR_B=56.4, VALOR_L=60.0)),
    "tgif-qa": Benchmark(
        "TGIF-Frame QA", _settings("qa%tv", 4, 1), _at_test(8, 1), _acc(VALOR_B=74.5, VALOR_L=78.7),
        assumed=("num_frames", "epochs"),
    ),
    "activitynet-qa": Benchmark(
        "ActivityNet-QA", _settings("qa%tva", 8, 4), _at_test(16, 8), _acc(VALOR_B=44.8, VALOR_L=48.6),
    ),
    "music-avqa": Benchmark(
        "MUSIC-AVQA", _settings("qa%tva", 4, 4), _at_test(8, 8), _acc(VALOR_B=76.6, VALOR_L=78.9),
    ),
}  # fmt: skip
"""By name."""


def benchmark(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BENCHMARKS)}"
        raise ConfigError(f"no recipe {name!r}; {hint}")
    return BENCHMARKS[name]


def recipe_settings(name: str, preset: str) -> dict[str, Any]:
    """The settings of `[train]` that a benchmark means for a model of a preset.

    Raises:
        ConfigError: there is no benchmark of this name.
    """
    found = dict(benchmark(name).train)
    return {**found, "lr_vision": CLIP_LR} if preset in _CLIP_PRESETS else found


def assumption(name: str) -> str:
    """What a person should know of a recipe's settings; empty where all are known."""
    assumed = benchmark(name).assumed
    return f"recipe {name}: {', '.join(assumed)} as for other benchmarks, not known of this one" if assumed else ""


def published_beside(name: str, scores: dict[str, float]) -> list[tuple[str, float | None, dict[str, float]]]:
    """The published figures of a benchmark beside what was measured.

    Args:
        name: of the benchmark.
        scores: as `evaluate` gives them.

    Returns:
        (measure, ours or None, published by model), a row each.
    """
    found = benchmark(name)
    task, group = found.train["task"].split("%")
    where = {"ret": f"retrieval/{group}/text_to_clip", "cap": f"caption/{group}", "qa": f"qa/{group}"}[task]
    measures = list(dict.fromkeys(measure for figures in found.published.values() for measure in figures))
    return [
        (
            measure,
            scores.get(f"{where}/{measure}"),
            {model.replace("_", "-"): told[measure] for model, told in found.published.items() if measure in told},
        )
        for measure in measures
    ]
