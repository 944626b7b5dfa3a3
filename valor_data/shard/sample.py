"""One sample: the members of a clip inside a shard, and what its JSON says.

Every sample of a run has the same members and its JSON the same fields: never null, never an empty list, and
a number that can be fractional always written with a point, because readers infer types from a few samples.
What a clip does not have is written as one empty entry (`labels: [""]`); `reader` takes it away again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from valor_data.clip import Caption, Clip, Seconds
from valor_data.config import ShardSection
from valor_data.errors import ClipError, Status
from valor_data.guard import OUT_OF_MEMORY
from valor_data.ledger import Outcome
from valor_data.media.extract import ClipFeatures, FeatureSettings, extract_clip
from valor_data.media.facts import Facts
from valor_data.media.flac import audio_flac
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings
from valor_data.media.take import take_clip
from valor_data.media.transcode import transcode_mp4

SAMPLE_SCHEMA_VERSION = 1

Judge = Callable[[Mapping[str, Any]], Outcome]
"""Says of a clip's facts whether it is kept; picklable."""

MEL_FRONT_ENDS = {"valor": MelSettings.valor, "ast": MelSettings.ast}
"""Front ends of the log-mel by their name in `[shard] mel`."""

SOURCE_FIELDS = ("extractor", "license", "channel_id", "format_id", "container")
"""What a sample says of its origin; always texts, empty when the source does not tell."""


FACTS_IN_SAMPLE = tuple(sorted(Facts().to_dict().keys() - {"audio_spans"}))
"""Facts that a sample carries; where the sound is, the sample tells at its own top level."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What decides about the bytes of a sample, besides the media and the annotation.

    Attributes:
        modalities: `av`, `v` or `a`.
        frames: how pictures are chosen and made.
        mel: the front end of the log-mel.
        include: media members: `audio`, `video`.
        leaves_out: `frames`, `mel`: members that an extension does not repeat.
    """

    modalities: str
    frames: FrameSettings
    mel: MelSettings
    include: tuple[str, ...] = ()
    leaves_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: ShardSection, modalities: str) -> SampleSettings:
        """The settings that a `[shard]` section means."""
        return cls(
            modalities=modalities,
            frames=FrameSettings(
                section.num_frames, section.frame_short_side_px, section.jpeg_quality, section.frame_snap
            ),
            mel=MEL_FRONT_ENDS[section.mel](),
            include=tuple(sorted(set(section.include))),
        )

    def features(self) -> FeatureSettings:
        """The part of the settings that decoding needs."""
        return FeatureSettings(self.modalities, self.frames, self.mel)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; part of a shard's digest."""
        tree: dict[str, Any] = {
            "sample_schema_version": SAMPLE_SCHEMA_VERSION,
            "modalities": self.modalities,
            "frames": self.frames.to_dict() if "v" in self.modalities else {},
            "mel": self.mel.to_dict() if "a" in self.modalities else {},
            "include": list(self.include),
        }
        return tree | ({"leaves_out": list(self.leaves_out)} if self.leaves_out else {})

    @property
    def has_frames(self) -> bool:
        """Whether a sample holds pictures."""
        return "v" in self.modalities and "frames" not in self.leaves_out

    @property
    def has_mel(self) -> bool:
        """Whether a sample holds a log-mel."""
        return "a" in self.modalities and "mel" not in self.leaves_out

    def member_names(self) -> tuple[str, ...]:
        """Extensions of a sample's members, sorted."""
        names = ["json", "txt"]
        if self.has_frames:
            names += [f"frame_{i:02d}.jpg" for i in range(self.frames.count)]
        if self.has_mel:
            names.append("mel.npy")
        names += [{"audio": "flac", "video": "mp4"}[name] for name in self.include]
        return tuple(sorted(names))


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A kept clip: what its sample is made of.

    Attributes:
        clip_id: its number in the ledger.
        clip: the annotation.
        path: the media file; None when the media were discarded (its members come from the former tar).
        offset_seconds: the second of the video at which the file's second 0 lies.
        facts: what was measured, as JSON; None when that is still to be done.
        source: what is known of the origin, as JSON.
        content: hash of the annotation.
    """

    clip_id: int
    clip: Clip
    path: Path | None
    offset_seconds: Seconds
    facts: str | None
    source: str
    content: str

    @property
    def key(self) -> str:
        """The clip's key."""
        return self.clip.key or ""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a clip.

    Attributes:
        members: extension to bytes, for each of `SampleSettings.member_names`; None when it was refused.
        facts: what was measured, as JSON; None when nothing could be.
        judged: what the judge said of a clip that was measured here; None for a clip measured before.
        refusal: why a clip that was to be kept cannot be decoded after all.
    """

    members: dict[str, bytes] | None
    facts: str | None
    judged: Outcome | None = None
    refusal: ClipError | None = None


def make_members(request: SampleRequest, settings: SampleSettings, judge: Judge, scratch: Path) -> Made:
    """Decodes a clip and makes the members of its sample; measures it on the way if nobody has.

    Args:
        request: the clip.
        settings: what a sample holds.
        judge: whether a clip with such facts is kept; asked only for clips that were not measured.
        scratch: a folder for files that come and go.

    Raises:
        FileNotFoundError: the media file is gone.
    """
    clip, path = request.clip, request.path
    if path is None or not path.is_file():
        raise FileNotFoundError(str(path))
    end = clip.end if clip.end is not None else clip.start
    span = (request.offset_seconds, clip.start, end)
    try:
        if request.facts is None:
            taken = take_clip(path, *span, lambda facts: _keeps(judge, facts), settings.features())
            facts, features, refusal = taken.facts.to_json(), taken.features, taken.refusal
            judged = judge(taken.facts.to_dict())
            if refusal is not None or features is None:
                return Made(None, facts, judged, refusal)
        else:
            facts, judged = request.facts, None
            features = extract_clip(path, *span, settings.frames, settings.mel, settings.modalities)
        return Made(_members(request, settings, features, facts, scratch), facts, judged)
    except ClipError as error:
        refusal = error
    except MemoryError:
        refusal = ClipError("too_large", OUT_OF_MEMORY)
    if request.facts is None:
        return Made(None, None, Outcome.refused(refusal.reason, refusal.detail))
    return Made(None, request.facts, None, refusal)


def _keeps(judge: Judge, facts: Facts) -> bool:
    return judge(facts.to_dict()).status is Status.KEPT


def _members(
    request: SampleRequest, settings: SampleSettings, features: ClipFeatures, facts: str, scratch: Path
) -> dict[str, bytes]:
    clip, path = request.clip, request.path or scratch
    members: dict[str, bytes] = {
        "txt": first_caption(clip).encode(),
        "json": sample_json(
            request,
            settings,
            facts,
            frame_moments=features.frame_moments,
            frame_times=features.frame_times,
            num_frames_clamped=features.num_frames_clamped,
            audio_spans=features.audio_spans,
        ),
    }
    for number, jpeg in enumerate(features.jpegs if settings.has_frames else ()):
        members[f"frame_{number:02d}.jpg"] = jpeg
    if settings.has_mel:
        members["mel.npy"] = array_bytes(features.mel)
    end = clip.end if clip.end is not None else clip.start
    if "audio" in settings.include:
        members["flac"] = audio_flac(path, request.offset_seconds, clip.start, end)
    if "video" in settings.include:
        members["mp4"] = _video_mp4(request, path, settings.modalities, scratch)
    return members


def _video_mp4(request: SampleRequest, path: Path, modalities: str, scratch: Path) -> bytes:
    clip, place = request.clip, scratch / "clip.mp4"
    end = clip.end if clip.end is not None else clip.start
    transcode_mp4(path, clip.start, end, place, offset_seconds=request.offset_seconds, modalities=modalities)
    data = place.read_bytes()
    place.unlink()
    return data


def remake_members(request: SampleRequest, settings: SampleSettings, former: dict[str, bytes]) -> dict[str, bytes]:
    """The members of a clip whose media are gone: pictures and sound as they were, text and JSON anew."""
    before = json.loads(former["json"])
    return {
        **former,
        "txt": first_caption(request.clip).encode(),
        "json": sample_json(
            request,
            settings,
            request.facts or "{}",
            frame_moments=before["frame_moments"],
            frame_times=before["frame_times"],
            num_frames_clamped=before["num_frames_clamped"],
            audio_spans=before["audio_spans"],
        ),
    }


def first_caption(clip: Clip) -> str:
    """The clip's first caption; empty when it has none."""
    return clip.captions[0].text if clip.captions else ""


