"""`valor-data demo`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from valor_data.cli.options import Workers

if TYPE_CHECKING:
    from valor_data.demo import World
    from valor_data.demo.learn import Proof
    from valor_data.ledger import Ledger
    from valor_data.workdir import WorkDir

CLIPS_A_SHARD = 64
"""Small shards, so that the small world still fills several."""


def demo_command(
    work: Annotated[
        Path | None, typer.Option(help="The work folder.", show_default="demo-work, with --long demo-work-long")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic world.")] = 0,
    workers: Workers = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Stop at the shards.")] = False,
    long: Annotated[
        bool, typer.Option("--long", help="Three times the clips, five times the training, captions too: half an hour.")
    ] = False,
) -> None:
    """Go the whole road over a small synthetic world, and train a small model on it; no network is used."""
    from valor_data.workdir import WorkDir

    began = time.monotonic()
    work = work or Path("demo-work-long" if long else "demo-work")  # two worlds do not share a manifest
    folder = WorkDir.at(work)
    world = _make_world(folder.root / "world", seed, long)
    refused, is_sound = _go_the_road(world, folder, workers)
    page = _write_page(folder)
    seconds = time.monotonic() - began
    is_learned = no_train or not is_sound or _train(world, folder, long)
    _say_what_next(work, refused, seconds, page)
    if not is_sound or not is_learned:
        raise typer.Exit(1)


def _go_the_road(world: World, folder: WorkDir, workers: int | None) -> tuple[str, bool]:
    """Everything up to verified shards; gives a clip that was refused, and whether the shards are sound."""
    from valor_data.cli.look import print_status, print_verification
    from valor_data.cli.output import begin_log, print_report, progress
    from valor_data.demo import serve
    from valor_data.ledger import Ledger
    from valor_data.look.status import read_status
    from valor_data.look.verify import verify
    from valor_data.road import Driver, run_road

    tree: dict[str, dict[str, object]] = {
        "manifest": {"files": [str(path) for path in world.annotations]},
        "fetch": {"workers": 4},
        "filter": {"workers": workers or 0},
        "shard": {"workers": workers or 0, "max_clips": CLIPS_A_SHARD},
    }
    with serve(world.media) as server, Driver(folder, progress()) as driver:
        begin_log(folder, "demo")
        tree["fetch"]["source"] = server.url_template
        for report in run_road(driver, tree, folder.root):
            typer.echo(f"\n{report.stage}")
            print_report(report, as_json=False)
    typer.echo("\nverify")
    found = verify(folder)
    print_verification(found)
    typer.echo("")
    with Ledger(folder.ledger, read_only=True) as ledger:
        print_status(read_status(ledger))
        refused = next((clip.identity for clip in ledger.find_all() if _is_refused(ledger, clip.clip_id)), "KEY")
    return refused, not found.problems


def _train(world: World, folder: WorkDir, long: bool) -> bool:
    """Trains and asks; gives whether the model knows what it should."""
    from valor_data.cli.train import check_packages, watcher
    from valor_data.errors import ConfigError

    typer.echo("\ntrain")
    try:
        check_packages()
    except ConfigError as error:
        typer.echo(f"left out: {error}")
        return True
    from valor_data.demo.learn import prove

    began = time.monotonic()
    proof = prove(world, folder.root, long=long, watcher=watcher(False), say=typer.echo)
    _print_proof(proof, world, time.monotonic() - began)
    return not proof.shortfalls


def _print_proof(proof: Proof, world: World, seconds: float) -> None:
    from valor_data.cli.output import console, plain_table

    out, settings = console(), world.settings
    table = plain_table("from a caption to its clip", "R@1", "")
    table.add_row("pictures and sound, T-AV", f"{proof.r1['tva']:.1f} %", f"expected: {proof.aim.both:.0f} % or more")
    for group, sense in (("tv", "pictures alone, T-V"), ("ta", "sound alone, T-A")):
        table.add_row(sense, f"{proof.r1[group]:.1f} %", f"can know at most {proof.bounds[group]:.1f} %")
    for trait, share in proof.named.items():
        wanted = f"expected: {proof.aim.named:.0f} % or more"
        table.add_row(f"captions with the right {trait}", f"{share:.0f} %", wanted)
    out.print(table)
    for key, caption in proof.examples.items():
        out.print(f"  {key}: {caption}", markup=False)
    out.print(
        f"{proof.num_clips} clips that training has not seen, each pair of {settings.num_visual_classes} sights and "
        f"{settings.num_sound_classes} sounds once; trained and asked in {seconds:.0f} s"
    )
    for line in proof.shortfalls:
        out.print(f"not as it should be: {line}", markup=False)


def _make_world(folder: Path, seed: int, long: bool) -> World:
    from valor_data.cli.output import progress
    from valor_data.demo import WorldSettings, make_world
    from valor_data.demo.plan import LONG_CLIPS_PER_CELL

    bar = progress()
    started = False

    def advance(done: int, total: int) -> None:
        nonlocal started
        if not started:
            bar.start("world", total, "videos")
            started = True
        bar.advance("made")

    typer.echo(f"a synthetic world of shapes and sounds, in {folder}")
    settings = WorldSettings(seed=seed)
    if long:
        settings = replace(settings, train_clips_per_cell=LONG_CLIPS_PER_CELL)
    world = make_world(folder, settings, advance)
    bar.finish()
    return world


def _is_refused(ledger: Ledger, clip_id: int) -> bool:
    told = ledger.outcomes_of(clip_id).get("filter")
    return told is not None and bool(told[0].reason)


def _write_page(folder: WorkDir) -> Path:
    """The report of a small sample: a few seconds."""
    from valor_data.cli.report import make_report

    typer.echo("\nreport")
    found = make_report(folder, kept=12, refused=12, seed=0, concepts=None, quiet=False)
    typer.echo(f"{found.num_bytes / 1e6:.1f} MB, {found.num_clips} clips to see and hear")
    return found.path


def _say_what_next(work: Path, key: str, seconds: float, page: Path) -> None:
    at = os.path.relpath(sys.prefix)
    activate = "" if shutil.which("valor-data") else f" (first: source {at}/bin/activate)"
    runs = [run for run in (work / "runs" / "demo-long", work / "runs" / "demo") if (run / "checkpoints").is_dir()]
    asks = "".join(
        f"""
  valor-data eval {run} --data {work} --task ret%tva%tv%ta
                                            what the model knows, in full"""
        for run in runs[:1]
    )
    typer.echo(f"""
The whole road took {seconds:.0f} s. Look at it in a browser: {page.absolute().as_uri()}
Look around{activate}:
  valor-data status --work {work}          the funnel again
  valor-data why {key} --work {work}
                                            what became of one clip, and why
  valor-data view {work} --open           the clips in a browser: search, pictures, sound
  valor-data filter --work {work} --min-rms-dbfs -50 && valor-data shard --work {work}
                                            move a threshold: only the shards concerned are made again{asks}
Build your own:
  valor-data manifest desc_train.json -o manifest.parquet
  valor-data fetch manifest.parquet --source /a/folder/of/videos --work my-set --limit 100
  valor-data filter --work my-set && valor-data shard --work my-set && valor-data verify --work my-set""")
