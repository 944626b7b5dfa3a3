"""`compare` as a person sees it, and `eval` on what two sets have in common."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cli.commands import call

from valor_data.clip import certificate
from valor_data.ledger import Ledger
from valor_data.shard.reader import find_shards, read_samples
from valor_data.workdir import WorkDir

SMALL = ("--preset", "tiny", "--steps", 1, "--batch-size", 4, "--num-frames", 1, "--workers", 0, "--device", "cpu")


def test_a_build_and_its_manifest(finished: Path) -> None:
    told = call("compare", finished, finished / "manifest.parquet").out
    assert told.startswith(f"A  {finished}  work folder: clips in shards\nB  {finished}/manifest.parquet  manifest")
    assert "only in B: why A has not got them" in told
    assert "filter: dropped silent  the sound is below" in told
    assert "only in A" not in told and "with other captions" not in told
    assert max(map(len, told.splitlines())) <= 160


def test_certificates_alone_and_the_keys(finished: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    told = call("compare", finished, finished / "shards", "--certificate", "--keys-out", keys).out
    lines = dict(reversed(line.split("  ", 1)) for line in told.splitlines())
    assert hashlib.sha256(keys.read_bytes()).hexdigest() == lines["both, all"] == lines[f"{finished}, all"]
    with Ledger(WorkDir.at(finished).ledger, read_only=True) as ledger:
        assert certificate(ledger.keys_in_shards()) == lines["both, all"]
    tree = call("compare", finished, finished / "shards", "--json").json
    assert tree["equal"] is True and tree["certificates"]["both"]["all"] == lines["both, all"]
    assert "the same clips, with the same captions" in call("compare", finished, finished / "shards").out


def test_wrong_usage(finished: Path, tmp_path: Path) -> None:
    assert "nothing to compare there" in call("compare", finished, tmp_path / "no", code=1).errors[0]
    assert "--stage x: expected one of" in call("compare", finished, finished, "--stage", "x", code=2).errors[0]


def test_evaluating_on_what_two_sets_have(work: Path, tmp_path: Path) -> None:
    call("train", "--work", work, *SMALL, "--json")
    keys = sorted(sample.key for sample in read_samples(find_shards(str(work / "shards"), "test")))
    (tmp_path / "keys.txt").write_text("".join(f"{key}\n" for key in keys[1:]) + "x_00000000_00001000\n")
    at = ("eval", work / "runs" / "first", "--data", work, "--device", "cpu", "--workers", 0)
    tree = call(*at, "--keys", tmp_path / "keys.txt", "--certificate", certificate(keys[1:])[:16], "--json").json
    assert tree["certificate"] == certificate(keys[1:])
    assert tree["num_clips"] == {"retrieval/tva": len(keys) - 1}
    assert f"1 of the {len(keys)} clips asked for were not measured; the first: x_00000000_00001000" in tree["notes"]
    refused = call(*at, "--certificate", certificate(keys[1:]), code=1)
    assert f"certificate: {certificate(keys)}" in refused.out
    assert refused.errors[-1].startswith(f"these are other clips: their certificate is {certificate(keys)}")
    assert "--certificate zz: expected 64 hex digits" in call(*at, "--certificate", "zz", code=2).errors[0]
    assert "row 1: 'nonsense' is not a key" in call(*at, "--keys", written(tmp_path), code=1).errors[0]


def written(folder: Path) -> Path:
    (folder / "bad.txt").write_text("nonsense\n")
    return folder / "bad.txt"
