"""How to push, and what a push did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from valor_data.publish.lint import Finding


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push.

    Attributes:
        name: `ORG/NAME`.
        branch: the branch to write.
        dry_run: work everything out, and send nothing.
        verify: read every tar that was not read before as a stranger would.
        check: load it through `datasets` when it has arrived.
        replace: the repository may become another edition, or hold files that no push made.
        bump: raise this part of the version, where the version that is tagged there holds other data.
        squash: make the branch one commit without a past afterwards, and let go of older versions' tags.
    """

    name: str
    branch: str = "main"
    dry_run: bool = False
    verify: bool = True
    check: bool = True
    replace: bool = False
    bump: str = ""
    squash: bool = False


@dataclass(slots=True)
class Pushed:
    """What a push did, or would do.

    Attributes:
        sent: files that were sent (in a dry run: would be), with their bytes.
        there: files that were there already, with their bytes.
        deleted: files that were deleted, being no longer part of the set.
        replaced: of the files sent, those that took the place of others.
        commit: the branch's last commit; empty in a dry run.
        findings: what the viewer will and will not show.
        notices: what to know besides.
    """

    name: str
    url: str
    edition: str
    version: str
    branch: str
    sent: dict[str, int] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    commit: str = ""
    findings: list[Finding] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "repository": self.name,
            "url": self.url,
            "edition": self.edition,
            "version": self.version,
            "branch": self.branch,
            "commit": self.commit,
            "sent": [{"path": name, "bytes": size} for name, size in sorted(self.sent.items())],
            "sent_bytes": sum(self.sent.values()),
            "there": [{"path": name, "bytes": size} for name, size in sorted(self.there.items())],
            "there_bytes": sum(self.there.values()),
            "deleted": sorted(self.deleted),
            "replaced": sorted(self.replaced),
            "findings": [{"level": finding.level, "text": finding.text} for finding in self.findings],
            "notices": self.notices,
        }
