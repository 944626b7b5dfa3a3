"""The rules of direction: who may import whom, and where the heavy libraries live.

A new room (a module or a folder of `valor_data/`) fails here until it has its place in `ROOMS`.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "valor_data"

ROOMS = (
    "errors",
    "schema",
    "clip",
    "config",
    "workdir",
    "guard",
    "storage",
    "archives",
    "tombstones",
    "ledger",
    "manifest",
    "media",
    "fetch",
    "filter",
    "shard",
    "execute",
    "road",
    "look",
    "publish",
    "train",
    "demo",
    "cli",
    "__main__",
)
"""From the ground up: a room imports itself and rooms above it in this list."""

STAGES = {"fetch", "filter", "shard", "train"}
"""These never import one another..."""

STAGE_EXCEPTIONS = {("train", "valor_data.shard.reader")}
"""...but for these: (importing room, imported module)."""

HOMES = {
    "rich": ("cli/",),
    "typer": ("cli/",),
    "av": ("media/", "demo/encode.py"),  # the demo writes its videos; only media/ opens strangers' files
    "ffmpeg": ("media/",),
    "torchaudio": ("media/",),
    "fsspec": ("storage.py",),
    "ray": ("execute/ray_cluster.py",),
}
"""The only folders and files that may import a library."""

ONE_FILE = ("torchaudio",)
"""Libraries that one file alone may import: they are replaced more easily there."""

HEAVY_MODULES = ("torch", "webdataset", "yt_dlp", "pandas", "pyarrow", "av")
"""What the command line must not load before it needs it."""

FORBIDDEN_NAMES = ("utils", "util", "helpers", "helper")


@dataclass(frozen=True)
class Import:
    """One import statement of a file."""

    file: str  # relative to the package
    line: int
    module: str  # absolute


def room_of(module: str) -> str:
    """`valor_data.fetch.web` is in `fetch`; the package itself is in ``."""
    return module.split(".")[1] if "." in module else ""


def module_of(file: Path, package: Path) -> list[str]:
    """The dotted name of a file's package, for relative imports."""
    parts = list(file.relative_to(package.parent).with_suffix("").parts)
    return parts[:-1]


def imports_of(file: Path, package: Path) -> Iterator[Import]:
    """Every import of a file: at the top, inside functions, for types only, and `import_module("…")`."""
    relative = file.relative_to(package).as_posix()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(relative, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module_of(file, package)
                base = ".".join(above[: len(above) - node.level + 1] + ([base] if base else []))
            for alias in node.names:
                yield Import(
                    relative, node.lineno, f"{base}.{alias.name}" if is_module(base, alias.name, package) else base
                )
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
        ):
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Import(relative, node.lineno, argument.value)


def is_module(base: str, name: str, package: Path) -> bool:
    """Whether `from base import name` imports a module of the package rather than something in one."""
    if base.split(".")[0] != package.name:
        return False
    place = package.parent.joinpath(*base.split("."), name)
    return place.is_dir() or place.with_suffix(".py").exists()


def direction_problem(found: Import, package: Path) -> str | None:
    """What is wrong with an import of one of our own rooms."""
    here = found.file.split("/")[0].removesuffix(".py")
    there = room_of(found.module)
    if here == "__init__":  # the public interface: any room but the command line
        return "the package must not import its command line" if there in ("cli", "__main__") else None
    if there == "":  # the public interface is for users; the command line is one
        return None if here in ("cli", "__main__") else "imports the package itself: import the room that defines it"
    if there not in ROOMS:  # where its file exists, that is named once already
        return None if (package / there).with_suffix(".py").exists() else f"no room {there!r} in ROOMS"
    return None if here == there else neighbour_problem(here, there, found.module)


def neighbour_problem(here: str, there: str, module: str) -> str | None:
    """What is wrong with one room's import of another."""
    if there == "cli" and here != "__main__":
        return "cli is imported by nothing"
    if {here, there} <= STAGES and (here, module) not in STAGE_EXCEPTIONS:
        return f"{here} and {there} never import one another"
    if ROOMS.index(there) > ROOMS.index(here):
        return f"{there} lies below {here}: a room imports rooms above it only"
    return None


def library_problem(found: Import) -> str | None:
    """What is wrong with an import of a library."""
    homes = HOMES.get(found.module.split(".")[0])
    if homes is None or any(found.file == h or (h.endswith("/") and found.file.startswith(h)) for h in homes):
        return None
    return f"only {', '.join(homes)} may import {found.module.split('.')[0]}"


def shape_problems(file: Path, package: Path) -> Iterator[str]:
    """Asserts, and names that say nothing."""
    relative = file.relative_to(package).as_posix()
    if set(file.relative_to(package).with_suffix("").parts) & set(FORBIDDEN_NAMES):
        yield f"{relative}: name it after what it does, not {file.stem}"
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            yield f"{relative}:{node.lineno}: assert vanishes under python -O: raise an error of errors.py"
        if isinstance(node, ast.ClassDef) and node.name.endswith("Manager"):
            yield f"{relative}:{node.lineno}: class {node.name}: name it after what it does, not Manager"


