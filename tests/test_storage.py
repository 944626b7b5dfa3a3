"""Objects at an address: whole or not at all, tried again where it passes, told where it does not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from object_store import ObjectStore, running_store

from valor_data import storage
from valor_data.errors import ConfigError
from valor_data.storage import Store, StoreError, StoreRefusedError, absolute_place, check_address

BUCKET = "storage"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with running_store() as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture
def bucket(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An address of its own for each test, on the server."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0.05, 0.05))
    server.proxy.forget()
    fsspec.filesystem("s3").clear_instance_cache()
    yield Store(f"s3://{BUCKET}/{request.node.name.split('[')[0]}")
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture(params=["s3", "memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The same over stores that put an object atomically and over those that do not."""
    if request.param == "s3":
        bucket: Store = request.getfixturevalue("bucket")
        return Store(f"{bucket.address}/{tmp_path.name}")
    return Store(f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/objects")


def made(folder: Path, data: bytes) -> Path:
    path = folder / "local.bin"
    path.write_bytes(data)
    return path


def test_what_was_put_is_there(store: Store, tmp_path: Path) -> None:
    store.put(made(tmp_path, b"first"), "shards/a b=2E.tar")
    store.put(made(tmp_path, b"0123456789"), "shards/a b=2E.tar")
    store.put(made(tmp_path, b""), "index/empty.json")
    assert dict(store.listing()) == {"shards/a b=2E.tar": 10, "index/empty.json": 0}
    assert store.read("shards/a b=2E.tar") == b"0123456789"
    assert store.read("shards/a b=2E.tar", 3, 5) == b"34"
    assert (store.size("shards/a b=2E.tar"), store.size("shards/b.tar")) == (10, None)
    with store.stream("shards/a b=2E.tar") as stream:
        assert stream.read(4) + stream.read() == b"0123456789"
    store.get("shards/a b=2E.tar", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"0123456789"
    assert pickle.loads(pickle.dumps(store)) == store


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(store.listing())
    store.put(made(tmp_path, b"x"), "shards/a.tar")
    for ask in (lambda: store.read("none"), lambda: store.get("none", tmp_path / "none"), lambda: store.stream("none")):
        with pytest.raises(FileNotFoundError):
            ask()
    store.remove(["none"])
    store.remove(["none", "shards/a.tar", "shards/none"])
    store.remove([])
    assert store.size("shards/a.tar") is None


def test_what_others_put_is_seen_at_once(bucket: Store, server: ObjectStore, tmp_path: Path) -> None:
    """No listing is remembered: another driver, or a kill, may have changed it."""
    bucket.put(made(tmp_path, b"x"), "a")
    assert dict(bucket.listing()) == {"a": 1}
    server.put(BUCKET, bucket.address.removeprefix(f"s3://{BUCKET}/") + "/deep/er/b", b"yy")
    assert dict(bucket.listing()) == {"a": 1, "deep/er/b": 2}


def test_many_parts_are_one_object(bucket: Store, server: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 40
    bucket.put(made(tmp_path, data), "large")
    assert server.proxy.count("PUT", "partNumber=") == 3
    bucket.get("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    # The third part fails to the end: the former object stays, and no part is left behind.
    server.proxy.plays("PUT", "partNumber=3", times=10)
    with pytest.raises(StoreError):
        bucket.put(made(tmp_path, b"z" * (40 << 20)), "large")
    assert bucket.size("large") == len(data)
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=BUCKET)


def test_an_upload_that_is_killed_between_its_parts(bucket: Store, server: ObjectStore, tmp_path: Path) -> None:
    bucket.put(made(tmp_path, b"former"), "large")
    fault = server.proxy.plays("PUT", "partNumber=2", "hold")
    made(tmp_path, os.urandom(1 << 20) * 40)
    program = (
        "import sys\nfrom pathlib import Path\nfrom valor_data.storage import Store\n"
        "Store(sys.argv[1]).put(Path(sys.argv[2]), 'large')"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, bucket.address, str(tmp_path / "local.bin")])
    assert fault.seen.wait(60)
    killed.kill()
    killed.wait()
    assert bucket.read("large") == b"former"
    assert dict(bucket.listing()) == {"large": 6}, "parts are no object"
    bucket.put(tmp_path / "local.bin", "large")
    assert bucket.size("large") == 40 << 20


def test_a_store_without_atomic_puts_never_shows_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    store = Store(f"file://{tmp_path}/objects")
    store.put(made(tmp_path, b"whole"), "shards/a.tar")

    def half(self: LocalFileSystem, local: str, target: str, **options: object) -> None:
        Path(target).write_bytes(Path(local).read_bytes()[:2])

    monkeypatch.setattr(LocalFileSystem, "put_file", half)
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0.01,))
    with pytest.raises(StoreError, match="2 bytes arrived of 9"):
        store.put(made(tmp_path, b"not whole"), "shards/b.tar")
    seen: list[bytes] = []

    def killed(self: LocalFileSystem, local: str, target: str, **options: object) -> None:
        half(self, local, target)
        seen.append((tmp_path / "objects" / "shards" / "a.tar").read_bytes())
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalFileSystem, "put_file", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put(made(tmp_path, b"another"), "shards/a.tar")
    assert seen == [b"whole"]
    assert store.read("shards/a.tar") == b"whole"


# -- what passes


