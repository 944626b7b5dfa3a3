"""The report's sections about the whole set, from the dictionary that `Statistics.to_dict` gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from valor_data.look.charts import (
    BarRow,
    Chart,
    Column,
    bar_table,
    behind,
    column_figure,
    histogram_columns,
    line_figure,
    plain_table,
    scrolling,
)

NUM_SHOWN = 15
"""Rows of a table of the most frequent."""

NUM_WORDS = 12

_STEPS = {"manifest": "in the manifest", "fetched": "fetched", "kept": "kept", "in_shards": "in shards"}

_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be being by can for from has have he her him his in into is it its of off on one or out "
        "over she some that the their them then there they this to two up was were while who with",
    )
)
"""Left out of the most frequent words shown; the JSON has them."""


def percent(share: float) -> str:
    """A share as it is read: a little is not nothing, and nearly all is not all."""
    if 0 < share < 0.001:
        return "<\u00a00.1\u00a0%"
    return f"{share * 100:.1f}\u00a0%" if share < 0.9995 or share >= 1 else ">\u00a099.9\u00a0%"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def section(name: str, title: str, lead: str, *parts: str) -> str:
    """A part of the page with its heading and a sentence of what is to be seen; the lead is plain text."""
    told = f"<p>{escape(lead)}</p>" if lead else ""
    heading = f'<h2 id="{name}-h">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-h">{heading}{told}{"".join(parts)}</section>'


def headline(told: dict[str, Any]) -> tuple[str, str]:
    """What the figures say, in a line, and the next to know, in a sentence or two."""
    whole = told["funnel"][0]
    steps, total = whole["steps"], told["clips"]
    last = steps[-1]
    if len(steps) == 1 or not total:
        return f"{counted(total, 'clip')} of {counted(told['videos'], 'video')}", "Nothing of them was fetched yet."
    reached = [step for step in steps[1:] if step["clips"]]
    last = reached[-1] if reached else steps[0]
    words = {"in_shards": "ready to train on", "kept": "kept so far", "fetched": "fetched so far"}
    line = f"{last['clips']:,} of {counted(total, 'clip')} are {words.get(last['step'], 'in the manifest')}"
    lost = [loss for loss in whole["losses"] if loss["status"] == "dropped"]
    waiting = sum(loss["count"] for loss in whole["losses"] if loss["status"] == "waiting")
    stand = f"That is {percent(last['clips'] / total)} of the manifest."
    if lost:
        most = ", ".join(f"{loss['reason']} ({loss['count']:,})" for loss in lost[:3])
        stand += (
            f" {counted(sum(loss['count'] for loss in lost), 'clip was', 'clips were')} refused, most often as {most}."
        )
    if waiting:
        stand += f" {counted(waiting, 'clip waits', 'clips wait')} for another try."
    return line, stand


def key_figures(told: dict[str, Any]) -> str:
    """The few figures at the top."""
    captions = told["captions"][0]
    pairs = [("clips in the manifest", f"{told['clips']:,}")]
    last = told["funnel"][0]["steps"][-1]
    if last["step"] != "manifest":
        pairs.append((_STEPS[last["step"]], f"{last['clips']:,}"))
    pairs += [("hours", f"{told['hours']:,.1f}"), ("captions", f"{captions['captions']:,}")]
    if captions["captions"]:
        pairs.append(("words a caption", f"{captions['words']['mean']:.1f}"))
        pairs.append(("audio-concept density", percent(told["audio_concepts"]["density"])))
    if told["classes"]["clips_with_labels"]:
        pairs.append(("AudioSet classes", f"{told['classes']['seen']} of {told['classes']['of']}"))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="figures">{items}</dl>'


def funnel_section(told: dict[str, Any]) -> str:
    """From manifest to shards, by split and by reason."""
    whole, splits = told["funnel"][0], told["funnel"][1:]
    total = max(1, told["clips"])
    steps = [
        BarRow(_STEPS[s["step"]], f"{s['clips']:,}", s["clips"] / total, "kept", (percent(s["clips"] / total),))
        for s in whole["steps"]
    ]
    names = [_STEPS[step["step"]] for step in whole["steps"]]
    rows = [
        [s["split"], *(f"{step['clips']:,}" for step in s["steps"]),
         percent(s["steps"][-1]["clips"] / max(1, s["steps"][0]["clips"]))]
        for s in splits
    ]  # fmt: skip
    parts = [bar_table("All clips", ["step", "clips", "share"], steps, "bars wide")]
    if splits:
        parts.append(scrolling(plain_table("By split", ["split", *names, "yield"], rows)))
    parts.append(_losses(whole["losses"]))
    lead = "How far the clips come: each step keeps some of what the one before it kept."
    return section("funnel", "From manifest to shards", lead, *parts)


def _losses(losses: Sequence[dict[str, Any]]) -> str:
    """Refused and waiting clips by reason, with what each means and what to do."""
    if not losses:
        return '<p class="none">No clip was refused, and none waits.</p>'
    most = max(loss["count"] for loss in losses)
    rows = [
        BarRow(
            loss["reason"],
            f"{loss['count']:,}",
            loss["count"] / most,
            "refused" if loss["status"] == "dropped" else "waiting",
            under=f"{'Refused' if loss['status'] == 'dropped' else 'Waits'} at {loss['stage']}: {loss['meaning']}. "
            f"What to do: {loss['action']}.",
        )
        for loss in losses
    ]
    return bar_table("Refused and waiting, by reason", ["reason", "clips"], rows)


def published_section(told: dict[str, Any]) -> str:
    """Yield against the published sets."""
    if not told["published"]:
        return ""
    rows = [
        BarRow(
            f"{row['set']}, {row['split']}",
            percent(row["share"]),
            row["share"],
            "kept",
            (f"{row['in_shards']:,}", f"{row['manifest']:,}", f"{row['published']:,}"),
        )
        for row in told["published"]
    ]
    headings = ["published set", "share", "in shards", "in the manifest", "published"]
    lead = "What the authors published, split by split, and how much of it is here; a guide where this is such a set."
    table = bar_table("Clips here, as a share of those published", headings, rows, "bars rich")
    return section("published", "Beside the published sets", lead, scrolling(table))


def captions_section(told: dict[str, Any]) -> str:
    """Length of captions, their words."""
    whole = told["captions"][0]
    if not whole["captions"]:
        return section("captions", "Captions", "This set has no captions.")
    words, spoken = whole["words"], told["vocabulary"]
    lead = (
        f"{counted(whole['captions'], 'caption')} of {words['mean']:.1f} words on average, half of them of "
        f"{words['median']} or fewer. {_number(words['over_30'])} are longer than 30 words, which is where the trainer "
        f"cuts; {_number(whole['only_a_number']).lower()} are only a number; "
        f"{_number(whole['repeated']).lower()} repeat another. {_kinds(told)}"
    )
    groups, columns = histogram_columns(told["caption_words"], above="more")
    columns = tuple(
        Column(f"{2 * place} to {2 * place + 1} words" if not c.is_apart else c.label, c.tick, c.counts, c.is_apart)
        for place, c in enumerate(columns)
    )
    told_lengths = f"Most captions lie between {words['p5']} and {words['p95']} words; the longest has {words['max']}."
    lengths = Chart("lengths", "Words in a caption", told_lengths, "words", "captions", groups, columns)
    growth = [(float(point["captions"]), float(point["distinct"])) for point in spoken["growth"]]
    told_words = f"{spoken['distinct']:,} different words in {spoken['words']:,}; {spoken['once']:,} stand there once."
    grown = Chart("growth", "Vocabulary", told_words, "captions read", "different words", ("all",), ())
    figures = [column_figure(lengths), line_figure(grown, growth), _top_words(spoken)]
    return section("captions", "Captions", lead, _grid(figures), scrolling(_captions_by_split(told)))


def _number(number: int) -> str:
    return f"{number:,}" if number else "None"


def _kinds(told: dict[str, Any]) -> str:
    """How many captions a clip has, and what they describe, in words."""
    counts = [f"{entry['captions']} ({counted(entry['clips'], 'clip')})" for entry in told["captions_per_clip"]]
    roles = [f"{entry['role']} ({entry['count']:,})" for entry in told["roles"]]
    each = "Every clip has one" if [e["captions"] for e in told["captions_per_clip"]] == [1] else (
        f"Captions of a clip: {', '.join(counts)}")  # fmt: skip
    return f"{each}; what they describe: {', '.join(roles)}."


def _top_words(spoken: dict[str, Any]) -> str:
    top = [entry for entry in spoken["top"] if entry["word"] not in _FUNCTION_WORDS][:NUM_WORDS]
    most = max((entry["count"] for entry in top), default=1)
    rows = [BarRow(entry["word"], f"{entry['count']:,}", entry["count"] / most) for entry in top]
    return bar_table("Most frequent words (without the, a, and …)", ["word", "times"], rows)


def _captions_by_split(told: dict[str, Any]) -> str:
    rows = [
        [row["split"], f"{row['captions']:,}", f"{row['words']['mean']:.2f}", f"{row['words']['median']:,}",
         f"{row['words']['p95']:,}", f"{row['words']['max']:,}", f"{row['words']['over_30']:,}",
         f"{row['words']['over_40']:,}", f"{row['only_a_number']:,}", f"{row['repeated']:,}"]
        for row in told["captions"][1:] + (told["captions"][:1] if len(told["captions"]) > 2 else [])
    ]  # fmt: skip
    headings = ["split", "captions", "mean words", "median", "95 % up to", "longest", "over 30", "over 40"]
    headings += ["only a number", "repeated"]
    return plain_table("Captions by split", headings, rows)


def concepts_section(told: dict[str, Any]) -> str:
    """Audio-concept density."""
    concepts = told["audio_concepts"]
    if not concepts["words"]:
        return ""
    published = " and ".join(f"{percent(share)} for {name}" for name, share in concepts["paper"]["density"].items())
    longer = "" if "ontology" in concepts["list"] else ", a longer list"
    lead = (
        f"{percent(concepts['density'])} of the words in captions name a sound ({concepts['hits']:,} of "
        f"{concepts['words']:,}), by the {concepts['concepts']:,} concepts of {concepts['list']}. The paper gives "
        f"{published}, by the {concepts['paper']['concepts']} concepts of AudioSet's ontology{longer}."
    )
    top = concepts["top"][: 2 * NUM_SHOWN]
    most = max((entry["count"] for entry in top), default=1)
    rows = [BarRow(entry["concept"], f"{entry['count']:,}", entry["count"] / most) for entry in top]
    half = -(-len(rows) // 2)
    tables = [
        bar_table(f"Concepts named most often{', continued' if place else ''}", ["concept", "times"], some)
        for place, some in enumerate((rows[:half], rows[half:]))
        if some
    ]
    return section("concepts", "Sounds that captions name", lead, _grid(tables, "grid two"))


def classes_section(told: dict[str, Any]) -> str:
    """Coverage of AudioSet's classes."""
    classes, title = told["classes"], "AudioSet's classes"
    if not classes["clips_with_labels"]:
        return section("classes", title, "No clip has labels; join AudioSet's lists when the manifest is made.")
    lead = (
        f"{counted(classes['clips_with_labels'], 'clip')} with labels cover {classes['seen']} of AudioSet's "
        f"{classes['of']} classes."
    )
    if classes["other_labels"]:
        lead += f" {counted(classes['other_labels'], 'other label')} are none of them."
    if not classes["seen"]:
        return section("classes", title, lead)
    top = classes["clips_by_class"]
    rows = [BarRow(entry["name"], f"{entry['clips']:,}", entry["clips"] / top[0]["clips"]) for entry in top]
    tables = [bar_table("Classes with the most clips", ["class", "clips"], rows[:NUM_SHOWN])]
    if len(rows) > NUM_SHOWN:
        last = rows[-min(NUM_SHOWN, len(rows) - NUM_SHOWN) :]
        tables.append(bar_table("Classes with the fewest clips", ["class", "clips"], last))
    every = plain_table("Clips of every class", ["class", "clips"], [[row.name, row.figure] for row in rows])
    missing = classes["missing"]
    absent = f"<details><summary>Classes without a clip: {len(missing)}</summary><p>{escape('; '.join(missing))}</p>"
    parts = [_grid(tables, "grid two"), behind(every, f"All {len(rows)} classes that are here")]
    return section("classes", title, lead, *parts, f"{absent}</details>" if missing else "")


