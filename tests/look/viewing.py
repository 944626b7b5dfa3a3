"""A finished run to be browsed, its server, and somebody who speaks HTTP to it byte by byte."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valor_data.config import FetchSection, FilterSection, ShardSection
from valor_data.demo import World, WorldSettings, make_world
from valor_data.look.shard_set import find_set
from valor_data.look.view.catalogue import Catalogue
from valor_data.look.view.index import ready_index
from valor_data.look.view.search import Index
from valor_data.look.view.server import ViewServer
from valor_data.manifest import build_manifest, write_manifest
from valor_data.road import Driver, run_fetch, run_filter, run_shard
from valor_data.workdir import WorkDir

SCRIPT = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"> a quokkatoken"
MIXED = "كلب ينبح בחוץ 🐕‍🦺 犬が吠える wombattoken"


def make_run(root: Path) -> WorkDir:
    """A small world fetched into the work folder, with sound in the samples and two strange captions."""
    world = make_world(root / "world", WorldSettings.small(), workers=1)
    _plant_captions(world)
    write_manifest(build_manifest(list(world.annotations)), root / "manifest.parquet")
    work = WorkDir.at(root / "work")
    with Driver(work) as driver:
        source = FetchSection(source=str(world.media), workers=1, copy=True)
        run_fetch(driver, source, manifest=root / "manifest.parquet", explicit={"source", "copy"})
        run_filter(driver, FilterSection(workers=1), "av")
        section = ShardSection(workers=1, max_clips=8, num_frames=3, partial=True, include=("audio",))
        run_shard(driver, section, "av")
    return work


def _plant_captions(world: World) -> None:
    kept = {truth.key for truth in world.truth if truth.expect == "kept"}
    texts = iter((SCRIPT, MIXED))
    for path in world.annotations:
        rows = json.loads(path.read_text())
        for row in rows:
            if row["video_id"].rpartition("_")[0].rpartition("_")[0] in {key.rsplit("_", 2)[0] for key in kept}:
                row["desc"] = next(texts, row["desc"])
        path.write_text(json.dumps(rows))


@contextmanager
def serving(place: Path | list[Path], cache: Path, *, outside_media: bool = False) -> Iterator[ViewServer]:
    """A server of a set, in a thread."""
    shards = find_set(place)
    index = Index(ready_index(shards, cache))
    with ViewServer(Catalogue(shards, index, outside_media=outside_media), index, "a <set>") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            index.close()


@dataclass(frozen=True)
class Said:
    """An answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def say(server: ViewServer, text: str | bytes) -> Said:
    """Sends bytes and reads until the server is done; it must close the connection, or have said `close`."""
    data = text.encode("latin-1") if isinstance(text, str) else text
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20) as link:
        link.sendall(data)
        received = b""
        while part := link.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Said(int(lines[0].split()[1]), headers, body)


def get(server: ViewServer, path: str, *more: str, method: str = "GET", host: str | None = None) -> Said:
    """A request as a browser makes it."""
    host = f"127.0.0.1:{server.server_address[1]}" if host is None else host
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *more, "", ""]
    return say(server, "\r\n".join(lines))
