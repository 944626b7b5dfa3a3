"""The viewer's server, spoken to over raw sockets: what it tells, and what it refuses."""

from __future__ import annotations

import io
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import simplejpeg
from viewing import SCRIPT, get, say, serving

from valor_data.ledger import Ledger
from valor_data.look.shard_set import find_set
from valor_data.look.view.server import ViewServer, in_part
from valor_data.shard.reader import find_shards, read_samples
from valor_data.workdir import WorkDir


@pytest.fixture(scope="module")
def server(run: WorkDir) -> Iterator[ViewServer]:
    with serving(run.root, run.root.parent / "cache") as running:
        yield running


def kept(run: WorkDir) -> list[str]:
    with Ledger(run.ledger, read_only=True) as ledger:
        return sorted(ledger.keys_in_shards())


def test_what_it_tells_of_the_set(run: WorkDir, server: ViewServer) -> None:
    about = get(server, "/api/about").json
    clips = get(server, "/api/clips?limit=500").json
    assert about["num_clips"] == clips["count"] == len(clips["clips"])
    assert {clip["key"] for clip in clips["clips"] if clip["standing"] == "kept"} == set(kept(run))
    assert about["facets"]["standing"] and "silent" in about["facets"]["reason"]
    with Ledger(run.ledger, read_only=True) as ledger:
        reasons = [row[7] for row in ledger.standings() if row[6] == "dropped"]
    refused = get(server, "/api/clips?standing=dropped&reason=silent").json
    assert refused["count"] == reasons.count("silent") > 0
    assert {clip["reason"] for clip in refused["clips"]} == {"silent"}


def test_a_clip_is_what_its_sample_is(run: WorkDir, server: ViewServer) -> None:
    for sample in list(read_samples(find_shards(str(run.shards))))[:3]:
        clip = get(server, f"/api/clip/{sample.key}").json
        assert clip["annotation"] == sample.details
        assert (clip["sound"], clip["mel"], clip["fault"]) == ("flac", True, "")
        pictures = [get(server, f"/media/{sample.key}/{name}") for name in clip["frames"]]
        assert tuple(said.body for said in pictures) == sample.jpegs
        assert {said.headers["Content-Type"] for said in pictures} == {"image/jpeg"}
        assert get(server, f"/media/{sample.key}/thumbnail").body == sample.jpegs[1]
        assert get(server, f"/media/{sample.key}/sound").body == sample.media["flac"]
        assert get(server, f"/media/{sample.key}/mel.png").body.startswith(b"\x89PNG")


def test_a_refused_clip_shows_its_media(run: WorkDir, server: ViewServer) -> None:
    with Ledger(run.ledger, read_only=True) as ledger:
        rows = {row[7]: row[0] for row in ledger.standings() if row[6] == "dropped"}
    clip = get(server, f"/api/clip/{rows['silent']}").json
    assert (clip["standing"], clip["reason"], clip["source"]) == ("dropped", "silent", "media")
    assert clip["meaning"].startswith("the sound is below") and clip["action"] and clip["captions"]
    inside = get(server, f"/api/inside/{rows['silent']}").json
    assert len(inside["frames"]) == 10 and inside["sound"] == "media" and inside["mel"]
    assert simplejpeg.is_jpeg(get(server, f"/media/{rows['silent']}/frame_09.jpg").body)
    assert get(server, f"/media/{rows['silent']}/sound").body.startswith(b"fLaC")
    silent = get(server, f"/api/inside/{rows['no_audio']}").json
    assert silent["frames"] and silent["sound"] == "" and not silent["mel"]
    assert get(server, f"/media/{rows['no_audio']}/sound").status == 404


def test_media_outside_of_the_work_folder_are_opened_only_when_allowed(finished: WorkDir, tmp_path: Path) -> None:
    key = kept(finished)[0]
    with serving(finished.root, tmp_path) as server:
        clip = get(server, f"/api/clip/{key}").json
        assert (clip["sound"], clip["media"]["is_outside"]) == ("", True)
        assert get(server, f"/media/{key}/sound").status == 404
    with serving(finished.root, tmp_path, outside_media=True) as server:
        assert get(server, f"/api/clip/{key}").json["sound"] == "media"
        assert get(server, f"/media/{key}/sound").body.startswith(b"fLaC")


def test_shards_alone(run: WorkDir, server: ViewServer, tmp_path: Path) -> None:
    shutil.copytree(run.shards, tmp_path / "shards")
    with serving(tmp_path / "shards", tmp_path / "cache") as alone:
        clips = get(alone, "/api/clips?limit=500&sort=-rms").json
        assert {clip["key"] for clip in clips["clips"]} == set(kept(run))
        levels = [clip["rms"] for clip in clips["clips"]]
        assert levels == sorted(levels, reverse=True)
        key = kept(run)[0]
        assert get(alone, f"/api/clip/{key}").json["annotation"] == get(server, f"/api/clip/{key}").json["annotation"]
        assert get(alone, f"/media/{key}/sound").body == get(server, f"/media/{key}/sound").body


