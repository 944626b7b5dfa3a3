"""A planned video becomes an mp4 file: H.264 and AAC, or whatever is wrong with it.

As a program it makes a share of a world's videos: `python -m valor_data.demo.encode FOLDER SETTINGS NUMBER OF`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from valor_data.demo.classes import SOUND_CLASSES, VISUAL_CLASSES
from valor_data.demo.draw import Picture, Stage
from valor_data.demo.plan import Part, Video, WorldSettings, plan_world
from valor_data.demo.synth import Wave, synthesise

PAGE = """<!doctype html>
<html><head><title>Video unavailable</title></head><body><p>This video isn't available any more.</p></body></html>
"""

KEYFRAME_SECONDS = 2
"""Distance of key frames: a cut without re-encoding falls beside most clips' borders, as on the web."""

_AAC = {"aac_coder": "fast", "b": "96000"}
_X264 = {"preset": "ultrafast", "crf": "26", "threads": "1"}
"""One thread, so that the bytes do not depend on the machine's number of cores."""


def _pictures(video: Video, settings: WorldSettings) -> Iterator[Picture]:
    """Every picture of a video, `[H, W, 3]`; the one at `k / fps` shows the part on at that moment."""
    stage = Stage(settings.width_px, settings.height_px)
    total_ms = sum(part.length_ms for part in video.parts)
    starts = np.cumsum([0] + [part.length_ms for part in video.parts])[:-1]
    for k in range(-(-total_ms * settings.fps // 1000)):
        moment_ms = 1000 * k / settings.fps
        index = int(np.searchsorted(starts, moment_ms, side="right")) - 1
        part: Part = video.parts[index]
        seconds = 0.0 if part.still else (moment_ms - float(starts[index])) / 1000
        yield stage.draw(VISUAL_CLASSES[part.visual], part.look, seconds)


def _sound(video: Video) -> NDArray[np.float32]:
    """The whole sound track: float32 `[channels, N]`; a second channel is a little quieter than the first."""
    dice = np.random.default_rng(video.seed)
    waves: list[Wave] = []
    end_ms = num_samples = 0
    for part in video.parts:
        end_ms += part.length_ms
        length = round(end_ms * video.rate_hz / 1000) - num_samples
        num_samples += length
        if part.voice is None:
            waves.append(np.zeros(length))
        else:
            waves.append(synthesise(SOUND_CLASSES[part.sound].name, part.voice, length, video.rate_hz, dice))
    wave = np.concatenate(waves)
    return np.stack([wave * 0.9**channel for channel in range(video.num_channels)]).astype(np.float32)


def _add_picture(container: Any, video: Video, settings: WorldSettings) -> None:
    stream = container.add_stream("libx264", rate=settings.fps, options=_X264)
    stream.width, stream.height, stream.pix_fmt = settings.width_px, settings.height_px, "yuv420p"
    stream.gop_size = KEYFRAME_SECONDS * settings.fps
    for number, picture in enumerate(_pictures(video, settings)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, settings.fps)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encode(path: Path, video: Video, settings: WorldSettings) -> None:
    # the index at the front, as the web has it, but where it must be lost together with the end
    options = {} if video.fault == "no_index" else {"movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        sound = container.add_stream("aac", rate=video.rate_hz, options=_AAC) if "a" in video.tracks else None
        layout = "mono" if video.num_channels == 1 else "stereo"
        if sound is not None:
            sound.layout = layout
        if "v" in video.tracks:
            _add_picture(container, video, settings)
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(_sound(video), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = video.rate_hz, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


def write_video(path: Path, video: Video, settings: WorldSettings) -> None:
    """Writes a video's file; one that is dead gets none.

    Args:
        path: absolute path of the file.
        video: what to write.
        settings: size and rate of the pictures.
    """
    if video.fault == "dead":
        return
    if video.fault == "page":
        path.write_text(PAGE, encoding="utf-8")
        return
    _encode(path, video, settings)
    if video.fault in ("no_index", "cut_off"):
        whole = path.read_bytes()
        share = 0.5 if video.fault == "no_index" else 0.25
        path.write_bytes(whole[: int(len(whole) * share)])


def main(arguments: Sequence[str]) -> None:
    """Writes every `OF`-th video of a world, beginning with the `NUMBER`-th, and prints its id when it is done.

    Args:
        arguments: the folder of the files, the settings as JSON, `NUMBER`, `OF`.
    """
    folder, settings_json, number, of = arguments
    settings = WorldSettings(**json.loads(settings_json))
    for video in plan_world(settings).videos[int(number) :: int(of)]:
        write_video(Path(folder) / f"{video.video_id}.mp4", video, settings)
        sys.stdout.write(video.video_id + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
