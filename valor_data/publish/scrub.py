"""What other files than shards and ledger say of a removed clip: lists, logs, runs, reports, media, leftovers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valor_data.clip import escape_id
from valor_data.publish.search import ByteSearch, search_file
from valor_data.road.deadlinks import rewrite_deadlinks
from valor_data.tombstones import video_of_key
from valor_data.workdir import WorkDir, written_aside

INSTEAD = "(a clip that was removed)"
"""Stands where a text named one."""

DERIVED = ("report", "cache", "view")
"""Folders of what is made from the rest: deleted where they tell of a removed clip, and made again by their command."""

WRITTEN = ("logs", "runs", "parts")
"""Folders of which single lines or entries are taken out."""

_WORDS = re.compile(r"[A-Za-z0-9_=-]{3,}")
_ASIDE = re.compile(r"\..+\.(?P<host>[^/]+)-(?P<pid>\d+)\.part")
_LINES = frozenset({".log", ".jsonl", ".txt", ".csv", ".tsv", ".prom", ".md", ""})


@dataclass(frozen=True, slots=True)
class Names:
    """Keys and ids in the form in which texts quote them.

    Attributes:
        words: keys, open keys, video ids, plain and escaped.
        videos: video ids: a key of any span of theirs counts too.
    """

    words: frozenset[str]
    videos: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str], videos: Iterable[str]) -> Names:
        """The names of what is removed."""
        ids = frozenset(videos)
        return cls(frozenset(names) | ids | frozenset(map(escape_id, ids)), ids)

    def stand_in(self, text: str) -> bool:
        """Whether a text quotes one."""
        return any(self._is_one(word) for word in _WORDS.findall(text)) or any(
            video_id in text for video_id in self.videos if not _WORDS.fullmatch(video_id)
        )

    def _is_one(self, word: str) -> bool:
        if word in self.words or video_of_key(word) in self.videos:
            return True
        return "=" in word and any(part in self.words for part in word.split("="))

    def cleaned(self, text: str) -> str:
        """The text, or what stands instead when it quotes one."""
        if not self.stand_in(text):
            return text
        return "{}" if text.startswith("{") else INSTEAD


def delete_media(work: WorkDir, is_removed: Callable[[str, str], bool], paths: Iterable[str]) -> tuple[int, int, int]:
    """Deletes media files of the work folder.

    Args:
        work: the work folder.
        is_removed: of a key and its video id.
        paths: where the ledger says that media lie; those outside the work folder are somebody else's.

    Returns:
        How many files were deleted, how many bytes, and how many lie outside.
    """
    number = size = outside = 0
    named: set[Path] = set()
    for path in paths:
        if (work.root / path).is_relative_to(work.media):
            named.add(work.root / path)
        else:
            outside += 1
    for file in (*named, *_media_of(work, is_removed)):
        try:
            size += file.stat().st_size
            file.unlink()
            number += 1
        except FileNotFoundError:
            continue
    return number, size, outside


def _media_of(work: WorkDir, is_removed: Callable[[str, str], bool]) -> Iterator[Path]:
    """Files of the media folder whose names are removed keys, whatever comes behind the first dot."""
    for folder, _, names in os.walk(work.media):
        for name in names:
            key = name.lstrip(".").split(".")[0]
            if is_removed(key, video_of_key(key) or key):
                yield Path(folder, name)


def delete_leftovers(work: WorkDir) -> int:
    """Deletes files that a program which no longer runs had begun to write; how many."""
    number = 0
    for folder, folders, names in os.walk(work.root):
        folders[:] = [name for name in folders if Path(folder, name) != work.tmp]
        for name in names:
            match = _ASIDE.fullmatch(name)
            if match and not _may_run(match["host"], int(match["pid"])):
                Path(folder, name).unlink(missing_ok=True)
                number += 1
    return number


def _may_run(host: str, pid: int) -> bool:
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def scrub_deadlinks(work: WorkDir, names: Names) -> int:
    """Takes removed videos out of the list of dead links; how many rows."""
    if not work.deadlinks.exists():
        return 0
    return rewrite_deadlinks(
        work.deadlinks, lambda row: row["video_id"] in names.videos or names.stand_in(row["detail"])
    )


def scrub_files(work: WorkDir, search: ByteSearch) -> list[str]:
    """Takes what is searched for out of logs, runs and reports.

    Returns:
        The files that were changed and the folders that were deleted, by their names in the work folder.
    """
    changed = []
    for name in DERIVED:
        folder = work.root / name
        if folder.is_dir() and any(search_file(search, path) for path in _files(folder)):
            shutil.rmtree(folder)
            changed.append(f"{name}/")
    for name in WRITTEN:
        for path in _files(work.root / name):
            if search_file(search, path) and _scrub(path, search):
                changed.append(str(path.relative_to(work.root)))
    return changed


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _scrub(path: Path, search: ByteSearch) -> bool:
    """Takes lines or entries out of one file; False where its kind is not known."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _scrub_parquet(path, search)
    if kind != ".json" and kind not in _LINES:
        return False
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    if kind == ".json":
        try:
            new = json.dumps(_without(json.loads(text), search), indent=1, ensure_ascii=False) + "\n"
        except ValueError:
            return False
    else:
        new = "".join(line for line in text.splitlines(keepends=True) if not search.find(line.encode()))
    with written_aside(path) as aside:
        aside.write_text(new, encoding="utf-8")
        shutil.copystat(path, aside)
    return True


def _without(tree: Any, search: ByteSearch) -> Any:
    """A tree without what holds a searched text: items of lists and named entries go, a single text is replaced."""
    if isinstance(tree, list):
        return [_without(one, search) for one in tree if not (_is_leaf(one) and _holds(one, search))]
    if isinstance(tree, dict):
        return {name: _without(one, search) for name, one in tree.items() if not search.find(name.encode())}
    return INSTEAD if isinstance(tree, str) and _holds(tree, search) else tree


def _is_leaf(tree: Any) -> bool:
    """A text, or a record of texts and numbers: what is taken out as a whole."""
    return not isinstance(tree, (list, dict)) or (
        isinstance(tree, dict) and not any(isinstance(one, (dict, list)) and one for one in tree.values())
    )


def _holds(tree: Any, search: ByteSearch) -> bool:
    return bool(search.find(json.dumps(tree, ensure_ascii=False).encode()))


def _scrub_parquet(path: Path, search: ByteSearch) -> bool:
    """Takes the rows out of a Parquet file that hold what is searched for; schema and metadata stay."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    kept = [not _holds(row, search) for row in json.loads(json.dumps(table.to_pylist(), default=str))]
    with written_aside(path) as aside:
        pq.write_table(table.filter(pa.array(kept)), os.fspath(aside), compression="zstd")
    return True
