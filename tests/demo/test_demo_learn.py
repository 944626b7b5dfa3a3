"""The demo's proof that its shards can be learned from: what it asks for, and that it is reached."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from valor_data.demo.learn import LONG, SHORT, Proof, most_by_chance, section_of
from valor_data.train.settings import completed

COMMAND = Path(sys.executable).with_name("valor-data")
BOUNDS = {"tv": 15.2, "ta": 15.2}


def test_what_is_as_it_should_be() -> None:
    assert Proof(SHORT, 144, {"tva": 74.3, "tv": 7.6, "ta": 6.9}, BOUNDS).shortfalls == []


def test_what_is_not() -> None:
    found = Proof(SHORT, 144, {"tva": 48.0, "tv": 16.7, "ta": 6.9}, BOUNDS).shortfalls
    assert found == [
        "T-AV R@1 is 48.0 %, expected at least 50 %",
        "T-AV R@1 is 48.0 %, expected 3 times 16.7 %",
        "tv R@1 is 16.7 %, more than the 15.2 % that one sense alone can know",
    ]
    named = {"shape": 79.2, "colour": 100.0, "motion": 80.0}
    assert Proof(LONG, 144, {"tva": 90.0, "tv": 8.0, "ta": 8.0}, BOUNDS, named).shortfalls == [
        "79 % of the captions have the right shape, expected at least 80 %"
    ]


def test_what_one_sense_can_know() -> None:
    assert most_by_chance(12, 144) == pytest.approx(15.24, abs=0.01)
    assert most_by_chance(3, 9) == pytest.approx(80.5, abs=0.1)


def test_its_settings_can_be() -> None:
    for aim in (SHORT, LONG):
        section = completed(section_of(aim, "demo"), "somewhere")
        assert (section.preset, section.steps, section.vocabulary) == ("tiny", aim.steps, "learn")


@pytest.mark.slow
def test_the_demo_reaches_what_it_asks_for(tmp_path: Path) -> None:
    """Some minutes; it must be the same with everything else that two cores have to do."""
    done = subprocess.run([COMMAND, "demo", "--work", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    proof = json.loads((tmp_path / "runs" / "demo" / "proof.json").read_text())
    assert proof["shortfalls"] == [] and proof["num_clips"] == 144
