"""Joins the pieces of a video's streams, each a head with a run of fragments, to one file with true times.

The streams of a video come as files of their own. Whoever merges the whole files lays the first moment of
each at second 0; so is done here, from the first moment of each whole stream, which its head tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from valor_data.errors import ClipError
from valor_data.media.cut import MediaPiece
from valor_data.media.fragments import IndexRefused
from valor_data.media.open import DEFAULT_LIMITS, Limits, Source, choose_streams, demux, open_media
from valor_data.media.pictures import begins_with_key_picture
from valor_data.media.remux import CutImpossible, Track, complete_times, extensions, read_back, write
from valor_data.workdir import written_aside


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """A piece of a file.

    Attributes:
        path: its head with a run of fragments, a media file of its own with the times of the whole.
        zero_seconds: the whole file's start time (`start_of`).
    """

    path: Path
    zero_seconds: float


def start_of(head: bytes, first_bytes: bytes, path: Path) -> float:
    """The start time of a whole file, from its beginning alone.

    Args:
        head: the head, the index left out.
        first_bytes: the first fragment, cut off or not; what is missing of it is taken for zeros.
        path: a file to be written for this, and removed.

    Returns:
        Seconds on the file's own clock, as FFmpeg tells for the whole file; usually 0 or a little less.

    Raises:
        IndexRefused: the beginning does not tell.
    """
    try:
        with path.open("wb") as file:
            file.write(head + first_bytes)
            file.truncate(len(head) + len(first_bytes) + 2**22)
        with open_media(path) as container:
            start = container.start_time
    except ClipError as error:
        raise IndexRefused(f"the first fragment cannot be read: {error}") from error
    finally:
        path.unlink(missing_ok=True)
    if start is None:
        raise IndexRefused("the first fragment does not tell where the file begins")
    return start / 1_000_000


def held_by(piece: StreamPiece, limits: Limits = DEFAULT_LIMITS) -> tuple[float, float]:
    """The span of the video that every stream of a piece holds, in video seconds.

    Raises:
        IndexRefused: the piece cannot be read as a media file.
    """
    with ExitStack() as opened:
        tracks = _tracks(piece, opened, limits)
        return max(t.held[0] for t in tracks), min(t.held[1] for t in tracks)


def join(pieces: Sequence[StreamPiece], folder: Path, stem: str, *, limits: Limits = DEFAULT_LIMITS) -> MediaPiece:
    """Copies the streams of pieces into one ordinary file, without re-encoding.

    Args:
        pieces: one with picture and sound, or one for each.
        folder: where the file is put.
        stem: its name without extension.
        limits: what may be read.

    Returns:
        The file. Its `offset_seconds` is exact: a second of the file plus it is a second of the video as a
        merge of the whole files would have it.

    Raises:
        IndexRefused: the pieces are not what their index said, or cannot be copied.
    """
    with ExitStack() as opened:
        tracks = [track for piece in pieces for track in _tracks(piece, opened, limits)]
        kinds = [track.stream.type for track in tracks]
        if len(set(kinds)) < len(kinds):
            raise IndexRefused(f"two streams of one kind: {', '.join(kinds)}")
        streams = {track.stream.type: track.stream for track in tracks}
        name = tracks[0].stream.container.format.name
        problems = []
        for extension in extensions(name, streams.get("video"), streams.get("audio")):
            final = folder / f"{stem}.{extension}"
            try:
                with written_aside(final) as temporary:
                    write(tracks, temporary, extension)
                    offset = read_back(temporary, tracks, extension, limits)
            except (av.error.FFmpegError, ClipError, CutImpossible, ValueError) as error:
                problems.append(f"{extension}: {error}")
                continue
            held = [track.held for track in tracks]
            return MediaPiece(
                path=final,
                container=extension,
                offset_seconds=offset,
                held_start=min(first for first, _ in held),
                held_end=max(last for _, last in held),
                size_bytes=final.stat().st_size,
            )
    raise IndexRefused("the pieces cannot be joined: " + "; ".join(problems))


def _tracks(piece: StreamPiece, opened: ExitStack, limits: Limits) -> list[Track]:
    """The streams of a piece with all their packets, read from its start: a piece cannot be sought in."""
    try:
        source = choose_streams(opened.enter_context(open_media(piece.path, limits)))
        packets = _packets(source, limits)
        streams = [s for s in (source.video, source.audio) if s is not None]
        tracks = [_track(source, s, packets[s.index], piece.zero_seconds, limits) for s in streams]
    except (ClipError, CutImpossible, av.error.FFmpegError) as error:
        raise IndexRefused(f"a piece cannot be read: {error}") from error
    if not tracks:
        raise IndexRefused("a piece without picture and sound")
    return tracks


def _packets(source: Source, limits: Limits) -> dict[int, list[Packet[Any]]]:
    found: dict[int, list[Packet[Any]]] = {s.index: [] for s in (source.video, source.audio) if s is not None}
    num_bytes = 0
    for number, packet in enumerate(demux(source.container, [s for s in (source.video, source.audio) if s])):
        num_bytes += packet.size
        if number > limits.max_packets or num_bytes > limits.max_packet_bytes:
            raise CutImpossible(f"more than {limits.max_packets} packets or {limits.max_packet_bytes} bytes")
        if packet.has_sidedata("encryption_info"):
            raise CutImpossible("encrypted")
        if packet.is_corrupt:
            raise CutImpossible("a damaged packet")
        if packet.size:
            found[packet.stream_index].append(packet)
    return found


def _track(
    source: Source, stream: VideoStream | AudioStream, packets: list[Packet[Any]], zero: float, limits: Limits
) -> Track:
    if stream.codec_context is None or not packets:
        raise CutImpossible(f"no {stream.type} packets, or of an unknown codec")
    reorders = False
    if isinstance(stream, VideoStream):
        reorders = bool(stream.codec_context.has_b_frames)
        if not begins_with_key_picture(source, packets, limits):
            raise CutImpossible("it does not begin with a key picture")
    complete_times(packets, reorders)
    tick = stream.time_base or Fraction(1, 1_000_000)
    return Track(stream, packets, round(Fraction(zero) / tick) * tick)
