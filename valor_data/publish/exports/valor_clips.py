"""What the `valor` layout holds of each clip: a folder of pictures and a wav. The work on one shard, in a worker."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from valor_data.clip import Clip, escape_id, parse_key
from valor_data.errors import ClipError, ShardError
from valor_data.guard import working_on
from valor_data.publish.exports.target import Target
from valor_data.publish.finished import FinishedShard, ShardReader, StoredClip, open_shard
from valor_data.shard.output import Output
from valor_data.shard.reader import clip_of
from valor_data.shard.sample import SampleSettings

AUDIO_FOLDER = "audio_22050hz"

CLIP_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ClipWriter:
    """How a clip is written.

    Attributes:
        settings: what the set's samples were made with.
        fps: pictures a second; 0: those of the shards.
        sound: whether wavs are written.
    """

    settings: SampleSettings
    fps: float
    sound: bool

    @property
    def frames_folder(self) -> str:
        """The folder of pictures: how many a clip has, or a second."""
        return f"frames_fps{self.fps:g}" if self.fps else f"frames_{self.settings.frames.count}"

    def told(self) -> dict[str, Any]:
        """What decides about the files, besides the set."""
        return {"fps": self.fps, "sound": self.sound, "settings": self.settings.to_dict()}

    def num_frames(self, seconds: float) -> int:
        """Pictures of a clip: as many as its shard holds, or so many a second of it, at least one."""
        return max(1, round(seconds * self.fps)) if self.fps else self.settings.frames.count

    def remove(self, target: Target, names: Sequence[str]) -> None:
        """Deletes the files of clips that are no longer in the set."""
        folder = target.folder
        if folder is not None:
            for name in names:
                shutil.rmtree(folder / self.frames_folder / name, ignore_errors=True)
                (folder / AUDIO_FOLDER / f"{name}.wav").unlink(missing_ok=True)
        elif names:
            gone = set(names)
            listed = target.names()
            frames = [n for n in listed if n.startswith(f"{self.frames_folder}/") and n.split("/")[1] in gone]
            wavs = [f"{AUDIO_FOLDER}/{name}.wav" for name in names]
            target.output.remove([*frames, *wavs])


@dataclass(frozen=True, slots=True)
class Unit:
    """The work of one call: the clips of a shard.

    Attributes:
        media: key to (file, second of the video at its second 0), for clips whose media are there.
        stamp: of what is written.
    """

    shard: FinishedShard
    num_clips: int
    output: Output
    target: Target
    writer: ClipWriter
    media: Mapping[str, tuple[Path, float]]
    stamp: str


@dataclass(slots=True)
class Part:
    """What was written of a shard.

    Attributes:
        stamp: the unit's.
        clips: id, captions and questions of each.
        counts: where pictures and sound came from.
    """

    stamp: str
    clips: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for the shard's mark."""
        return {"stamp": self.stamp, "clips": self.clips, "counts": dict(self.counts)}


def reference_id(key: str) -> str:
    """A clip's name in VALOR's own files.

    >>> reference_id("-0BIyqJj9ZU_00030000_00040000")
    '-0BIyqJj9ZU_30.000_40.000'
    """
    video_id, start, end = parse_key(key)
    return f"{escape_id(video_id)}_{start:.3f}_{end:.3f}"


def mark_of(shard: str) -> str:
    """The name of a shard's mark below the export; its folder and a slash for the empty name."""
    return f".valor-data/{shard}.json" if shard else ".valor-data/"


def write_clips(unit: Unit) -> Part:
    """Writes pictures and sound of a shard's clips.

    Raises:
        ShardError: something that a clip needs cannot be had; the message names the clip.
    """
    part = Part(unit.stamp)
    with (
        open_shard(unit.output, unit.shard, unit.num_clips) as reader,
        tempfile.TemporaryDirectory(prefix="valor-data-export-") as scratch,
    ):
        for stored in reader.clips:
            with working_on(stored.key, CLIP_DEADLINE_SECONDS):
                try:
                    _write_clip(unit, reader, stored, part, Path(scratch))
                except ClipError as error:
                    raise ShardError(f"{stored.key}: {error}; is its media file what it was? Run `verify`") from error
    if unit.target.folder is not None:
        _flush_disk_of(unit.target.folder)
    return part


