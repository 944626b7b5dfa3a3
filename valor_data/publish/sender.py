"""Sends what the Hub does not have, in commits of some size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valor_data.publish.arrived import is_same
from valor_data.publish.contents import MARK, Contents, RepoFile
from valor_data.publish.hub import HubRepository, Remote, Upload
from valor_data.publish.outcome import Pushed
from valor_data.publish.staging import Known
from valor_data.shard.output import json_of, tar_of

COMMIT_FILES = 100
COMMIT_BYTES = 10 * 10**9
"""A commit has at most so many files and bytes: the Hub advises 50 to 100 files, and counts commits by the hour."""

SEND_BYTES = 10**9
"""So much is uploaded before the bar moves; tars that were made for it are deleted then."""


@dataclass(slots=True)
class Sender:
    """Sends shard after shard in commits of some size; the card, the rows and the deletions come last, together."""

    repository: HubRepository
    contents: Contents
    remote: dict[str, Remote]
    known: Known
    pushed: Pushed
    on_sent: Callable[[int], None]
    head: str = ""
    operations: list[Any] = field(default_factory=list)
    waiting: list[tuple[RepoFile, Path]] = field(default_factory=list)
    handled: set[str] = field(default_factory=set)

    def go(self) -> None:
        """Sends everything; afterwards `head` is the branch's last commit."""
        self.head = self.repository.head()
        shards = self.contents.built.shards if self.contents.edition != "ids" else {}
        if shards:
            self._add_wanted(self.contents.files[MARK])
        for name in shards:
            self._add_shard(name)
            if len(self.operations) + len(self.waiting) >= COMMIT_FILES or self._num_bytes() >= COMMIT_BYTES:
                self._commit(f"version {self.pushed.version}: shards up to {name}")
        self.contents.finish_sums()
        for file in self.contents.files.values():
            if not file.shard:
                self._add_wanted(file)
        self._commit(f"version {self.pushed.version} of the {self.pushed.edition} edition", self.pushed.deleted)

    def _add_wanted(self, file: RepoFile) -> None:
        if file.path is not None and file.name not in self.handled and self._is_wanted(file):
            self._add(file, file.path)

    def _num_bytes(self) -> int:
        return sum(self.contents.files[operation.path_in_repo].size_bytes for operation in self.operations) + sum(
            file.size_bytes for file, _ in self.waiting
        )

    def _is_wanted(self, file: RepoFile) -> bool:
        there = self.remote.get(file.name)
        return there is None or not is_same(file, there)

    def _add_shard(self, name: str) -> None:
        """Adds what of a shard is not there; a tar of another edition is made to learn its hash, if nobody knows it."""
        contents, shard = self.contents, self.contents.built.shards[name]
        tar = contents.files.get(tar_of(name))
        if tar is not None and (not tar.sha256 or self._is_wanted(tar)):
            folder = contents.folder / "tars"
            folder.mkdir(exist_ok=True)
            path, sha256 = contents.make_tar(shard, folder)
            if name in contents.derived:
                contents.know_tar(name, sha256)
                self.known.derived[name] = [str(shard.sidecar["tar_sha256"]), sha256]
            tar = contents.files[tar_of(name)]
            if self._is_wanted(tar):
                self._add(tar, path)
            else:
                self._skip(tar)
                _discard(path, folder)
        for file in contents.of_shard(name):
            self._add_wanted(file)
            if file.name == json_of(name) and file.name not in self.handled:
                self._skip(file)

    def _skip(self, file: RepoFile) -> None:
        """Takes note of a file that was thought to be sent and is there."""
        if file.name in self.pushed.sent:
            self.pushed.there[file.name] = self.pushed.sent.pop(file.name)

    def _add(self, file: RepoFile, path: Path) -> None:
        self.waiting.append((file, path))
        self.handled.add(file.name)
        if sum(each.size_bytes for each, _ in self.waiting) >= SEND_BYTES:
            self._send()

    def _send(self) -> None:
        """Uploads what waits, so that tars made for it can go."""
        if not self.waiting:
            return
        self.operations += self.repository.send([Upload(path, file.name, file.sha256) for file, path in self.waiting])
        for file, path in self.waiting:
            self.on_sent(file.size_bytes)
            _discard(path, self.contents.folder / "tars")
        self.waiting.clear()

    def _commit(self, message: str, deleted: list[str] | None = None) -> None:
        self._send()
        if not self.operations and not deleted:
            return
        self.head = self.repository.commit(self.operations, deleted or [], message, self.head)
        self.known.save()
        self.operations.clear()


def _discard(path: Path, folder: Path) -> None:
    """Deletes a tar that was made or copied for sending; never one in its own place."""
    if path.is_relative_to(folder):
        path.unlink(missing_ok=True)
