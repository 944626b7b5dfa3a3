"""A Parquet with video on the Hub is a source by its `hf://` address."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_server import Hub
from huggingface_hub import HfApi

from valor_data.config import FetchSection
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.sources import open_source
from valor_data.manifest import build_manifest
from valor_data.publish.exports import ExportOptions, run_export
from valor_data.road import NoProgress
from valor_data.workdir import WorkDir


def test_a_parquet_of_the_hub(full: WorkDir, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_file_system

    hf_file_system.HfFileSystem.clear_instance_cache()
    run_export(
        full, "parquet", str(tmp_path / "set"), ExportOptions(workers=1, include=("video",), split="val"), NoProgress()
    )
    api = HfApi(endpoint=hub.url, token="hf_rightToken")
    api.create_repo("org/videos", repo_type="dataset")
    api.upload_folder(repo_id="org/videos", folder_path=tmp_path / "set", path_in_repo="data", repo_type="dataset")
    place = "hf://datasets/org/videos/data"
    clips = list(build_manifest([place]).manifest.clips())
    here = list(build_manifest([tmp_path / "set"]).manifest.clips())
    assert clips == here
    assert len(clips) > 1
    for where in (place, str(tmp_path / "set")):
        request = ClipRequest(0, clips[0].key or "", clips[0].start, clips[0].end, clips[0].url)
        into = tmp_path / where.replace("/", "_")
        into.mkdir()
        found = open_source(where).find(clips[0].video_id, None, [request]).obtain([request], into, FetchSection())[0]
        assert isinstance(found, Obtained)
        assert found.path.read_bytes()[4:8] == b"ftyp"
