"""The wheel holds all it needs and works where the checkout is not."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def call(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    """Runs a program outside the checkout, without its paths, and gives what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    answer = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the build backend of this environment: no network."""
    out = tmp_path_factory.mktemp("dist")
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, PROJECT], cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel and the libraries of this one, but not the checkout.

    A `.pth` line adds this environment's libraries; `.pth` files there (the editable install) are not read.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    call([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel], cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    return home / "bin"


def test_the_wheel_holds_everything(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "valor-data = valor_data.cli:main" in entry_points
    assert "License-Expression: Apache-2.0" in metadata
    assert f"{info}/licenses/LICENSE" in names
    assert "valor_data/py.typed" in names
    assert "valor_data/look/report.css" in names
    shipped = {
        f"valor_data/_data/{folder}/{path.relative_to(PROJECT / folder).as_posix()}"
        for folder in ("schemas", "manifests")
        for path in (PROJECT / folder).rglob("*")
        if path.is_file()
    }
    assert any(name.endswith("manifest.schema.json") for name in shipped)
    assert shipped <= names
    modules = {p.relative_to(PROJECT).as_posix() for p in (PROJECT / "valor_data").rglob("*.py")}
    assert modules <= names
    pages = {p.relative_to(PROJECT).as_posix() for p in (PROJECT / "valor_data" / "look" / "view" / "page").iterdir()}
    assert len(pages) >= 4 and pages <= names
    strangers = {n for n in names if not n.startswith(("valor_data/", f"{info}/"))}
    assert strangers == set()


def test_the_wheel_works_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = call([installed / "python", "-c", "import valor_data; print(valor_data.__file__)"], cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    help_text = call([installed / "valor-data", "--help"], cwd=tmp_path)
    for command in ("manifest", "fetch", "filter", "shard", "verify", "status", "why", "run", "demo"):
        assert command in help_text


def test_the_wheel_finds_its_data(installed: Path, tmp_path: Path) -> None:
    program = "from valor_data.schema import shipped_file; print(shipped_file('schemas', 'manifest.schema.json'))"
    path = Path(call([installed / "python", "-c", program], cwd=tmp_path).strip())
    assert path.is_relative_to(installed.parent)
    assert path.is_file()


def test_the_wheel_makes_a_manifest(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "desc_val.json").write_text('[{"video_id": "-0BIyqJj9ZU_30.000_40.000", "desc": "A dog barks."}]')
    call([installed / "valor-data", "manifest", "desc_val.json", "-o", "manifest.parquet"], cwd=tmp_path)
    assert (tmp_path / "manifest.parquet").is_file()


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """`pip install` with every dependency: 5 GB on disk, and an index to take them from."""
    venv.create(tmp_path / "empty", with_pip=True, symlinks=True)
    binaries = tmp_path / "empty" / "bin"
    call([binaries / "python", "-m", "pip", "install", "--quiet", "--no-cache-dir", wheel], cwd=tmp_path)
    assert "manifest" in call([binaries / "valor-data", "--help"], cwd=tmp_path)
    call([binaries / "valor-data", "demo", "--help"], cwd=tmp_path)
    call([binaries / "python", "-m", "pip", "check"], cwd=tmp_path)
