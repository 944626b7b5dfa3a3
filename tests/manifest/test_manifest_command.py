"""`valor-data manifest` as a person uses it: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from valor_data.cli.manifest import manifest_command
from valor_data.errors import ConfigError, ManifestError
from valor_data.manifest import read_manifest

ROWS = [
    {"video_id": "-video00001_1.000_2.000", "desc": "A bus."},
    {"video_id": "_video00002_1.000_2.000", "desc": "[bold]A car."},
    {"video_id": "_video00002_3.000_4.000", "desc": "23.7"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "desc[1].json").write_text(json.dumps(ROWS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, columns: int = 120, check: bool = True) -> Result:
    app = typer.Typer()
    app.command("manifest")(manifest_command)
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, list(arguments))
    if check and result.exception:
        raise result.exception
    return result


@pytest.mark.parametrize("columns", [80, 120])
def test_the_summary(folder: Path, columns: int) -> None:
    text = run("desc[1].json", columns=columns).stdout
    assert "2 clips (train 2) from 3 annotation rows" in text
    assert "1 reject in rejects.parquet, with file, row and text:" in text
    assert "caption_no_letters     1  the caption has no letter" in text
    assert "note: desc[1].json: its name says no split" in text
    assert "next: valor-data fetch manifest.parquet --source youtube --work DIR" in text
    assert len(read_manifest("manifest.parquet")) == 2
    assert pq.read_table("rejects.parquet").num_rows == 1


def test_json_counts(folder: Path) -> None:
    found = json.loads(run("desc[1].json", "--json", "--split", "val", "-o", "out/m.parquet").stdout)
    assert (found["clips"], found["rows"], found["num_rejects"]) == (2, 3, 1)
    assert found["clips_by_split"] == {"val": 2}
    assert found["rejects_by_reason"] == {"caption_no_letters": 1}
    assert found["fingerprint"] == read_manifest("out/m.parquet").fingerprint
    assert Path(found["rejects"]) == Path("out/rejects.parquet")


def test_options_for_single_files(folder: Path) -> None:
    (folder / "odd.txt").write_text("name;words\nx;A train.\n")
    arguments = ("desc[1].json", "odd.txt", "--format", "odd.txt:csv", "--id-field", "name", "--caption-field", "words")
    found = json.loads(run(*arguments, "--split", "odd.txt:holdout", "--split", "test", "--json").stdout)
    assert found["clips_by_split"] == {"test": 2, "holdout": 1}


def test_limit_and_sample(folder: Path) -> None:
    assert "chosen from 2 clips" in run("desc[1].json", "--limit", "1").stdout
    first = json.loads(run("desc[1].json", "--sample", "1", "--seed", "4", "--json").stdout)
    again = json.loads(run("desc[1].json", "--sample", "1", "--seed", "4", "--json").stdout)
    assert first["clips"] == 1 and first == again


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("none.json",), ManifestError, "none.json: cannot be read: No such file"),
        (("desc[1].json", "--join", "inner"), ConfigError, "join = 'inner': expected one of left, outer"),
        (("desc[1].json", "--limit", "1", "--sample", "1"), ConfigError, "limit and sample exclude each other"),
        (
            ("desc[1].json", "--split", "a", "--split", "b"),
            ConfigError,
            "--split is given twice for all files: 'a' and 'b'",
        ),
        (("desc[1].json", "-o", "rejects.parquet"), ManifestError, "cannot be the same file"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(
    folder: Path, arguments: tuple[str, ...], error: type[Exception], words: str
) -> None:
    result = run(*arguments, check=False)
    assert isinstance(result.exception, error)
    assert words in str(result.exception)
    assert [path.name for path in folder.iterdir()] == ["desc[1].json"]
