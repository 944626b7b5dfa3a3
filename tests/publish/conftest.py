"""Two builds of one small world, with video and sound and without; a Hub on 127.0.0.1; pushes in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, hub_server

from valor_data.config import FetchSection, PublishSection, ShardSection
from valor_data.demo import WorldSettings, make_world
from valor_data.manifest import build_manifest, write_manifest
from valor_data.publish import hub as hub_module
from valor_data.publish.outcome import Pushed, PushOptions
from valor_data.publish.push import push
from valor_data.road import Driver, run_fetch, run_shard
from valor_data.workdir import WorkDir

TOKEN = "hf_rightToken"
NAME = "org/my-set"


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WorkDir]:
    """`full`: with video and sound; `plain`: without; of the same media, both finished with --partial."""
    root = tmp_path_factory.mktemp("publish")
    world = make_world(root / "world", WorldSettings.small(), workers=1)
    write_manifest(build_manifest(list(world.annotations)), root / "manifest.parquet")
    found = {}
    for name, include in (("full", ("audio", "video")), ("plain", ())):
        work = found[name] = WorkDir.at(root / name)
        with Driver(work) as driver:
            source = FetchSection(source=str(world.media), workers=1)
            run_fetch(driver, source, manifest=root / "manifest.parquet", explicit={"source"})
            section = ShardSection(workers=1, max_clips=8, num_frames=3, partial=True, include=include)
            run_shard(driver, section, "av", explicit={"include", "num_frames", "max_clips"})
    return found


@pytest.fixture
def full(builds: dict[str, WorkDir], tmp_path: Path) -> WorkDir:
    """A copy of the build with video and sound."""
    shutil.copytree(builds["full"].root, tmp_path / "full")
    return WorkDir.at(tmp_path / "full")


@pytest.fixture
def plain(builds: dict[str, WorkDir], tmp_path: Path) -> WorkDir:
    """A copy of the build without."""
    shutil.copytree(builds["plain"].root, tmp_path / "plain")
    return WorkDir.at(tmp_path / "plain")


@pytest.fixture(scope="session")
def hub_process() -> Iterator[Hub]:
    with hub_server() as running:
        yield running


@pytest.fixture
def hub(hub_process: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """An empty Hub that this process's client asks, with the token of somebody who may write to `org`."""
    import huggingface_hub.constants

    hub_process.forget()
    hub_process.repos.clear()
    hub_process.objects.clear()
    hub_process.multipart_bytes = 0
    monkeypatch.setenv("HF_ENDPOINT", hub_process.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "hf-home" / "token"))
    former = huggingface_hub.constants.ENDPOINT
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(former, hub_process.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub_process.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", (0.01, 0.01))
    return hub_process


def publish(work: WorkDir, edition: str = "features", name: str = NAME, **more: object) -> Pushed:
    """A push in this process, without the slow checks before and after unless they are asked for."""
    options = {key: more.pop(key) for key in list(more) if key in PushOptions.__dataclass_fields__}
    options = {"verify": False, "check": False, **options}
    return push(work, PublishSection(edition=edition, **more), PushOptions(name, **options))  # type: ignore[arg-type]
