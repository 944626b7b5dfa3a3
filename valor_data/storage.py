"""Objects at an fsspec address (`s3://`, `gs://`, `hf://`, …): the one caller of fsspec.

An object is there whole or not at all: an upload becomes visible when it is complete, where the store has no such
upload by a move from another name. What passes (a broken connection, a server that is busy) is tried again for about
a minute; what the user must mend is told at once. Credentials come from where the store's own tools take them
(environment, configuration files, the machine's role): an address that holds any is refused.
"""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from valor_data.errors import ConfigError, ValorDataError, hide_passwords

AnswerT = TypeVar("AnswerT")

RETRY_SECONDS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Pauses between attempts, each drawn from its upper half, so that many workers do not come back together."""

REMOVED_AT_ONCE = 1000
"""Objects of one request to delete: S3's limit."""

_PART_BYTES = 16 * 2**20
_READ_BYTES = 2**20
_S3 = ("s3", "s3a")

_TRANSFER: dict[str, dict[str, Any]] = {name: {"chunksize": _PART_BYTES, "max_concurrency": 4} for name in _S3}
"""Up to 64 MB of a worker's memory a transfer; s3fs's own choice is ten parts of 50 MB."""

_OPTIONS: dict[str, dict[str, Any]] = {name: {"config_kwargs": {"retries": {"total_max_attempts": 1}}} for name in _S3}
"""Retries are made here: three layers of them, one inside the other, would take an hour to give up."""

_PACKAGES = {
    **dict.fromkeys(_S3, "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "hf": "huggingface_hub",
}

_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "oci"})
"""Stores whose uploads are visible only when they are complete."""

_NO_CREDENTIALS = frozenset(
    ["NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
     "ProfileNotFound", "DefaultCredentialsError", "RefreshError", "LocalTokenNotFoundError"]
)  # fmt: skip
_WRONG = frozenset({"ParamValidationError", "InvalidRegionError", "NoRegionError", "UnknownServiceError",
                    "RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError"})  # fmt: skip
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_BUGS = (TypeError, AttributeError, NameError, LookupError, MemoryError, AssertionError, RecursionError)

log = logging.getLogger("valor_data")


class StoreError(ValorDataError):
    """A store did not answer, or not rightly, however often it was asked; later it may."""


class StoreRefusedError(ConfigError):
    """A store knows the address and does not let this user at it."""


def is_address(text: str) -> bool:
    """Whether a text is an fsspec address (`s3://bucket/folder`) rather than a path."""
    return "://" in text


def check_address(text: str, setting: str) -> None:
    """Refuses an address that holds a password or a query; a path is let through.

    Args:
        text: the address.
        setting: what it was given as, for the message.

    Raises:
        ConfigError: it would write a secret into ledger and logs, or names no place.
    """
    if not is_address(text):
        return
    parts = urlsplit(text)
    shown = hide_passwords(text).split("?")[0]
    if ":" in parts.netloc.rpartition("@")[0] or "?" in text:
        raise ConfigError(
            f"{setting} {shown}: an address must hold no name:password@ and no query; give credentials as the store's "
            "own tools take them (for s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role)"
        )
    if not (parts.netloc or parts.path.strip("/")):
        raise ConfigError(f"{setting} {shown}: names no bucket; expected PROTOCOL://BUCKET/FOLDER")


def absolute_place(text: str, base: Path | None = None) -> str:
    """The same place from any folder: a path is made absolute, an address and the empty text are left as they are.

    Args:
        text: a path or an address.
        base: the folder that a relative path starts from; None: the current folder.
    """
    return text if not text.strip() or is_address(text) else str(((base or Path()) / text).absolute())


