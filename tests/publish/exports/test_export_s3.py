"""Exports to an object store, and sets there as sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import ObjectStore, running_store

from valor_data.config import FetchSection
from valor_data.fetch import ClipRequest, Obtained
from valor_data.fetch.sources import open_source
from valor_data.manifest import build_manifest
from valor_data.publish.exports import ExportOptions, run_export
from valor_data.road import NoProgress
from valor_data.workdir import WorkDir


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with running_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The server, with what this process and its workers need to find it."""
    import fsspec

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.proxy.forget()
    fsspec.filesystem("s3").clear_instance_cache()
    yield server
    fsspec.filesystem("s3").clear_instance_cache()


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_layout_is_the_same_there(full: WorkDir, store: ObjectStore, tmp_path: Path) -> None:
    """A busy store costs a pause; given again, nothing that is there is written anew."""
    store.make_bucket("layouts")
    for layout, more in (("valor", {}), ("parquet", {"include": ("video",)}), ("csv", {})):
        options = ExportOptions(workers=1, limit=3, **more)  # type: ignore[arg-type]
        store.proxy.plays("PUT", f"layouts/{layout}/.*", "status")
        run_export(full, layout, f"s3://layouts/{layout}", options, NoProgress())
        run_export(full, layout, str(tmp_path / layout), options, NoProgress())
        there = store.objects("layouts", f"{layout}/")
        expected = files(tmp_path / layout)
        assert there == expected, [name for name in there if there[name] != expected.get(name)]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_set_there_is_a_source(full: WorkDir, store: ObjectStore, tmp_path: Path, kind: str) -> None:
    bucket = f"set-{kind}"
    store.make_bucket(bucket)
    if kind == "tar":
        for path in full.shards.glob("*.tar"):
            store.put(bucket, f"shards/{path.name}", path.read_bytes())
        here = full.shards
    else:
        here = tmp_path / "tables"
        run_export(full, "parquet", str(here), ExportOptions(workers=1, include=("video",)), NoProgress())
        for path in here.glob("*.parquet"):
            store.put(bucket, f"shards/{path.name}", path.read_bytes())
    place = f"s3://{bucket}/shards"
    clips = list(build_manifest([place]).manifest.clips())
    assert clips == list(build_manifest([here]).manifest.clips())
    clip = clips[5]
    request = ClipRequest(0, clip.key or "", clip.start, clip.end, clip.url)
    brought = []
    for where in (place, str(here)):
        into = tmp_path / f"into{len(brought)}"
        into.mkdir()
        found = open_source(where).find(clip.video_id, None, [request]).obtain([request], into, FetchSection())[0]
        assert isinstance(found, Obtained)
        brought.append(found.path.read_bytes())
    assert brought[0] == brought[1]
