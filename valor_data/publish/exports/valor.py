"""The layout that the published VALOR trainer reads: `datasets/<name>/` of its checkout.

    frames_10/<id>/frame_0001.jpg …      the pictures of the shards; with `fps` `frames_fps4/`, from the media
    audio_22050hz/<id>.wav               mono, 16 bit
    txt_mapper.json                      {id: caption or [captions]}
    <split>_id.json                      [id, …]
    caption_annotation.json              {"annotations": [{"video_id", "caption"}]}
    txt_mapper_qa.json, <split>_qa_id.json   {id: [{"question", "answer", …}]}, where the set has questions
    data_cfg.json                        these paths under the names that its configurations use

An id is `<video id>_<start>_<end>`, seconds with three decimals, as in VALOR-32K. The trainer lists a clip's folder,
sorts it and cuts the list into as many groups as it wants pictures: with the pictures of the shards it chooses what
`valor-data train` chooses. A wav holds the samples that the stored log-mel was computed from. Where the media are gone
it is made of the shards' flac, which differs by a step of 16 bit, and by more where the sound is above full scale.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from valor_data.errors import ConfigError, ShardError, ValorDataError
from valor_data.ledger import Ledger
from valor_data.publish.exports import Exported, ExportOptions, Progress
from valor_data.publish.exports.target import Target
from valor_data.publish.exports.valor_clips import AUDIO_FOLDER, ClipWriter, Part, Unit, mark_of, write_clips
from valor_data.publish.exports.workers import run_units
from valor_data.publish.finished import FinishedSet, FinishedShard

MAPPER, QA_MAPPER, ANNOTATION, DATA_CFG = (
    "txt_mapper.json",
    "txt_mapper_qa.json",
    "caption_annotation.json",
    "data_cfg.json",
)

_VERSION = 1
"""Raised when the same set and options give other files."""


def check(finished: FinishedSet, target: Target, options: ExportOptions) -> None:
    """Refuses what cannot be written.

    Raises:
        ConfigError: pictures a second are asked of a set without pictures.
        ShardError: what the pictures or the sound would be made of is neither in the work folder nor in the shards.
    """
    if options.fps and "v" not in finished.settings.modalities:
        raise ConfigError("--fps: the set has no pictures (modalities a)")
    writer = _writer(finished, options)
    _refuse_what_is_missing(functools.partial(_units, finished, target, writer), finished.first(options.limit), writer)


def _writer(finished: FinishedSet, options: ExportOptions) -> ClipWriter:
    return ClipWriter(finished.settings, options.fps, options.sound and "a" in finished.settings.modalities)


def write(finished: FinishedSet, target: Target, options: ExportOptions, progress: Progress) -> Exported:
    """Writes the layout; see `exports.run_export`."""
    writer, chosen = _writer(finished, options), finished.first(options.limit)
    units = functools.partial(_units, finished, target, writer)
    marks = _Marks(target)
    todo = [(shard, number) for shard, number in chosen if marks.stamp(shard) != _stamp(writer, shard, number)]
    gone = set(marks.names()) - {mark_of(shard.name) for shard, _ in chosen}
    former = set(marks.ids()) if todo or gone else set()
    done = sum(number for _, number in chosen) - sum(number for _, number in todo)
    progress.start("export", sum(number for _, number in chosen), "clips")
    if done:
        progress.advance("written", count=done)
    for unit, part in run_units(write_clips, units(todo), options.workers):
        marks.put(unit.shard, part)
        progress.advance("written", count=len(part.clips))
    return _finish(target, writer, marks, [shard for shard, _ in chosen], former)


def _stamp(writer: ClipWriter, shard: FinishedShard, number: int) -> str:
    """Tells whether a shard's clips were written already, as they would be now."""
    told = json.dumps([_VERSION, shard.digest, number, writer.told()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _units(
    finished: FinishedSet, target: Target, writer: ClipWriter, chosen: list[tuple[FinishedShard, int]]
) -> Iterator[Unit]:
    """The work of each shard, with where its clips' media lie."""
    ledger_file = finished.work.ledger
    ledger = Ledger(ledger_file, read_only=True) if ledger_file.exists() else None
    try:
        for shard, number in chosen:
            media: dict[str, tuple[Path, float]] = {}
            if ledger is not None and (writer.fps or writer.sound):
                for clip in ledger.planned(shard.split, shard.shard):
                    if clip.key and clip.path:
                        media[clip.key] = (finished.work.root / clip.path, clip.offset_seconds or 0.0)
            yield Unit(shard, number, finished.output, target, writer, media, _stamp(writer, shard, number))
    finally:
        if ledger is not None:
            ledger.close()


def _refuse_what_is_missing(
    units: Callable[[list[tuple[FinishedShard, int]]], Iterator[Unit]],
    chosen: list[tuple[FinishedShard, int]],
    writer: ClipWriter,
) -> None:
    """Says before anything is written that some clips have neither media nor a member to make do with."""
    include = writer.settings.include
    sound_stored = not writer.sound or "audio" in include
    pictures_stored = not writer.fps or "video" in include
    if sound_stored and pictures_stored:
        return
    missing = sum(max(0, unit.num_clips - len(unit.media)) for unit in units(chosen))
    if not missing:
        return
    needs = " and ".join(
        name for name, stored in (("sound", sound_stored), ("pictures for --fps", pictures_stored)) if not stored
    )
    total = sum(number for _, number in chosen)
    advice = "--no-sound leaves the wavs out, " if not sound_stored else ""
    advice += "without --fps the pictures of the shards are taken, " if not pictures_stored else ""
    raise ShardError(
        f"the media of {missing} of {total} clips are not in the work folder, and the shards hold no {needs}: fetch "
        f"them again, or {advice}or build shards with --include audio,video while the media are there"
    )


class _Marks:
    """What has been written of each shard, one JSON each: what a run that was killed goes on from."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._folder = mark_of("")
        self._names = [name for name in _listed(target) if name.startswith(self._folder)]

    def names(self) -> list[str]:
        """The marks that stood when this run began."""
        return self._names

    def stamp(self, shard: FinishedShard) -> str:
        """The stamp of a shard that was written; empty when it was not."""
        if mark_of(shard.name) not in self._names:
            return ""
        told = self._target.read_json(mark_of(shard.name))
        return str(told.get("stamp", "")) if isinstance(told, dict) else ""

    def put(self, shard: FinishedShard, part: Part) -> None:
        """Notes that a shard's clips are written."""
        text = json.dumps(part.to_dict(), ensure_ascii=False, sort_keys=True)
        self._target.write(mark_of(shard.name), text.encode())

    def ids(self) -> Iterator[str]:
        """Ids of the clips of those marks."""
        for name in self._names:
            told = self._target.read_json(name) or {"clips": []}
            yield from (clip["id"] for clip in told["clips"])

    def clips(self, shard: FinishedShard) -> list[dict[str, Any]]:
        """What is known of each clip of a shard."""
        return self.told(shard)["clips"]  # type: ignore[no-any-return]

    def told(self, shard: FinishedShard) -> dict[str, Any]:
        """A shard's mark.

        Raises:
            ValorDataError: it is gone: somebody else writes to the same place.
        """
        told = self._target.read_json(mark_of(shard.name))
        if not isinstance(told, dict):
            raise ValorDataError(f"{self._target.place}/{mark_of(shard.name)}: vanished; give the same command again")
        return told

    def remove(self, names: list[str]) -> None:
        """Forgets shards that are no longer."""
        self._target.output.remove(names)


def _listed(target: Target) -> list[str]:
    """Names of the marks: of a folder, or below an address."""
    below = Target(f"{target.place.rstrip('/')}/{mark_of('').split('/')[0]}")
    return [f"{mark_of('').split('/')[0]}/{name}" for name in below.names() if name.endswith(".json")]


def _finish(
    target: Target, writer: ClipWriter, marks: _Marks, shards: list[FinishedShard], former: set[str]
) -> Exported:
    """Writes the lists of all clips, and takes away what is of none of them."""
    exported = Exported()
    for shard in shards:
        told = marks.told(shard)
        exported.counts.update(told["counts"])
        exported.num_clips += len(told["clips"])
        exported.num_captions += sum(len(clip["captions"]) for clip in told["clips"])
        former.difference_update(clip["id"] for clip in told["clips"])
    writer.remove(target, sorted(former))
    gone = set(marks.names()) - {mark_of(shard.name) for shard in shards}
    marks.remove(sorted(gone))
    splits = list(dict.fromkeys(shard.split for shard in shards))
    files = _write_lists(target, marks, shards, splits)
    if "v" in writer.settings.modalities:
        files[f"{writer.frames_folder}/"] = "pictures, a folder a clip"
    if writer.sound:
        files[f"{AUDIO_FOLDER}/"] = "mono wavs, 22 050 Hz, 16 bit"
    target.write(DATA_CFG, _data_cfg(target, writer, splits, files))
    files[DATA_CFG] = "paths for the trainer's configurations"
    exported.files = files
    bare = exported.counts["clips without a caption"]
    if bare:
        exported.notices.append(f"{bare} clips have no caption and are in no id list: the trainer would stop at them")
    return exported


def _write_lists(target: Target, marks: _Marks, shards: list[FinishedShard], splits: list[str]) -> dict[str, str]:
    def clips(split: str | None = None) -> Iterator[dict[str, Any]]:
        for shard in shards:
            if split in (None, shard.split):
                yield from marks.clips(shard)

    def asked(split: str | None = None) -> Iterator[dict[str, Any]]:
        return (clip for clip in clips(split) if clip["questions"])

    files = {MAPPER: "id to caption or captions", ANNOTATION: "captions to measure generated ones against"}
    _write_json(
        target, MAPPER, "{", "}", (_pair(c["id"], _one_or_all(c["captions"])) for c in clips() if c["captions"])
    )
    entries = ({"video_id": clip["id"], "caption": text} for clip in clips() for text in clip["captions"])
    _write_json(target, ANNOTATION, '{"annotations": [', "]}", map(_text, entries))
    for split in splits:
        _write_json(target, f"{split}_id.json", "[", "]", (_text(c["id"]) for c in clips(split) if c["captions"]))
        files[f"{split}_id.json"] = "ids of the split"
    if any(True for _ in asked()):
        _write_json(target, QA_MAPPER, "{", "}", (_pair(c["id"], c["questions"]) for c in asked()))
        files[QA_MAPPER] = "id to questions with answers"
        for split in splits:
            _write_json(target, f"{split}_qa_id.json", "[", "]", (_text(c["id"]) for c in asked(split)))
            files[f"{split}_qa_id.json"] = "ids of the split that have questions"
    return files


def _one_or_all(captions: list[str]) -> str | list[str]:
    return captions[0] if len(captions) == 1 else captions


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pair(name: str, value: object) -> str:
    return f"{_text(name)}: {_text(value)}"


def _write_json(target: Target, name: str, start: str, end: str, entries: Iterator[str]) -> None:
    """A JSON file written an entry a line: a million need no more memory than one."""
    with target.written(name) as path, path.open("w", encoding="utf-8") as file:
        file.write(start)
        for number, entry in zip(count(), entries, strict=False):
            file.write((",\n" if number else "\n") + entry)
        file.write(f"\n{end}\n")


def _data_cfg(target: Target, writer: ClipWriter, splits: list[str], files: dict[str, str]) -> bytes:
    """The paths of each split, as from a checkout of the trainer with the export at `datasets/<its name>`."""
    base = f"./datasets/{target.place.rstrip('/').rpartition('/')[2]}"
    tree = {}
    for split in splits:
        tree[split] = {
            "ids_path": f"{base}/{split}_id.json",
            "txt": f"{base}/{MAPPER}",
            "annfile": f"{base}/{ANNOTATION}",
            "datatype": "video",
        }
        if f"{writer.frames_folder}/" in files:
            tree[split]["video"] = f"{base}/{writer.frames_folder}/"
        if f"{AUDIO_FOLDER}/" in files:
            tree[split]["audio"] = f"{base}/{AUDIO_FOLDER}/"
    return (json.dumps(tree, indent=1, sort_keys=True) + "\n").encode()
