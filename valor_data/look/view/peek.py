"""Looks into a media file for the viewer, in a process of its own: one that crashes a decoder costs nothing else.

    python -m valor_data.look.view.peek FILE OFFSET START END [sound]

Writes a NumPy archive to standard output: `frame_00` … (JPEG bytes), `mel` (float16 `[T, n_mels]`), `flac` (bytes);
what the file does not have, or cannot be decoded, is not in it.
"""

from __future__ import annotations

import contextlib
import io
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEADLINE_SECONDS = 60.0
MEMORY_BYTES = 8 << 30
"""Address space of the process; a decoder maps more than it uses."""


@dataclass(frozen=True, slots=True)
class Peek:
    """What a media file shows of a clip.

    Attributes:
        frames: JPEG files, the middles of ten equal parts.
        mel: float16 `[T, n_mels]`; None where there is no sound.
        flac: the clip's sound; empty without any.
        fault: why nothing is there; empty where something is.
    """

    frames: tuple[bytes, ...] = ()
    mel: NDArray[Any] | None = None
    flac: bytes = b""
    fault: str = ""


def peek(path: Path, offset_seconds: float, start: float, end: float, *, sound_alone: bool = False) -> Peek:
    """Looks into a file.

    Args:
        path: the file.
        offset_seconds: second of the video at which its own second 0 lies.
        start: first second of the clip, in the video.
        end: second after the last.
        sound_alone: whether the pictures and the mel are known already: that is quicker.
    """
    numbers = [f"{number!r}" for number in (offset_seconds, start, end)]
    command = [sys.executable, "-m", "valor_data.look.view.peek", str(path.absolute()), *numbers]
    command += ["sound"] if sound_alone else []
    try:
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Peek(fault=f"looking into it took more than {DEADLINE_SECONDS:.0f} s")
    if done.returncode or not done.stdout:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Peek(fault=last[0][:300] if last else "the decoder crashed")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as archive:
        frames = tuple(archive[name].tobytes() for name in sorted(archive.files) if name.startswith("frame_"))
        mel = archive["mel"] if "mel" in archive.files else None
        flac = archive["flac"].tobytes() if "flac" in archive.files else b""
    return Peek(frames, mel, flac, "" if frames or flac else "nothing in it can be decoded")


def main(arguments: list[str]) -> None:
    """Writes what there is."""
    from valor_data.errors import ClipError
    from valor_data.media.extract import FeatureSettings
    from valor_data.media.flac import audio_flac
    from valor_data.media.take import take_clip

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    path, (offset, start, end) = Path(arguments[0]), map(float, arguments[1:4])
    found: dict[str, NDArray[Any]] = {}
    for modalities in () if arguments[4:] else ("v", "a"):
        settings = replace(FeatureSettings(), modalities=modalities)
        with contextlib.suppress(ClipError):
            features = take_clip(path, offset, start, end, lambda facts: True, settings).features
            if features is not None:
                pictures = (np.frombuffer(jpeg, np.uint8) for jpeg in features.jpegs)
                found |= {f"frame_{number:02d}": picture for number, picture in enumerate(pictures)}
                found |= {"mel": features.mel} if "a" in modalities and len(features.mel) else {}
    if "mel" in found or arguments[4:]:
        with contextlib.suppress(ClipError):
            found["flac"] = np.frombuffer(audio_flac(path, offset, start, end), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **found)  # type: ignore[arg-type]
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
