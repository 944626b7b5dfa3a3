"""`valor-data stats`: what a person sees, and what a script reads."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from valor_data.cli import main
from valor_data.cli.stats import _blocks, percent
from valor_data.schema import load_schema


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    rows = [{"video_id": f"abcdefghij{n}_0.000_10.000", "desc": f"[bold]A dog[/] barks {n} times"} for n in range(4)]
    rows.append({"video_id": "abcdefghij9_0.000_10.000", "desc": "700"})
    path = tmp_path / "desc_train.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_table_for_a_person(annotations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats", str(annotations)])
    out = capsys.readouterr().out
    assert "4 clips of 4 videos, 0.0 hours" in out
    assert "caption_no_letters" in out and "the caption has no letter" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("train") and "4.20" in line)
    assert row == ["train", "5", "4.20", "5", "5", "5", "0", "0", "1", "0"]
    assert "< 0.1%" in out, "four of 1.18 million are not nothing"
    assert "audio-concept density" in out


def test_json_for_a_script(annotations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats", str(annotations), "--json"])
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, load_schema("statistics"))
    assert told["kind"] == "annotations"
    assert told["captions"][0]["only_a_number"] == 1


def test_blocks_and_shares() -> None:
    assert _blocks([0, 1, 1000, 500]) == " ▁█▄"
    assert [percent(share) for share in (0.0, 0.0001, 0.5)] == ["0.0%", "< 0.1%", "50.0%"]


def test_a_folder_without_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stats", "--work", str(tmp_path)])
    assert ended.value.code == 1
    assert "no manifest.parquet here; name a work folder with --work" in capsys.readouterr().err
