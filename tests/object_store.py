"""An S3 server process on 127.0.0.1, and a proxy in front of it that plays faults."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


@dataclass
class Fault:
    """What the proxy does with the next requests that match, instead of passing them on.

    Attributes:
        method: of the request.
        path: a pattern somewhere in its path and query.
        kind: `status` (answers it), `cut` (takes part of the body, then closes), `hold` (takes the body and never
            answers), `after` (passes it on, then closes without answering).
        times: how many requests.
    """

    method: str
    path: str
    kind: str = "status"
    status: int = 503
    times: int = 1
    seen: threading.Event = field(default_factory=threading.Event)


class FaultProxy(ThreadingHTTPServer):
    """Passes S3 requests on to a server, counts them, and plays faults."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.guard = threading.Lock()
        super().__init__((HOST, 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away while it is answered, as killed ones do, is no news."""

    def plays(self, method: str, path: str, kind: str = "status", *, status: int = 503, times: int = 1) -> Fault:
        fault = Fault(method, path, kind, status, times)
        with self.guard:
            self.faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        with self.guard:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, path: str) -> int:
        with self.guard:
            return sum(m == method and bool(re.search(path, p)) for m, p in self.requests)

    def forget(self) -> None:
        with self.guard:
            self.faults.clear()
            self.requests.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def log_message(self, *arguments: Any) -> None:
        pass

    def _pass(self) -> None:
        fault = self.server.take(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        if fault is not None and fault.kind == "cut":
            self.rfile.read(min(length // 2, 1000))
            fault.seen.set()
            self._hang_up()
            return
        body = self._chunks() if chunked else self.rfile.read(length)
        if fault is not None and fault.kind == "hold":
            fault.seen.set()
            time.sleep(600)
        if fault is not None and fault.kind == "status":
            fault.seen.set()
            code = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError"}.get(fault.status, "ServiceUnavailable")
            words = f"<Error><Code>{code}</Code><Message>It was told to.</Message></Error>".encode()
            self.send_response(fault.status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(words) if self.command != "HEAD" else 0))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(words)
            return
        self._forward(body, chunked, fault)

    def _forward(self, body: bytes, chunked: bool, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(HOST, self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        if chunked:
            headers.pop("Transfer-Encoding")
            headers["Content-Length"] = str(len(body))
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            if fault is not None and fault.kind == "after":
                fault.seen.set()
                self._hang_up()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 server; `proxy` is where clients should go."""

    url: str
    proxy: FaultProxy

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs; nothing of the machine's own set-up is looked at."""
        return {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def client(self) -> Any:
        """A client that goes past the proxy."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def make_bucket(self, name: str) -> str:
        """Makes a bucket; gives its address."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Every object of a bucket below a prefix, by the rest of its name."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [row["Key"] for page in pages for row in page.get("Contents", [])]
        return {key[len(prefix) :]: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.client().put_object(Bucket=bucket, Key=key, Body=data)


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """Starts the server in a process of its own."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], stdout=said, stderr=said
        )
        try:
            _wait_for(port, server, said)
            proxy = FaultProxy(port)
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            try:
                yield ObjectStore(f"http://{HOST}:{port}", proxy)
            finally:
                proxy.shutdown()
                proxy.server_close()
        finally:
            server.terminate()
            server.wait(timeout=20)


def _wait_for(port: int, server: subprocess.Popen[bytes], said: Any) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.1)
    said.seek(0)
    raise RuntimeError(f"the S3 server did not start: {Path('moto.server')} said {said.read().decode()[-2000:]}")