def _write_clip(unit: Unit, reader: ShardReader, stored: StoredClip, part: Part, scratch: Path) -> None:
    clip = clip_of(json.loads(reader.read(stored, "json")))
    _, start, end = parse_key(stored.key)
    name = reference_id(stored.key)
    writer = unit.writer
    if "v" in writer.settings.modalities:
        jpegs, origin = _pictures(unit, reader, stored, (start, end), scratch)
        _put_pictures(unit.target, writer.frames_folder, name, jpegs, scratch)
        part.counts[f"pictures from {origin}"] += 1
    if writer.sound:
        from valor_data.media.wav import audio_wav

        with _media(unit, reader, stored, "flac", start, scratch) as (path, offset, origin):
            wav = audio_wav(path, offset, start, end)
        unit.target.write_unflushed(f"{AUDIO_FOLDER}/{name}.wav", wav)
        part.counts[f"sound from {origin}"] += 1
    if not clip.captions:
        part.counts["clips without a caption"] += 1
    part.clips.append({"id": name, "captions": [c.text for c in clip.captions], "questions": _questions(clip)})


def _questions(clip: Clip) -> list[dict[str, Any]]:
    """Questions as the trainer takes them; of several right answers each is as likely to be drawn."""
    return [
        {
            "question_id": q.question_id,
            "question": q.question,
            "answer": q.answers[0] if len(q.answers) == 1 else list(q.answers),
            **({"answer_weights": [1.0] * len(q.answers)} if len(q.answers) > 1 else {}),
        }
        for q in clip.questions
    ]


def _pictures(
    unit: Unit, reader: ShardReader, stored: StoredClip, span: tuple[float, float], scratch: Path
) -> tuple[list[bytes], str]:
    """JPEGs of a clip in order, and where they came from."""
    start, end = span
    frames = unit.writer.settings.frames
    number = unit.writer.num_frames(end - start)
    if number == frames.count:
        return [reader.read(stored, f"frame_{i:02d}.jpg") for i in range(number)], "the shards"
    from valor_data.media.extract import extract_clip

    with _media(unit, reader, stored, "mp4", start, scratch) as (path, offset, origin):
        found = extract_clip(path, offset, start, end, replace(frames, count=number), modalities="v")
    return list(found.jpegs), origin


@contextmanager
def _media(
    unit: Unit, reader: ShardReader, stored: StoredClip, extension: str, start: float, scratch: Path
) -> Iterator[tuple[Path, float, str]]:
    """A file that holds a clip, the second of the video at its second 0, and what it is: the media, or a member."""
    path, offset = unit.media.get(stored.key, (None, 0.0))
    if path is not None and path.is_file():
        yield path, offset, "the media"
        return
    if extension not in stored.members:
        lost = f"its media file {path} is no longer there" if path else "its media are not in the work folder"
        raise ShardError(f"{stored.key}: {lost}, and its shard holds no {extension}; fetch it again")
    copy = scratch / f"clip.{extension}"
    copy.write_bytes(reader.read(stored, extension))
    try:
        yield copy, start, f"the {extension} of the shards"
    finally:
        copy.unlink()


def _put_pictures(target: Target, folder: str, name: str, jpegs: Sequence[bytes], scratch: Path) -> None:
    """A clip's folder of pictures, `frame_0001.jpg` and so on; on a disk it is there whole or not at all."""
    width = max(4, len(str(len(jpegs))))
    names = [f"frame_{i:0{width}d}.jpg" for i in range(1, len(jpegs) + 1)]
    if target.folder is None:
        for file, data in zip(names, jpegs, strict=True):
            target.write_unflushed(f"{folder}/{name}/{file}", data)
        return
    final = target.folder / folder / name
    aside = final.with_name(f".{name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file, data in zip(names, jpegs, strict=True):
        (aside / file).write_bytes(data)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)


def _flush_disk_of(folder: Path) -> None:
    """Waits until all that was written to a folder's disk is on it: one call for thousands of small files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(folder))
    finally:
        os.close(descriptor)
