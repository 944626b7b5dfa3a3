"""What is here and what the Hub lists, compared by size and hash."""

from __future__ import annotations

from valor_data.errors import PublishError
from valor_data.publish.contents import DATA_FOLDERS, FOLDERS, Contents, RepoFile
from valor_data.publish.hub import Remote
from valor_data.tombstones import FILE_NAME as TOMBSTONES

SHOWN = 3
"""Faults that a message names."""


def is_same(file: RepoFile, remote: Remote) -> bool:
    """Whether the Hub holds these bytes; never true while a hash is not known."""
    if file.size_bytes != remote.size_bytes:
        return False
    if remote.sha256:
        return file.sha256 == remote.sha256
    if file.path is None:
        return False
    from huggingface_hub.utils.sha import git_hash

    return bool(git_hash(file.path.read_bytes()) == remote.git_hash)


def read_sums(text: str | None) -> dict[str, str]:
    """Hashes by name, from the text of a SHA256SUMS."""
    lines = (line.partition("  ") for line in (text or "").splitlines())
    return {name: digest for digest, _, name in lines if name}


def data_differs(contents: Contents, tagged: dict[str, str]) -> bool:
    """Whether data are others than those a version was tagged with; words about the set do not count.

    Args:
        contents: the edition; tars whose hash is not known yet are taken for equal.
        tagged: hashes by name, as the tag's SHA256SUMS has them: of what was sent, whatever became of it there.
    """
    ours = {name: file.sha256 for name, file in contents.files.items() if _is_data(name)}
    theirs = {name: digest for name, digest in tagged.items() if _is_data(name)}
    return ours.keys() != theirs.keys() or any(digest and digest != theirs[name] for name, digest in ours.items())


def _is_data(name: str) -> bool:
    return name.startswith(DATA_FOLDERS) or name == TOMBSTONES


def check_arrived(contents: Contents, remote: dict[str, Remote], name: str) -> None:
    """Compares the Hub's listing with what was sent: every name, size and hash.

    Raises:
        PublishError: something is missing, damaged or too much.
    """
    faults = []
    for file in contents.files.values():
        there = remote.get(file.name)
        if there is None:
            faults.append(f"{file.name} is missing")
        elif there.size_bytes != file.size_bytes:
            faults.append(f"{file.name} has {there.size_bytes:,} bytes there, {file.size_bytes:,} here")
        elif not is_same(file, there):
            faults.append(f"{file.name} has another hash there")
    left = [other for other in remote if other.startswith(FOLDERS) and other not in contents.files]
    faults += [f"{other} is no longer part of the set" for other in left]
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise PublishError(
            f"{name}: what arrived is not what was sent: {', '.join(faults[:SHOWN])}{more}; run this again: it sends "
            "what is wrong anew"
        )