@pytest.mark.parametrize("kind", ["status", "cut", "after"])
def test_a_failure_that_passes_is_tried_again(bucket: Store, server: ObjectStore, tmp_path: Path, kind: str) -> None:
    """A busy server, a connection that breaks in the body, an answer that never arrives."""
    server.proxy.plays("PUT", "a.tar", kind, times=2)
    bucket.put(made(tmp_path, b"x" * 100_000), "a.tar")
    assert bucket.read("a.tar") == b"x" * 100_000
    assert server.proxy.count("PUT", "a.tar") == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_every_way_to_ask_is_tried_again(bucket: Store, server: ObjectStore, tmp_path: Path, status: int) -> None:
    bucket.put(made(tmp_path, b"x"), "a")
    for method, path, ask in (
        ("GET", "/a", lambda: bucket.read("a")),
        ("GET", "/a", lambda: bucket.get("a", tmp_path / "a")),
        ("HEAD", "/a", lambda: bucket.size("a")),
        ("GET", "list-type", lambda: list(bucket.listing())),
        ("DELETE", "/a", lambda: bucket.remove(["a"])),
    ):
        fault = server.proxy.plays(method, path, status=status, times=2)
        ask()
        assert fault.times == 0, f"{method} {path} was not asked for"


def test_reading_goes_on_after_a_failure(bucket: Store, server: ObjectStore, tmp_path: Path) -> None:
    """At the block where it was, of the same object."""
    data = os.urandom(1 << 20) * 40
    bucket.put(made(tmp_path, data), "large")
    for kind, status in (("status", 503), ("status", 500), ("cut", 0), ("after", 0)):
        with bucket.stream("large") as stream:
            begun = stream.read(100)
            fault = server.proxy.plays("GET", "/large", kind, status=status, times=2)
            assert begun + stream.read() == data
            assert fault.times == 0
    with bucket.stream("large") as stream:
        stream.seek(30 << 20)
        assert (stream.tell(), stream.read(5)) == (30 << 20, data[30 << 20 : (30 << 20) + 5])
        stream.seek(0)
        server.proxy.plays("GET", "/large", times=100)
        with pytest.raises(StoreError, match=r"/large: the store fails \(.*\); see that it is reachable"):
            stream.read()


def test_no_mixture_of_two_objects_is_read(bucket: Store, tmp_path: Path) -> None:
    bucket.put(made(tmp_path, b"a" * (40 << 20)), "large")
    with bucket.stream("large") as stream:
        assert stream.read(1) == b"a"
        bucket.put(made(tmp_path, b"b" * (40 << 20)), "large")
        with pytest.raises(OSError, match="no longer exists"):
            stream.read()


def test_a_failure_that_stays_is_told(bucket: Store, server: ObjectStore, tmp_path: Path) -> None:
    server.proxy.plays("PUT", "a.tar", times=100)
    words = r"^s3://storage/.*/a\.tar: the store fails \(.*\); see that it is reachable, .* goes on from here$"
    with pytest.raises(StoreError, match=words):
        bucket.put(made(tmp_path, b"x"), "a.tar")
    assert server.proxy.count("PUT", "a.tar") == 3
    assert bucket.size("a.tar") is None


def test_a_server_that_is_not_there(bucket: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StoreError, match="Could not connect to the endpoint"):
        bucket.put(made(tmp_path, b"x"), "a")


# -- what the user must mend


def test_no_such_bucket(bucket: Store, tmp_path: Path) -> None:
    other = Store("s3://nobody-made-this/folder")
    words = "^s3://nobody-made-this/folder.*: no such bucket; make it, or mend the address$"
    for ask in (lambda: other.put(made(tmp_path, b"x"), "a"), lambda: list(other.listing()), lambda: other.read("a")):
        with pytest.raises(ConfigError, match=words):
            ask()


def test_no_credentials(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(ConfigError, match=r"no credentials \(.*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        list(bucket.listing())


def test_no_right(bucket: Store, server: ObjectStore, tmp_path: Path) -> None:
    server.proxy.plays("PUT", "a", status=403, times=100)
    with pytest.raises(StoreRefusedError, match=r"refused \(.*\); check the credentials, and what they may do there"):
        bucket.put(made(tmp_path, b"x"), "a")
    assert server.proxy.count("PUT", "a") == 1, "what must be mended is not tried again"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nothing://bucket/a", "Protocol not known: nothing; expected an address that fsspec knows"),
        ("gs://bucket/a", "needs gcsfs, which is not installed: pip install gcsfs"),
    ],
)
def test_no_such_store(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Store(address).read("x")


def test_s3_without_its_package(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from valor_data.storage import Store\n"
        "try:\n    Store('s3://bucket').read('a')\nexcept Exception as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "s3://bucket/a: needs s3fs, which is not installed: pip install 'valor-data[s3]'\n"


@pytest.mark.parametrize(
    "address",
    ["s3://key:secret@bucket/a", "s3://bucket/a?AWSAccessKeyId=secret", "sftp://me:secret@host/a", "s3://:secret@b/a"],
)
def test_secrets_in_an_address_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--output .*: an address must hold no name:password@ and no query") as error:
        check_address(address, "--output")
    assert "secret" not in str(error.value)


def test_addresses_that_are_let_through() -> None:
    for text in ("s3://bucket/a", "abfs://container@account.dfs.core.windows.net/a", "hf://datasets/me/s@main", "a?b"):
        check_address(text, "--output")
    with pytest.raises(ConfigError, match="names no bucket"):
        check_address("s3://", "--output")


def test_a_place_is_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_place("out") == str(tmp_path / "out")
    assert absolute_place("out", Path("/base")) == "/base/out"
    assert [absolute_place(text) for text in ("", "s3://b/a", "/x")] == ["", "s3://b/a", "/x"]
