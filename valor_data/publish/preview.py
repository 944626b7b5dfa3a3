"""The card and what the viewer will show, to look at: no request is made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valor_data.config import PublishSection
from valor_data.ledger import Ledger
from valor_data.publish.built import read_built
from valor_data.publish.contents import Contents, gather
from valor_data.publish.editions import check_edition
from valor_data.publish.lint import Finding, lint
from valor_data.publish.staging import staging, undisturbed
from valor_data.publish.version import read_version
from valor_data.workdir import WorkDir, written_aside


def lint_only(work: WorkDir, section: PublishSection, name: str) -> list[Finding]:
    """Looks at an edition as the Hub will, without asking it.

    Raises:
        PublishError: the shards are not finished, or do not hold the edition.
    """
    with _offline(work, section, name) as contents:
        return lint(contents)


def card_only(work: WorkDir, section: PublishSection, name: str, out: Path, former: str | None = None) -> list[Path]:
    """Writes README.md, croissant.json and the card's pictures into a folder, without asking the Hub.

    Args:
        work: the work folder.
        section: the `[publish]` settings.
        name: the repository it is for.
        out: the folder.
        former: a card whose own text is kept; None: that of `out/README.md`, where there is one.

    Returns:
        The files written.
    """
    before = out / "README.md"
    if former is None and before.is_file():
        former = before.read_text(encoding="utf-8")
    with _offline(work, section, name, former) as contents:
        written = []
        for file in ("README.md", "croissant.json", "card/funnel.svg"):
            with written_aside(out / file) as path:
                shutil.copyfile(contents.folder / file, path)
            written.append(out / file)
        return written


@contextmanager
def _offline(work: WorkDir, section: PublishSection, name: str, former: str | None = None) -> Iterator[Contents]:
    with undisturbed(work), Ledger(work.ledger, read_only=True) as ledger, staging(work) as folder:
        built = read_built(work, ledger)
        check_edition(built, section.edition)
        where = (name, f"https://huggingface.co/datasets/{name}")
        yield gather(built, ledger, section, read_version(work), where, folder, former)
