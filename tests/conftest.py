"""What every test may use: the folder of real files, and a clean environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder with real media, annotations and golden numbers: `VALOR_DATA_SHARED`, else `../shared`."""
    return Path(os.environ.get("VALOR_DATA_SHARED") or PROJECT.parent / "shared").absolute()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; without it the test is skipped on a person's machine and fails in CI."""
    folder = shared_folder()
    if not folder.is_dir():
        text = f"no folder {folder}: set VALOR_DATA_SHARED to the folder with media/, annotations/ and golden/"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return folder
