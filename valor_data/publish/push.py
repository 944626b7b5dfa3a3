"""Push: what a work folder holds becomes a dataset repository on the Hub, checked before, while and after.

Nothing is remembered of a push but what was found out at some cost (`WORK/publish.json`). What is there already is
asked of the Hub, by hash: a push that was stopped goes on when it is given again.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from valor_data.config import PublishSection
from valor_data.errors import PublishError
from valor_data.ledger import Ledger
from valor_data.publish.arrived import check_arrived, data_differs, is_same, read_sums
from valor_data.publish.built import Built, check_shards, read_built
from valor_data.publish.changes import changes_file
from valor_data.publish.contents import DATA_FOLDERS, FOLDERS, MARK, OWN_FILES, Contents, gather
from valor_data.publish.editions import check_edition
from valor_data.publish.hub import HubRepository, Remote
from valor_data.publish.lint import check
from valor_data.publish.loads import check_loads
from valor_data.publish.outcome import Pushed, PushOptions
from valor_data.publish.sender import Sender
from valor_data.publish.staging import Known, staging, undisturbed
from valor_data.publish.version import Version, read_version, write_version
from valor_data.road.driver import NoProgress, Progress
from valor_data.shard.output import extensions_of
from valor_data.workdir import WorkDir

SHOWN = 3
"""Files that a message names."""


def push(work: WorkDir, section: PublishSection, options: PushOptions, progress: Progress | None = None) -> Pushed:
    """Pushes an edition of a work folder's set, or goes on with a push that was stopped.

    Args:
        work: the work folder.
        section: the `[publish]` settings.
        options: how.
        progress: shown while it runs.

    Raises:
        PublishError: the set is not fit to be published, or the Hub did not take it; the message says what to do. What
            arrived is not sent again by the next push.
        ConfigError: no such part of a version.
    """
    if work.removal.exists():
        raise PublishError(f"a removal was interrupted here: end it first with `valor-data remove --work {work.root}`")
    if options.bump:
        Version().raised(options.bump)  # a wrong word is told before anything is done
    with ExitStack() as stack:
        stack.enter_context(undisturbed(work))
        ledger = stack.enter_context(Ledger(work.ledger, read_only=True))
        folder = stack.enter_context(staging(work))
        run = _Push(work, section, options, progress or NoProgress(), ledger, folder)
        try:
            return run.go()
        finally:
            run.progress.finish()


@dataclass(slots=True)
class _Push:
    work: WorkDir
    section: PublishSection
    options: PushOptions
    progress: Progress
    ledger: Ledger
    folder: Path
    done_bytes: int = 0

    def go(self) -> Pushed:
        repository = HubRepository(self.options.name, self.options.branch, self.progress.note)
        user = repository.user()
        built = read_built(self.work, self.ledger)
        check_edition(built, self.section.edition)
        known = Known.of(self.work)
        if self.options.verify and not self.options.dry_run:
            self._verify(built, known)
        exists = repository.exists()
        remote = self._listing(repository) if exists else {}
        former = self._check_former(repository, remote) if remote else None
        version, tagged = read_version(self.work), self._tagged(repository) if exists else {}
        contents = self._contents(built, known, repository, tagged, former)
        findings = check(contents)
        repository.check_card((self.folder / "README.md").read_text(encoding="utf-8"))
        pushed = Pushed(
            repository.name, repository.url, self.section.edition, str(contents.facts.version), self.options.branch,
            findings=findings,
        )  # fmt: skip
        self._sort(pushed, contents, remote)
        if extensions := sorted(extensions_of(self.ledger)):
            pushed.notices.append(
                f"the set is published without its extensions, which stay here: {', '.join(extensions)}"
            )
        if self.options.dry_run:
            pushed.notices.append(f"nothing was sent; it would be sent as {user}")
            return pushed
        self._send_all(repository, contents, remote, known, pushed)
        if tagged and contents.facts.version == version and data_differs(contents, tagged):
            raise _tagged_already(contents)  # known only now: tars were made to be hashed
        self._finish(repository, contents, pushed)
        return pushed

    def _verify(self, built: Built, known: Known) -> None:
        self.progress.start("verify", len(built.shards), "shards")
        try:
            check_shards(built, known.sound, lambda is_new: self.progress.advance("read" if is_new else "known"))
        finally:
            known.save()
            self.progress.finish()

    def _listing(self, repository: HubRepository) -> dict[str, Remote]:
        try:
            return repository.listing()
        except PublishError:
            if self.options.branch == "main":
                raise
            return HubRepository(self.options.name, "main", self.progress.note).listing()  # where the branch will begin

    def _check_former(self, repository: HubRepository, remote: dict[str, Remote]) -> str | None:
        """The README.md that is there.

        Raises:
            PublishError: the repository holds something else.
        """
        revision = "main" if self.options.branch != "main" else None
        marked = repository.read(MARK, self.folder / "former", revision) if MARK in remote else None
        try:
            edition = json.loads(marked)["edition"] if marked is not None else ""
        except (ValueError, KeyError, TypeError):
            edition = ""
        ours = [name for name in remote if name.startswith(FOLDERS)]
        if edition and edition != self.section.edition and not self.options.replace:
            raise PublishError(
                f"{repository.name} holds the edition {edition}, and a repository is read in one way: push the edition "
                f"{self.section.edition} to one of its own, such as {repository.name}-{self.section.edition}; with "
                "--replace it takes the place of the other"
            )
        if ours and not edition and not self.options.replace:
            raise PublishError(
                f"{repository.name} holds files that no push of valor-data made ({', '.join(ours[:SHOWN])}): take "
                "another name, or --replace them"
            )
        return repository.read("README.md", self.folder / "former", revision) if "README.md" in remote else None

    def _tagged(self, repository: HubRepository) -> dict[str, str]:
        """Hashes of what the version's tag stands for, where it is there already."""
        tag = read_version(self.work).tag
        if self.options.branch != "main" or tag not in repository.tags():
            return {}
        return read_sums(repository.read("SHA256SUMS", self.folder / "tagged", tag))

    def _contents(
        self, built: Built, known: Known, repository: HubRepository, tagged: dict[str, str], former: str | None
    ) -> Contents:
        version = read_version(self.work)
        contents = self._gather(built, known, repository, version, former)
        if tagged and data_differs(contents, tagged):
            if not self.options.bump:
                raise _tagged_already(contents)
            version = version.raised(self.options.bump)
            contents = self._gather(built, known, repository, version, former)
        if not self.options.dry_run and (version != read_version(self.work) or not self.work.version.exists()):
            write_version(self.work, version)
        return contents

    def _gather(
        self, built: Built, known: Known, repository: HubRepository, version: Version, former: str | None
    ) -> Contents:
        where = (repository.name, repository.url)
        contents = gather(built, self.ledger, self.section, version, where, self.folder, former)
        for name in contents.derived:
            source, made = known.derived.get(name, ["", ""])
            if source == built.shards[name].sidecar["tar_sha256"]:
                contents.know_tar(name, made)
        contents.finish_sums()
        return contents

    def _sort(self, pushed: Pushed, contents: Contents, remote: dict[str, Remote]) -> None:
        for file in contents.files.values():
            is_there = file.name in remote and is_same(file, remote[file.name])
            (pushed.there if is_there else pushed.sent)[file.name] = file.size_bytes
            if not is_there and file.name in remote:
                pushed.replaced.append(file.name)
        ours = (name for name in remote if name.startswith(FOLDERS) or name in OWN_FILES)
        pushed.deleted = sorted(name for name in ours if name not in contents.files)

    def _send_all(
        self, repository: HubRepository, contents: Contents, remote: dict[str, Remote], known: Known, pushed: Pushed
    ) -> None:
        repository.create(private=self.section.private)
        repository.set_access(private=self.section.private, gated=self.section.approval if self.section.gated else "")
        self.progress.start("push", -(-sum(pushed.sent.values()) // 10**6), "MB")
        sender = Sender(repository, contents, remote, known, pushed, self.count)
        sender.go()
        pushed.commit = sender.head
        self.progress.finish()

    def _finish(self, repository: HubRepository, contents: Contents, pushed: Pushed) -> None:
        check_arrived(contents, repository.listing(pushed.commit), repository.name)
        if self.options.squash:
            tags = repository.tags()
            pushed.commit, number = repository.squash(f"version {pushed.version}", tags)
            pushed.notices.append(
                f"the history is one commit, and {number} files that no branch holds were deleted there"
            )
            check_arrived(contents, repository.listing(pushed.commit), repository.name)
        if self.options.branch == "main" and contents.facts.version.tag not in repository.tags():
            repository.tag(contents.facts.version.tag, pushed.commit, f"version {pushed.version}")
        if self.options.branch == "main":
            changes_file(self.work).unlink(missing_ok=True)
        if self.options.check:
            pushed.notices += check_loads(contents.facts, pushed.commit)
        lost = [name for name in [*pushed.deleted, *pushed.replaced] if name.startswith(DATA_FOLDERS)]
        if lost and not self.options.squash:
            pushed.notices.append(
                f"the repository's history still holds {len(lost)} files that were replaced or deleted; --squash lets "
                "go of them, and of the tags of older versions"
            )

    def count(self, size_bytes: int) -> None:
        """Moves the bar by what was sent."""
        before, self.done_bytes = self.done_bytes, self.done_bytes + size_bytes
        moved = -(-self.done_bytes // 10**6) - -(-before // 10**6)
        if moved:
            self.progress.advance("sent", count=moved)


def _tagged_already(contents: Contents) -> PublishError:
    return PublishError(
        f"version {contents.facts.version} of {contents.facts.name} is tagged already, with other data: raise the "
        "version with --bump minor (clips came, went or were captioned anew) or --bump major (another plan, other "
        "settings)"
    )
