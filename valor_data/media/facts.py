"""What was measured on a clip's media: plain numbers and words, JSON types only, stored once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

FACTS_VERSION = 2
"""Raised whenever the same file would measure differently: facts of another version are measured again."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one clip. Nothing here is a decision; no number is ever NaN or infinite, nothing is None.

    Attributes:
        has_video: there is a picture track (a cover picture is none).
        has_audio: there is a sound track.
        video_codec: FFmpeg's name of the picture's codec, `""` without one.
        audio_codec: the same of the sound.
        width_px: width as shown, pixel aspect and rotation applied; 0 without a picture.
        height_px: height as shown.
        rotation_degrees: how far the picture is turned counter-clockwise to be upright: 0, 90, 180, 270.
            Known once a picture was decoded, else 0 (and the size is that before turning).
        fps: average pictures a second, 0.0 where unknown.
        sample_rate_hz: the sound's, 0 without one.
        num_channels: the sound's, 0 without one.
        file_duration_seconds: what the file's header says it lasts, 0.0 where it says nothing. May lie.
        video_coverage: share of the clip, 0 to 1, from the first picture's time to the end of the last.
        audio_coverage: share of the clip, 0 to 1, where sound was decoded.
        audio_spans: `(start, end)` in clip seconds of each stretch where sound was decoded.
        rms_dbfs: see `valor_data.media.levels.Levels`; −150 without sound.
        peak_dbfs: the same.
        silence_share: the same; 1 without sound.
        clipping_share: the same.
        still: the sampled pictures are all alike (`picture_change` < 1); False when none were compared.
        picture_change: mean absolute difference of luma, 0 to 255, between the two most different of the
            sampled pictures.
        num_pictures_decoded: pictures that were sampled and came out whole; 0 where the sound had
            decided, or the modalities leave the picture out.
        num_decode_errors: packets that did not decode, damaged pictures, breaks in reading the file.
        encrypted: packets say that they are encrypted; nothing was decoded.
        decodable: what was asked for and is there can be decoded.
        decode_detail: why not, `""` where it can.
        version: `FACTS_VERSION` of the measurement.
    """

    has_video: bool = False
    has_audio: bool = False
    video_codec: str = ""
    audio_codec: str = ""
    width_px: int = 0
    height_px: int = 0
    rotation_degrees: int = 0
    fps: float = 0.0
    sample_rate_hz: int = 0
    num_channels: int = 0
    file_duration_seconds: float = 0.0
    video_coverage: float = 0.0
    audio_coverage: float = 0.0
    audio_spans: tuple[tuple[float, float], ...] = ()
    rms_dbfs: float = -150.0
    peak_dbfs: float = -150.0
    silence_share: float = 1.0
    clipping_share: float = 0.0
    still: bool = False
    picture_change: float = 0.0
    num_pictures_decoded: int = 0
    num_decode_errors: int = 0
    encrypted: bool = False
    decodable: bool = True
    decode_detail: str = ""
    version: int = field(default=FACTS_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON types; spans become lists of two."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "audio_spans": [list(span) for span in self.audio_spans]}

    def to_json(self) -> str:
        """The facts as canonical JSON: the same facts give the same text."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Facts:
        """The inverse of `to_dict`; also of what JSON made of it."""
        return cls(**{**values, "audio_spans": tuple((float(a), float(b)) for a, b in values["audio_spans"])})


def canonical_json(tree: object) -> str:
    """JSON with sorted keys and no spaces.

    Raises:
        ValueError: NaN or an infinity.
    """
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
