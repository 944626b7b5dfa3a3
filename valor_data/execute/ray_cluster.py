"""Joining a Ray cluster, or starting a Ray of our own that nobody else can reach; the one caller of `ray`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from valor_data.errors import ConfigError, ValorDataError

OBJECT_STORE_BYTES = 200_000_000
"""Of the Ray that is started here: units and results are small, media never pass through it."""

ANSWER_SECONDS = 5.0
"""For a connection to an address to be taken."""

REHEARSAL_SECONDS = 25.0
"""For joining a cluster; takes two where all is well. Ray itself tries for minutes."""

LOOPBACK = "127.0.0.1"

_rehearsed: set[str] = set()


class RayCluster:
    """The membership of this process in a cluster.

    Args:
        address: `host:port` of a running cluster that this machine belongs to, or `auto`; empty: a Ray of
            our own, on this machine alone.
        num_cpus: of our own.

    Raises:
        ConfigError: Ray is not installed, or the address is none.
        ValorDataError: nothing answers at the address.
    """

    def __init__(self, address: str, num_cpus: int) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("execute.executor is ray, and Ray is not installed: pip install 'valor-data[ray]'")
        check_address(address)
        self._address = address
        self._num_cpus = num_cpus
        self._ray: Any = None
        self._temporary: Path | None = None

    def join(self) -> Any:
        """Joins or starts the cluster; gives back the module `ray`, connected.

        Raises:
            ConfigError: this process is a member of a cluster already.
            ValorDataError: the cluster cannot be joined or started.
        """
        settings: dict[str, Any] = {"address": self._address or "local"}
        if self._address:
            _rehearse(self._address)
        else:
            self._temporary = Path(tempfile.mkdtemp(prefix="valor-ray-", dir=_short_folder()))
            settings |= {
                "num_cpus": self._num_cpus,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_node_ip_address": LOOPBACK,
                "_temp_dir": str(self._temporary),
            }
        ray = _import_ray(self._address)
        if ray.is_initialized():
            raise ConfigError("this process is connected to a Ray cluster already: ray.shutdown() first")
        try:
            with _own_signal_handler():
                ray.init(log_to_driver=False, configure_logging=False, **settings)
        except Exception as error:
            ray.shutdown()
            raise ValorDataError(_words_of_refusal(self._address, error)) from error
        self._ray = ray
        return ray

    def leave(self) -> None:
        """Leaves the cluster, which ends this driver's workers on it; a Ray of our own ends."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def check_address(address: str) -> None:
    """Whether an address is one, and something listens there.

    Raises:
        ConfigError: it is no address.
        ValorDataError: nothing answers.
    """
    if address in ("", "auto"):
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"execute.address: {address!r} is no address of a cluster; expected host:port, as `ray start` printed it, "
            "or auto (and this command on a machine of the cluster)"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ValorDataError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start one with `ray start --head`, "
            "or leave execute.address away for this machine alone"
        ) from None


def _rehearse(address: str) -> None:
    """Joins in a process of its own, once: what is no cluster keeps Ray busy for minutes, and writes to the terminal.

    Raises:
        ValorDataError: it cannot be joined.
    """
    if address in _rehearsed:
        return
    program = f"import sys; from {__name__} import rehearsal; sys.exit(rehearsal(sys.argv[1]))"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", program, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=REHEARSAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValorDataError(
            f"what listens at {address} does not answer as a Ray cluster in {REHEARSAL_SECONDS:.0f} s: give the "
            "address that `ray start --head` printed"
        ) from None
    if answer.returncode:
        words = (answer.stdout.strip() or answer.stderr.strip() or "no reason given").splitlines()[-1]
        raise ValorDataError(words)
    _rehearsed.add(address)


def rehearsal(address: str) -> int:
    """In a process of its own: joins a cluster and leaves it. Prints why it cannot, and gives an exit code."""
    ray = _import_ray(address)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        print(_words_of_refusal(address, error))
        return 1
    ray.shutdown()
    return 0


def _import_ray(address: str) -> Any:
    """Imports Ray, after what it reads from the environment: no reports to its makers, no lines among ours."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # "(raylet) …" lines, which log_to_driver leaves
    if not address or address.startswith((LOOPBACK, "localhost")):
        # Otherwise Ray turns 127.0.0.1 into this machine's outer address, and listens there.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if not address:  # a token for this process and its own; Ray would put one into the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if not address or _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def _has_token() -> bool:
    """Whether there is a token to show: `ray start` asks for it where there is one, `ray.init` does not look for it."""
    named = [name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)]
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()


def _words_of_refusal(address: str, error: BaseException) -> str:
    """Why a cluster could not be joined, in one line: the error below all others."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    words = text.splitlines()[-1] if "Traceback" in text else " ".join(text.split())
    if not address:
        return f"Ray cannot start on this machine: {words[:300]}"
    if "AuthToken" in text or "Unauthenticated" in text:
        return (
            f"the Ray cluster at {address} asks for a token: put its ~/.ray/auth_token into yours, "
            "or set RAY_AUTH_TOKEN"
        )
    return (
        f"the Ray cluster at {address} cannot be joined: {words[:300]} "
        "(this machine must belong to it, by `ray start --address …`; the versions of Ray and Python must agree)"
    )


def _short_folder() -> str:
    """Where Ray's sockets can lie: their paths must stay under 107 bytes, and it adds about 75."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < 16 else "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it


@contextlib.contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Ray takes SIGTERM for itself while it starts; the command line's own way to stop comes back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
