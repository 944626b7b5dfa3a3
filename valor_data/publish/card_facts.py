"""What a card says of a set: gathered once, so that words, YAML and Croissant tell the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from valor_data.config import PublishSection
from valor_data.look.status import RunStatus
from valor_data.publish.built import Built
from valor_data.publish.figures import Figures
from valor_data.publish.version import Version
from valor_data.shard.sample import SampleSettings


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything a card is made of.

    Attributes:
        name: the repository, `ORG/NAME`.
        url: its page.
        edition: `ids`, `features` or `media`.
        version: of the set.
        section: the `[publish]` settings.
        built: the shards and how they were made.
        settings: what a sample of the edition holds.
        figures: of the kept clips.
        status: the funnel.
        tar_bytes: bytes of the tars by split; empty in `ids`.
        num_tars: tars by split; empty in `ids`.
        row_files: names of the Parquet files of rows.
        row_bytes: their sizes, by name.
        row_counts: their rows, by name.
        package_version: of valor-data.
        num_tombstones: clips and videos that were taken out.
    """

    name: str
    url: str
    edition: str
    version: Version
    section: PublishSection
    built: Built
    settings: SampleSettings
    figures: Figures
    status: RunStatus
    tar_bytes: dict[str, int]
    num_tars: dict[str, int]
    row_files: tuple[str, ...]
    row_bytes: dict[str, int]
    row_counts: dict[str, int]
    package_version: str
    num_tombstones: int

    @property
    def pretty_name(self) -> str:
        """The set's name as people write it."""
        return self.section.pretty_name or self.name.split("/")[1]

    @property
    def samples(self) -> dict[str, int]:
        """Kept clips by split, largest split first, then by name."""
        found = self.built.samples
        return {split: found[split] for split in sorted(found, key=lambda name: (-found[name], name))}

    @property
    def num_samples(self) -> int:
        """Kept clips of all splits."""
        return sum(self.samples.values())

    @property
    def contact(self) -> str:
        """Whom to ask, as Markdown."""
        found = self.section.contact
        if not found:
            return f"the [discussions of this repository]({self.url}/discussions)"
        return f"[{found}](mailto:{found})" if "@" in found and "://" not in found else found

    @property
    def versions(self) -> dict[str, list[str]]:
        """Versions of the packages that made the shards; several where they were made over time."""
        found: dict[str, set[str]] = {}
        for shard in self.built.shards.values():
            for package, version in shard.sidecar.get("versions", {}).items():
                found.setdefault(package, set()).add(version)
        return {package: sorted(versions) for package, versions in sorted(found.items())}

    def row_pattern(self, standing: str, split: str) -> str:
        """The Parquet files of a split's kept or refused rows, as a pattern."""
        return f"metadata/{standing}/{pattern_of(split, list(self.built.samples))}.parquet"


def pattern_of(split: str, splits: list[str]) -> str:
    """`train-*`, or with digits spelt out where another split's files would fit that too."""
    digits = "[0-9]" * 5
    return f"{split}-{digits}*" if any(other.startswith(f"{split}-") for other in splits) else f"{split}-*"


def split_name(split: str) -> str:
    """A split's name as `datasets` takes it: letters, digits and `_`."""
    return split.replace("-", "_")


def markdown(text: object) -> str:
    """A text of others inside a Markdown table: one line, no markup."""
    found = " ".join(str(text).split())
    for mark in "\\`*_{}[]<>|#!":
        found = found.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return found[:200]


def sizes(number: int) -> str:
    """Bytes as people read them."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number} bytes"


def length(seconds: float) -> str:
    """A length of time as people read it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def clips(number: int) -> str:
    """`1 clip`, `2,000 clips`."""
    return f"{number:,} clip{'' if number == 1 else 's'}"


def table(heads: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; every column after the first is right-aligned where its values are numbers."""
    is_number = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(heads))]
    marks = ["---:" if right else "---" for right in is_number]
    lines = [heads, marks, *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_number(cell: object) -> bool:
    return bool(str(cell)) and str(cell)[0].isdigit()