def media_section(told: dict[str, Any]) -> str:
    """Duration, loudness, silence, resolution."""
    measured = told["measured"]
    figures = [column_figure(_durations(told))]
    if not measured["clips"]:
        lead = "Nothing was measured yet; `valor-data filter` does."
        return section("media", "Sound and picture", lead, _grid(figures, "grid two"))
    figures += [column_figure(chart) for chart in _measured_charts(measured)]
    lead = (
        f"{counted(measured['clips'], 'clip')} measured: {measured['still']:,} with a still picture, "
        f"{measured['clipping']:,} with clipped sound."
    )
    rows = [[entry["codec"], f"{entry['count']:,}"] for entry in measured["codecs"]]
    codecs = behind(plain_table("Clips by codec", ["codec", "clips"], rows), "Codecs") if rows else ""
    return section("media", "Sound and picture", lead, _grid(figures, "grid two"), codecs)


def _durations(told: dict[str, Any]) -> Chart:
    groups, columns = histogram_columns(told["durations"], above="longer", unit=" s", ticks_every=2)
    total = sum(sum(column.counts) for column in columns)
    most = max(columns, key=lambda column: sum(column.counts))
    text = (
        f"{percent(sum(most.counts) / total)} of the clips last {most.label}." if total else "No clip's end is known."
    )
    return Chart("durations", "Length of the clips", text, "seconds", "clips", groups, columns)


