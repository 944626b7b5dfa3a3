"""A media file reaches nothing but itself, and what is no media is named as what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from valor_data.errors import ClipError
from valor_data.media.measure import measure_clip
from valor_data.media.open import open_media


def test_refusals_are_named(media: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no media at all\n" * 100)
    (tmp_path / "cut.mp4").write_bytes((media / "audible/chrome.mp4").read_bytes()[:3000])
    (tmp_path / "folder.mp4").mkdir()
    for path, reason in (
        (tmp_path / "nowhere.mp4", "missing"),
        (tmp_path / "folder.mp4", "not_media"),
        (tmp_path / "text.mp4", "not_media"),
        (media / "hostile/derived_zero_byte.mp4", "empty"),
        (media / "hostile/derived_html_named.mp4", "not_media"),
        (media / "hostile/chunk_out_of_range.mp4", "undecodable"),
        (tmp_path / "cut.mp4", "undecodable"),
    ):
        with pytest.raises(ClipError) as caught, open_media(path):
            pass
        assert caught.value.reason == reason, path


def test_names_with_a_dash_or_a_colon_are_files(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = (media / "edge/-video-with-dash-.mp4").read_bytes()
    for name in ("-i.mp4", "http:x.mp4", "concat:a|b.mp4", "%d.mp4", "a b.mp4"):
        Path(name).write_bytes(content)
        assert measure_clip(Path(name), 0.0, 0.0, 5.0).has_video, name


def test_importing_the_room_imports_no_library() -> None:
    for module, absent in (
        ("valor_data.media", {"av", "torch", "torchaudio", "numpy", "ffmpeg"}),
        ("valor_data.media.measure", {"torch", "torchaudio", "ffmpeg"}),
    ):
        code = f"import sys, {module}; print(sorted({absent} & set(sys.modules)))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"