TRAVERSALS = [
    "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/etc/passwd",
    "/..%5c..%5cetc%5cpasswd", "/..\\..\\etc\\passwd", "/media/../../../../etc/passwd", "/media/..%2f..%2fledger/sound",
    "/media/KEY/../../../ledger.sqlite", "/media/KEY/..%2f..%2fledger.sqlite", "/media/KEY/%2e%2e%2fmel.png",
    "/media/KEY%00/mel.png", "/media/KEY/mel.png%00.jpg", "/media/KEY/json", "/media/KEY/txt", "/media/KEY/",
    "/media/%2fetc%2fpasswd/sound", "//etc/passwd", "/media/KEY/frame_00.jpg/..", "/%c0%ae%c0%ae/etc/passwd",
    "/style.css/../../server.py", "/page/index.html", "/server.py", "/api/clip/..%2f..%2fx", "/ledger.sqlite",
    "/file:///etc/passwd", "http://evil.example/", "/media/KEY/FRAME_00.JPG", "/api/clip/", "*", "/\uff0e\uff0e/x",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out(run: WorkDir, server: ViewServer, path: str) -> None:
    target = path.replace("KEY", kept(run)[0]).encode("utf-8").decode("latin-1")
    said = get(server, target)
    assert said.status in (400, 404), said
    assert set(said.json) == {"error"}
    assert b"root:" not in said.body and b"SQLite" not in said.body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "[::1]:80",
                                  "localhost.evil.example", "127.0.0.1.nip.io"])  # fmt: skip
def test_another_name_is_refused(server: ViewServer, host: str) -> None:
    """A page whose name was pointed to 127.0.0.1 (DNS rebinding) still sends its own name."""
    for path in ("/", "/api/clips", "/style.css"):
        said = get(server, path, host=host)
        assert said.status == 421 and said.json["error"].startswith("not the name of this server")


def test_its_own_names_are_not(server: ViewServer) -> None:
    port = server.server_address[1]
    assert get(server, "/", host=f"localhost:{port}").status == 200
    assert get(server, "/", host=f"LOCALHOST:{port}").status == 200
    assert say(server, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").status == 421
    assert say(server, f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil\r\n\r\n").status == 421
    assert say(server, "GET / HTTP/1.0\r\n\r\n").status == 421


def test_pages_of_other_sites_are_refused(server: ViewServer) -> None:
    own = f"http://127.0.0.1:{server.server_address[1]}"
    assert get(server, "/api/clips", f"Origin: {own}", "Sec-Fetch-Site: same-origin").status == 200
    for origin in ("http://evil.example", "null", own + "0", "https://127.0.0.1"):
        assert get(server, "/api/clips", f"Origin: {origin}").status == 403
    for site in ("cross-site", "same-site"):
        assert get(server, "/api/clips", f"Sec-Fetch-Site: {site}").status == 403
        assert get(server, "/api/clips", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate").status == 403
        assert get(server, "/?clip=x", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND", "get"])
def test_only_looking(server: ViewServer, method: str) -> None:
    said = get(server, "/", method=method)
    assert said.status == 405 and said.headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_the_body(run: WorkDir, server: ViewServer) -> None:
    for path in ("/", "/api/about", f"/media/{kept(run)[0]}/sound", "/nothing"):
        whole, head = get(server, path), get(server, path, method="HEAD")
        assert head.body == b"" and head.status == whole.status
        assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(whole.body))


def test_what_is_no_request(server: ViewServer) -> None:
    host = f"Host: 127.0.0.1:{server.server_address[1]}"
    assert get(server, "/", "X: " + "a" * 70_000).status == 431
    assert get(server, "/", *(f"X-{n}: y" for n in range(150))).status == 431
    assert get(server, "/" + "a" * 70_000).status == 414
    assert say(server, "nonsense\r\n\r\n").status in (400, 505)
    assert say(server, f"GET / HTTP/9.9\r\n{host}\r\n\r\n").status == 505
    assert get(server, "/", "Content-Length: 5").status == 400
    assert get(server, "/", "Transfer-Encoding: chunked").status == 400
    assert say(server, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").status == 400
    assert get(server, "/api/about").status == 200


@pytest.mark.parametrize("query", ["sort=rowid", "min_rms=x", "max_rms=nan", "max_duration=inf", "first=-1",
                                   "first=1e3", "limit=501", "limit=9999999999999999999", "q=" + "a" * 1001,
                                   "q=%ff%fe", "first=%D9%A3"])  # fmt: skip
def test_questions_that_cannot_be(server: ViewServer, query: str) -> None:
    assert get(server, f"/api/clips?{query}").status == 400


@pytest.mark.parametrize("text", ['"', '""', "'; DROP TABLE clips; --", "NEAR(a b)", "a AND", "AND", "caption:", "*",
                                  "a*b", "(", "{a b}: c", "^a", "a\0b", "-", "--", '-"', "label:-x",
                                  "\ud83d\udc15"])  # fmt: skip
def test_no_search_text_is_syntax(server: ViewServer, text: str) -> None:
    said = get(server, f"/api/clips?q={quote(text.encode('utf-8', 'surrogatepass'))}")
    assert said.status in (200, 400), said.body
    if "\ud83d" not in text:
        assert said.status == 200


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)), ("bytes=10-", 206, slice(10, None)), ("bytes=-7", 206, slice(-7, None)),
        ("bytes=0-999999999", 206, slice(0, None)), ("bytes=-999999999", 206, slice(0, None)),
        ("bytes=999999999-", 416, None), ("bytes=-0", 416, None), ("bytes=9-3", 200, slice(0, None)),
        ("bytes=0-1,5-6", 200, slice(0, None)), ("chars=0-1", 200, slice(0, None)), ("bytes=-", 200, slice(0, None)),
        ("bytes=" + "9" * 500 + "-", 200, slice(0, None)), ("bytes=0x1-", 200, slice(0, None)),
        ("", 200, slice(0, None)),
    ],
)  # fmt: skip
def test_ranges_of_a_sound(run: WorkDir, server: ViewServer, asked: str, status: int, part: slice | None) -> None:
    path = f"/media/{kept(run)[0]}/sound"
    whole = get(server, path).body
    said = get(server, path, f"Range: {asked}")
    assert said.status == status
    assert said.body == (b"" if part is None else whole[part])
    if status == 206:
        first = whole.index(said.body) if len(said.body) > 8 else len(whole) - len(said.body)
        assert said.headers["Content-Range"] == f"bytes {first}-{first + len(said.body) - 1}/{len(whole)}"
    if status == 416:
        assert said.headers["Content-Range"] == f"bytes */{len(whole)}"


