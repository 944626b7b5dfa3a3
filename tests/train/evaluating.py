"""A small random model and a small set to evaluate it on; and, run as a program, the same in two processes.

evaluating.py FOLDER
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small_sets import WORDS, make_clip, write_set

from valor_data.clip import Caption, Clip
from valor_data.errors import ConfigError
from valor_data.train.captions import TextSettings
from valor_data.train.data import DataSet, EvaluationData, LoaderSettings
from valor_data.train.evaluate import EvalSettings, Evaluation, evaluate_fully
from valor_data.train.gather import on_first
from valor_data.train.pictures import PictureSettings
from valor_data.train.presets import ClipConfig, LanguageConfig, ModelConfig, SoundConfig
from valor_data.train.tasks import parse_tasks
from valor_data.train.valor import Valor

TASK = "ret%tva%tv%ta%va%vta%atv_cap%tva"
SIZES = {"several": 13, "one": 1}
"""Sets: one that two processes cannot share evenly, and one where both are given the same clip."""


def model_of(seed: int = 0) -> Valor:
    """Random weights, large enough that clips and captions differ."""
    language = LanguageConfig(vocabulary=WORDS.size, width=32, layers=1, heads=2, feed_forward=64, positions=64)
    vision = ClipConfig(image_px=32, patch_px=16, width=32, layers=1, heads=2, feed_forward=64)
    sound = SoundConfig(width=32, layers=1, heads=2, feed_forward=64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Valor(ModelConfig(language, vision, sound, contrastive_width=16))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def captioned(number: int) -> Clip:
    """A clip with one to three captions; every fifth has none."""
    texts = ["is seen", "is heard and seen", "what number"][: number % 3 + 1]
    clip = make_clip(number, [Caption(f"clip {number} {text}") for text in texts])
    return Clip(clip.video_id, clip.start, clip.end) if number % 5 == 4 else clip


def data_of(
    shards: Path,
    task: str = TASK,
    *,
    rank: int = 0,
    world: int = 1,
    evaluate: str = "first",
    only: frozenset[str] | None = None,
) -> EvaluationData:
    settings = LoaderSettings(
        batch_size=4,
        workers=0,
        pictures=PictureSettings(count=2, size_px=32),
        text=TextSettings(max_tokens=12, evaluate=evaluate),
    )
    data_set = DataSet(shards=shards, task=task, split="")
    return EvaluationData(data_set, settings, WORDS, rank=rank, world=world, only=only)


def measured(shards: Path, *, rank: int = 0, world: int = 1) -> Evaluation:
    settings = EvalSettings(dsl=True, num_beams=1, max_words=4, tokenizer="plain")
    return evaluate_fully(model_of(), data_of(shards, rank=rank, world=world), parse_tasks(TASK), settings)


def told(found: Evaluation) -> dict[str, object]:
    return {
        "scores": found.scores,
        "num_clips": found.num_clips,
        "certificate": found.certificate,
        "notes": list(found.notes),
        "predictions": found.predictions,
    }


def refuse() -> None:
    raise ConfigError("the first cannot")


def run_rank(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[str, object] = {name: told(measured(folder / name, rank=rank, world=2)) for name in SIZES}
    try:
        on_first(refuse)
    except ConfigError as error:
        found["refusal"] = str(error)
    (folder / f"rank_{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def main(folder: Path) -> int:
    """Forks the two, so that the imports are done once; nothing has been computed yet."""
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(folder, rank)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return max(abs(process.exitcode or 0) for process in ranks)


def make_sets(folder: Path) -> None:
    for name, size in SIZES.items():
        write_set(folder / name, [size // 2, size - size // 2] if size > 1 else [size], clip_of=captioned)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
