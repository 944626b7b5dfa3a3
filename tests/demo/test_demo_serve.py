"""The local server: ranges, faults, counts, and silence when a client goes away."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from valor_data.demo import Fault, MediaServer, serve

BODY = bytes(range(256)) * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "-dash_is_ok.mp4").write_bytes(BODY)
    (tmp_path / "PlainVideo1.webm").write_bytes(BODY[:1000])
    (tmp_path / "HtmlInDisgu.mp4").write_bytes(b"\n <!doctype html><p>no video")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[MediaServer]:
    with serve(folder) as running:
        yield running


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_serves_whole_files_with_or_without_extension(server: MediaServer) -> None:
    assert server.url_template.startswith("http://127.0.0.1:")
    for url in (server.url("-dash_is_ok"), f"{server.address}/v/-dash_is_ok"):
        status, body, headers = ask(url)
        assert (status, body) == (200, BODY)
        assert (headers["Content-Type"], headers["Accept-Ranges"]) == ("video/mp4", "bytes")
    assert ask(server.url("PlainVideo1"))[2]["Content-Type"] == "video/webm"
    assert ask(server.url("HtmlInDisgu"))[2]["Content-Type"].startswith("text/html")


def test_head_has_the_length_and_no_body(server: MediaServer) -> None:
    status, body, headers = ask(server.url("-dash_is_ok"), "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(BODY)))


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, len(BODY)), ("bytes=-7", len(BODY) - 7, len(BODY)),
     ("bytes=255990-999999999", 255_990, len(BODY))],
)  # fmt: skip
def test_ranges(server: MediaServer, asked: str, start: int, end: int) -> None:
    status, body, headers = ask(server.url("-dash_is_ok"), Range=asked)
    assert (status, body) == (206, BODY[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(BODY)}"


def test_a_range_behind_the_end_is_refused(server: MediaServer) -> None:
    status, _, headers = ask(server.url("-dash_is_ok"), Range=f"bytes={len(BODY)}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(BODY)}")


def test_dead_links_and_paths_outside(server: MediaServer, folder: Path) -> None:
    assert ask(server.url("NotThere123"))[0] == 404
    (folder.parent / "secret.mp4").write_bytes(b"secret")
    for path in ("/", "/v/../secret", "/v/..%2fsecret.mp4", "/other/-dash_is_ok"):
        assert ask(server.address + path)[0] == 404
    with serve(folder, missing_status=410) as gone:
        assert ask(gone.url("NotThere123"))[0] == 410


def test_counts_requests(server: MediaServer) -> None:
    ask(server.url("-dash_is_ok"))
    ask(server.url("-dash_is_ok"), "HEAD")
    ask(server.url("NotThere123"), Range="bytes=0-1")
    assert (server.count(), server.count("-dash_is_ok"), server.count("-dash_is_ok", "GET")) == (3, 2, 1)
    last = server.requests[-1]
    assert (last.method, last.path, last.video_id, last.range, last.status) == (
        "GET", "/v/NotThere123.mp4", "NotThere123", "bytes=0-1", 404,
    )  # fmt: skip
    server.forget_requests()
    assert server.requests == []


def test_serves_any_file_under_any_id(folder: Path) -> None:
    with MediaServer({"some.id": folder / "PlainVideo1.webm"}) as server:
        assert ask(server.url("some.id"))[1] == BODY[:1000]
        assert ask(server.url("PlainVideo1"))[0] == 404


def test_statuses_and_headers(folder: Path) -> None:
    faults = {"-dash_is_ok": Fault(status=429, headers={"Retry-After": "30"}, times=2)}
    with serve(folder, faults) as server:
        answers = [ask(server.url("-dash_is_ok")) for _ in range(3)]
        assert [status for status, _, _ in answers] == [429, 429, 200]
        assert [headers["Retry-After"] for _, _, headers in answers] == ["30", "30", None]
        server.forget_requests()
        assert ask(server.url("-dash_is_ok"))[0] == 429
        server.faults["-dash_is_ok"] = Fault(status=503)
        assert ask(server.url("-dash_is_ok"))[:2] == (503, b"503\n")


def test_pages_empty_bodies_and_wrong_types(folder: Path) -> None:
    faults = {
        "page": Fault(body=b"<html>come to our player</html>"),
        "empty": Fault(body=b""),
        "PlainVideo1": Fault(content_type="text/html"),
    }
    with serve(folder, faults) as server:
        status, body, headers = ask(server.url("page"))
        assert (status, body, headers["Content-Type"]) == (200, faults["page"].body, "text/html; charset=utf-8")
        assert ask(server.url("empty"))[:2] == (200, b"")
        assert ask(server.url("PlainVideo1"))[2]["Content-Type"] == "text/html"


def test_redirects_to_another_server(folder: Path) -> None:
    with serve(folder) as other:
        faults = {"-dash_is_ok": Fault(redirect_to=other.url_template)}
        with serve(folder, faults) as server:
            assert ask(server.url("-dash_is_ok"))[:2] == (200, BODY)
            assert server.requests[0].status == 302
            assert other.count("-dash_is_ok") == 1


@pytest.mark.parametrize("fault", [Fault(cut_after_bytes=1000), Fault(cut_after_bytes=1000, body=BODY)])
def test_a_body_that_breaks_off(folder: Path, fault: Fault) -> None:
    with serve(folder, {"-dash_is_ok": fault}) as server, pytest.raises(http.client.IncompleteRead) as error:
        ask(server.url("-dash_is_ok"))
    assert (len(error.value.partial), error.value.expected) == (1000, len(BODY) - 1000)


def test_delays_and_slow_bodies(folder: Path) -> None:
    faults = {"-dash_is_ok": Fault(delay_seconds=0.3), "PlainVideo1": Fault(bytes_per_second=4000)}
    with serve(folder, faults) as server:
        start = time.monotonic()
        assert ask(server.url("-dash_is_ok"))[0] == 200
        after_delay = time.monotonic()
        assert ask(server.url("PlainVideo1"))[1] == BODY[:1000]
        assert after_delay - start >= 0.3
        assert time.monotonic() - after_delay >= 0.2


def test_a_connection_is_kept_and_many_ask_at_once(server: MediaServer) -> None:
    host = server.address.removeprefix("http://")

    def one_client() -> None:
        connection = http.client.HTTPConnection(host, timeout=10)
        for video_id, status in (("-dash_is_ok", 206), ("NotThere123", 404), ("PlainVideo1", 206)):
            connection.request("GET", f"/v/{video_id}.mp4", headers={"Range": "bytes=0-9"})
            answer = connection.getresponse()
            assert answer.status == status
            answer.read()
        connection.close()

    clients = [threading.Thread(target=one_client) for _ in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert server.count() == 48


def test_a_client_that_goes_away_leaves_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "big.mp4").write_bytes(bytes(20_000_000))
    with serve(tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port)), timeout=10) as client:
                client.sendall(b"GET /v/big.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
                client.recv(100)
        time.sleep(0.2)
        assert ask(server.url("big"), "HEAD")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_server_that_does_not_run_says_so(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="the server does not run: use it in a with statement"):
        _ = serve(folder).url_template
