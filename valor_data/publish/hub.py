"""One dataset repository on a Hugging Face Hub, asked patiently: the one caller of its client for uploads.

What passes (a busy server, a broken connection, too many requests) is tried again; what the user must mend is one
line. The token comes from where the client finds it (`HF_TOKEN`, `hf auth login`) and is never shown.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from valor_data.errors import PublishError
from valor_data.publish.hub_errors import BadCardError, Judge, NotThereError, PassingError, cause

AnswerT = TypeVar("AnswerT")

RETRY_SECONDS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Pauses between attempts where the Hub names none; each is drawn from its upper half."""

MAX_RETRY_AFTER_SECONDS = 3600.0
"""The Hub counts requests in windows of minutes and commits in windows of an hour: a longer wait is not waited for."""

log = logging.getLogger("valor_data")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the Hub lists it: `sha256` of what LFS stores, else `git_hash` of what git does."""

    size_bytes: int
    sha256: str
    git_hash: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send: a finished local file, where it goes, and what its sha256 must be."""

    path: Path
    name: str
    sha256: str


class HubRepository:
    """A dataset repository and one of its branches.

    Args:
        name: `ORG/NAME`.
        branch: the branch that is read and written.
        say: told of waits, in a line.

    Raises:
        PublishError: the name is none, or there is no token.
    """

    def __init__(self, name: str, branch: str = "main", say: Callable[[str], None] = log.info) -> None:
        from huggingface_hub import HfApi, get_token

        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", name, re.ASCII) or ".." in name:
            raise PublishError(f"{name}: expected ORG/NAME, such as my-lab/valor-1m")
        token = get_token()
        if not token:
            raise PublishError("no token for the Hub: run `hf auth login`, or set HF_TOKEN to one with write access")
        self.name, self.branch = name, branch
        self._say = say
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
        self._judge = Judge(name, str(self._api.endpoint), branch, token)
        self._where: dict[str, Any] = {"repo_id": name, "repo_type": "dataset"}

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self._api.endpoint}/datasets/{self.name}"

    def user(self) -> str:
        """Whose the token is; the first question, so that a wrong one is found before anything else.

        Raises:
            PublishError: the Hub does not know it.
        """
        return str(self._try("asking who you are", lambda: self._api.whoami(cache=False))["name"])

    def exists(self) -> bool:
        """Whether the repository is there and may be read."""
        try:
            self._try("looking for it", lambda: self._api.repo_info(**self._where))
        except NotThereError:
            return False
        return True

    def create(self, *, private: bool) -> None:
        """Makes the repository and the branch, unless they are there."""
        self._try(
            "making the repository",
            lambda: self._api.create_repo(**self._where, private=private or None, exist_ok=True),
        )
        if self.branch != "main":
            self._try(
                "making the branch", lambda: self._api.create_branch(**self._where, branch=self.branch, exist_ok=True)
            )

    def set_access(self, *, private: bool, gated: str) -> None:
        """Hides the repository, or makes people ask; nothing is made more open than it is.

        Args:
            private: only its owners see it.
            gated: `auto`, `manual`, or empty.
        """
        changes: dict[str, Any] = {**({"private": True} if private else {}), **({"gated": gated} if gated else {})}
        if changes:
            self._try("setting who may see it", lambda: self._api.update_repo_settings(**self._where, **changes))

    def head(self) -> str:
        """The last commit of the branch.

        Raises:
            NotThereError: there is no such repository or branch.
        """
        info = self._try("looking at it", lambda: self._api.repo_info(**self._where, revision=self.branch))
        return str(info.sha)

    def tags(self) -> dict[str, str]:
        """Commits by tag."""
        refs = self._try("reading its tags", lambda: self._api.list_repo_refs(**self._where))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def listing(self, revision: str | None = None) -> dict[str, Remote]:
        """Every file of a revision, by name; None: the branch.

        Raises:
            NotThereError: there is no such repository or revision.
        """
        entries = self._try(
            "listing its files",
            lambda: list(self._api.list_repo_tree(**self._where, recursive=True, revision=revision or self.branch)),
        )
        return {entry.path: _remote(entry) for entry in entries if hasattr(entry, "blob_id")}

    def some(self, names: Sequence[str]) -> dict[str, Remote]:
        """Those of some files that the branch has."""
        entries = self._try(
            "looking at its files",
            lambda: self._api.get_paths_info(**self._where, paths=list(names), revision=self.branch),
        )
        return {entry.path: _remote(entry) for entry in entries if hasattr(entry, "blob_id")}

    def read(self, name: str, folder: Path, revision: str | None = None) -> str | None:
        """The text of a small file; None where there is none."""
        try:
            path = self._try(
                f"reading {name}",
                lambda: self._api.hf_hub_download(
                    **self._where, filename=name, revision=revision or self.branch, local_dir=folder
                ),
            )
        except NotThereError:
            return None
        return Path(path).read_text(encoding="utf-8", errors="replace")

    def send(self, uploads: Sequence[Upload]) -> list[Any]:
        """Uploads what goes to LFS; what the Hub has already, by hash, is not sent. Not visible before `commit`.

        Returns:
            The operations that `commit` takes.

        Raises:
            PublishError: a file is not what it should be, or the Hub did not take it.
        """
        from huggingface_hub import CommitOperationAdd

        operations = []
        for upload in uploads:
            operation = CommitOperationAdd(path_in_repo=upload.name, path_or_fileobj=os.fspath(upload.path))
            if operation.upload_info.sha256.hex() != upload.sha256:
                raise PublishError(
                    f"{upload.name}: its bytes are not those that were checked; was it changed meanwhile? run "
                    "`valor-data verify`, then this again"
                )
            operations.append(operation)
        self._try(
            "uploading",
            lambda: self._api.preupload_lfs_files(**self._where, additions=operations, revision=self.branch),
        )
        return operations

    def commit(self, operations: Sequence[Any], deleted: Sequence[str], message: str, parent: str) -> str:
        """Makes what was sent visible, and deletes files, in one commit.

        The client does not try a failed commit again, and one whose answer was lost may have happened: before each
        new attempt the branch is asked what of it is there.

        Args:
            operations: of `send`.
            deleted: names of files to delete.
            message: of the commit.
            parent: the branch's last commit as far as we know; with another one there nothing is committed.

        Returns:
            The branch's last commit.
        """
        from huggingface_hub import CommitOperationDelete

        wanted = {operation.path_in_repo: operation for operation in operations}
        going = list(deleted)

        def attempt() -> str:
            everything = [*wanted.values(), *(CommitOperationDelete(path_in_repo=name) for name in going)]
            info = self._api.create_commit(
                **self._where, operations=everything, commit_message=message, revision=self.branch, parent_commit=parent
            )
            return str(info.oid)

        for pause in (*RETRY_SECONDS, None):
            try:
                return self._ask("committing", attempt)
            except PassingError as error:
                self._wait(error, pause)
            wanted, going = self._still_to_do(wanted, going)
            if not wanted and not going:
                return self.head()
        raise PublishError(f"{self.name}: committing failed")  # not reached: the last pause raises

    def _still_to_do(self, wanted: dict[str, Any], going: list[str]) -> tuple[dict[str, Any], list[str]]:
        names = [*wanted, *going]
        there: dict[str, Remote] = {}
        for first in range(0, len(names), 500):
            there.update(self.some(names[first : first + 500]))
        left = {name: each for name, each in wanted.items() if name not in there or not _is_same(each, there[name])}
        return left, [name for name in going if name in there]

    def tag(self, name: str, revision: str, message: str) -> None:
        """Names a commit."""
        self._try(
            f"tagging {name}",
            lambda: self._api.create_tag(
                **self._where, tag=name, revision=revision, tag_message=message, exist_ok=True
            ),
        )

    def squash(self, message: str, tags: Iterable[str]) -> tuple[str, int]:
        """Makes the branch one commit without a past, and lets go of tags, which would keep the past.

        Large files that no branch holds any more are deleted: the Hub keeps them, with their address, until it is told.

        Returns:
            The branch's one commit, and how many large files were deleted.
        """
        for tag in tags:
            self._try(f"letting go of {tag}", lambda tag=tag: self._api.delete_tag(**self._where, tag=tag))  # type: ignore[misc]
        self._try(
            "squashing its history",
            lambda: self._api.super_squash_history(**self._where, branch=self.branch, commit_message=message),
        )
        return self.head(), self._forget_files()

    def _forget_files(self) -> int:
        refs = self._try("reading its branches", lambda: self._api.list_repo_refs(**self._where))
        held = {file.sha256 for ref in refs.branches for file in self.listing(ref.name).values()}
        stored = self._try("listing what is stored", lambda: list(self._api.list_lfs_files(**self._where)))
        going = [file for file in stored if file.oid not in held]
        if going:
            self._try(
                "deleting what is no longer held",
                lambda: self._api.permanently_delete_lfs_files(**self._where, lfs_files=going, rewrite_history=False),
            )
        return len(going)

    def check_card(self, text: str) -> None:
        """Asks the Hub whether a card's YAML is right.

        Raises:
            PublishError: it is not; the message says what the Hub found.
        """
        from huggingface_hub import DatasetCard

        try:
            self._try("checking the card", lambda: DatasetCard(text, ignore_metadata_errors=False).validate("dataset"))
        except BadCardError as error:
            raise PublishError(f"README.md: the Hub does not take its YAML: {error}") from None

    def _try(self, what: str, call: Callable[[], AnswerT]) -> AnswerT:
        """Calls until it answers; raises what the user must mend at once."""
        for pause in (*RETRY_SECONDS, None):
            try:
                return self._ask(what, call)
            except PassingError as error:
                self._wait(error, pause)
        raise PublishError(f"{self.name}: {what} failed")  # not reached: the last pause raises

    def _ask(self, what: str, call: Callable[[], AnswerT]) -> AnswerT:
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        client_error: Any = HfHubHTTPError.__mro__[
            1
        ]  # what the client's HTTP library raises, whichever version it is of
        try:
            return call()
        except (client_error, OSError, RuntimeError, ValueError) as error:
            raise self._judge.judge(what, cause(error)) from None

    def _wait(self, error: PassingError, pause: float | None) -> None:
        if pause is None or (error.after_seconds or 0) > MAX_RETRY_AFTER_SECONDS:
            wait = f" and asks to wait {error.after_seconds / 60:.0f} minutes" if error.after_seconds else ""
            raise PublishError(f"{error}{wait}; the same command goes on from here") from None
        seconds = error.after_seconds if error.after_seconds is not None else pause * random.uniform(0.5, 1)  # noqa: S311
        self._say(f"{error}; trying again in {seconds:.0f} s")
        time.sleep(seconds)


def _remote(entry: Any) -> Remote:
    return Remote(entry.size, "" if entry.lfs is None else entry.lfs.sha256, entry.blob_id)


def _is_same(operation: Any, remote: Remote) -> bool:
    from huggingface_hub.utils.sha import git_hash

    if remote.sha256:
        return bool(operation.upload_info.sha256.hex() == remote.sha256)
    with operation.as_file() as file:
        return bool(git_hash(file.read()) == remote.git_hash)
