"""A seeded sample of clips to look at and to listen to: kept ones, and refused ones of every reason."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valor_data.errors import ShardError, Status
from valor_data.ledger import STAGES, ClipRow, Ledger
from valor_data.look.concepts import audioset_classes
from valor_data.look.previews import PreviewUnit, run_previews, without_paths
from valor_data.look.shard_set import Shard, Stored, sample_in
from valor_data.look.verify import output_of_work
from valor_data.manifest.table import read_columns
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings
from valor_data.media.preview import Preview
from valor_data.shard.output import rows_of, tar_of
from valor_data.tombstones import Tombstones, local_tombstones
from valor_data.workdir import WorkDir

NUM_PICTURES = 6
PICTURE_SHORT_SIDE_PX = 128
PICTURE_QUALITY = 80

_COLUMNS = ("key", "video_id", "start_seconds", "end_seconds", "split", "captions", "labels", "label_names")


@dataclass(frozen=True, slots=True)
class Choice:
    """A clip that was drawn, and how it stands: `kept`, `dropped` or `waiting`, at a stage, with a reason."""

    clip_id: int
    stage: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class GalleryClip:
    """A clip to show.

    Attributes:
        key: its name.
        split: its split.
        choice: how it stands.
        detail: the raw text behind the reason.
        seconds: its length; 0 while its end is unknown.
        start: its first second of the video.
        captions: (text, role).
        labels: in words where there are words.
        facts: what was measured; empty where nothing was.
        shard: the shard it is in; empty where it is in none.
        preview: pictures, mel and sound.
        note: why something that should be there is not; empty where all is well.
    """

    key: str
    split: str
    choice: Choice
    detail: str
    seconds: float
    start: float
    captions: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    facts: dict[str, Any]
    shard: str = ""
    preview: Preview = field(default_factory=Preview)
    note: str = ""


def choose(ledger: Ledger, num_kept: int, num_refused: int, seed: int) -> list[Choice]:
    """Draws clips: kept ones of the last stage that kept any, and refused or waiting ones.

    Of every reason at each stage there is one at least, however many that makes; the others share what is left of
    `num_refused` evenly.
    """
    draw = random.Random(seed)  # noqa: S311 - a draw, not a secret
    groups: list[tuple[str, str, str, Sequence[int]]] = []
    kept: list[Choice] = []
    for stage in STAGES:
        for (status, reason), clip_ids in sorted(ledger.ids_by_outcome(stage).items()):
            if status != Status.KEPT.value:
                groups.append((stage, status, reason, clip_ids))
            else:
                ids = sorted(draw.sample(clip_ids, min(num_kept, len(clip_ids))))
                kept = [Choice(clip_id, stage, status, "") for clip_id in ids]
    refused, left = [], max(num_refused, len(groups))
    for place, (stage, status, reason, drawn_from) in enumerate(sorted(groups, key=lambda group: len(group[3]))):
        number = min(len(drawn_from), max(1, left // (len(groups) - place)))
        left -= number
        refused += [Choice(clip_id, stage, status, reason) for clip_id in sorted(draw.sample(drawn_from, number))]
    order = [status.value for status in (Status.DROPPED, Status.WAITING)]
    return kept + sorted(refused, key=lambda c: (order.index(c.status), STAGES.index(c.stage), c.reason, c.clip_id))


def gallery(
    work: WorkDir, ledger: Ledger, choices: Sequence[Choice], on_clip: Callable[[str], None] = lambda _: None
) -> list[GalleryClip]:
    """Everything to show of the clips that were drawn, in their order; those with a tombstone are left out.

    Args:
        work: the work folder.
        ledger: its ledger.
        choices: what `choose` gave.
        on_clip: is told how each clip stands when it is done.
    """
    rows = ledger.clips_of([choice.clip_id for choice in choices])
    table = _manifest_rows(work, [rows[choice.clip_id] for choice in choices])
    tombstones = local_tombstones(work.tombstones)
    shown: dict[int, GalleryClip] = {}
    units = []
    for choice in choices:
        row = rows[choice.clip_id]
        if _is_removed(tombstones, row):
            continue
        clip = _described(ledger, row, choice, table.get(row.clip_id, {}))
        stored, clip = _from_shard(work, clip)
        unit = _unit(work, ledger, row, clip, stored)
        shown[choice.clip_id] = clip
        if unit is None:
            on_clip(choice.status)
        else:
            units.append(unit)
    for unit, made in run_previews(units) if units else ():
        shown[unit.clip_id] = _with_preview(shown[unit.clip_id], made)
        on_clip(shown[unit.clip_id].choice.status)
    return [shown[choice.clip_id] for choice in choices if choice.clip_id in shown]


def _is_removed(tombstones: Tombstones, row: ClipRow) -> bool:
    return bool(tombstones) and tombstones.covers(row.key or row.identity, row.video_id)


def _manifest_rows(work: WorkDir, rows: Sequence[ClipRow]) -> dict[int, dict[str, Any]]:
    """The annotation of some clips, by clip id; those whose manifest is another by now are left out."""
    import pyarrow as pa

    listed = [row for row in rows if row.manifest_row is not None]
    if not listed or not work.manifest.exists():
        return {}
    table = read_columns(work.manifest, _COLUMNS)
    listed = [row for row in listed if (row.manifest_row or 0) < table.num_rows]
    found = table.take(pa.array([row.manifest_row for row in listed], pa.int64())).to_pylist()
    return {
        row.clip_id: annotation
        for row, annotation in zip(listed, found, strict=True)
        if annotation["video_id"] == row.video_id
    }


def _described(ledger: Ledger, row: ClipRow, choice: Choice, annotation: dict[str, Any]) -> GalleryClip:
    """A clip without pictures and sound."""
    outcome = ledger.outcomes_of(row.clip_id).get(choice.stage)
    facts = ledger.facts_of(row.clip_id)
    start, end = annotation.get("start_seconds", 0.0), annotation.get("end_seconds")
    known = audioset_classes()
    return GalleryClip(
        key=row.key or row.identity,
        split=row.split,
        choice=choice,
        detail=without_paths(outcome[0].detail) if outcome else "",
        seconds=0.0 if end is None else end - start,
        start=start,
        captions=tuple((caption["text"], caption["role"]) for caption in annotation.get("captions", ())),
        labels=tuple(
            annotation.get("label_names") or (known.get(label, label) for label in annotation.get("labels", ()))
        ),
        facts=json.loads(facts) if facts else {},
        shard=ledger.shard_of(row.clip_id) or "",
    )


def _from_shard(work: WorkDir, clip: GalleryClip) -> tuple[Stored | None, GalleryClip]:
    """Pictures and mel as the shard has them."""
    if not clip.shard:
        return None, clip
    try:
        output = output_of_work(work)
        place = output.place.rstrip("/")
        shard = Shard(clip.shard, f"{place}/{tar_of(clip.shard)}", f"{place}/{rows_of(clip.shard)}", "")
        stored = sample_in(shard, clip.key)
        if stored is None:
            return None, replace(clip, note=f"{clip.shard} does not hold it; run `valor-data verify`")
        details = json.loads(stored.read("json"))
        names = _spread(stored.frames())
        moments = _spread(details["frame_moments"]) if names else []
        mel = np.load(io.BytesIO(stored.read("mel.npy")), allow_pickle=False) if "mel.npy" in stored.members else None
        jpegs = tuple(shrunk(stored.read(name)) for name in names)
        return stored, replace(clip, preview=Preview(jpegs, tuple(moments), mel))
    except (ShardError, ValueError, KeyError) as error:
        return None, replace(clip, note=without_paths(f"its sample cannot be read: {error}"))


def _spread(items: Sequence[Any]) -> list[Any]:
    """Some of a list, evenly over it."""
    if len(items) <= NUM_PICTURES:
        return list(items)
    return [items[round(place * (len(items) - 1) / (NUM_PICTURES - 1))] for place in range(NUM_PICTURES)]


def shrunk(jpeg: bytes) -> bytes:
    """A smaller JPEG of the same picture, its short side 128 px or a little more.

    Raises:
        ValueError: it is no JPEG.
    """
    import simplejpeg

    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    scale = PICTURE_SHORT_SIDE_PX / min(height, width)
    if scale >= 1:
        return jpeg
    small = simplejpeg.decode_jpeg(jpeg, min_height=int(height * scale), min_width=int(width * scale))
    return bytes(simplejpeg.encode_jpeg(small, quality=PICTURE_QUALITY))


def _unit(work: WorkDir, ledger: Ledger, row: ClipRow, clip: GalleryClip, stored: Stored | None) -> PreviewUnit | None:
    """What is still to be made of a clip: its sound, and all of it where it is in no shard; None: nothing can be."""
    media = ledger.media_of(row.clip_id)
    path = work.root / media.path if media is not None and media.path else None
    if path is not None and not path.is_file():
        path = None
    sound = b"" if stored is None or path is not None else _stored_sound(stored)
    if (path is None and not sound) or not clip.seconds:
        return None
    return PreviewUnit(
        clip_id=row.clip_id,
        path=path,
        sound_file=sound,
        offset_seconds=media.offset_seconds if media is not None else 0.0,
        start=clip.start,
        end=clip.start + clip.seconds,
        frames=None if stored else FrameSettings(NUM_PICTURES, PICTURE_SHORT_SIDE_PX, PICTURE_QUALITY),
        mel=None if stored else MelSettings.valor(),
    )


def _stored_sound(stored: Stored) -> bytes:
    """The sound inside of a shard, where the set includes it and it can be read."""
    try:
        return stored.read("flac") if "flac" in stored.members else b""
    except ShardError:
        return b""


def _with_preview(clip: GalleryClip, made: Preview) -> GalleryClip:
    """The clip with what a worker made; what came from the shard stays."""
    from_shard = clip.preview
    return replace(
        clip,
        preview=Preview(
            from_shard.jpegs or made.jpegs,
            from_shard.moments or made.moments,
            made.mel if from_shard.mel is None else from_shard.mel,
            made.sound,
            tuple(without_paths(fault) for fault in made.faults),
        ),
    )


@dataclass(frozen=True, slots=True)
class Rejected:
    """An annotation row that entered no manifest: file, row, its text, and why."""

    file: str
    row: int
    raw: str
    reason: str
    detail: str


def rejected_rows(work: WorkDir, seed: int, num_each: int = 2) -> Iterator[Rejected]:
    """Some of the refused annotation rows, of each reason; those that name what was removed are left out."""
    import pyarrow.parquet as pq

    if not work.rejects.exists():
        return
    table = pq.read_table(work.rejects, columns=["file", "row", "raw", "reason", "detail"])
    reasons = np.asarray(table["reason"], dtype=object)
    tombstones, draw = local_tombstones(work.tombstones), random.Random(seed)  # noqa: S311 - as above
    for reason in sorted(set(reasons.tolist())):
        places: NDArray[Any] = np.flatnonzero(reasons == reason)
        chosen = sorted(draw.sample(places.tolist(), min(num_each, len(places))))
        for row in table.take(chosen).to_pylist():
            if not tombstones.mentioned_in(row["raw"]):
                yield Rejected(Path(row["file"]).name, row["row"], row["raw"], row["reason"], row["detail"])
