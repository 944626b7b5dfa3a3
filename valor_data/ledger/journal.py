"""Which journal SQLite keeps for a ledger: write-ahead logging needs memory that machines do not share."""

from __future__ import annotations

import os
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph", "fuse.s3fs", "9p", "afs"]
)
"""SQLite's write-ahead log needs shared memory, which these do not give."""

BUSY_SECONDS = 600.0
"""How long one waits for the other where reading and writing exclude each other; an export may take minutes."""


def journal_of(path: Path, *, is_part: bool) -> str:
    """The journal of a ledger that is opened for writing.

    Args:
        path: the ledger; its folder exists.
        is_part: it is a part's: other machines will read it.

    Returns:
        `WAL` where only this machine reads and writes it: nobody waits. Else `TRUNCATE`, a rollback journal.
    """
    return "TRUNCATE" if is_part or file_system_of(path.parent)[0] in NETWORK_FILE_SYSTEMS else "WAL"


def is_cut_short(path: Path) -> bool:
    """Whether a rollback journal lies beside a ledger: of a writer at work, or of one that was killed.

    A killed one's is rolled back by whoever opens the ledger next, which a read-only connection cannot.
    """
    try:
        return path.with_name(f"{path.name}-journal").stat().st_size > 0
    except FileNotFoundError:
        return False


def file_system_of(place: Path) -> tuple[str, str]:
    """The kind of the file system a folder lies on, and where that is mounted."""
    best = ("", "/")
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return best
    resolved = os.fspath(place.resolve())
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[1]):
            best = (kind, mount)
    return best
