"""The work on one video: obtain it, probe what came, cut it to its clips, put the files in place."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from valor_data.clip import make_key
from valor_data.config import FetchSection
from valor_data.errors import ClipError, ManifestError, Status, ValorDataError
from valor_data.fetch import ClipRequest, FetchedClip, Obtained, VideoResult, VideoUnit
from valor_data.fetch.existence import check_location
from valor_data.fetch.reasons import reason_of
from valor_data.ledger import MediaRow, Outcome
from valor_data.media.cut import CutImpossible, cut
from valor_data.media.probe import Probe, probe
from valor_data.workdir import WorkDir, flush_to_disk, of_this_machine, publish, written_aside

KEEP_WHOLE_MARGIN_SECONDS = 2.0
"""A file that exceeds its clip by no more than this is kept as it is instead of being cut."""

DURATION_TOLERANCE_SECONDS = 1.5
"""A file named as a clip may be this much longer than its span (key frames, encoder padding)."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A clip's file, finished but not in its place yet."""

    clip_id: int
    key: str
    temporary: Path | None
    final: Path
    offset_seconds: float
    size_bytes: int
    origin: dict[str, Any]


def fetch_video(unit: VideoUnit) -> VideoResult:
    """Brings all pending clips of a video into the work folder.

    The files are finished under the temporary folder; then a journal of what goes where is written; then
    the files are renamed. Whoever is killed in between is finished by `recover`.

    Returns:
        An outcome for every clip of the unit; nothing a video causes is raised.
    """
    folder = _folder_of(unit)
    journal: Path | None = None
    shutil.rmtree(folder, ignore_errors=True)
    settings = replace(unit.settings, proxies=(unit.proxy,) if unit.proxy else ())
    try:
        folder.mkdir(parents=True)
        if unit.is_probe:
            unit.location.probe(folder, settings)
            return VideoResult(())
        if unit.checks_only:
            return _checked(unit, settings, folder)
        results, ready = _prepare(unit, settings, folder)
        if ready:
            journal = _write_journal(unit.tmp / f"{folder.name}.journal.json", ready)
            results += [_put_in_place(item, WorkDir.at(unit.work)) for item in ready]
        return VideoResult(tuple(results), journal, size_bytes=sum(item.size_bytes for item in ready))
    except ClipError as refusal:
        return _refused(unit, refusal)
    except OSError as error:
        if journal is not None:
            journal.unlink(missing_ok=True)
        return _refused(unit, ClipError("disk", reason_of(error).detail))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _checked(unit: VideoUnit, settings: FetchSection, folder: Path) -> VideoResult:
    """Which of a video's clips are still at their source; nothing is brought."""
    lost = check_location(unit.location, unit.clips, folder, settings)
    outcomes = {number: Outcome.refused(why.reason, why.detail) for number, why in lost.items()}
    return VideoResult(
        tuple(FetchedClip(clip.clip_id, outcomes.get(clip.clip_id, Outcome.kept())) for clip in unit.clips)
    )


def discard(unit: VideoUnit) -> None:
    """In the driver: removes what a lost worker had downloaded of a video, on whatever machine."""
    for folder in unit.tmp.glob(f"{_name_of(unit)}@*/"):
        shutil.rmtree(folder, ignore_errors=True)


def _folder_of(unit: VideoUnit) -> Path:
    return unit.tmp / of_this_machine(_name_of(unit))


def _name_of(unit: VideoUnit) -> str:
    return f"video-{hashlib.blake2b(unit.video_id.encode(), digest_size=8).hexdigest()}"


def _refused(unit: VideoUnit, refusal: ClipError) -> VideoResult:
    """One reason for all clips of a video."""
    return VideoResult(
        _all_refused(unit.clips, refusal),
        refusal=refusal.reason,
        detail=refusal.detail,
        retry_after_seconds=refusal.retry_after_seconds,
    )


def recover(work: WorkDir) -> list[FetchedClip]:
    """Finishes what killed runs had journaled: files that are complete are put in place and reported.

    Returns:
        The clips that arrived; each is there exactly once. Journals that cannot be read are ignored: their
        files never left the temporary folder.
    """
    arrived: dict[int, FetchedClip] = {}
    for journal in sorted(path for folder in work.tmp_folders() for path in folder.glob("*.journal.json")):
        try:
            items = json.loads(journal.read_text())
        except (OSError, ValueError):
            continue
        for item in items:
            ready = _Ready(**{**item, "temporary": item["temporary"] and Path(item["temporary"]),
                              "final": Path(item["final"])})  # fmt: skip
            if _complete(ready.final, ready.size_bytes) or (
                ready.temporary is not None and _complete(ready.temporary, ready.size_bytes)
            ):
                arrived[ready.clip_id] = _put_in_place(ready, work)
    return list(arrived.values())