def test_ranges_of_nothing() -> None:
    assert in_part("bytes=0-", 0)[0] == 416
    assert in_part(None, 0)[0] == 200


def test_every_answer_is_guarded(run: WorkDir, server: ViewServer) -> None:
    for path in ("/", "/script.js", "/api/about", "/nothing", f"/media/{kept(run)[0]}/mel.png", "/../x"):
        headers = get(server, path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Python" not in headers["Server"]
    clip = next(c for c in get(server, "/api/clips?q=quokkatoken").json["clips"])
    assert clip["captions"] == [SCRIPT]


def test_only_this_machine_is_listened_to(server: ViewServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError):
        other.connect(("::1", server.server_address[1]))


def test_a_shard_that_is_built_again_or_goes(run: WorkDir, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "work")
    work = WorkDir.at(tmp_path / "work")
    with serving(work.root, tmp_path / "cache") as server:
        key = kept(run)[0]
        clip = get(server, f"/api/clip/{key}").json
        tar = work.shards / f"{clip['shard']}.tar"
        rows = work.index / f"{clip['shard']}.parquet"
        data = tar.read_bytes()
        tar.write_bytes(bytes(len(data)))
        said = get(server, f"/media/{key}/{clip['frames'][0]}")
        assert said.status == 409 and "was it built again?" in said.json["error"]
        assert "was it built again?" in get(server, f"/api/clip/{key}").json["fault"]
        tar.unlink()
        assert get(server, f"/media/{key}/{clip['frames'][0]}").status == 409
        assert "No such file" in get(server, f"/api/clip/{key}").json["fault"]
        tar.write_bytes(data)
        assert get(server, f"/media/{key}/{clip['frames'][0]}").status == 200
        rows.unlink()
        assert get(server, f"/media/{key}/{clip['frames'][0]}").status == 409
    found = find_set(work.root)
    assert clip["shard"] in {shard.name for shard in found.shards}


def test_many_at_once(run: WorkDir, server: ViewServer) -> None:
    keys = kept(run)
    said: list[int] = []

    def ask(number: int) -> None:
        key = keys[number % len(keys)]
        for path in (f"/api/clips?q=a&first={number}", f"/api/clip/{key}", f"/media/{key}/mel.png"):
            said.append(get(server, path).status)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [200] * 72
    assert json.loads(io.BytesIO(get(server, "/api/about").body).read())["num_clips"]


def test_two_sets_whose_shards_have_the_same_names(run: WorkDir, tmp_path: Path) -> None:
    tars = sorted(run.shards.glob("*.tar"))
    for number, tar in enumerate(tars[:2]):
        (tmp_path / str(number)).mkdir()
        shutil.copy(tar, tmp_path / str(number) / "train-000000.tar")
    with serving([tmp_path / "0", tmp_path / "1"], tmp_path / "cache") as server:
        samples = list(read_samples(tars[:2]))
        assert get(server, "/api/about").json["num_clips"] == len(samples)
        for sample in samples:
            assert get(server, f"/api/clip/{sample.key}").json["annotation"] == sample.details
            assert get(server, f"/media/{sample.key}/thumbnail").body == sample.jpegs[1]
