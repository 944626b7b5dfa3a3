"""Everything the ledger knows of a clip: why it was kept, dropped, or still waits."""

from __future__ import annotations

import difflib
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from valor_data.errors import REASONS, Status, ValorDataError
from valor_data.ledger import STAGES, ClipRow, Ledger

_KEY_TAIL = re.compile(r"_\d{8}_(?:\d{8}|open)$")


@dataclass(frozen=True, slots=True)
class Why:
    """A clip's history: a dictionary for each stage that has an outcome, the media, the facts, the shard."""

    clip: ClipRow
    stages: dict[str, dict[str, Any]]
    media: dict[str, Any] | None
    facts: dict[str, Any] | None
    content: dict[str, Any] | None
    shard: str | None
    attempts: list[dict[str, Any]]
    next: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return {
            "key": self.clip.key or self.clip.identity,
            "video_id": self.clip.video_id,
            "split": self.clip.split,
            "in_manifest": self.clip.manifest_row is not None,
            "stages": self.stages,
            "media": self.media,
            "facts": self.facts,
            "content": self.content,
            "shard": self.shard,
            "attempts": self.attempts,
            "next": self.next,
        }


def rejected_rows(rejects: Path, text: str) -> list[dict[str, Any]]:
    """Annotation rows that name a video or a clip and never entered the manifest.

    Args:
        rejects: `WORK/rejects.parquet`; nothing is found when it is not there.
        text: a key or a video id.
    """
    if not rejects.exists():
        return []
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    video_id = _KEY_TAIL.sub("", text)
    table = pq.read_table(rejects)
    rows: list[dict[str, Any]] = table.filter(pc.match_substring(table["raw"], video_id)).to_pylist()
    return rows


def explain(ledger: Ledger, text: str) -> list[Why]:
    """The history of a clip, by its key, or of every clip of a video, by its id.

    Raises:
        ValorDataError: no such clip; the message names keys that look alike.
    """
    clips = ledger.find_clips(text)
    if not clips:
        near = difflib.get_close_matches(text, ledger.keys_like(text[:4]), n=3, cutoff=0.5)
        hint = f"; keys like it: {', '.join(near)}" if near else ""
        raise ValorDataError(f"no clip {text!r} in {ledger.path}: expected a key or a video id{hint}")
    return [_explain(ledger, clip) for clip in clips]


def _explain(ledger: Ledger, clip: ClipRow) -> Why:
    stages: dict[str, dict[str, Any]] = {}
    outcomes = ledger.outcomes_of(clip.clip_id)
    for stage in STAGES:
        if stage not in outcomes:
            continue
        outcome, attempts, seen = outcomes[stage]
        stages[stage] = {
            "status": outcome.status.value,
            "reason": outcome.reason,
            "meaning": REASONS[outcome.reason].meaning if outcome.reason in REASONS else "",
            "action": REASONS[outcome.reason].action if outcome.reason in REASONS else "",
            "detail": outcome.detail,
            "attempts": attempts,
            "seen": seen,
        }
    media = ledger.media_of(clip.clip_id)
    facts = ledger.facts_of(clip.clip_id)
    return Why(
        clip=clip,
        stages=stages,
        media=None
        if media is None
        else {
            "path": media.path or "(discarded)",
            "offset_seconds": media.offset_seconds,
            "size_bytes": media.size_bytes,
            "source": json.loads(media.source),
        },
        facts=None if facts is None else json.loads(facts),
        content=_content(ledger.score_of(clip.clip_id, "content")),
        shard=ledger.shard_of(clip.clip_id),
        attempts=[asdict(attempt) for attempt in ledger.attempts_of(clip.clip_id)],
        next=_what_next(clip, stages, ledger.not_before(clip.clip_id, "fetch")),
    )


def _content(score: tuple[int, bytes] | None) -> dict[str, Any] | None:
    """What curation measured of a clip's pictures and sound."""
    if score is None:
        return None
    from valor_data.media.content import CONTENT_VERSION, Content

    if score[0] != CONTENT_VERSION:
        return None
    content = Content.from_bytes(score[1])
    return {
        "picture_change": round(content.picture_change, 3),
        "moving_share": round(content.moving_share, 4),
        "border_share": round(content.border_share, 4),
        "num_pictures_that_tell": int(content.tells.sum()),
        "seconds_of_sound_that_tell": int(content.audible.sum()) / 10,
    }


def _what_next(clip: ClipRow, stages: dict[str, dict[str, Any]], not_before: float) -> str:
    """What happens to a clip next, and when."""
    if clip.manifest_row is None:
        return "nothing: it is no longer in the manifest"
    for stage in STAGES:
        told = stages.get(stage)
        if told is None:
            return f"`{stage}` has not come to it yet"
        if told["status"] == Status.DROPPED.value:
            return f"nothing: dropped for good; `fetch --retry {told['reason']}` would ask again" if (
                stage == "fetch") else "nothing, while the media and the settings stay as they are"  # fmt: skip
        if told["status"] == Status.WAITING.value:
            if not_before > time.time():
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(not_before))
                return f"the first `{stage}` after {when} tries it again"
            return f"the next `{stage}` tries it again"
    return "nothing: it is in a shard"
