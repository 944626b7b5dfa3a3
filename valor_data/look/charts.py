"""Charts as SVG inside of a page, drawn here: a picture with a text in its place, and its figures as a table behind it.

Colours are classes (`kept`, `refused`, `undecided`, `all`), so that a page's style gives them for light and dark.
Every text that comes in is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 420, 230
"""Units of the drawing; at most this wide on the page, so that its text is never larger than the page's."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 12, 40


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a chart.

    Attributes:
        label: what it stands for, in words, for the table and for the pointer.
        tick: what is written below it; empty: nothing.
        counts: one for each group.
        is_apart: it stands apart, with a gap: what is below or above the scale.
    """

    label: str
    tick: str
    counts: tuple[int, ...]
    is_apart: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows.

    Attributes:
        name: unique in the page; part of ids.
        title: above it.
        text: what is to be seen, in a sentence: the text in place of the picture.
        axis: below it.
        counted: what the columns count (`clips`).
        groups: names of the groups, in the order of the counts; drawn on top of one another.
        columns: from left to right.
    """

    name: str
    title: str
    text: str
    axis: str
    counted: str
    groups: tuple[str, ...]
    columns: tuple[Column, ...]


def column_figure(chart: Chart) -> str:
    """A chart with its caption, the legend where there are several groups, and the table behind it."""
    legend = ""
    if len(chart.groups) > 1:
        items = "".join(f'<li><span class="key fill-{escape(g)}"></span>{escape(g)}</li>' for g in chart.groups)
        legend = f'<ul class="legend">{items}</ul>'
    rows = [[column.label, *(f"{count:,}" for count in column.counts)] for column in chart.columns]
    headings = chart.groups if len(chart.groups) > 1 else (chart.counted,)
    table = plain_table(f"{chart.title}: {chart.counted}", [chart.axis, *headings], rows)
    return (
        f'<figure class="chart"><figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.text)}</p></figcaption>'
        f"{legend}{_svg(chart)}{behind(table)}</figure>"
    )


def behind(table: str, words: str = "Figures as a table") -> str:
    """A table that opens."""
    return f'<details class="behind"><summary>{escape(words)}</summary>{scrolling(table)}</details>'


def scrolling(table: str) -> str:
    """A table that scrolls sideways where the page is narrower; by keyboard as well."""
    caption = table.partition("<caption>")[2].partition("</caption>")[0]
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">{table}</div>'


def plain_table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the first cell of a row is its heading, the others are figures.

    Args:
        caption: what it is, for who does not see where it stands.
        headings: one for each column.
        rows: texts; escaped here.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(text)}</td>" for text in row[1:])}</tr>'
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bar(share: float, group: str = "all") -> str:
    """A bar as wide as a share, 0 to 1, of its cell; the number stands beside it, so it has no text of its own."""
    width = 0.0 if share <= 0 else min(100.0, max(0.6, share * 100))
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f'<rect class="track" width="100" height="10"/><rect class="fill-{escape(group)}" width="{width:.2f}" '
        'height="10"/></svg>'
    )


@dataclass(frozen=True, slots=True)
class BarRow:
    """A row with a bar: its name, the figure, how long the bar is (0 to 1), in which colour, and what follows.

    Attributes:
        under: a smaller line below the name.
    """

    name: str
    figure: str
    share: float
    group: str = "all"
    rest: tuple[str, ...] = ()
    under: str = ""


