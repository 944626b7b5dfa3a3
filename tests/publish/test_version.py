"""The version of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from valor_data.errors import ConfigError
from valor_data.publish.version import Version, raise_version, read_version, write_version
from valor_data.workdir import WorkDir


def test_it_begins_at_one_and_is_kept(tmp_path: Path) -> None:
    work = WorkDir.at(tmp_path)
    assert read_version(work) == Version(1, 0, 0)
    assert list(tmp_path.iterdir()) == []
    assert str(raise_version(work, "patch")) == "1.0.1"
    assert str(raise_version(work, "minor")) == "1.1.0"
    assert str(raise_version(work, "major")) == "2.0.0"
    assert read_version(work).tag == "v2.0.0"
    assert [path.name for path in tmp_path.iterdir()] == ["version.json"]


def test_versions_are_ordered_as_numbers() -> None:
    assert Version.parse("1.10.0") > Version.parse(" 1.9.9 ")


@pytest.mark.parametrize("text", ["", "1.0", "v1.0.0", "1.0.0.0", "1.-1.0", "1.0.x"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected three numbers"):
        Version.parse(text)


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--bump tiny: expected one of major, minor, patch"):
        raise_version(WorkDir.at(tmp_path), "tiny")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 3}', "\x00"])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "version.json").write_text(text)
    with pytest.raises(ConfigError, match="version"):
        read_version(WorkDir.at(tmp_path))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_version(WorkDir.at(tmp_path), Version(3, 2, 1))
    assert read_version(WorkDir.at(tmp_path)) == Version(3, 2, 1)
