"""A removal that is under way: what it needs to be ended after a kill. The file vanishes with the last step.

It holds in clear what is removed (how else could the end be searched for it), for its owner's eyes only, and while it
is there no other command drives the work folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from valor_data.errors import ValorDataError
from valor_data.publish.search import Needle
from valor_data.publish.wanted import Wanted
from valor_data.workdir import WorkDir, flush_to_disk, publish


@dataclass(slots=True)
class Pending:
    """A removal as it was begun.

    Attributes:
        wanted: what is removed.
        reason: one of `tombstones.REASON_CLASSES`.
        why: in words.
        date: YYYY-MM-DD.
        since: the data set's version when it began.
        version: the one when it is over.
        lone_videos: videos of which no clip is left.
        needles: what must be found nowhere at the end.
        changed: files changed so far, by their names.
        deleted: files deleted so far.
    """

    wanted: Wanted
    reason: str
    why: str
    date: str
    since: str
    version: str
    lone_videos: frozenset[str] = frozenset()
    needles: list[Needle] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)


def write_pending(work: WorkDir, pending: Pending) -> None:
    """Keeps it, readable by its owner alone."""
    tree = {
        "clip_ids": list(pending.wanted.clip_ids),
        "names": sorted(pending.wanted.names),
        "videos": sorted(pending.wanted.videos),
        "unknown": list(pending.wanted.unknown),
        "reason": pending.reason,
        "why": pending.why,
        "date": pending.date,
        "since": pending.since,
        "version": pending.version,
        "lone_videos": sorted(pending.lone_videos),
        "needles": [[n.text, n.kind, n.pattern.decode(), n.has_borders] for n in pending.needles],
        "changed": sorted(pending.changed),
        "deleted": sorted(pending.deleted),
    }
    aside = work.removal.with_name(f"{work.removal.name}.new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(tree, stream, ensure_ascii=False)
    publish(aside, work.removal)


def read_pending(work: WorkDir) -> Pending | None:
    """The removal that was interrupted here, or None.

    Raises:
        ValorDataError: its file is damaged.
    """
    try:
        tree: dict[str, Any] = json.loads(work.removal.read_text(encoding="utf-8"))
        return Pending(
            Wanted(
                tuple(tree["clip_ids"]), frozenset(tree["names"]), frozenset(tree["videos"]), tuple(tree["unknown"])
            ),
            tree["reason"],
            tree["why"],
            tree["date"],
            tree["since"],
            tree["version"],
            frozenset(tree["lone_videos"]),
            [Needle(text, kind, pattern.encode(), borders) for text, kind, pattern, borders in tree["needles"]],
            set(tree["changed"]),
            set(tree["deleted"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValorDataError(
            f"{work.removal}: damaged ({error}); delete it and give the same `valor-data remove` again"
        ) from None


def forget_pending(work: WorkDir) -> None:
    """Overwrites and deletes it, and what a kill left of writing it."""
    for path in (work.removal.with_name(f"{work.removal.name}.new"), work.removal):
        if path.exists():
            with path.open("r+b") as stream:
                stream.write(bytes(path.stat().st_size))
            flush_to_disk(path)
            path.unlink()