def sample_json(
    request: SampleRequest,
    settings: SampleSettings,
    facts: str,
    *,
    frame_moments: Any,
    frame_times: Any,
    num_frames_clamped: int,
    audio_spans: Any,
) -> bytes:
    """What a sample says of itself, as `schemas/sample.schema.json` describes it."""
    clip = request.clip
    source = json.loads(request.source)
    tree = {
        "schema_version": SAMPLE_SCHEMA_VERSION,
        "key": request.key,
        "video_id": clip.video_id,
        "start": float(clip.start),
        "end": float(clip.end if clip.end is not None else clip.start),
        "split": clip.split,
        "captions": [asdict(caption) for caption in clip.captions or (Caption(""),)],
        "labels": list(clip.labels) or [""],
        "label_names": list(clip.label_names) or [""],
        "questions": [
            {"question_id": q.question_id, "question": q.question, "answers": list(q.answers) or [""]}
            for q in clip.questions
        ]
        or [{"question_id": "", "question": "", "answers": [""]}],
        "frame_moments": [round(float(moment), 6) for moment in frame_moments] or [0.0],
        "frame_times": [round(float(moment), 6) for moment in frame_times] or [0.0],
        "num_frames_clamped": int(num_frames_clamped),
        "audio_spans": [[round(float(a), 6), round(float(b), 6)] for a, b in audio_spans] or [[0.0, 0.0]],
        "mel": settings.mel.to_dict() if "a" in settings.modalities else MelSettings.valor().to_dict(),
        "modalities": settings.modalities,
        "facts": facts_fields(facts),
        "source": {name: str(source.get(name, "")) for name in SOURCE_FIELDS},
    }
    return json.dumps(tree, ensure_ascii=False, separators=(", ", ": "), allow_nan=False).encode()


def facts_fields(facts: str) -> dict[str, Any]:
    """The measured figures that a sample carries: every one of one type, never null."""
    measured = Facts.from_dict(json.loads(facts)).to_dict()
    return {name: measured[name] for name in FACTS_IN_SAMPLE}


def array_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array in NumPy's own file form, C order, no pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