def _complete(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def _prepare(unit: VideoUnit, settings: FetchSection, folder: Path) -> tuple[list[FetchedClip], list[_Ready]]:
    obtained = unit.location.obtain(unit.clips, folder, settings)
    probes: dict[Path, Probe | ClipError] = {}
    refused: list[FetchedClip] = []
    ready: list[_Ready] = []
    for clip in unit.clips:
        item = obtained[clip.clip_id]
        try:
            if isinstance(item, ClipError):
                raise item
            ready.append(_prepare_clip(unit, clip, item, _probe_once(item.path, probes), folder))
        except ClipError as refusal:
            refused.append(FetchedClip(clip.clip_id, Outcome.refused(refusal.reason, refusal.detail)))
    return refused, ready


def _probe_once(path: Path, probes: dict[Path, Probe | ClipError]) -> Probe:
    if path not in probes:
        try:
            probes[path] = probe(path)
        except ClipError as refusal:
            probes[path] = refusal
    found = probes[path]
    if isinstance(found, ClipError):
        raise ClipError(found.reason, found.detail)
    return found


def _prepare_clip(unit: VideoUnit, clip: ClipRequest, item: Obtained, found: Probe, folder: Path) -> _Ready:
    end = _end_of(clip, item, found, unit.settings)
    try:
        key = make_key(unit.video_id, clip.start, end)
    except ManifestError as error:
        raise ClipError("too_long", str(error)) from None
    if clip.end is None and key in {other.identity for other in unit.clips}:
        raise ClipError("duplicate", f"{key} is another clip of the manifest")
    origin = {**item.origin, "container": found.container}
    if item.in_place:
        return _Ready(clip.clip_id, key, None, item.path, item.offset_seconds, item.path.stat().st_size, origin)
    path, offset = _cut_or_whole(clip, end, item, found, folder / key)
    work = WorkDir.at(unit.work)
    final = work.media_file(key, path.suffix.lstrip("."))
    return _Ready(clip.clip_id, key, path, final, offset, path.stat().st_size, origin)


def _end_of(clip: ClipRequest, item: Obtained, found: Probe, settings: FetchSection) -> float:
    """The clip's end; for a whole video the length of what came. Checks the name against the duration."""
    duration = found.duration_seconds
    if clip.end is None:
        if duration is None:
            raise ClipError("undecodable", "the annotation gives no end, and the file does not tell its length")
        if duration > settings.max_video_seconds:
            raise ClipError(
                "too_long", f"{duration:.1f} s; fetch.max_video_seconds is {settings.max_video_seconds:.0f}"
            )
        end = item.offset_seconds + math.floor(duration * 1000) / 1000
        if end <= clip.start:
            raise ClipError("short", f"the video lasts {duration:.2f} s, the clip begins at {clip.start:.2f} s")
        return end
    if duration is None or item.is_piece:
        return clip.end
    if item.whole_video and duration <= clip.start:
        hint = ""
        if abs(duration - (clip.end - clip.start)) < DURATION_TOLERANCE_SECONDS:
            hint = "; if the file is the clip itself, name it <id>_<start>_<end>"
        raise ClipError("short", f"the video lasts {duration:.2f} s, the clip begins at {clip.start:.2f} s{hint}")
    if not item.whole_video and duration > 2 * (clip.end - clip.start) + DURATION_TOLERANCE_SECONDS:
        raise ClipError(
            "wrong_duration",
            f"{item.path.name} is named as a clip of {clip.end - clip.start:.2f} s but lasts {duration:.2f} s",
        )
    return clip.end


def _cut_or_whole(clip: ClipRequest, end: float, item: Obtained, found: Probe, stem: Path) -> tuple[Path, float]:
    """A file of this clip alone: cut without re-encoding, or the whole file where that is right or all there is.

    What comes back is on the disk: the journal may name it.
    """
    length = end - clip.start
    if found.duration_seconds is not None and found.duration_seconds > length + KEEP_WHOLE_MARGIN_SECONDS:
        try:
            piece = cut(item.path, clip.start, end, stem.parent, stem.name, offset_seconds=item.offset_seconds)
        except CutImpossible:
            pass  # the whole file is as good, only larger
        else:
            return piece.path, piece.offset_seconds
    path = stem.with_name(f"{stem.name}.{found.extension}")
    if item.path.parent == stem.parent:
        path.hardlink_to(item.path)  # several clips of one file share its bytes
    else:
        shutil.copyfile(item.path, path)
    flush_to_disk(path)
    return path, item.offset_seconds


def _write_journal(path: Path, ready: Iterable[_Ready]) -> Path:
    items = [{**asdict(item), "temporary": item.temporary and str(item.temporary), "final": str(item.final)}
             for item in ready]  # fmt: skip
    with written_aside(path) as temporary:
        temporary.write_text(json.dumps(items))
    return path


def _put_in_place(item: _Ready, work: WorkDir) -> FetchedClip:
    if item.temporary is not None and item.temporary.exists():
        publish(item.temporary, item.final, is_flushed=True)
    inside = item.final.is_relative_to(work.root)
    path = str(item.final.relative_to(work.root)) if inside else str(item.final)
    source = json.dumps(item.origin, sort_keys=True, ensure_ascii=False)
    media = MediaRow(path, item.offset_seconds, item.size_bytes, source)
    return FetchedClip(item.clip_id, Outcome.kept(), item.key, media)


def _all_refused(clips: Iterable[ClipRequest], refusal: ClipError) -> tuple[FetchedClip, ...]:
    outcome = Outcome.refused(refusal.reason, refusal.detail)
    return tuple(FetchedClip(clip.clip_id, outcome) for clip in clips)


def check_result(unit: VideoUnit, result: VideoResult) -> None:
    """Every clip of a unit has exactly one outcome; anything else would lose or double a clip.

    Raises:
        ValorDataError: a source gave back other clips than it was asked for.
    """
    asked = sorted(clip.clip_id for clip in unit.clips)
    answered = sorted(clip.clip_id for clip in result.clips)
    if asked != answered or any(c.outcome.status is Status.KEPT and c.media is None for c in result.clips):
        raise ValorDataError(f"{unit.video_id}: asked for clips {asked}, the source answered for {answered}")
