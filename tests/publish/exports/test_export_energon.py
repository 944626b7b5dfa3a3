"""Energon's own tool makes the index, checks it, and its own loader gives the clips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_export_valor import samples

from valor_data import open_shards
from valor_data.errors import ConfigError, ValorDataError
from valor_data.publish.exports import ExportOptions, energon, run_export
from valor_data.road import NoProgress
from valor_data.tombstones import add_tombstones
from valor_data.workdir import WorkDir

READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
from megatron.energon import WorkerConfig, get_loader, get_val_dataset
found = {}
for split in sys.argv[2:]:
    config = WorkerConfig(rank=0, world_size=1, num_workers=0)
    data = get_val_dataset(sys.argv[1], split_part=split, batch_size=None, worker_config=config)
    for sample in get_loader(data):
        found[sample.__key__.rpartition("/")[2]] = [sample.caption, list(sample.image.shape)]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_prepared_checked_and_read_by_its_own_tools(work: WorkDir, tmp_path: Path) -> None:
    gone = next(iter(open_shards(work.shards, split="val")))
    add_tombstones(work.tombstones, [gone.key], [], reason="request", why="asked for")
    told = run_export(work, "energon", str(tmp_path / "out"), ExportOptions(workers=1), NoProgress())
    expected = {s.key: s for s in samples(work).values()}
    assert gone.key not in expected
    assert told.num_clips == len(expected) == told.num_captions
    assert json.loads((tmp_path / "out" / "export.json").read_text())["finished"] is True
    for path in work.shards.glob("*.tar"):  # the bytes are not there twice, but for the shard without its clip
        assert (tmp_path / "out" / path.name).samefile(path) == path.stem.startswith(("train", "test"))
    done = subprocess.run([str(energon.tool()), "info", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = subprocess.run([sys.executable, "-c", READ, str(tmp_path / "out"), "train", "val", "test"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    found = {key.split("/")[-1]: value for key, value in json.loads(read.stdout.splitlines()[-1]).items()}
    assert found == {key: [s.clip.captions[0].text, [3, 72, 96]] for key, s in expected.items()}


def test_what_the_tool_says_is_told(full: WorkDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "energon"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho working\necho 'Error: no samples in train-000000.tar' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(energon, "tool", lambda: fake)
    with pytest.raises(ValorDataError, match="energon prepare fails: working / Error: no samples in train-000000"):
        run_export(full, "energon", str(tmp_path / "out"), ExportOptions(workers=1, limit=2), NoProgress())
    assert json.loads((tmp_path / "out" / "export.json").read_text())["finished"] is False
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1
    assert os.stat(tmp_path / "out" / "test-000000.tar").st_nlink == 1  # a part of a shard is a file of its own


def test_without_the_tool(full: WorkDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"its own tool makes the index: pip install 'valor-data\[energon\]'"):
        run_export(full, "energon", str(tmp_path / "out"), ExportOptions(), NoProgress())
    assert not (tmp_path / "out").exists()
