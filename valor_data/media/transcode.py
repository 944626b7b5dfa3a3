"""Makes the small mp4 of a clip that a sample may carry, through ffmpeg's command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

from valor_data.errors import ClipError
from valor_data.media.open import (
    ACCESS_OPTIONS,
    DEFAULT_LIMITS,
    Limits,
    Source,
    choose_streams,
    open_media,
)
from valor_data.media.span import TIME_TOLERANCE_SECONDS
from valor_data.workdir import written_aside

_VIDEO_OPTIONS = {"c:v": "libx264", "preset": "veryfast", "crf": 20, "pix_fmt": "yuv420p"}
_SQUARE_AND_EVEN = r"scale=w=max(2\,trunc(iw*sar/2)*2):h=max(2\,trunc(ih/2)*2),setsar=1"
_AUDIO_OPTIONS = {"c:a": "aac", "b:a": "128k"}
_SAME_BYTES = {
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
    "flags:a": "+bitexact",
    "map_metadata": -1,
    "map_chapters": -1,
    "threads": 1,
    "filter_threads": 1,
}


def ffmpeg_path() -> Path:
    """The ffmpeg to call: the system's where there is one, else the one that pip brought."""
    return Path(shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()).absolute()


def transcode_mp4(
    source_path: Path,
    start: float,
    end: float,
    destination: Path,
    *,
    offset_seconds: float = 0.0,
    modalities: str = "av",
    limits: Limits = DEFAULT_LIMITS,
    timeout_seconds: float = 300.0,
) -> Path:
    """Writes exactly `[start, end)` of a video as an mp4 of H.264 and AAC, upright, with square pixels.

    A file that already is that span in those codecs is copied without re-encoding. One thread and
    bit-exact flags: the same file and the same ffmpeg give the same bytes.

    Args:
        source_path: a file that holds the span.
        start: first second, video seconds.
        end: second after the last, video seconds.
        destination: the mp4; replaced whole or not at all.
        offset_seconds: second of the video at which the source's second 0 lies.
        modalities: `av`, `v` (no sound) or `a` (no picture).
        limits: largest picture.
        timeout_seconds: when ffmpeg is stopped.

    Returns:
        `destination`.

    Raises:
        ClipError: `no_video`, `no_audio` (asked for, not there), `undecodable` (ffmpeg failed, its last
            words in the detail), `timeout`, and what `open_media` raises.
    """
    begin, length = max(0.0, start - offset_seconds), end - start
    with open_media(source_path, limits) as container:
        source = choose_streams(container)
        wanted = _wanted_streams(source, modalities)
        is_copy = _already_right(source, begin, length, modalities)
        from_start = source.needs_reading_from_start
    span: dict[str, Any] = {"ss": f"{begin:.6f}"} if begin else {}
    reading = {**ACCESS_OPTIONS, "max_pixels": limits.max_frame_pixels, "threads": 1}
    given = ffmpeg.input(f"file:{source_path.absolute()}", **reading, **({} if from_start else span))
    how: dict[str, Any] = {"c": "copy"} if is_copy else {**(span if from_start else {}), "t": f"{length:.6f}"}
    if not is_copy:
        how |= {**_VIDEO_OPTIONS, "vf": _SQUARE_AND_EVEN} if "v" in modalities else {}
        how |= _AUDIO_OPTIONS if "a" in modalities else {}
    with written_aside(destination) as temporary:
        output = ffmpeg.output(
            *(given[str(index)] for index in wanted),
            f"file:{temporary.absolute()}",
            **{**how, **_SAME_BYTES, "f": "mp4", "movflags": "+faststart"},
        ).global_args("-hide_banner", "-nostdin", "-loglevel", "error")
        _run(ffmpeg.compile(output, cmd=os.fspath(ffmpeg_path()), overwrite_output=True), timeout_seconds)
    return destination


def _wanted_streams(source: Source, modalities: str) -> list[int]:
    wanted = []
    if "v" in modalities:
        if source.video is None:
            raise ClipError("no_video", "no picture track")
        wanted.append(source.video.index)
    if "a" in modalities:
        if source.audio is None:
            raise ClipError("no_audio", "no sound track")
        wanted.append(source.audio.index)
    return wanted


def _already_right(source: Source, begin: float, length: float, modalities: str) -> bool:
    """Whether the file is the span already, to a picture's length, as H.264 and AAC in an mp4."""
    duration, video, audio = source.container.duration, source.video, source.audio
    if "mp4" not in source.container.format.name or not duration or begin > TIME_TOLERANCE_SECONDS:
        return False
    right_video = "v" not in modalities or (video is not None and video.codec_context.codec.canonical_name == "h264")
    right_audio = "a" not in modalities or (audio is not None and audio.codec_context.codec.canonical_name == "aac")
    picture = float(1 / video.average_rate) if video is not None and video.average_rate else TIME_TOLERANCE_SECONDS
    return right_video and right_audio and abs(duration / 1e6 - length) <= picture


def _run(command: list[str], timeout_seconds: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClipError("timeout", f"ffmpeg took longer than {timeout_seconds} s") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise ClipError("undecodable", f"ffmpeg failed ({done.returncode}): {' '.join(words[-3:])[:500]}")
