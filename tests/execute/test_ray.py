"""A Ray of our own on this machine: what every executor promises, and that nobody else is reached or blamed."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
from execute.protocol import PROMISES, work

from valor_data.errors import ConfigError, ValorDataError
from valor_data.execute import Executor, ray_cluster
from valor_data.execute.ray import RayExecutor
from valor_data.execute.ray_worker import WorkerSetup, hand_over

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join((str(PROJECT), str(PROJECT / "tests"))))
        running = RayExecutor(2, "", tmp_path_factory.mktemp("notes"))
        yield running
        running.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_what_every_executor_promises(executor: RayExecutor, promise: Callable[[Executor], None]) -> None:
    promise(executor)


@pytest.mark.timeout(120)
def test_two_units_at_a_time_in_two_processes(executor: RayExecutor, tmp_path: Path) -> None:
    units = [{"value": n, "meet": str(tmp_path), "others": 2} for n in range(2)]
    assert len({result[1] for _, result in executor.run(work, units)}) == 2


@pytest.mark.timeout(120)
def test_a_ray_worker_that_goes_blames_nobody(
    executor: RayExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    units: list[dict[str, Any]] = [{"value": n} for n in range(6)]
    units[2] |= {"item": "innocent", "take_along": str(tmp_path), "times": 1}
    with caplog.at_level(logging.WARNING, "valor_data"):
        found = {unit["value"]: result[0] for unit, result in executor.run(work, units)}
    assert found == {n: n for n in range(6)}
    assert "a Ray worker was lost, and its unit is run again (WorkerCrashedError: " in caplog.text


@pytest.mark.timeout(120)
def test_who_takes_its_ray_worker_along_again_is_blamed(executor: RayExecutor, tmp_path: Path) -> None:
    unit = {"value": 0, "item": "the culprit", "take_along": str(tmp_path), "times": 99}
    ((_, lost),) = executor.run(work, [unit])
    assert (lost.reason, lost.item) == ("crashed", "the culprit")
    assert lost.detail.startswith("its Ray worker was lost 2 times with it in hand (WorkerCrashedError: ")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.timeout(120)
def test_a_cluster_that_loses_worker_after_worker_is_given_up(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valor_data.execute.ray.MOST_LOSSES", 2)
    unit = {"value": 0, "take_along": str(tmp_path), "times": 99}  # nothing in hand that could be blamed
    with pytest.raises(
        ValorDataError, match=r"lost 2 workers over one unit .* run the same command again; no clip was"
    ):
        list(executor.run(work, [unit]))


def sockets_of(processes: list[psutil.Process]) -> set[str]:
    """Addresses that these processes listen on."""
    pids = {process.pid for process in processes}
    return {c.laddr.ip for c in psutil.net_connections() if c.status == psutil.CONN_LISTEN and c.pid in pids}


def waits_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.timeout(240)
@pytest.mark.parametrize("end", ["close", pytest.param("kill", marks=pytest.mark.slow)])
def test_it_listens_on_loopback_alone_and_leaves_nothing(tmp_path: Path, end: str) -> None:
    """In a program of its own: what a driver starts, ends with it, however it ends.

    After a kill two agents of Ray's look for their head node for a minute before they end.
    """
    program = (
        "import sys; from pathlib import Path; from execute.protocol import work; "
        "from valor_data.execute.ray import RayExecutor\n"
        "executor = RayExecutor(1, '', Path(sys.argv[1]))\n"
        "results = executor.run(work, [{'value': 0}, {'value': 1, 'item': 'x', 'sleep': 600}])\n"
        "print(next(results)[1][1], flush=True)\n"
        "sys.stdin.readline()\n"
        "executor.close()\n"
    )
    path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
    ray_folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the paths of Ray's sockets must be short
    driver = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(ray_folder)},
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    family = psutil.Process(driver.pid).children(recursive=True)
    assert worker in {process.pid for process in family}
    listening = sockets_of([psutil.Process(driver.pid), *family])
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    if end == "close":
        out, err = driver.communicate("\n", timeout=60)
        assert (driver.returncode, out, err) == (0, "", "")
        assert list(tmp_path.iterdir()) == []
        assert list(ray_folder.glob("valor-*")) == []
    else:
        driver.kill()
        driver.communicate(timeout=60)
    gone = waits_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), 90)
    assert gone, [process for process in family if process.is_running()]
    shutil.rmtree(ray_folder)


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("ray://127.0.0.1:10001", ConfigError, "is no address of a cluster; expected host:port, as `ray start`"),
        ("somewhere", ConfigError, "'somewhere' is no address of a cluster"),
        ("127.0.0.1:99999", ConfigError, "is no address of a cluster"),
        ("127.0.0.1:1", ValorDataError, r"no Ray cluster answers at 127.0.0.1:1 \(Connection refused\): start one"),
    ],
)
def test_an_address_where_no_cluster_is(tmp_path: Path, address: str, kind: type[Exception], words: str) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=words):
        RayExecutor(0, address, tmp_path)
    assert time.monotonic() - began < 10


def test_what_listens_and_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_cluster, "REHEARSAL_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        executor = RayExecutor(0, address, tmp_path)
        with pytest.raises(ValorDataError, match=f"what listens at {address} does not answer as a Ray cluster in 3 s"):
            list(executor.run(work, [{"value": 0}]))
        executor.close()
    assert capfd.readouterr() == ("", "")


def test_without_ray_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as import does when there is none
    with pytest.raises(ConfigError, match=r"Ray is not installed: pip install 'valor-data\[ray\]'"):
        RayExecutor(0, "", tmp_path)


def test_a_machine_that_is_not_fit_says_why(tmp_path: Path) -> None:
    here = metadata.version("valor-data")
    with pytest.raises(
        ConfigError, match=f"{socket.gethostname()}: valor-data is {here} there and 0.0.1 here; install"
    ):
        hand_over(WorkerSetup(tmp_path, (), 0, "0.0.1"), b"", "unit-0", None)
    with pytest.raises(ConfigError, match=r"nowhere is not there; .* storage that every machine of the cluster mounts"):
        hand_over(WorkerSetup(tmp_path / "nowhere", (), 0, here), b"", "unit-0", None)


def test_ray_is_imported_when_it_is_needed() -> None:
    program = "import sys, valor_data.execute.ray, valor_data.cli; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
