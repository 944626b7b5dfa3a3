"""Every picture and every sample of a clip at the file's own rates, on the clip's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from av.video.frame import VideoFrame

from valor_data.errors import ClipError
from valor_data.media.open import DEFAULT_LIMITS, Limits, choose_streams, open_media
from valor_data.media.pictures import decode_all
from valor_data.media.sound import Sound, decode_sound
from valor_data.media.span import TIME_TOLERANCE_SECONDS, read_span


def clip_pictures(
    path: Path, offset_seconds: float, start: float, end: float, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[float, VideoFrame]]:
    """Decodes every picture that comes on screen in `[start, end)` of a video, in order.

    Args:
        path: a file that holds the span.
        offset_seconds: second of the video at which the file's own second 0 lies.
        start: first second, video seconds.
        end: second after the last, video seconds.
        limits: when to give up.

    Yields:
        When the picture comes on screen, in clip seconds, and the picture as coded (not turned).

    Raises:
        ClipError: `no_video`, `too_large`, and what `open_media` raises.
    """
    with open_media(path, limits) as container:
        source = replace(choose_streams(container), audio=None)
        if source.video is None:
            raise ClipError("no_video", "no picture track")
        begin, after = start - offset_seconds, end - offset_seconds
        packets = read_span(source, begin, after, limits)
        for picture in decode_all(source, packets, (begin, after), limits):
            if begin <= picture.seconds + TIME_TOLERANCE_SECONDS < after:
                yield picture.seconds - begin, picture.frame


def clip_sound(path: Path, offset_seconds: float, start: float, end: float, limits: Limits = DEFAULT_LIMITS) -> Sound:
    """Decodes the sound of `[start, end)` of a video: all channels, the file's own rate, on the clip's grid.

    Args:
        path: a file that holds the span.
        offset_seconds: second of the video at which the file's own second 0 lies.
        start: first second, video seconds.
        end: second after the last, video seconds.
        limits: when to give up.

    Raises:
        ClipError: `no_audio`, `undecodable` (no sound in the span, or no decoder), `too_large`, and what
            `open_media` raises.
    """
    with open_media(path, limits) as container:
        source = replace(choose_streams(container), video=None)
        if source.audio is None:
            raise ClipError("no_audio", "no sound track")
        if source.audio.codec_context is None:
            raise ClipError("undecodable", "no decoder for the sound")
        begin, after = start - offset_seconds, end - offset_seconds
        packets = read_span(source, begin, after, limits)
        if packets.encrypted:
            raise ClipError("undecodable", "encrypted")
        sound = decode_sound(source, packets.audio, begin, after, limits)
    if not sound.spans:
        raise ClipError("undecodable", f"no sound in the span; {sound.num_errors} errors")
    return sound
