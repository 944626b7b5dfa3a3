"""`WORK/report/index.html`: what is in a set, on one page that needs nothing but itself.

No script, no network, no other file: pictures and sounds are inside, the style is allowed by its hash and nothing
else is. The figures are those of `statistics`, in columns; of the clips only a sample is opened.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from valor_data.ledger import Ledger
from valor_data.look.gallery import GalleryClip, Rejected, choose, gallery, rejected_rows
from valor_data.look.report_cards import filter_rules, gallery_section, rejected_section
from valor_data.look.report_sections import (
    captions_section,
    classes_section,
    concepts_section,
    funnel_section,
    headline,
    key_figures,
    media_section,
    published_section,
)
from valor_data.look.statistics import statistics_of_work
from valor_data.workdir import WorkDir, written_aside

NUM_KEPT = 24
NUM_REFUSED = 24

_STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: where, how many bytes, how many clips are shown."""

    path: Path
    num_bytes: int
    num_clips: int


class Watcher:
    """Is told how far a report is."""

    def step(self, name: str) -> None:
        """Something else is read now."""

    def start(self, num_clips: int) -> None:
        """The clips of the gallery are opened now."""

    def clip(self, status: str) -> None:
        """One of them is done."""


def write_report(
    work: WorkDir,
    target: Path | None = None,
    *,
    num_kept: int = NUM_KEPT,
    num_refused: int = NUM_REFUSED,
    seed: int = 0,
    concepts: Path | None = None,
    watcher: Watcher | None = None,
) -> Report:
    """Writes the page; it takes the place of an older one whole or not at all.

    Args:
        work: the work folder.
        target: where to; None: `report/index.html` in the work folder.
        num_kept: kept clips in the gallery.
        num_refused: refused clips in it; of every reason one at least, however few are asked for.
        seed: which draw.
        concepts: see `look.concepts.read_concepts`.
        watcher: is told how far it is.

    Raises:
        ValorDataError: there is no manifest, or what is there cannot be read.
    """
    watcher = watcher or Watcher()
    path = target or work.report / "index.html"
    figures = statistics_of_work(work, concepts=concepts, say=watcher.step).to_dict()
    clips: list[GalleryClip] = []
    if work.ledger.exists():
        watcher.step("clips to show")
        with Ledger(work.ledger, read_only=True) as ledger:
            choices = choose(ledger, num_kept, num_refused, seed)
            watcher.start(len(choices))
            clips = gallery(work, ledger, choices, watcher.clip)
    text = page(work.root.name, figures, clips, list(rejected_rows(work, seed)), seed)
    data = text.encode("utf-8", "replace")
    with written_aside(path) as aside:
        aside.write_bytes(data)
    return Report(path, len(data), len(clips))


def page(name: str, figures: dict[str, Any], clips: list[GalleryClip], rejected: list[Rejected], seed: int) -> str:
    """The whole page.

    Args:
        name: of the set.
        figures: what `Statistics.to_dict` gives.
        clips: the gallery.
        rejected: annotation rows to show.
        seed: with which the gallery was drawn.
    """
    style = _STYLE.read_text("utf-8") + filter_rules(clips)
    line, stand = headline(figures)
    sections = {
        "From manifest to shards": funnel_section(figures),
        "Published sets": published_section(figures),
        "Captions": captions_section(figures),
        "Sounds named": concepts_section(figures),
        "Classes": classes_section(figures),
        "Sound and picture": media_section(figures),
        "Clips to see and hear": gallery_section(clips, seed),
        "Rejected rows": rejected_section(rejected, figures["rejected"]),
    }
    links = "".join(
        f'<li><a href="#{text.split(chr(34))[1]}">{escape(title)}</a></li>' for title, text in sections.items() if text
    )
    head = (
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy(style)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(name)}: {escape(line)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>{style}</style>",
    )
    body = (
        '<a class="skip" href="#main">Skip to the figures</a>',
        f'<header class="top"><p class="kicker">{escape(name)}, {time.strftime("%Y-%m-%d")}</p>',
        f'<h1>{escape(line)}</h1><p class="stand">{escape(stand)}</p>{key_figures(figures)}',
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>',
        '<main id="main" tabindex="-1">',
        *(text for text in sections.values() if text),
        "</main>",
        _footer(figures),
    )
    return "\n".join(
        ("<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>", "")
    )


def content_security_policy(style: str) -> str:
    """Nothing is allowed but this style, and pictures and sounds that are inside of the page."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    inside = f"style-src 'sha256-{digest}'; img-src data:; media-src data:"
    return f"default-src 'none'; {inside}; base-uri 'none'; form-action 'none'"


def _footer(figures: dict[str, Any]) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in figures["notes"])
    version = importlib.metadata.version("valor-data")
    return (
        f"<footer>{notes}<p>Made by valor-data {escape(version)}. The same figures for a script: "
        "<code>valor-data stats --json</code>; the story of one clip: <code>valor-data why KEY</code>. "
        "Videos and captions keep the licences of those who made them.</p></footer>"
    )
