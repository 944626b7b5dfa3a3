"""A media file reaches nothing but itself, and what is no media is named as what it is."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from valor_data.errors import ClipError
from valor_data.media.measure import measure_clip
from valor_data.media.open import ACCESS_OPTIONS, open_media


@pytest.fixture
def counting_server() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def baits(neighbour: Path, address: str) -> dict[str, str]:
    return {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n"
        f"#EXTINF:9,\n{address}/a.ts\n#EXTINF:9,\n{neighbour}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {neighbour}\n",
        "mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f"<AdaptationSet><Representation><BaseURL>{address}/m.mp4</BaseURL></Representation></AdaptationSet>"
        f"</Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "srt": "1\n00:00:00,000 --> 00:00:05,000\nHello\n",
    }


def test_scripts_and_playlists_named_mp4_touch_nothing(
    media: Path, tmp_path: Path, counting_server: tuple[str, list[str]]
) -> None:
    address, seen = counting_server
    neighbour = tmp_path / "neighbour.ts"
    neighbour.write_bytes((media / "audible/nasa_start_7s25.ts").read_bytes())
    options = [x for name, value in ACCESS_OPTIONS.items() for x in (f"-{name}", value)]
    for kind, text in baits(neighbour, address).items():
        bait = tmp_path / f"{kind}.mp4"
        bait.write_text(text)
        with pytest.raises(ClipError, match="not_media"):
            measure_clip(bait, 0.0, 0.0, 5.0)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", *options, "-i", f"file:{bait}", "-f", "null", "-"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0, kind
    assert seen == []


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
