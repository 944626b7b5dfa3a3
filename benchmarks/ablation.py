"""What each part of VALOR's training is good for: the same small model without one of them, on the demo's world.

    python benchmarks/ablation.py [--work FOLDER] [--steps 200] [--batch-size 32] [--seeds 3]

Four task strings, each with several seeds; every run goes on where it was left. Prints Markdown: means over seeds,
and the least and the greatest, of recall at 1 from text to clip, and of the share of traits (shape, colour, motion,
sound; only those that the group can know) that generated captions name rightly.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from valor_data.config import TrainValidationSection
from valor_data.demo import World, WorldSettings, make_world
from valor_data.demo.classes import named_in
from valor_data.demo.learn import MAX_TOKENS, SHORT, TRAITS, section_of
from valor_data.train.checkpoint import load_model
from valor_data.train.data import DataSet, EvaluationData
from valor_data.train.evaluate import EvalSettings, evaluate
from valor_data.train.loop import train
from valor_data.train.settings import completed, loader_settings
from valor_data.train.tasks import parse_tasks
from valor_data.train.written import write_lines

VARIANTS = {
    "all": "pt_contra%tva%tv%ta_caption%tva%tv%ta",
    "without MGA": "pt_caption%tva%tv%ta",
    "without MGC": "pt_contra%tva%tv%ta",
    "T-AV only": "pt_contra%tva_caption%tva",
}
GROUPS = ("tva", "tv", "ta")
SENSES = {"tva": TRAITS, "tv": TRAITS[:3], "ta": TRAITS[3:]}
"""What a caption can name from both senses, from pictures, from sound."""


def one_run(world: World, work: Path, name: str, task: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Trains and asks; figures in percent, only those that the task trains for."""
    run_name = f"ablation-{name.replace(' ', '-').lower()}-{seed}"
    section = replace(
        section_of(SHORT, run_name, seed), task=task, steps=options.steps, batch_size=options.batch_size,
        validation=TrainValidationSection(shards="none"), keep_last=1,
    )  # fmt: skip
    run = train(section, work).run
    model, vocabulary, _ = load_model(run)
    tasks = parse_tasks("ret%tva%tv%ta")
    loader = loader_settings(completed(section, str(work)), model.config)
    data = EvaluationData(DataSet(shards=str(work), task=tasks.text, split="test"), loader, vocabulary)
    found: dict[str, float] = {}
    learned = parse_tasks(task)
    if learned.contrastive:
        scores = evaluate(model, data, tasks, EvalSettings())
        found |= {f"R@1 {group}": scores[f"retrieval/{group}/text_to_clip/r1"] for group in GROUPS}
    if learned.caption:
        truth = {t.key: t for t in world.truth if t.split == "test"}
        for group in GROUPS:
            lines = write_lines(model, data, "caption", group, 1, MAX_TOKENS)
            rows = [named_in(line.text, truth[key].visual, truth[key].sound) for key, line in lines.items()]
            right = sum(len(row & set(SENSES[group])) for row in rows)
            found[f"named {group}"] = 100 * right / (len(rows) * len(SENSES[group]))
    return found


def cell(values: Sequence[float]) -> str:
    """Mean, least and greatest."""
    if not values:
        return "–"
    return f"{sum(values) / len(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("demo-work"), help="of valor-data demo; made if missing")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not (options.work / "shards").is_dir():
        subprocess.run([sys.executable, "-m", "valor_data", "demo", "--no-train", "--work", options.work], check=True)
    world = make_world(options.work / "world", WorldSettings())
    columns = [f"{kind} {group}" for kind in ("R@1", "named") for group in GROUPS]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(options.seeds):
        for name, task in VARIANTS.items():
            rows[name].append(one_run(world, options.work.absolute(), name, task, seed, options))
            print(f"<!-- {name}, seed {seed}: {rows[name][-1]} -->", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    print(f"\n## {datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, commit {commit}")
    size = f"`tiny`, {options.steps} steps of {options.batch_size} clips, {options.seeds} seeds"
    print(f"{size}: mean (least–greatest), %\n")
    print(f"| trained with | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, runs in rows.items():
        cells = [cell([run[column] for run in runs if column in run]) for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