def bar_table(caption: str, headings: Sequence[str], rows: Sequence[BarRow], kind: str = "bars") -> str:
    """A table with a bar in each row.

    Args:
        caption: what it is.
        headings: of the names, of the figures, and of what follows.
        rows: from top to bottom; texts are escaped here.
        kind: class of the table.
    """
    first, second, *others = (escape(text) for text in headings)
    head = f'<th scope="col">{first}</th><th scope="col">{second}</th><td class="bar-cell"></td>'
    head += "".join(f'<th scope="col">{text}</th>' for text in others)
    lines = []
    for row in rows:
        name = escape(row.name)
        if row.under:
            name = f'<strong>{name}</strong><span class="meaning">{escape(row.under)}</span>'
        rest = "".join(f"<td>{escape(text)}</td>" for text in row.rest)
        lines.append(
            f'<tr><th scope="row">{name}</th><td>{escape(row.figure)}</td>'
            f'<td class="bar-cell">{bar(row.share, row.group)}</td>{rest}</tr>'
        )
    return (
        f'<table class="{kind}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def line_figure(chart: Chart, points: Sequence[tuple[float, float]]) -> str:
    """A rising line through points (x, y), from 0; the chart's columns are its table."""
    highest_x, (step, highest_y) = max(x for x, _ in points) or 1, _scale(max(y for _, y in points))
    plot_width, plot_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    placed = [
        (_LEFT + plot_width * x / highest_x, _TOP + plot_height * (1 - y / highest_y)) for x, y in [(0, 0), *points]
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    parts = [*_grid(step, highest_y), f'<polyline class="line" points="{path}"/>']
    x, y = placed[-1]
    parts.append(f'<circle class="fill-all" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    for share in (0.0, 0.5, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        place = _LEFT + plot_width * share
        parts.append(
            f'<text x="{place:.1f}" y="{HEIGHT - 24}" text-anchor="{anchor}">{short(highest_x * share)}</text>'
        )
    rows = [[f"{x:,.0f}", f"{y:,.0f}"] for x, y in points]
    table = plain_table(chart.title, [chart.axis, chart.counted], rows)
    return (
        f'<figure class="chart"><figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.text)}</p></figcaption>'
        f"{_frame(chart, parts)}{behind(table)}</figure>"
    )


def _svg(chart: Chart) -> str:
    totals = [sum(column.counts) for column in chart.columns]
    step, highest = _scale(max(totals, default=0))
    gaps = [0.6 if column.is_apart and place else 0.0 for place, column in enumerate(chart.columns)]
    gaps = [gap or (0.6 if place and chart.columns[place - 1].is_apart else 0.0) for place, gap in enumerate(gaps)]
    unit = (WIDTH - _LEFT - _RIGHT) / max(1.0, len(chart.columns) + sum(gaps))
    parts, x = _grid(step, highest), float(_LEFT)
    for column, gap in zip(chart.columns, gaps, strict=True):
        x += gap * unit
        parts += _stack(chart, column, x, unit, highest)
        if column.tick:
            is_edge = column.is_apart and column is chart.columns[-1]
            place, anchor = (x + unit, "end") if is_edge else (x + unit / 2, "middle")
            tick = escape(column.tick)
            parts.append(f'<text x="{place:.1f}" y="{HEIGHT - 24}" text-anchor="{anchor}">{tick}</text>')
        x += unit
    return _frame(chart, parts)


def _stack(chart: Chart, column: Column, x: float, unit: float, highest: float) -> list[str]:
    """The rectangles of a column, one on top of the other."""
    parts, y, plot_height = [], float(HEIGHT - _BOTTOM), HEIGHT - _TOP - _BOTTOM
    for group, count in zip(chart.groups, column.counts, strict=True):
        if not count:
            continue
        height = max(1.0, plot_height * count / highest)
        y -= height
        told = f"{column.label}: {count:,} {chart.counted}" + (f", {group}" if len(chart.groups) > 1 else "")
        parts.append(
            f'<rect class="fill-{escape(group)}" x="{x + 0.06 * unit:.1f}" y="{y:.1f}" width="{0.88 * unit:.1f}" '
            f'height="{height:.1f}"><title>{escape(told)}</title></rect>'
        )
    return parts


def _frame(chart: Chart, parts: Sequence[str]) -> str:
    name = f"chart-{chart.name}"
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(chart.title)}</title><desc id="{name}-d">{escape(chart.text)}</desc>'
        f"{''.join(parts)}"
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{HEIGHT - _BOTTOM}" y2="{HEIGHT - _BOTTOM}"/>'
        f'<text class="name" x="{(WIDTH + _LEFT - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(chart.axis)}</text></svg>"
    )


def _grid(step: float, highest: float) -> list[str]:
    """Lines across, each with its number, from 0 up."""
    parts, plot_height = [], HEIGHT - _TOP - _BOTTOM
    for number in range(round(highest / step) + 1):
        y = _TOP + plot_height * (1 - number * step / highest)
        if number:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(number * step)}</text>')
    return parts


def _scale(most: float) -> tuple[float, float]:
    """A round step, and its multiple at or above the largest value: two to five lines."""
    if most <= 0:
        return 1.0, 1.0
    rough = most / 4
    size = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = max(1.0, next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough))
    return step, step * math.ceil(most / step)


def short(number: float) -> str:
    """A number for an axis: 1.2 M, 250 k, 40."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def histogram_columns(
    told: dict[str, Any], *, below: str = "below", above: str = "above", ticks_every: int = 5, unit: str = ""
) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """Groups and columns of a histogram's dictionary.

    Args:
        told: what `Histogram.to_dict` gives.
        below: what values under the first edge mean; such a column is there when there are any.
        above: the same of values over the last edge.
        ticks_every: every so many columns its lower edge is written.
        unit: behind the numbers of a range.
    """
    groups = tuple(group["group"] for group in told["groups"]) or ("all",)
    counts = [group["counts"] for group in told["groups"]] or [[0] * (len(told["edges"]) - 1)]
    first = 1 if any(group["below"] for group in told["groups"]) and ticks_every > 1 else 0
    last = len(told["edges"]) - (3 if any(group["above"] for group in told["groups"]) and ticks_every > 1 else 1)
    columns = [  # a tick beside one that stands apart would run into it
        Column(
            f"{low:g} to {high:g}{unit}",
            f"{low:g}" if place % ticks_every == 0 and first <= place < last else "",
            several,
        )
        for place, (low, high, several) in enumerate(
            zip(told["edges"], told["edges"][1:], zip(*counts, strict=True), strict=False)
        )
    ]
    for name, side, place in ((below, "below", 0), (above, "above", len(columns) + 1)):
        beyond = tuple(group[side] for group in told["groups"])
        if any(beyond):
            columns.insert(place, Column(name, name, beyond, is_apart=True))
    return groups, tuple(columns)