def problems_of(package: Path) -> list[str]:
    """Every breach of the rules in a package, one line each."""
    problems = []
    in_one_file: dict[str, set[str]] = {name: set() for name in ONE_FILE}
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        if room not in (*ROOMS, "__init__"):
            problems.append(
                f"{file.relative_to(package)}: {room!r} is no room of ROOMS in {Path(__file__).name}: "
                "give it its place, above every room that imports it"
            )
            continue
        problems += shape_problems(file, package)
        for found in imports_of(file, package):
            own = found.module.split(".")[0] == package.name
            problem = direction_problem(found, package) if own else library_problem(found)
            if problem:
                problems.append(f"{found.file}:{found.line}: import {found.module}: {problem}")
            if found.module.split(".")[0] in in_one_file:
                in_one_file[found.module.split(".")[0]].add(found.file)
    for name, files in in_one_file.items():
        if len(files) > 1:
            problems.append(f"{name} is imported by {', '.join(sorted(files))}: one file alone may")
    return problems


def test_the_package_keeps_the_rules() -> None:
    assert problems_of(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("clip.py", "import valor_data.ledger", "ledger lies below clip"),
        ("clip.py", "def f():\n    from valor_data.ledger import Ledger", "ledger lies below clip"),
        ("clip.py", "from . import road", "road lies below clip"),
        ("clip.py", "from .road import run", "road lies below clip"),
        ("media/a.py", "from ..road import run", "road lies below media"),
        ("clip.py", "import importlib\nimportlib.import_module('valor_data.road')", "road lies below clip"),
        ("clip.py", "from valor_data import __version__", "imports the package itself"),
        ("fetch/a.py", "from valor_data.filter import decide", "fetch and filter never import one another"),
        ("train/a.py", "from valor_data.shard import writer", "train and shard never import one another"),
        ("shard/a.py", "from valor_data.fetch.web import get", "shard and fetch never import one another"),
        ("execute/a.py", "from valor_data.road import run", "road lies below execute"),
        ("look/a.py", "from valor_data.cli import main", "cli is imported by nothing"),
        ("__init__.py", "from valor_data.cli import main", "must not import its command line"),
        ("road.py", "from valor_data.attic import junk", "no room 'attic' in ROOMS"),
        ("attic.py", "", "'attic' is no room of ROOMS"),
        ("attic/a.py", "", "'attic' is no room of ROOMS"),
        ("look/a.py", "from rich.table import Table", "only cli/ may import rich"),
        ("fetch/a.py", "import av.container", "only media/, demo/encode.py may import av"),
        ("demo/world.py", "import av", "only media/, demo/encode.py may import av"),
        ("fetch/a.py", "import ffmpeg", "only media/ may import ffmpeg"),
        ("train/a.py", "import torchaudio", "only media/ may import torchaudio"),
        ("clip.py", "assert True", "assert vanishes"),
        ("media/utils.py", "", "name it after what it does"),
        ("utils/a.py", "", "'utils' is no room"),
        ("road.py", "class ClipManager:\n    pass", "name it after what it does, not Manager"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, text: str, problem: str) -> None:
    package = plant(tmp_path, {file: text})
    found = problems_of(package)
    assert len(found) == 1, found
    assert problem in found[0]


def test_what_is_allowed_is_let_through(tmp_path: Path) -> None:
    package = plant(
        tmp_path,
        {
            "__init__.py": "from valor_data.shard.reader import read",
            "__main__.py": "from valor_data.cli import main",
            "cli/a.py": "from rich.table import Table\nfrom valor_data import road\nfrom valor_data.cli import b",
            "demo/encode.py": "import av",
            "media/a.py": "import av, ffmpeg, torchaudio\nfrom valor_data.clip import Clip",
            "train/a.py": "from valor_data.shard.reader import read\nfrom valor_data.shard import reader\nimport torch",
        },
    )
    assert problems_of(package) == []


def test_two_homes_of_torchaudio_are_one_too_many(tmp_path: Path) -> None:
    package = plant(tmp_path, {"media/a.py": "import torchaudio", "media/b.py": "from torchaudio import x"})
    assert problems_of(package) == ["torchaudio is imported by media/a.py, media/b.py: one file alone may"]


def plant(folder: Path, files: dict[str, str]) -> Path:
    """A package with the given files and a few rooms to import."""
    package = folder / "valor_data"
    rooms = dict.fromkeys(("shard/reader.py", "shard/writer.py", "cli/b.py", "road.py"), "")
    for name, text in {**rooms, **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


@pytest.mark.parametrize("first", ["", "sys.argv = ['valor-data', '--help']; valor_data.cli.main()"])
def test_the_command_line_loads_nothing_heavy(first: str) -> None:
    """Neither importing it nor asking for help."""
    program = (
        "import json, sys, valor_data.cli\n"
        f"try:\n    {first or 'pass'}\n"
        "except SystemExit:\n    pass\n"
        f"print(json.dumps(sorted(set({HEAVY_MODULES!r}) & set(sys.modules))))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == []
