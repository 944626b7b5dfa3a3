"""Cuts a span out of a file without re-encoding: packets are copied and their times moved together.

The piece begins at the key picture before the span, with a margin of sound before the span, and one base
is subtracted from both streams, so picture and sound keep their distance to the microsecond (in Matroska,
which stores whole milliseconds, to half of one).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av.error

from valor_data.errors import ClipError
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, open_media
from valor_data.media.pictures import begins_with_key_picture
from valor_data.media.remux import CutImpossible, Track, complete_times, extensions, read_back, write
from valor_data.media.span import SpanPackets, read_span
from valor_data.workdir import written_aside

__all__ = ["CutImpossible", "MediaPiece", "cut"]

_TAIL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class MediaPiece:
    """A file that holds a span of a video.

    Attributes:
        path: the file.
        container: its extension: `mp4`, `mov`, `mkv`, `flv` or `wmv`.
        offset_seconds: second of the video at which the file's own second 0 (its container's start time)
            lies. Every later call on this file takes it.
        held_start: second of the video of the first packet in the file.
        held_end: second of the video at which the last packet ends.
        size_bytes: of the file.
    """

    path: Path
    container: str
    offset_seconds: float
    held_start: float
    held_end: float
    size_bytes: int


def cut(
    source_path: Path,
    start: float,
    end: float,
    destination_folder: Path,
    stem: str,
    *,
    offset_seconds: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
) -> MediaPiece:
    """Copies `[start, end)` of a video into a file of its own, without re-encoding.

    Pictures and sound in `[start, end)` decode to the same values from the piece as from the source: the
    piece begins at a key picture at or before the start, and its sound at least 0.2 s before it where
    there is any. It becomes an mp4 where mp4 takes both codecs, else a mov; Matroska, FLV and ASF files
    are cut into their own kind, and Matroska takes what nothing else does. The written file is
    read back, packet by packet, before it is believed.

    Args:
        source_path: the file to cut.
        start: first second wanted, video seconds.
        end: second after the last one wanted, video seconds.
        destination_folder: where the piece is put; made when it is not there.
        stem: the piece's name without its extension.
        offset_seconds: second of the video at which the source file's second 0 lies.
        limits: what may be read.

    Raises:
        CutImpossible: a codec or its timestamps cannot be copied, the file is damaged or encrypted, the
            span holds nothing, or what was written does not read back the same.
        ClipError: `missing`, `empty`, `not_media`, `undecodable` (the source cannot be opened).
    """
    with open_media(source_path, limits) as container:
        source = choose_streams(container)
        try:
            packets = read_span(source, start - offset_seconds, end - offset_seconds + _TAIL_SECONDS, limits)
        except ClipError as error:
            raise CutImpossible(str(error)) from error
        tracks = _copyable(source, packets, limits)
        problems = []
        for extension in extensions(container.format.name, source.video, source.audio):
            final = destination_folder / f"{stem}.{extension}"
            try:
                with written_aside(final) as temporary:
                    write(tracks, temporary, extension)
                    shift = read_back(temporary, tracks, extension, limits) - source.zero
            except (av.error.FFmpegError, ClipError, CutImpossible, ValueError, OSError) as error:
                problems.append(f"{extension}: {error}")
                continue
            held = [track.held for track in tracks if track.packets]
            return MediaPiece(
                path=final,
                container=extension,
                offset_seconds=offset_seconds + shift,
                held_start=offset_seconds + min(first for first, _ in held) - source.zero,
                held_end=offset_seconds + max(last for _, last in held) - source.zero,
                size_bytes=final.stat().st_size,
            )
    raise CutImpossible(f"{source_path.name} cannot be cut: " + "; ".join(problems))


def _copyable(source: Source, packets: SpanPackets, limits: Limits) -> list[Track]:
    """The packets to copy, by stream; refuses what has no usable times."""
    if packets.encrypted:
        raise CutImpossible("encrypted")
    if any(s is not None and s.codec_context is None for s in (source.video, source.audio)):
        raise CutImpossible("a codec is not known")
    first_key = next((i for i, p in enumerate(packets.video) if p.is_keyframe), len(packets.video))
    video = packets.video[first_key:]
    if not video and not packets.audio:
        raise CutImpossible("the span holds no packets")
    if video and not begins_with_key_picture(source, video, limits):
        raise CutImpossible("the picture marked as a key picture before the span is none, or does not decode")
    reorders = source.video is not None and bool(source.video.codec_context.has_b_frames)
    complete_times(video, reorders)
    complete_times(packets.audio, reorders=False)
    pairs = ((source.video, video), (source.audio, packets.audio))
    return [Track(stream, copied) for stream, copied in pairs if stream is not None]
