"""The hostile origin, and a clock that is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import PLUGINS, Clock, Origin
from small_media import make_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def origin(video: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.syspath_prepend(str(PLUGINS))  # workers get the driver's path
    with Origin(video, clock) as running:
        yield running
