"""A file from a stranger reaches nothing but itself: not its neighbours, not the network, with any ffmpeg here."""

from __future__ import annotations

import ctypes
import http.server
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
import pytest

import valor_data.media.transcode as transcode
from valor_data.errors import ClipError
from valor_data.media.cut import cut
from valor_data.media.extract import extract_clip
from valor_data.media.flac import audio_flac
from valor_data.media.measure import measure_clip
from valor_data.media.open import ACCESS_OPTIONS
from valor_data.media.playback import clip_pictures, clip_sound
from valor_data.media.probe import probe
from valor_data.media.remux import CutImpossible
from valor_data.media.take import take_clip

_OPENED_OR_READ = 0x20 | 0x01  # IN_OPEN, IN_ACCESS

FFMPEGS = sorted({path for path in (shutil.which("ffmpeg"), imageio_ffmpeg.get_ffmpeg_exe()) if path})
"""Every ffmpeg on the machine: the one that pip brought, and the system's where it has one."""

WAYS: dict[str, Callable[[Path], object]] = {
    "measure": lambda path: measure_clip(path, 0.0, 0.0, 5.0),
    "extract": lambda path: extract_clip(path, 0.0, 0.0, 5.0),
    "take": lambda path: take_clip(path, 0.0, 0.0, 5.0, lambda facts: True),
    "probe": probe,
    "cut": lambda path: cut(path, 0.0, 5.0, path.parent, "cut"),
    "transcode": lambda path: transcode.transcode_mp4(path, 0.0, 5.0, path.with_name("out.mp4")),
    "flac": lambda path: audio_flac(path, 0.0, 0.0, 5.0),
    "pictures": lambda path: list(clip_pictures(path, 0.0, 0.0, 5.0)),
    "sound": lambda path: clip_sound(path, 0.0, 0.0, 5.0),
}
"""Everything in the room that opens a file."""


@dataclass
class Watched:
    """A real media file and a server; `touched` tells what was opened, read or asked for."""

    neighbour: Path
    address: str
    requests: list[str] = field(default_factory=list)
    descriptor: int = -1

    def touched(self) -> list[str]:
        seen, self.requests[:] = list(self.requests), []
        try:
            while data := os.read(self.descriptor, 4096):
                seen += [f"inotify mask {struct.unpack_from('iI', data)[1]:#x}"]
        except BlockingIOError:
            pass
        return seen


@pytest.fixture
def watched(media: Path, tmp_path: Path) -> Iterator[Watched]:
    neighbour = tmp_path / "neighbour.ts"
    neighbour.write_bytes((media / "audible/nasa_start_7s25.ts").read_bytes())
    state = Watched(neighbour, "")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    libc = ctypes.CDLL(None, use_errno=True)
    state.descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(state.descriptor, os.fsencode(neighbour), _OPENED_OR_READ) >= 0
    yield state
    os.close(state.descriptor)
    server.shutdown()
    server.server_close()


def baits(neighbour: Path, address: str) -> dict[str, str]:
    """Texts that make a player open something else; once as the neighbour's whole path, once as its name."""
    found = {}
    for place, target in (("whole", str(neighbour)), ("near", neighbour.name), ("url", f"file:{neighbour}")):
        found |= {
            f"hls {place}": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n"
            f"#EXTINF:9,\n{target}\n#EXTINF:9,\n{address}/a.ts\n#EXT-X-ENDLIST\n",
            f"concat {place}": f"ffconcat version 1.0\nfile {target}\nfile {address}/b.ts\n",
            f"mpd {place}": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT9S"><Period>'
            f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL>'
            f'</Representation><Representation id="2" bandwidth="2"><BaseURL>{address}/m.mp4</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>",
        }
    found["hls server"] = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/a.ts\n#EXTINF:9,\n{address}/b.ts\n#EXT-X-ENDLIST\n"
    )
    found["hls variants"] = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{address}/v.m3u8\n"
    found["sdp"] = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{address}/track\n"
    )
    found["srt"] = "1\n00:00:00,000 --> 00:00:05,000\nHello\n"
    found["asx"] = f'<asx version="3.0"><entry><ref href="{address}/x.asf"/></entry></asx>'
    found["smooth"] = f"[Reference]\r\nRef1={address}/x.asf?MSWMExt=.asf\r\nRef2={neighbour}\r\n"
    return found


def bait_files(watched: Watched) -> Iterator[tuple[str, Path]]:
    for kind, text in baits(watched.neighbour, watched.address).items():
        path = watched.neighbour.with_name(f"{kind.replace(' ', '_')}.mp4")
        path.write_text(text)
        yield kind, path


