"""What was pushed, loaded by `datasets` from the Hub, is what the shards hold: every edition, streaming and not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import call, program
from hub_server import Hub
from publish.conftest import publish

from valor_data.ledger import Ledger
from valor_data.publish.loads import has_torchcodec
from valor_data.workdir import WorkDir


def samples_of(work: WorkDir, leave_out: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    """The members of every sample, read by tarfile alone, in the form of `load_all.py`."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(work.shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                stream = tar.extractfile(member)
                assert stream is not None
                if extension not in leave_out:
                    found[path.stem.rpartition("-")[0]][key][extension] = told(extension, stream.read())
    return {split: [{**sample, "__key__": key} for key, sample in samples.items()] for split, samples in found.items()}


def told(extension: str, data: bytes) -> Any:
    if extension == "json":
        return json.loads(data)
    if extension == "txt":
        return data.decode()
    if extension == "mel.npy":
        mel = np.load(io.BytesIO(data))
        return [list(mel.shape), hashlib.sha256(mel.tobytes()).hexdigest()]
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def surroundings(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {
        "HF_HUB_DISABLE_XET": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "hf-home" / "datasets"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def test_every_edition_loads_as_what_the_shards_hold(full: WorkDir, hub: Hub, surroundings: dict[str, str]) -> None:
    names = {edition: f"org/{edition}" for edition in ("ids", "features", "media")}
    for edition, name in names.items():
        publish(full, edition, name)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("load_all.py"), *names.values()],
        capture_output=True, text=True, check=False, env={**os.environ, **surroundings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    wanted = {"features": samples_of(full, ("flac", "mp4")), "media": samples_of(full)}
    for edition, samples in wanted.items():
        for way in ("streaming", "whole"):
            assert loaded[f"{names[edition]} {way}"] == samples, (edition, way)
    for way in ("streaming", "whole"):
        for split, rows in loaded[f"{names['ids']} {way}"].items():
            held = {sample["json"]["key"]: sample["json"] for sample in wanted["media"][split]}
            assert {row["key"] for row in rows} == set(held)
            assert all(row["captions"] == held[row["key"]]["captions"] for row in rows)
            assert all(row["facts"] == held[row["key"]]["facts"] for row in rows)
    with Ledger(full.ledger, read_only=True) as ledger:
        assert len(loaded["rows"]) == ledger.num_clips()
    assert loaded["refused"] == sum(status != "kept" for _, status, _ in loaded["rows"]) == 9


def test_the_whole_command(full: WorkDir, hub: Hub, surroundings: dict[str, str]) -> None:
    """As a program, every check included; then the published set is read by `verify`, and by our own reader."""
    answer = program(
        "push", "org/media", "--work", full.root, "--edition", "media", "--private", "--json", **surroundings
    )
    assert answer.json["sent_bytes"] == sum(len(data) for data in hub.files("org/media").values()) - len(
        hub.files("org/media")[".gitattributes"]
    )
    assert answer.json["commit"] == hub.repos["org/media"].branches["main"]
    assert hub.repos["org/media"].private
    assert any("as bytes" in notice for notice in answer.json["notices"]) == (not has_torchcodec())
    checked = program("verify", "--output", "hf://datasets/org/media", "--work", full.root, "--json", **surroundings)
    assert checked.json == {"shards": 6, "samples": 23, "problems": []}


def test_what_does_not_load_is_told(plain: WorkDir, hub: Hub, surroundings: dict[str, str]) -> None:
    publish(plain, "ids", "org/one")
    hub.plays("GET", "/resolve/.*parquet", status=404, times=99)
    hub.plays("GET", "/cdn/", status=404, times=99)
    (plain.root / "valor.toml").write_text('[publish]\nsummary = "New."\n')
    answer = program("push", "org/one", "--work", plain.root, "--no-verify", "--edition", "ids", code=1, **surroundings)
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: org/one: everything arrived, but `datasets` does not load split train (")


def test_dry_run_lint_and_card_on_the_screen(plain: WorkDir, hub: Hub, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = call("push", "org/one", "--work", plain.root, "--dry-run")
    lines = told.out.splitlines()
    listed = {line.split()[2]: int(line.split()[1].replace(",", "")) for line in lines if line.startswith("send ")}
    assert f"would send {len(listed):,} files, {sum(listed.values()):,} bytes" in told.out
    sent = call("push", "org/one", "--work", plain.root, "--no-verify", "--no-check")
    assert listed == {name: len(data) for name, data in hub.files("org/one").items() if name != ".gitattributes"}
    assert f"sent {len(listed):,} files, {sum(listed.values()):,} bytes; 0 files, 0 bytes were there" in sent.out
    assert "version 1.0.0 of the features edition, all of it checked" in sent.out
    hub.forget()
    lint = call("push", "org/one", "--work", plain.root, "--lint", "--json")
    assert {finding["level"] for finding in lint.json} == {"limited", "shown"}
    call("card", tmp_path / "card", "--work", plain.root, "--repository", "org/one")
    assert (tmp_path / "card" / "README.md").read_bytes() == hub.files("org/one")["README.md"].replace(
        hub.url.encode(), b"https://huggingface.co"
    )
    call("push", "org/one", "--work", plain.root, "--card-only", tmp_path / "again")
    assert (tmp_path / "again" / "croissant.json").is_file()
    assert hub.requests == []


def test_wrong_settings_are_told_all_at_once(plain: WorkDir, hub: Hub) -> None:
    (plain.root / "valor.toml").write_text('[publish]\nedition = "full"\napproval = "never"\n')
    answer = call("push", "org/one", "--work", plain.root, code=2)
    assert answer.errors == [
        "valor.toml: publish.edition: expected one of ids, features, media; found 'full'",
        "valor.toml: publish.approval: expected one of auto, manual; found 'never'",
    ]
    (plain.root / "valor.toml").unlink()
    assert "expected one of major, minor, patch" in call(
        "push", "org/one", "--work", plain.root, "--bump", "tiny", code=2
    ).err  # fmt: skip