@dataclass(frozen=True, slots=True)
class Store:
    """The objects below one address; names are relative to it. Cheap to make, and picklable.

    Every method raises `ConfigError` for what the user must mend (no package, no credentials, no such bucket, no
    right) and `StoreError` when the store failed to the last attempt.
    """

    address: str

    @property
    def protocol(self) -> str:
        """What stands before `://`."""
        return self.address.split("://", 1)[0]

    def at(self, name: str) -> str:
        """The address of an object."""
        return f"{self.address.rstrip('/')}/{name}" if name else self.address

    def put(self, path: Path, name: str) -> None:
        """Makes a finished local file one object; whoever looks sees the former object, or the whole new one."""
        size_bytes = path.stat().st_size

        def send(filesystem: Any, target: str) -> None:
            if self.protocol in _ATOMIC:
                filesystem.put_file(os.fspath(path), target, **_TRANSFER.get(self.protocol, {}))
            else:
                self._put_aside(filesystem, path, target)
            arrived = filesystem.size(target)
            if arrived != size_bytes:
                raise OSError(errno.EIO, f"{arrived} bytes arrived of {size_bytes}")

        self._try(name, send)

    def _put_aside(self, filesystem: Any, path: Path, target: str) -> None:
        """For stores that show a file while it grows."""
        _, root = self._open("")
        aside = f"{root.rstrip('/')}/unfinished/{socket.gethostname()}-{os.getpid()}-{PurePosixPath(target).name}.part"
        for place in (aside, target):
            filesystem.makedirs(str(PurePosixPath(place).parent), exist_ok=True)
        filesystem.put_file(os.fspath(path), aside)
        if filesystem.exists(target):
            filesystem.rm_file(target)
        filesystem.mv(aside, target)

    def get(self, name: str, path: Path) -> None:
        """Copies an object to a local file.

        Raises:
            FileNotFoundError: no such object.
            OSError: this machine's disk is full.
        """
        options = _TRANSFER.get(self.protocol, {})
        self._try(name, lambda filesystem, target: filesystem.get_file(target, os.fspath(path), **options))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a small object, or those of a range.

        Raises:
            FileNotFoundError: no such object.
        """
        return bytes(self._try(name, lambda filesystem, target: filesystem.cat_file(target, start=start, end=end)))

    def stream(self, name: str) -> IO[bytes]:
        """Opens an object for reading from its beginning on, a block at a time, each tried like every request.

        Raises:
            FileNotFoundError: no such object.
        """
        opened = self._try(name, lambda filesystem, target: filesystem.open(target, "rb", block_size=_PART_BYTES))
        return io.BufferedReader(_Blocks(opened, self.at(name)), _READ_BYTES)

    def size(self, name: str) -> int | None:
        """Bytes of an object; None when there is none."""
        try:
            return int(self._try(name, lambda filesystem, target: filesystem.size(target)))
        except FileNotFoundError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        """Deletes objects; those that are not there are no fault."""
        listed = list(names)
        if len(listed) == 1:
            self._try(listed[0], lambda filesystem, target: _remove_file(filesystem, target))
            return
        for first in range(0, len(listed), REMOVED_AT_ONCE):
            some = listed[first : first + REMOVED_AT_ONCE]
            self._try("", functools.partial(_remove_files, names=some))

    def listing(self) -> Iterator[tuple[str, int]]:
        """Name and bytes of every object below the address, folder by folder: only one folder's list is held.

        Raises:
            FileNotFoundError: there is nothing at the address.
        """
        folders = [""]
        while folders:
            folder = folders.pop()
            infos = self._try(folder, lambda filesystem, target: _list(filesystem, target))
            infos.reverse()
            while infos:
                name, size_bytes, is_folder = infos.pop()
                relative = f"{folder}/{name}" if folder else name
                if is_folder:
                    folders.append(relative)
                else:
                    yield relative, size_bytes

    def _open(self, name: str) -> tuple[Any, str]:
        import fsspec

        filesystem, target = fsspec.core.url_to_fs(
            self.at(name), use_listings_cache=False, **_OPTIONS.get(self.protocol, {})
        )
        return filesystem, str(target)

    def _try(self, name: str, action: Callable[[Any, str], AnswerT]) -> AnswerT:
        """Runs an action on the store until it succeeds, or the store has failed often enough."""
        return _insist(self.at(name), lambda: action(*self._open(name)))


class _Blocks(io.RawIOBase):
    """An open object; a block that does not arrive is asked for again, of the same version of the object."""

    def __init__(self, opened: Any, address: str) -> None:
        self._opened = opened
        self._address = address
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._opened.seekable())

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = int(self._opened.seek(offset, whence))
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        data = _insist(self._address, lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read(self, num_bytes: int) -> bytes:
        if self._opened.tell() != self._position:
            self._opened.seek(self._position)
        return bytes(self._opened.read(num_bytes))

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()


def _insist(address: str, ask: Callable[[], AnswerT]) -> AnswerT:
    """Asks until there is an answer, a fault that will stay, or the store has failed often enough."""
    pauses = iter(RETRY_SECONDS)
    while True:
        try:
            return ask()
        except Exception as error:
            refusal = _judge(error, address)
            if isinstance(error, FileNotFoundError) and refusal is None:  # every store words it otherwise
                raise FileNotFoundError(errno.ENOENT, "no such file or object", address) from error
            if refusal is None:
                raise
            pause = next(pauses, None)
            if not isinstance(refusal, StoreError) or pause is None:
                raise refusal from error
            log.info("%s; trying again", refusal)
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrets


def _remove_file(filesystem: Any, target: str) -> None:
    try:
        filesystem.rm_file(target)
    except FileNotFoundError:
        return


def _remove_files(filesystem: Any, root: str, names: list[str]) -> None:
    targets = [f"{root.rstrip('/')}/{name}" for name in names]
    try:
        filesystem.rm(targets)
    except FileNotFoundError:  # a store that deletes one by one
        for target in targets:
            _remove_file(filesystem, target)


def _list(filesystem: Any, target: str) -> list[tuple[str, int, bool]]:
    """(name, bytes, whether it is a folder) of what a folder holds; the folder's own marker is no object."""
    prefix = target.rstrip("/") + "/"
    rows = []
    infos = filesystem.ls(target, detail=True)
    infos.reverse()
    while infos:  # each is let go as it is read: they are ten times what is kept of them
        info = infos.pop()
        path = str(info["name"])
        name = path.rstrip("/").rpartition("/")[2]
        if name and path.strip("/") != target.strip("/") and not (path.endswith("/") and info["type"] == "file"):
            rows.append((name, int(info.get("size") or 0), info["type"] == "directory"))
    if not rows and not filesystem.isdir(prefix):
        raise FileNotFoundError(errno.ENOENT, "nothing there", target)
    return rows