def command_of_transcode(media: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line our code gives to ffmpeg for a file of this name; the file itself comes later."""
    shutil.copy(media / "audible/nasa_13013.mp4", path)
    commands: list[list[str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(transcode, "_run", lambda command, timeout: commands.append(command))
        with pytest.raises(OSError):  # nothing was written
            transcode.transcode_mp4(path, 0.0, 5.0, path.with_name("out.mp4"))
    return commands[0]


def test_the_watch_sees_what_an_unguarded_ffmpeg_does(watched: Watched, tmp_path: Path) -> None:
    """Without this the tests below would pass by looking away."""
    script, playlist = tmp_path / "script.mp4", tmp_path / "list.m3u8"
    script.write_text("ffconcat version 1.0\nfile neighbour.ts\n")
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{watched.address}/a.ts\n#EXT-X-ENDLIST\n")
    for ffmpeg in FFMPEGS:
        subprocess.run([ffmpeg, "-nostdin", "-i", script, "-f", "null", "-"], capture_output=True, check=True)
        assert any("inotify" in line for line in watched.touched()), ffmpeg
        open_to_all = ["-protocol_whitelist", "file,http,tcp"]
        subprocess.run([ffmpeg, "-nostdin", *open_to_all, "-i", playlist, "-f", "null", "-"], capture_output=True)
        assert "/a.ts" in watched.touched(), ffmpeg


@pytest.mark.parametrize("way", WAYS)
def test_the_library_touches_nothing_else(watched: Watched, way: str) -> None:
    for kind, path in bait_files(watched):
        with pytest.raises(ClipError) as caught:
            WAYS[way](path)
        assert caught.value.reason == "not_media", kind
        assert watched.touched() == [], kind


@pytest.mark.parametrize("ffmpeg", FFMPEGS)
def test_no_ffmpeg_touches_anything_else_as_our_code_calls_it(
    media: Path, watched: Watched, tmp_path: Path, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    input_path = tmp_path / "input.mp4"
    _, *arguments = command_of_transcode(media, input_path, monkeypatch)
    assert subprocess.run([ffmpeg, *arguments], capture_output=True).returncode == 0  # the command itself is sound
    assert watched.touched() == []
    options = [x for name, value in ACCESS_OPTIONS.items() for x in (f"-{name}", value)]
    for kind, path in bait_files(watched):
        path.replace(input_path)
        for command in ([*arguments], [*options, "-i", f"file:{input_path}", "-f", "null", "-", "-nostdin"]):
            done = subprocess.run([ffmpeg, *command], capture_output=True, timeout=60)
            assert done.returncode != 0, kind
            assert watched.touched() == [], kind


def alias_to(path: Path) -> bytes:
    """A QuickTime alias record: a `dref` entry which says that a track's samples lie in another file."""
    name, whole = path.name.encode(), os.fsencode(path)
    names = bytes([1]) + b"d".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    levels = struct.pack(">hh", 1, 1)
    places = struct.pack(">hh", 2, len(whole)) + whole + bytes(len(whole) % 2)
    body = bytes(10) + names + bytes(16) + levels + bytes(16) + places + struct.pack(">hh", -1, 0)
    return struct.pack(">I4sI", 12 + len(body), b"alis", 0) + body


def with_alias(movie: bytes, alias: bytes, start: int = 0, end: int | None = None) -> bytes:
    """The boxes of a movie with the one entry of every `dref` replaced, and the sizes around it put right."""
    parts, at, end = [], start, len(movie) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", movie, at)
        body = movie[at + 8 : at + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            body = with_alias(movie, alias, at + 8, at + size)
        elif kind == b"dref":
            body = struct.pack(">II", 0, 1) + alias
        parts.append(struct.pack(">I4s", 8 + len(body), kind) + body)
        at += size
    return b"".join(parts)


def test_a_movie_that_says_its_data_lie_elsewhere_does_not_get_them(media: Path, watched: Watched) -> None:
    movie = (media / "audible/nasa_13013.mp4").read_bytes()
    path = watched.neighbour.with_name("elsewhere.mov")
    path.write_bytes(with_alias(movie, alias_to(watched.neighbour)))
    options = [x for name, value in ACCESS_OPTIONS.items() for x in (f"-{name}", value)]
    for ffmpeg in FFMPEGS:
        command = [ffmpeg, "-nostdin", "-enable_drefs", "1", "-use_absolute_path", "1", "-i", path, "-f", "null", "-"]
        subprocess.run(command, capture_output=True)
        assert watched.touched() != [], "the movie does not say what it should"
        subprocess.run([ffmpeg, "-nostdin", *options, "-i", f"file:{path}", "-f", "null", "-"], capture_output=True)
        assert watched.touched() == [], ffmpeg
    for name, way in WAYS.items():
        with suppress(ClipError, CutImpossible):
            way(path)
        assert watched.touched() == [], name
