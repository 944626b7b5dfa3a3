"""Proof that nothing of a removed clip is left: every file of a work folder is searched, in its bytes and unpacked."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from valor_data.ledger import Ledger
from valor_data.publish.search import CHUNK_BYTES, ByteSearch, file_parts, search_file
from valor_data.shard.output import FolderOutput, Output, open_output, output_of
from valor_data.tombstones import Tombstones, video_of_key
from valor_data.workdir import WorkDir

OURS = ("manifest.parquet", "rejects.parquet", "deadlinks.parquet", "ledger.sqlite", "tombstones.parquet")
OUR_FOLDERS = ("shards", "index", "media", "extensions", "tmp", "parts")
"""What the package alone writes: a removed clip that is found there is no fault of the user's."""

TOKEN_BYTES = 300
_TOKENS = re.compile(rb"[A-Za-z0-9_=-]{6,%d}" % TOKEN_BYTES)
_TEXT_MEMBERS = (".json", ".txt")


@dataclass(slots=True)
class Proof:
    """What was read and what was found.

    Attributes:
        num_files: files read.
        size_bytes: their bytes.
        problems: a line for each file that still tells of a removed clip.
        is_ours: whether one of them is a file that only this package writes.
    """

    num_files: int = 0
    size_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    is_ours: bool = False


def files_to_search(work: WorkDir) -> list[Path]:
    """Every file of a work folder; and its ledger and shards where they lie elsewhere on this machine's disks."""
    folders = [work.root]
    output = output_of_folder(work)
    if isinstance(output, FolderOutput) and not output.root.is_relative_to(work.root):
        folders += [output.root / "shards", output.root / "index"]
    found = {work.ledger} if work.ledger.exists() else set()
    for folder in folders:
        for place, _, names in os.walk(folder):
            found.update(Path(place, name) for name in names)
    found.discard(work.removal)
    return sorted(path for path in found if path.is_symlink() or path.is_file())


def output_of_folder(work: WorkDir) -> Output:
    """Where the shards of a work folder stand."""
    if not work.ledger.exists():
        return open_output(work.root, "")
    with Ledger(work.ledger, read_only=True) as ledger:
        return open_output(work.root, output_of(ledger))


def search_folder(work: WorkDir, search: ByteSearch, on_file: Callable[[Path], None] | None = None) -> Proof:
    """Looks for texts in every file of a work folder, and in the files' names.

    Args:
        work: the work folder.
        search: what must not be there.
        on_file: called after each file, for progress.
    """
    proof = Proof()
    for path in files_to_search(work):
        shown = _shown(work, path)
        try:
            found = search.find(shown.encode())
            if path.is_symlink():
                found |= search.find(os.fsencode(path.readlink()))
            else:
                found |= search_file(search, path)
                proof.size_bytes += path.stat().st_size
        except FileNotFoundError:
            continue  # of a program that runs beside this one
        except OSError as error:
            proof.problems.append(f"{shown}: cannot be read: {error.strerror}")
            continue
        proof.num_files += 1
        if found:
            kinds = sorted({needle.kind for needle in found})
            number = len({needle.text for needle in found})
            proof.problems.append(f"{shown}: still holds {number} of what was removed ({', '.join(kinds)})")
            proof.is_ours |= _is_ours(work, path)
        if on_file is not None:
            on_file(path)
    return proof


def _is_ours(work: WorkDir, path: Path) -> bool:
    if path == work.ledger or not path.is_relative_to(work.root):
        return True
    first = path.relative_to(work.root).parts[0]
    return first in OUR_FOLDERS or first in OURS


def _shown(work: WorkDir, path: Path) -> str:
    return str(path.relative_to(work.root)) if path.is_relative_to(work.root) else str(path)


def search_by_hash(work: WorkDir, tombstones: Tombstones, on_file: Callable[[Path], None] | None = None) -> Proof:
    """Looks for names that a list of tombstones covers, without knowing them: every word of every file is hashed.

    Of tars the names of members and the texts are read, of media files the names; captions cannot be found so.

    Args:
        work: the work folder.
        tombstones: what was removed.
        on_file: called after each file, for progress.
    """
    proof = Proof()
    known: dict[bytes, bool] = {}
    for path in files_to_search(work):
        shown = _shown(work, path)
        try:
            parts = [shown.encode(), *([] if path.is_symlink() else _words_of(work, path))]
            found = sum(_is_covered(token, tombstones, known) for part in parts for token in set(_TOKENS.findall(part)))
        except OSError as error:
            proof.problems.append(f"{shown}: cannot be read: {error.strerror}")
            continue
        proof.num_files += 1
        if found:
            proof.problems.append(f"{shown}: names {found} clips or videos that were removed")
            proof.is_ours |= _is_ours(work, path)
        if on_file is not None:
            on_file(path)
    return proof


def _words_of(work: WorkDir, path: Path) -> Iterator[bytes]:
    if path.is_relative_to(work.media):
        return
    if path.suffix != ".tar":
        for part in file_parts(path):
            for first in range(0, len(part), CHUNK_BYTES):
                yield bytes(part[first : first + CHUNK_BYTES + TOKEN_BYTES])
        return
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    yield member.name.encode()
                    data = tar.extractfile(member) if member.name.endswith(_TEXT_MEMBERS) else None
                    if data is not None:
                        yield data.read()
                    tar.members = []  # type: ignore[attr-defined]
        except tarfile.TarError:
            return


def _is_covered(token: bytes, tombstones: Tombstones, known: dict[bytes, bool]) -> bool:
    if token not in known:
        if len(known) > 1_000_000:
            known.clear()
        known[token] = any(_covers(tombstones, word) for word in _words(token.decode()))
    return known[token]


def _words(token: str) -> Iterable[str]:
    return {token, *token.split("=")} if "=" in token else (token,)


def _covers(tombstones: Tombstones, word: str) -> bool:
    video_id = video_of_key(word)
    return tombstones.covers(word, word) or (video_id is not None and tombstones.covers(None, video_id))
