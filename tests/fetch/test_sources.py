"""What may stand after `--source`, and what is said about everything else."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from valor_data.errors import ClipError, ConfigError
from valor_data.fetch import ClipRequest
from valor_data.fetch.folder import FolderSource
from valor_data.fetch.sources import open_source
from valor_data.fetch.web import ColumnSource, TemplateSource, YouTubeSource

CLIPS = (ClipRequest(1, "-x_00000000_00001000", 0.0, 1.0),)


def test_the_sources(tmp_path: Path) -> None:
    assert isinstance(open_source("youtube"), YouTubeSource)
    assert isinstance(open_source("column"), ColumnSource)
    assert isinstance(open_source("http://127.0.0.1/{video_id}.mp4"), TemplateSource)
    assert isinstance(open_source(str(tmp_path)), FolderSource)
    assert isinstance(open_source(f"file://{tmp_path}"), FolderSource)
    names = [open_source(text).name for text in ("youtube", "column", "https://a.b/{video_id}", str(tmp_path))]
    assert names == ["youtube", "column", "template", "folder"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://127.0.0.1/videos", "a web address needs {video_id} where the id goes"),
        ("https://127.0.0.1/{id}.mp4", "the only placeholder is {video_id}, once or more; found {id}"),
        ("https://127.0.0.1/{video_id}/{}.mp4", "found {}"),
        ("https://127.0.0.1/{video_id", "found an unpaired brace"),
        ("https://127.0.0.1/{VIDEO_ID}", "found {VIDEO_ID}"),
        ("videos/{video_id}.mp4", "expected an http:// or https:// address with a host"),
        ("ftp://127.0.0.1/{video_id}", "expected an http:// or https:// address with a host"),
        ("file:///etc/{video_id}", "expected an http:// or https:// address with a host"),
        ("http:///{video_id}", "expected an http:// or https:// address with a host"),
        ("Youtube", "no such folder; expected youtube, column, a URL template with {video_id}, or a folder of videos"),
        ("/no/such/folder", "no such folder; expected youtube"),
        ("", "no such folder; expected youtube"),
        ("memory://nowhere", "no such folder"),
        ("gopher2://x/y", "cannot be listed: Protocol not known: gopher2"),
    ],
)
def test_wrong_texts(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^source {re.escape(repr(text))}: .*{re.escape(words)}"):
        open_source(text)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").touch()
    with pytest.raises(ConfigError, match=r"v\.mp4': no such folder"):
        open_source(str(tmp_path / "v.mp4"))


@pytest.mark.parametrize(
    ("video_id", "end"),
    [
        ("-0BIyqJj9ZU", "-0BIyqJj9ZU"),
        ("_ok", "_ok"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
        ("a b?c#d&e", "a%20b%3Fc%23d%26e"),
        ("ä{video_id}", "%C3%A4%7Bvideo_id%7D"),
    ],
)
def test_an_id_cannot_leave_its_place_in_the_address(video_id: str, end: str) -> None:
    location = TemplateSource("http://127.0.0.1:9/v/{video_id}").find(video_id, None, CLIPS)
    assert location.url == f"http://127.0.0.1:9/v/{end}"


def test_the_column_of_urls() -> None:
    assert ColumnSource().find("x", "http://127.0.0.1/x", CLIPS).url == "http://127.0.0.1/x"
    for url in (None, ""):
        with pytest.raises(ClipError, match=r"configuration: the manifest has no URL for this video .*--url-field"):
            ColumnSource().find("x", url, CLIPS)
    for url in ("file:///etc/passwd", "javascript:x", "x.mp4", "http://"):
        with pytest.raises(ClipError, match=r"not_media: source .*expected an http:// or https:// address"):
            ColumnSource().find("x", url, CLIPS)


def test_locations_travel_to_workers(tmp_path: Path) -> None:
    for source in ("youtube", "http://127.0.0.1/{video_id}", str(tmp_path)):
        location = open_source(source).find("-x", None, CLIPS)
        assert pickle.loads(pickle.dumps(location)) == location
