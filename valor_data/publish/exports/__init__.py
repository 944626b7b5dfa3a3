"""A finished set in the forms that other people's code reads.

A layout is a module with `check(finished, target, options)`, which refuses before anything is written what cannot be,
and `write(finished, target, options, progress) -> Exported`. Adding one: the module, and a line in `LAYOUTS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from valor_data.errors import ConfigError
from valor_data.publish.exports.target import NOTE, Target, begin, note_bytes
from valor_data.publish.finished import open_finished
from valor_data.workdir import WorkDir


class Progress(Protocol):
    """What a layout tells while it works; `road.Progress` does."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """So many units are to be done."""
        ...

    def advance(self, status: str, reason: str = "", count: int = 1) -> None:
        """So many are done."""
        ...

    def finish(self) -> None:
        """All is done, or given up."""
        ...


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export, and how. What a layout does not know, it refuses (`used` names what it does).

    Attributes:
        split: only this split; empty: all.
        limit: only the first so many clips, in the order of the shards; None: all.
        workers: processes; 0: one a core.
        fps: `valor`: pictures a second, from the media; 0: the pictures that the shards hold.
        sound: `valor`: write wavs.
        include: `parquet`: binary columns to add: `frames`, `mel`, `audio`, `video`.
        spreadsheet: `csv`: cells that a spreadsheet would take for formulas are disarmed.
    """

    split: str = ""
    limit: int | None = None
    workers: int = 0
    fps: float = 0.0
    sound: bool = True
    include: tuple[str, ...] = ()
    spreadsheet: bool = False

    def told(self, used: tuple[str, ...]) -> dict[str, Any]:
        """What decides about the bytes of an export, for its note."""
        return {"split": self.split, "limit": self.limit, **{name: getattr(self, name) for name in used}}


@dataclass(slots=True)
class Exported:
    """What an export gave.

    Attributes:
        num_clips: clips in it.
        num_captions: captions in it.
        files: its main files, by name below the place, with what each is.
        counts: where things came from, and what was left out: a phrase and a number each.
        notices: what a person should know besides.
    """

    num_clips: int = 0
    num_captions: int = 0
    files: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for the note and for `--json`."""
        return {
            "clips": self.num_clips,
            "captions": self.num_captions,
            "files": self.files,
            "counts": dict(sorted(self.counts.items())),
            "notices": self.notices,
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """A form to export to.

    Attributes:
        module: has the functions `check` and `write`.
        used: names of the options that decide about its bytes.
    """

    module: str
    used: tuple[str, ...]

    def load(self) -> Any:
        """The module, when it is needed."""
        return import_module(f"valor_data.publish.exports.{self.module}")


LAYOUTS: Mapping[str, Layout] = {
    "valor": Layout("valor", ("fps", "sound")),
    "parquet": Layout("parquet", ("include",)),
    "csv": Layout("captions", ("spreadsheet",)),
    "energon": Layout("energon", ()),
}


def run_export(work: WorkDir, layout: str, place: str, options: ExportOptions, progress: Progress) -> Exported:
    """Writes a finished set in another form; a killed run goes on where it was.

    Args:
        work: the work folder.
        layout: one of `LAYOUTS`.
        place: a folder or an fsspec address: new, or of the same export.
        options: what to export, and how.
        progress: is told.

    Returns:
        What it gave; the same is in `export.json` at the place.

    Raises:
        ConfigError: no such layout, an option that it does not have, or the place holds something else.
        ShardError: the set is not finished.
        StoreError: a store does not answer.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout}: no such layout; expected one of {', '.join(LAYOUTS)}")
    chosen = LAYOUTS[layout]
    _check(layout, chosen, options)
    target = Target.at(place)
    finished = open_finished(work, split=options.split)
    told = {"layout": layout, **options.told(chosen.used)}
    module = chosen.load()
    module.check(finished, target, options)
    begin(target, told)
    try:
        exported: Exported = module.write(finished, target, options, progress)
    finally:
        progress.finish()
    target.write(NOTE, note_bytes({**told, "finished": True, **exported.to_dict()}))
    return exported


def _check(layout: str, chosen: Layout, options: ExportOptions) -> None:
    """Refuses options that another layout has."""
    plain = ExportOptions()
    problems = [
        f"--{name.replace('_', '-')}: the {layout} layout has no such option"
        for name in ("fps", "sound", "include", "spreadsheet")
        if name not in chosen.used and getattr(options, name) != getattr(plain, name)
    ]
    if options.limit is not None and options.limit < 1:
        problems.append(f"--limit {options.limit}: expected at least 1")
    if not 0.0 <= options.fps <= 1000.0:
        problems.append(f"--fps {options.fps:g}: expected more than 0, at most 1000")
    if options.workers < 0:
        problems.append(f"--workers {options.workers}: expected at least 0")
    if problems:
        raise ConfigError(problems)
