"""From TOML, a tree or a command's options to sections; every problem is reported at once."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from valor_data.config.sections import Config
from valor_data.errors import ConfigError

SectionT = TypeVar("SectionT")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as it is written, not checked yet.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; write one, or pass options to the single commands") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def config_from_dict(tree: Mapping[str, Any], *, where: str = "settings") -> Config:
    """Checks a tree of settings.

    Raises:
        ConfigError: with a line for every problem: unknown names, wrong types, values out of range.
    """
    problems: list[str] = []
    config = _section(Config, tree, prefix="", problems=problems)
    if problems:
        raise ConfigError([f"{where}: {problem}" for problem in problems])
    return config


def override(section: SectionT, changes: Mapping[str, Any]) -> SectionT:
    """A section with the options given on the command line; None means not given.

    Raises:
        ConfigError: a value is out of range; all problems at once.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    current = {f.name: getattr(section, f.name) for f in fields(section)}  # type: ignore[arg-type]
    problems: list[str] = []
    checked = _section(type(section), {**current, **given}, prefix="--", problems=problems)
    if problems:
        raise ConfigError([f"{name.replace('_', '-')}:{rest}" for name, rest in (p.split(":", 1) for p in problems)])
    return checked


def _section(kind: type[SectionT], tree: Mapping[str, Any], *, prefix: str, problems: list[str]) -> SectionT:
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(known)}"
            problems.append(f"{prefix}{name}: no such setting{hint}")
        elif _tables_of(hints[name]) is not None:
            values[name] = _tables(f"{prefix}{name}", value, _tables_of(hints[name]), problems)
        elif dataclasses.is_dataclass(hints[name]):
            if isinstance(value, hints[name]):
                values[name] = value
            elif isinstance(value, Mapping):
                values[name] = _section(hints[name], value, prefix=f"{prefix}{name}.", problems=problems)
            else:
                problems.append(f"{prefix}{name}: expected a table [{prefix}{name}], found {value!r}")
        else:
            values[name] = _value(f"{prefix}{name}", value, hints[name], known[name].metadata, problems)
    return kind(**values)


def _tables_of(hint: Any) -> Any:
    """The section that a list of tables is made of; None where a setting is no such list."""
    inside = typing.get_args(hint)[:1] if typing.get_origin(hint) is tuple else ()
    return inside[0] if inside and dataclasses.is_dataclass(inside[0]) else None


def _tables(name: str, value: Any, kind: Any, problems: list[str]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, (Mapping, kind)) for item in value):
        problems.append(f"{name}: expected tables, each under [[{name}]], found {value!r}")
        return ()
    return tuple(
        item if isinstance(item, kind) else _section(kind, item, prefix=f"{name}[{number}].", problems=problems)
        for number, item in enumerate(value)
    )


def _value(name: str, value: Any, hint: Any, rule: Mapping[str, Any], problems: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            problems.append(f"{name}: expected a list of texts, found {value!r}")
            return ()
        value = tuple(value)
    elif not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        problems.append(f"{name}: expected {_type_name(hint)}, found {value!r}")
        return value
    problems.extend(f"{name}: {problem}" for problem in _range_problems(value, rule))
    return value


def _range_problems(value: Any, rule: Mapping[str, Any]) -> list[str]:
    items = value if isinstance(value, tuple) else (value,)
    problems = []
    if rule["choices"]:
        allowed = ", ".join(rule["choices"])
        problems += [f"expected one of {allowed}; found {item!r}" for item in items if item not in rule["choices"]]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = rule["minimum"], rule["maximum"]
        if not (low is None or value >= low) or not (high is None or value <= high):
            problems.append(f"expected {_range_name(low, high)}; found {value!r}")
    return problems


def _range_name(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if high is None else f"at most {high}"


def _type_name(hint: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, str(hint)) if not isinstance(hint, types.UnionType) else str(hint)