def _judge(error: Exception, address: str) -> ValorDataError | None:
    """What an exception means: for the user to mend, to be tried again, or (None) to be raised as it is."""
    words = hide_passwords(" ".join(str(error).split()))[:300] or type(error).__name__
    setup = _setup_fault(error, address, words)
    if setup is not None:
        return setup
    if isinstance(error, (FileNotFoundError, ValorDataError, *_BUGS)) or getattr(error, "errno", None) in _DISK:
        return None
    if "FileExpired" in _kinds(error):  # s3fs: replaced while it was read, so what was read is of no use
        return None
    if isinstance(error, (ValueError, NotImplementedError)) or _kinds(error) & _WRONG:
        return ConfigError(f"{address}: {words}; expected an address that fsspec knows, such as s3://bucket/folder")
    return StoreError(
        f"{address}: the store fails ({type(error).__name__}: {words}); see that it is reachable, and give the same "
        "command again: it goes on from here"
    )


def _setup_fault(error: Exception, address: str, words: str) -> ConfigError | None:
    """What the user must mend before the store can be used; None when it is something else."""
    protocol = address.split("://", 1)[0]
    if isinstance(error, ImportError):
        package = _PACKAGES.get(protocol, f"the fsspec package for {protocol}")
        advice = "pip install 'valor-data[s3]'" if package == "s3fs" else f"pip install {package}"
        return ConfigError(f"{address}: needs {package}, which is not installed: {advice}")
    if _kinds(error) & _NO_CREDENTIALS:
        return ConfigError(
            f"{address}: no credentials ({words}); give them as the store's own tools take them "
            "(for s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role)"
        )
    if isinstance(error, PermissionError):
        return StoreRefusedError(f"{address}: refused ({words}); check the credentials, and what they may do there")
    if _code_of(error) == "NoSuchBucket":
        return ConfigError(f"{address}: no such bucket; make it, or mend the address")
    return None


def _kinds(error: Exception) -> set[str]:
    """Names of an exception's classes: each store has its own, and none is imported for this."""
    return {kind.__name__ for kind in type(error).__mro__}


def _code_of(error: BaseException | None) -> str:
    """The store's own word for an error, where a botocore error is behind it."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