def _measured_charts(measured: dict[str, Any]) -> Iterator[Chart]:
    groups, columns = histogram_columns(measured["loudness"], below="none", unit=" dBFS")
    quiet = sum(sum(column.counts) for column in columns if column.is_apart and column.tick == "none")
    text = (
        f"RMS over all channels of a clip. {counted(quiet, 'clip has', 'clips have')} no sound, or less than -100 dBFS."
    )
    yield Chart("loudness", "Loudness", text, "dBFS, RMS", "clips", groups, columns)
    groups, columns = histogram_columns(measured["silence"], unit=" %", ticks_every=4)
    first = sum(columns[0].counts) / max(1, sum(sum(column.counts) for column in columns))
    text = f"How much of a clip's sound is silence. {percent(first)} of the clips have less than 5\u00a0%."
    yield Chart("silence", "Silence", text, "% of the clip", "clips", groups, columns)
    groups, columns = histogram_columns(measured["resolution"], below="none", above="more", ticks_every=1)
    named = tuple(
        Column(
            c.label if c.is_apart else f"{c.label.replace(' to ', ' to under ')} px",
            "< 144" if c.tick == "1" else c.tick,
            c.counts,
            c.is_apart,
        )
        for c in columns
    )
    most = max(named, key=lambda column: sum(column.counts))
    often = "" if most.is_apart else f"; most often {most.label}"
    text = f"The short side of the picture as it is shown{often}."
    yield Chart("resolution", "Size of the picture", text, "px, short side, from", "clips", groups, named)


def _grid(parts: Sequence[str], kind: str = "grid") -> str:
    return f'<div class="{kind}">{"".join(parts)}</div>'
