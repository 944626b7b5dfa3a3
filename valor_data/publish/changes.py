"""What has changed in a work folder's shards since its last upload: `WORK/changes.json`, for the next commit.

`push` compares hashes and would find the same; the list says it at once, and to people.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valor_data.errors import ConfigError
from valor_data.publish.version import Version, read_version
from valor_data.workdir import WorkDir, written_aside


@dataclass(slots=True)
class Changes:
    """Files to upload anew and to delete, by their names in the work folder or at its output.

    Attributes:
        since: the version that was uploaded last, or would have been.
        version: the version now.
        changed: files with other bytes, or new ones.
        deleted: files that are no more.
    """

    since: str
    version: str
    changed: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "since": self.since,
            "version": self.version,
            "changed": sorted(self.changed - self.deleted),
            "deleted": sorted(self.deleted),
        }


def changes_file(work: WorkDir) -> Path:
    """Where the list lies."""
    return work.root / "changes.json"


def read_changes(work: WorkDir) -> Changes:
    """What has changed so far; nothing where there is no list.

    Raises:
        ConfigError: the file is damaged.
    """
    path = changes_file(work)
    if not path.exists():
        return Changes(str(read_version(work)), str(read_version(work)))
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return Changes(tree["since"], tree["version"], set(tree["changed"]), set(tree["deleted"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: damaged; delete it: `push` compares hashes anyway") from None


def note_changes(
    work: WorkDir, since: Version, version: Version, changed: Iterable[str], deleted: Iterable[str] = ()
) -> Changes:
    """Adds to the list; the same again makes no difference.

    Args:
        work: the work folder.
        since: the version before these changes; counts where there was no list.
        version: the version behind them.
        changed: names of files that are others now, or new.
        deleted: names of files that are no more.
    """
    changes = read_changes(work) if changes_file(work).exists() else Changes(str(since), str(version))
    changed, deleted = set(changed), set(deleted)
    changes.version = str(version)
    changes.changed = (changes.changed | changed) - deleted
    changes.deleted = (changes.deleted - changed) | deleted
    with written_aside(changes_file(work)) as path:
        path.write_text(json.dumps(changes.to_dict(), indent=1) + "\n", encoding="utf-8")
    return changes
