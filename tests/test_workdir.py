"""Paths of a run, and files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valor_data.clip import make_key
from valor_data.workdir import WorkDir, flush_to_disk, publish, written_aside


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = WorkDir.at("-odd", "elsewhere/l.sqlite")
    assert work.root == tmp_path / "-odd"
    assert work.ledger == tmp_path / "elsewhere" / "l.sqlite"
    assert WorkDir.at("-odd").ledger == tmp_path / "-odd" / "ledger.sqlite"


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    work = WorkDir.at(tmp_path / "w")
    names = ("config", "manifest", "rejects", "ledger", "media", "shards", "index", "report", "logs", "tmp")
    paths = [getattr(work, name) for name in names]
    assert len(set(paths)) == len(paths)
    assert all(path.parent == work.root for path in paths)
    work.media_file("key", "mp4")
    work.clean_tmp()
    assert not work.root.exists()


@given(st.text("abcXYZ019-_", min_size=1, max_size=20), st.integers(0, 99_999_998))
def test_media_files_stand_on_shelves(video_id: str, start_ms: int) -> None:
    key = make_key(video_id, start_ms / 1000, (start_ms + 1) / 1000)
    path = WorkDir(Path("/w")).media_file(key, "webm")
    assert re.fullmatch(rf"/w/media/[0-9a-f]{{2}}/{re.escape(key)}\.webm", str(path))
    assert path == WorkDir(Path("/w")).media_file(key, "webm")


def test_the_shelves_are_used_evenly() -> None:
    work = WorkDir(Path("/w"))
    shelves = [work.media_file(f"video{n:06d}_00000000_00001000", "mp4").parent for n in range(10_000)]
    counts = [shelves.count(shelf) for shelf in set(shelves)]
    assert len(counts) == 256
    assert max(counts) < 90


def test_own_tmp_is_swept(tmp_path: Path) -> None:
    work = WorkDir.at(tmp_path)
    folder = work.own_tmp()
    assert folder == tmp_path / "tmp" / f"{socket.gethostname()}-{os.getpid()}" == work.own_tmp()
    (folder / "half").write_text("x")
    (tmp_path / "tmp" / "1").mkdir()
    work.clean_tmp()
    assert not work.tmp.exists()


def test_written_aside_takes_the_place_on_success(tmp_path: Path) -> None:
    final = tmp_path / "new" / "file.json"
    with written_aside(final) as path:
        path.write_text("1")
        assert path.parent == final.parent
        assert not final.exists()
    assert final.read_text() == "1"
    with written_aside(final) as path:
        path.write_text("2")
        assert final.read_text() == "1"
    assert final.read_text() == "2"
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_written_aside_leaves_nothing_on_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "file.json"
    final.write_text("old")
    with pytest.raises(error), written_aside(final) as path:
        path.write_text("half")
        raise error
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_written_aside_to_which_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "file.json"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_publish_moves_and_replaces(tmp_path: Path) -> None:
    temporary, final = tmp_path / "a", tmp_path / "deep" / "er" / "b"
    for text in ("1", "2"):
        temporary.write_text(text)
        publish(temporary, final)
        assert final.read_text() == text
        assert not temporary.exists()
    with pytest.raises(FileNotFoundError):
        publish(temporary, final)
    assert final.read_text() == "2"


def test_flush_to_disk_wants_a_file_or_a_folder(tmp_path: Path) -> None:
    flush_to_disk(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush_to_disk(tmp_path / "none")
