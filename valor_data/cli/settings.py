"""From `WORK/valor.toml` and the options of a command to the settings of a stage."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from valor_data.config import Config, ExecuteSection, config_from_dict, override, read_toml
from valor_data.errors import REASONS, ConfigError, ValorDataError
from valor_data.workdir import WorkDir


@dataclass(frozen=True, slots=True)
class StageSettings:
    """A stage's section, the names that were given for this run, and what the run holds."""

    section: Any
    explicit: frozenset[str]
    modalities: str | None
    config: Config
    tree: dict[str, Any]

    def explicit_of(self, stage: str) -> frozenset[str]:
        """Names that `valor.toml` gives for another stage."""
        return frozenset(self.tree.get(stage, {}))


def stage_settings(work: WorkDir, stage: str, options: dict[str, Any], modalities: str | None = None) -> StageSettings:
    """Defaults, then `WORK/valor.toml`, then the command's options.

    Args:
        work: the work folder.
        stage: the section's name.
        options: what was given on the command line; None where nothing was.
        modalities: the command's `--modalities`.

    Raises:
        ConfigError: every problem at once.
    """
    from valor_data.fetch.sources import absolute_source
    from valor_data.storage import absolute_place, check_address

    tree = read_toml(work.config) if work.config.exists() else {}
    if modalities is not None:
        tree = {**tree, "modalities": modalities}
    config = config_from_dict(tree, where=work.config.name if work.config.exists() else "options")
    given = {name: value for name, value in options.items() if value is not None}
    section = getattr(config, stage)
    if "source" in tree.get(stage, {}):  # like every name in the file, it starts from the file's folder
        section = override(section, {"source": absolute_source(section.source, work.root)})
    if "leak" in tree.get(stage, {}):
        from valor_data.filter.leak import absolute_sets

        section = override(section, {"leak": absolute_sets(section.leak, work.root)})
    if "output" in tree.get(stage, {}):
        section = override(section, {"output": absolute_place(section.output, work.root)})
    section = override(section, given)
    for name in {"source", "output"} & set(given) | {"source", "output"} & set(tree.get(stage, {})):
        if "{" not in getattr(section, name):  # before anything is logged: an address may hold a password
            check_address(getattr(section, name), f"{stage}.{name}")
    explicit = frozenset(given) | frozenset(tree.get(stage, {}))
    return StageSettings(section, explicit, config.modalities if "modalities" in tree else None, config, tree)


def require_ledger(work: WorkDir) -> None:
    """Sees that a run was begun here, before a mistyped `--work` makes a folder.

    Raises:
        ValorDataError: there is no ledger.
    """
    if not work.ledger.exists():
        raise ValorDataError(f"no ledger at {work.ledger}: name the work folder with --work, or run `fetch` first")


def where_to_run(config: Config, executor: str | None, address: str | None) -> ExecuteSection:
    """The `[execute]` settings with a command's `--executor` and `--address`.

    Raises:
        ConfigError: no such executor.
    """
    return override(config.execute, {"executor": executor, "address": address})


def pinned_modalities(ledger: Any, given: str | None) -> str:
    """What the run holds: chosen once for a work folder.

    Raises:
        ConfigError: another choice than the work folder was begun with.
    """
    choice = given or ledger.get_meta("modalities") or "av"
    ledger.pin("modalities", choice, advice="what a run holds cannot change; use another --work folder")
    return str(choice)


def known_reasons(names: list[str]) -> tuple[str, ...]:
    """Checks reason codes that were given as options.

    Raises:
        ConfigError: a code that does not exist; the message names one like it.
    """
    problems = []
    for name in names:
        if name not in REASONS:
            near = difflib.get_close_matches(name, REASONS, n=1)
            problems.append(f"--retry {name}: no such reason; " + (f"did you mean {near[0]}?" if near else
                            f"known: {', '.join(REASONS)}"))  # fmt: skip
    if problems:
        raise ConfigError(problems)
    return tuple(names)
