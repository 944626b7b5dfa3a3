"""Looks at this machine before a run does: what is missing, what is too old, what is too small, and what mends it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from valor_data.ledger.journal import NETWORK_FILE_SYSTEMS, file_system_of
from valor_data.workdir import WorkDir

OLD_YT_DLP_DAYS = 60
"""YouTube changes monthly; a yt-dlp older than this is the first suspect when videos fail."""

MIN_FREE_BYTES = 10_000_000_000
MIN_FREE_INODES = 100_000
MIN_FREE_MEMORY_BYTES = 2_000_000_000
MIN_OPEN_FILES = 1024


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what.
        verdict: `ok`, `warn` (a run works, but not well or not for long) or `bad` (it will fail).
        found: what is there.
        mend: the line that mends it; empty when nothing is to be done.
    """

    name: str
    verdict: str
    found: str
    mend: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return asdict(self)


def examine(work: WorkDir) -> list[Check]:
    """All checks, for a work folder that need not exist yet. No network is used."""
    return [
        _python(),
        _torch(),
        _ffmpeg(),
        _javascript(),
        _yt_dlp(date.today()),
        *_disk(work),
        _memory(),
        _open_files(),
        _clock(work),
        _file_system(work),
        _token(),
    ]


def _python() -> Check:
    return Check("Python", "ok", f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")


def _torch() -> Check:
    versions = {name: metadata.version(name) for name in ("torch", "torchaudio")}
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    major, minor = (int(part) for part in versions["torch"].split(".")[:2])
    mend = "pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'"
    if not (2, 11) <= (major, minor) < (2, 15):
        return Check("torch", "bad", f"{found}: torchaudio does not load beside it", mend)
    if "+cpu" in versions["torch"]:
        return Check("torch", "bad", f"{found}: torchaudio does not load beside the CPU-only build", mend)
    return Check("torch", "ok", found)


def _ffmpeg() -> Check:
    from valor_data.media.transcode import ffmpeg_path

    try:
        path = ffmpeg_path()
        said = _run([os.fspath(path), "-version"])
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Check("ffmpeg", "bad", f"does not run: {error}", "pip install --force-reinstall imageio-ffmpeg")
    version = re.search(r"version (\S+)", said)
    return Check("ffmpeg", "ok", f"{version[1] if version else 'unknown version'}, {path}")


def _javascript() -> Check:
    from valor_data.fetch.javascript import LEAST_VERSIONS, find_runtime

    found = find_runtime()
    if found is not None:
        return Check("JavaScript runtime", "ok", f"{found[0]} {found[2]}, {found[1]}")
    wanted = " or ".join(f"{name} {major}.{minor}" for name, (major, minor) in LEAST_VERSIONS.items())
    mend = "pip install 'yt-dlp[default,deno]'"
    return Check(
        "JavaScript runtime", "bad", f"none that yt-dlp can use for YouTube; wanted is {wanted} or later", mend
    )


def _yt_dlp(today: date) -> Check:
    version = metadata.version("yt-dlp")
    year, month, day = (int(part) for part in version.split(".")[:3])
    age_days = (today - date(year, month, day)).days
    found = f"{version}, {age_days} days old"
    if age_days > OLD_YT_DLP_DAYS:
        return Check("yt-dlp", "warn", found, "pip install -U 'yt-dlp[default,deno]'")
    return Check("yt-dlp", "ok", found)


def _disk(work: WorkDir) -> Iterator[Check]:
    place = existing_parent(work.root)
    usage, inodes = shutil.disk_usage(place), os.statvfs(place)
    found = f"{usage.free / 1e9:.1f} GB free at {place}"
    writable = os.access(place, os.W_OK)
    if not writable:
        yield Check("disk", "bad", f"{place} cannot be written to", "choose another --work folder, or its permissions")
    elif usage.free < MIN_FREE_BYTES:
        yield Check("disk", "warn", found, "free some space, or put --work on a larger disk")
    else:
        yield Check("disk", "ok", found)
    if inodes.f_files and inodes.f_favail < MIN_FREE_INODES:
        yield Check("inodes", "warn", f"{inodes.f_favail:,} files can still be made", "use a file system with more")
    else:
        yield Check("inodes", "ok", f"{inodes.f_favail:,} files can still be made" if inodes.f_files else "no limit")


def _memory() -> Check:
    free = available_memory_bytes()
    if free is None:
        return Check("memory", "ok", "not told by this system")
    found = f"{free / 1e9:.1f} GB available"
    if free < MIN_FREE_MEMORY_BYTES:
        return Check("memory", "warn", found, "close other programs, or use fewer --workers")
    return Check("memory", "ok", found)


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MIN_OPEN_FILES:
        return Check("open files", "warn", f"at most {soft}", f"ulimit -n {min(hard, 4096)}")
    return Check("open files", "ok", f"at most {soft}")


def _clock(work: WorkDir) -> Check:
    now = time.time()
    newest = max((path.stat().st_mtime for path in (work.ledger, work.manifest) if path.exists()), default=0.0)
    said = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if time.gmtime(now).tm_year < 2025 or newest > now + 60:
        return Check("clock", "bad", f"{said}: the work folder's files are from later", "set the clock (timedatectl)")
    return Check("clock", "ok", said)


def _file_system(work: WorkDir) -> Check:
    place = existing_parent(work.ledger.parent)
    kind, mount = file_system_of(place)
    if kind in NETWORK_FILE_SYSTEMS:
        mend = "put --work on a local disk, unless several machines work on it"
        return Check("ledger's file system", "warn", f"{kind} at {mount}: the ledger is slower there", mend)
    return Check("ledger's file system", "ok", f"{kind or 'unknown'} at {mount}")


def _token() -> Check:
    from huggingface_hub import get_token

    if get_token() is None:
        return Check("Hugging Face token", "warn", "none; only `push` needs one", "hf auth login")
    return Check("Hugging Face token", "ok", "there (not shown)")


def existing_parent(path: Path) -> Path:
    """The nearest folder that exists, at or above a path."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


def available_memory_bytes() -> int | None:
    """What the kernel says can be had without swapping; None where it does not say."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else None


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout + done.stderr
