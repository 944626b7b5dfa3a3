"""One clip's packets in an open file, and its pictures, each decoded once whoever asks for them.

Times are media seconds: seconds from second 0 of the opened file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from valor_data.errors import ClipError
from valor_data.media.open import Limits, Source
from valor_data.media.pictures import Decoded, Picture, decode_pictures, decode_planned
from valor_data.media.sound import Sound, decode_sound
from valor_data.media.span import SpanPackets, read_span
from valor_data.media.timeline import Timeline, read_timeline


def asked_for(source: Source, modalities: str) -> Source:
    """The file with only the streams that the modalities (`av`, `v`, `a`) ask for."""
    return replace(
        source,
        video=source.video if "v" in modalities else None,
        audio=source.audio if "a" in modalities else None,
    )


@dataclass(slots=True)
class Passage:
    """A clip that was read and not yet decoded.

    Attributes:
        source: the open file, with the streams asked for.
        packets: its compressed packets.
        timeline: which picture is on screen when; None without pictures.
        begin: the clip's first second.
        after: the second after its last.
        limits: when to give up.
    """

    source: Source
    packets: SpanPackets
    timeline: Timeline | None
    begin: float
    after: float
    limits: Limits

    @classmethod
    def read(cls, source: Source, begin: float, after: float, limits: Limits) -> Passage:
        """Reads the packets of `[begin, after)`.

        Raises:
            ClipError: `too_large`.
        """
        packets = read_span(source, begin, after, limits)
        timeline = read_timeline(source, packets.video, packets.video_after) if source.video is not None else None
        return cls(source, packets, timeline, begin, after, limits)

    @property
    def span(self) -> tuple[float, float]:
        """Begin and after."""
        return self.begin, self.after

    def decode_sound(self) -> Sound:
        """Decodes the sound; see `valor_data.media.sound.decode_sound`. Ask once: decoders go forward only."""
        return decode_sound(self.source, self.packets.audio, self.begin, self.after, self.limits)


class PicturePool:
    """The pictures of a passage; those gathered in advance are not decoded again.

    What `at` answers does not depend on what was gathered: the pool keeps what it gathered only when not
    a single error came up on the way, and then a picture is the same however it is reached.
    """

    def __init__(self, passage: Passage, timeline: Timeline) -> None:
        self._passage, self._timeline = passage, timeline
        self._gathered: dict[int, Picture] = {}

    def gather(self, moments: Sequence[float]) -> None:
        """Decodes the pictures on screen at these moments in one go, as far as the file is sound."""
        if not self._timeline.is_timed or len(set(self._timeline.order_times)) < len(self._timeline.order_times):
            return
        targets = sorted({self._timeline.at(moment) for moment in moments})
        try:
            found = decode_planned(self._passage.source, self._timeline, targets, self._passage.limits)
        except ClipError:  # too much together; each may be allowed by itself
            return
        if found is not None:
            self._gathered = found

    def at(self, moments: Sequence[float]) -> Decoded:
        """The picture on screen at each moment; see `valor_data.media.pictures.decode_pictures`."""
        if self._gathered:
            targets = [self._timeline.at(moment) for moment in moments]
            if all(target in self._gathered for target in targets):
                return Decoded([self._gathered[target] for target in targets])
        passage = self._passage
        return decode_pictures(passage.source, self._timeline, passage.span, moments, passage.limits)
