"""`valor-data stats`: figures of a finished set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from valor_data.cli.options import Json, Sample, Seed, Work

if TYPE_CHECKING:
    from valor_data.look.mel_statistics import MelStatistics
    from valor_data.shard.output import Output


def stats_command(
    work: Work = Path(),
    mel: Annotated[bool, typer.Option("--mel", help="Mean and standard deviation of the log-mel.")] = False,
    split: Annotated[str, typer.Option(help="Only shards of this split.", show_default="all")] = "",
    sample: Sample = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compute figures of a finished set: --mel for what the trainer normalises sound with."""
    from valor_data.cli.output import print_json
    from valor_data.errors import ConfigError
    from valor_data.look.verify import output_of_work
    from valor_data.workdir import WorkDir

    if not mel:
        raise ConfigError("stats: name what to compute: --mel")
    output = output_of_work(WorkDir.at(work))
    found = _mel(output, split, sample, seed, quiet=as_json)
    if as_json:
        print_json({"mel": found.to_dict()})
    else:
        print_mel(found)


def _mel(output: Output, split: str, sample: int | None, seed: int, *, quiet: bool) -> MelStatistics:
    from valor_data.cli.output import progress
    from valor_data.look.mel_statistics import finished_shards, mel_statistics

    bar: Any = progress(quiet)
    bar.start("mel", len(finished_shards(output, split)), "shards")
    try:
        return mel_statistics(output, split=split, sample=sample, seed=seed, on_shard=lambda _: bar.advance("read"))
    finally:
        bar.finish()


def print_mel(found: MelStatistics) -> None:
    """The figures as a table, and where they go."""
    from valor_data.cli.output import console, plain_table

    out = console()
    table = plain_table("log-mel", "mean", "std", "clips", "frames with sound")
    name = found.settings.name if found.settings else ""
    table.add_row(name, f"{found.mean:.4f}", f"{found.std:.4f}", f"{found.num_clips:,}", f"{found.num_frames:,}")
    out.print(table)
    if found.num_silent_clips:
        out.print(f"{found.num_silent_clips:,} of the clips have no sound and are not in the figures")
    out.print(f"\nin [train]: mel_mean = {found.mean:.6g}, mel_std = {found.std:.6g}")
    out.print("VALOR uses -4.2677 and 4.5690, AudioSet's figures of another front end (16 kHz, 128 bands)")
