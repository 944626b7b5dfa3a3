"""From what a person names (keys, video ids) to the clips of a work folder, and to all that tells of them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valor_data.clip import unescape_id
from valor_data.errors import ConfigError, ManifestError
from valor_data.ledger import Ledger
from valor_data.manifest import Manifest
from valor_data.publish.search import ByteSearch, Needle, needles_of, texts_of_table
from valor_data.shard.output import Output, rows_of, tar_of
from valor_data.tombstones import Tombstones, video_of_key


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be removed.

    Attributes:
        clip_ids: clips of the ledger.
        names: keys and open keys, those that the ledger does not know included.
        videos: videos that are removed as a whole.
        unknown: what was named and is not in the set.
    """

    clip_ids: tuple[int, ...] = ()
    names: frozenset[str] = frozenset()
    videos: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    def covers(self, key: str, video_id: str) -> bool:
        """Whether a clip is among them."""
        return key in self.names or video_id in self.videos


def read_entries(ids: Path | None, keys: Sequence[str]) -> list[str]:
    """Keys and video ids, each once: of a file (or standard input: `-`), a line each, and of options.

    Behind a tab a line may say what it likes, as `audit --out` does; empty lines and such that begin with `# ` say
    nothing.

    Raises:
        ConfigError: the file cannot be read.
    """
    lines: list[str] = list(keys)
    if ids is not None:
        try:
            lines += (sys.stdin.read() if str(ids) == "-" else ids.read_text(encoding="utf-8")).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            told = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"--ids {ids}: {told}; expected a file with a key or a video id a line") from None
    names = (line.split("\t")[0].strip() for line in lines if not line.startswith("# "))
    return list(dict.fromkeys(name for name in names if name))


def find_wanted(ledger: Ledger, entries: Iterable[str]) -> Wanted:
    """The clips that keys and video ids name."""
    clip_ids: dict[int, None] = {}
    names: set[str] = set()
    videos: set[str] = set()
    unknown: list[str] = []
    for entry in entries:
        clips = ledger.find_clips(entry)
        is_video = video_of_key(entry) is None or any(clip.video_id == entry for clip in clips)
        if not clips and is_video and "=" in entry:  # as keys and media files write it
            entry = _plain(entry)
            clips = ledger.find_clips(entry)
        if is_video:
            videos.add(entry)
        else:
            names.add(entry)
        if not clips:
            unknown.append(entry)
        for clip in clips:
            clip_ids[clip.clip_id] = None
            names.update(name for name in (clip.key, clip.identity) if name)
    return Wanted(tuple(clip_ids), frozenset(names), frozenset(videos), tuple(unknown))


def covered_clips(ledger: Ledger, tombstones: Tombstones) -> list[str]:
    """Keys (or open keys) of all clips of a ledger that a list of tombstones names."""
    found = []
    videos: dict[str, bool] = {}
    for identity, key, video_id in ledger.all_names():
        if video_id not in videos:
            videos[video_id] = tombstones.covers(None, video_id)
        if videos[video_id] or tombstones.covers(identity, None) or tombstones.covers(key, None):
            found.append(key or identity)
    return found


def _plain(escaped: str) -> str:
    try:
        return unescape_id(escaped)
    except ManifestError:
        return escaped


def rows_of_wanted(listed: Manifest, wanted: Wanted) -> Any:
    """Which rows of a manifest are among them, a truth value each."""
    import numpy as np

    from valor_data.clip import open_key

    names = (listed.table[column].to_pylist() for column in ("key", "video_id", "start_seconds"))
    found = (wanted.covers(key or open_key(video, start), video) for key, video, start in zip(*names, strict=True))
    return np.fromiter(found, dtype=bool, count=len(listed))


def texts_of_rows(listed: Manifest, rows: Any) -> set[str]:
    """Captions, questions and addresses of some rows of a manifest."""
    import numpy as np

    texts: set[str] = set()
    for clip in listed.clips(np.flatnonzero(rows).tolist()):
        texts.update(caption.text for caption in clip.captions)
        texts.update(question.question for question in clip.questions)
        texts.add(clip.url or "")
    return texts - {""}


def texts_in_shard(output: Output, name: str, erase: Callable[[str, str], bool]) -> set[str]:
    """Captions and questions that the samples of some clips hold now: their shard may be older than the manifest."""
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(output.read(rows_of(name)))).to_pylist()
    except FileNotFoundError:
        return set()
    texts: set[str] = set()
    for row in rows:
        if not erase(row["key"], row["video_id"]):
            continue
        for member in row["members"]:
            if member["name"] == f"{row['key']}.json":
                data = output.read(tar_of(name), member["offset"], member["offset"] + member["size"])
                texts |= _texts_of_sample(json.loads(data))
    return texts - {""}


def _texts_of_sample(details: Mapping[str, Any]) -> set[str]:
    return {caption["text"] for caption in details.get("captions", ())} | {
        question["question"] for question in details.get("questions", ())
    }


def to_look_for(wanted: Wanted, lone_videos: Iterable[str], texts: set[str], left: Manifest | None) -> list[Needle]:
    """What must be found nowhere any more.

    Args:
        wanted: what is removed.
        lone_videos: videos of which no clip is left.
        texts: captions and questions of what is removed.
        left: the manifest without it: a text that another clip has too, or that is a part of one, is not looked for.
    """
    needles = needles_of(wanted.names, {*wanted.videos, *lone_videos}, texts)
    if left is None or not texts:
        return needles
    search = ByteSearch([needle for needle in needles if needle.kind == "caption"])
    shared: set[str] = set()
    for data in texts_of_table(left.table.select(["captions", "questions", "labels", "label_names", "url"])):
        shared.update(needle.text for needle in search.find(data))
    return [needle for needle in needles if needle.kind != "caption" or needle.text not in shared]
