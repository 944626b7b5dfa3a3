"""`valor-data stats`: figures of a set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from valor_data.cli.options import Json, Sample, Seed, Work

if TYPE_CHECKING:
    from valor_data.look.mel_statistics import MelStatistics
    from valor_data.shard.output import Output

LOSSES_SHOWN = 12

WORDS_SHOWN = 12


def stats_command(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            help="A manifest, annotation files as released, shards (a folder, s3://…, one tar), or a work folder.",
            show_default="--work",
        ),
    ] = None,
    work: Work = Path(),
    mel: Annotated[bool, typer.Option("--mel", help="Mean and standard deviation of the log-mel instead.")] = False,
    split: Annotated[str, typer.Option(help="With --mel: only shards of this split.", show_default="all")] = "",
    sample: Sample = None,
    seed: Seed = 0,
    concepts: Annotated[
        Path | None,
        typer.Option(
            help="Audio concepts to count: AudioSet's ontology.json, or one name a line.",
            show_default="AudioSet's class names",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute figures of a set: how far its clips come, what captions say, what was measured; or --mel.

    --sample reads only so many clips of shards.
    """
    from valor_data.cli.output import print_json
    from valor_data.look.statistics import statistics_of, statistics_of_work
    from valor_data.workdir import WorkDir

    if mel:
        _stats_mel(_output(places, work), split, sample, seed, as_json=as_json)
        return
    say = told_steps(quiet=as_json)
    if places:
        found = statistics_of(places, sample=sample, seed=seed, concepts=concepts, say=say)
    else:
        found = statistics_of_work(WorkDir.at(work), concepts=concepts, say=say)
    if as_json:
        print_json(found.to_dict())
    else:
        print_statistics(found.to_dict())


def told_steps(*, quiet: bool) -> Any:
    """Says on a terminal what is being read."""
    import sys

    if quiet or not sys.stderr.isatty():
        return lambda _: None
    return lambda step: typer.echo(f"\x1b[2m\r\x1b[Kreading {step} …\x1b[0m\r", nl=False, err=True)


def _output(places: list[str] | None, work: Path) -> Output:
    """Where the shards are that --mel reads."""
    from valor_data.errors import ConfigError
    from valor_data.look.verify import output_of_work
    from valor_data.shard.output import open_output
    from valor_data.storage import is_address
    from valor_data.workdir import WorkDir

    if not places:
        return output_of_work(WorkDir.at(work))
    if len(places) > 1:
        raise ConfigError(f"stats --mel reads one place with shards/ and index/ in it, not {len(places)}")
    return open_output(Path(places[0]).absolute(), places[0] if is_address(places[0]) else "")


def _stats_mel(output: Output, split: str, sample: int | None, seed: int, *, as_json: bool) -> None:
    from valor_data.cli.output import print_json

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


def print_statistics(told: dict[str, Any]) -> None:
    """The figures as tables."""
    from rich.markup import escape

    from valor_data.cli.output import console

    out = console()
    out.print(f"\x1b[K{told['kind']} [bold]{escape(told['place'])}[/]" if out.is_terminal else escape(told["place"]))
    out.print(f"{told['clips']:,} clips of {told['videos']:,} videos, {told['hours']:,.1f} hours\n")
    _print_funnel(out, told)
    _print_captions(out, told)
    _print_labels(out, told)
    _print_measured(out, told)
    for note in told["notes"]:
        out.print(f"[cyan]note:[/] {escape(note)}")


def _print_funnel(out: Any, told: dict[str, Any]) -> None:
    from rich.markup import escape

    from valor_data.cli.output import plain_table

    funnels = told["funnel"]
    steps = [step["step"].replace("_", " ") for step in funnels[0]["steps"]]
    table = plain_table("split", *steps, *(["yield"] if len(steps) > 1 else []))
    for funnel in funnels[1:] + (funnels[:1] if len(funnels) > 2 else []):
        counts = [step["clips"] for step in funnel["steps"]]
        share = [f"{counts[-1] / counts[0]:.1%}" if counts[0] else ""] if len(counts) > 1 else []
        table.add_row(escape(funnel["split"]), *(f"{number:,}" for number in counts), *share)
    out.print(table)
    losses = [(loss["count"], loss["stage"], loss["reason"], loss["meaning"]) for loss in funnels[0]["losses"]]
    losses += [(entry["count"], "manifest", entry["reason"], entry["meaning"]) for entry in told["rejected"]]
    if losses:
        lost = plain_table("lost", "clips", "", "")
        lost.columns[2].justify = lost.columns[3].justify = "left"
        for number, stage, reason, meaning in losses[:LOSSES_SHOWN]:
            lost.add_row(f"  {stage}", f"{number:,}", reason, f"[dim]{escape(meaning)}")
        out.print("")
        out.print(lost)
    if told["published"]:
        beside = plain_table("beside the published", "split", "published", "here", "share")
        for row in told["published"]:
            here = row["in_shards"] if len(steps) > 1 else row["manifest"]
            beside.add_row(row["set"], row["split"], f"{row['published']:,}", f"{here:,}", percent(row["share"]))
        out.print("")
        out.print(beside)


