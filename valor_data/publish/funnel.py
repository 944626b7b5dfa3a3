"""The funnel of a set as a picture for its card: SVG, by hand, so that it costs no library."""

from __future__ import annotations

from html import escape

from valor_data.look.status import Funnel

WIDTH, BAR_PX, GAP_PX, LEFT_PX, RIGHT_PX, TOP_PX = 720, 30, 14, 96, 150, 52
_COLOURS = ("#33658a", "#3f7cac", "#4f94c4", "#69acd9")
_STEPS = (("manifest", None), ("fetched", "fetch"), ("kept", "filter"), ("in shards", "shard"))


def funnel_svg(funnel: Funnel) -> str:
    """Bars of manifest, fetched, kept and in shards, each with its number and its share of the manifest.

    Args:
        funnel: of all splits.

    Returns:
        An SVG document with a title and a description, readable on light and dark pages alike.
    """
    total = max(funnel.num_clips, 1)
    counts = [funnel.num_clips if stage is None else funnel.kept[stage] for _, stage in _STEPS]
    told = ", ".join(f"{name} {count:,}" for (name, _), count in zip(_STEPS, counts, strict=True))
    height = TOP_PX + len(_STEPS) * (BAR_PX + GAP_PX) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="15">',
        f'<title id="t">What became of {funnel.num_clips:,} clips</title><desc id="d">{escape(told)}</desc>',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        f'<text x="16" y="32" font-size="18" font-weight="600" fill="#1b1b1b">What became of '
        f"{funnel.num_clips:,} clips</text>",
    ]
    for number, ((name, _), count) in enumerate(zip(_STEPS, counts, strict=True)):
        top = TOP_PX + number * (BAR_PX + GAP_PX)
        length = (WIDTH - LEFT_PX - RIGHT_PX) * count / total
        middle = top + BAR_PX / 2 + 5
        lines += [
            f'<text x="{LEFT_PX - 10}" y="{middle:g}" text-anchor="end" fill="#333333">{name}</text>',
            f'<rect x="{LEFT_PX}" y="{top}" width="{max(length, 1):.1f}" height="{BAR_PX}" rx="3" '
            f'fill="{_COLOURS[number]}"/>',
            f'<text x="{LEFT_PX + length + 10:.1f}" y="{middle:g}" fill="#1b1b1b">{count:,} '
            f'<tspan fill="#555555">({count / total:.1%})</tspan></text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