def percent(share: float) -> str:
    """A share as it is read: a little is not nothing."""
    return "< 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _print_captions(out: Any, told: dict[str, Any]) -> None:
    from rich.markup import escape

    from valor_data.cli.output import plain_table

    figures = told["captions"]
    if not figures[0]["captions"]:
        out.print("\nno captions")
        return
    headings = ("captions", "words", "median", "p95", "max", "> 30", "> 40", "only number", "repeated")
    table = plain_table("split", *headings)
    for row in figures[1:] + (figures[:1] if len(figures) > 2 else []):
        words = row["words"]
        table.add_row(
            escape(row["split"]),
            f"{row['captions']:,}",
            f"{words['mean']:.2f}",
            *(f"{words[name]:,}" for name in ("median", "p95", "max", "over_30", "over_40")),
            f"{row['only_a_number']:,}",
            f"{row['repeated']:,}",
        )
    out.print("")
    out.print(table)
    spoken, concepts = told["vocabulary"], told["audio_concepts"]
    top = ", ".join(f"{entry['word']}" for entry in spoken["top"][:WORDS_SHOWN])
    out.print(
        f"\n{spoken['distinct']:,} different words of {spoken['words']:,}, {spoken['once']:,} of them once: ", end=""
    )
    out.print(f"{top}, …", markup=False)
    sounds = ", ".join(entry["concept"] for entry in concepts["top"][:WORDS_SHOWN])
    published = ", ".join(f"{name} {share:.1%}" for name, share in concepts["paper"]["density"].items())
    out.print(
        f"audio-concept density {concepts['density']:.1%} by {concepts['concepts']:,} concepts of {concepts['list']}; "
        f"the paper by its {concepts['paper']['concepts']}: {published}. Most often: {sounds}",
        markup=False,
    )


def _print_labels(out: Any, told: dict[str, Any]) -> None:
    classes = told["classes"]
    if not classes["clips_with_labels"]:
        return
    others = f"; {classes['other_labels']:,} other labels" if classes["other_labels"] else ""
    out.print(f"\n{classes['clips_with_labels']:,} clips with labels: {classes['seen']} of AudioSet's {classes['of']} "
              f"classes{others}")  # fmt: skip
    if classes["seen"]:
        most = ", ".join(f"{entry['name']} {entry['clips']:,}" for entry in classes["clips_by_class"][:6])
        out.print(f"  most: {most}", markup=False)
    if classes["seen"] and classes["missing"]:
        out.print(f"  missing: {', '.join(classes['missing'][:6])}{', …' if len(classes['missing']) > 6 else ''}",
                  markup=False)  # fmt: skip


def _print_measured(out: Any, told: dict[str, Any]) -> None:
    from valor_data.cli.output import plain_table

    measured = told["measured"]
    shown = [("duration", told["durations"])] + (
        [("caption", told["caption_words"])] if told["captions"][0]["captions"] else []
    )
    if measured["clips"]:
        shown += [("loudness", measured["loudness"]), ("silence", measured["silence"])]
    table = plain_table("", "from", "", "to", "")
    table.columns[2].justify = table.columns[4].justify = "left"
    for name, histogram in shown:
        counts = [sum(parts) for parts in zip(*(g["counts"] for g in histogram["groups"]), strict=True)]
        beyond = [f"{sum(g[key] for g in histogram['groups']):,} {key}" for key in ("below", "above")
                  if sum(g[key] for g in histogram["groups"])]  # fmt: skip
        edges = histogram["edges"]
        table.add_row(name, f"{edges[0]:g}", _blocks(counts), f"{edges[-1]:g}",
                      f"{histogram['unit']}{'; ' if beyond else ''}{', '.join(beyond)}")  # fmt: skip
    out.print("")
    out.print(table)
    if measured["clips"]:
        sides = measured["resolution"]
        counts = [sum(parts) for parts in zip(*(g["counts"] for g in sides["groups"]), strict=True)]
        ranges = zip(sides["edges"], sides["edges"][1:], counts, strict=False)
        named = [f"{low:g} to {high - 1:g} px {number:,}" for low, high, number in ranges if number]
        named += [f"more {number:,}" for number in [sum(g["above"] for g in sides["groups"])] if number]
        out.print(f"short side of the picture: {', '.join(named) or 'none'}", markup=False)


def _blocks(counts: list[int]) -> str:
    """A histogram in one line; what is there at all is seen."""
    most = max(counts, default=0) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[0 if not number else max(1, round(8 * number / most))] for number in counts)
