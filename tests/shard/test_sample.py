"""A sample: its members, and a JSON that every reader can take, whatever the clip lacks."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from small_media import SECONDS, make_video

from valor_data.clip import ROLES, Caption, Clip, Question
from valor_data.config import FilterSection, ShardSection
from valor_data.errors import ClipError
from valor_data.filter.decide import decide
from valor_data.ledger import Outcome
from valor_data.media.facts import Facts
from valor_data.media.measure import measure_clip
from valor_data.schema import load_schema
from valor_data.shard.reader import clip_of, decode_sample
from valor_data.shard.sample import (
    SampleRequest,
    SampleSettings,
    array_bytes,
    first_caption,
    make_members,
    remake_members,
    sample_json,
)

FACTS = json.dumps(Facts(has_video=True, has_audio=True, fps=10.0, rms_dbfs=-20.0).to_dict())
VALIDATOR = jsonschema.Draft202012Validator(load_schema("sample"))


def settings_of(modalities: str = "av", **section: Any) -> SampleSettings:
    return SampleSettings.of(ShardSection(**section), modalities)


def request_of(clip: Clip, path: Path | None = None, source: str = "{}") -> SampleRequest:
    return SampleRequest(1, clip, path, 0.0, FACTS, source, "digest")


def members_of(request: SampleRequest, asked: SampleSettings, scratch: Path) -> dict[str, bytes]:
    made = make_members(request, asked, no_judge, scratch)
    if made.refusal is not None:
        raise made.refusal
    assert made.members is not None and made.judged is None
    return made.members


def no_judge(facts: Mapping[str, Any]) -> Outcome:
    raise AssertionError("a clip that was measured is not judged again")


def json_of(clip: Clip, modalities: str = "av", *, moments: Any = (), spans: Any = (), source: str = "{}") -> bytes:
    return sample_json(
        request_of(clip, source=source),
        settings_of(modalities),
        FACTS,
        frame_moments=moments,
        frame_times=moments,
        num_frames_clamped=0,
        audio_spans=spans,
    )


# -- settings and members


def test_members_follow_what_the_run_holds() -> None:
    frames = tuple(f"frame_{n:02d}.jpg" for n in range(3))
    assert settings_of(num_frames=3).member_names() == (*frames, "json", "mel.npy", "txt")
    assert settings_of("v", num_frames=3).member_names() == (*frames, "json", "txt")
    assert settings_of("a", num_frames=3).member_names() == ("json", "mel.npy", "txt")
    both = settings_of(num_frames=3, include=("video", "audio", "video"))
    assert both.include == ("audio", "video")
    assert both.member_names() == ("flac", *frames, "json", "mel.npy", "mp4", "txt")


@pytest.mark.parametrize(
    "change",
    [{"num_frames": 3}, {"frame_short_side_px": 128}, {"jpeg_quality": 80}, {"mel": "ast"}, {"include": ("audio",)}],
)
def test_what_shows_in_a_sample_shows_in_its_settings(change: dict[str, Any]) -> None:
    assert settings_of(**change).to_dict() != settings_of().to_dict()
    json.dumps(settings_of(**change).to_dict())


def test_what_does_not_show_changes_nothing() -> None:
    same = {"workers": 7, "max_clips": 3, "seed": 5, "partial": True, "discard_media": True}
    assert settings_of(**same).to_dict() == settings_of().to_dict()
    assert settings_of("a", num_frames=3).to_dict() == settings_of("a").to_dict()
    assert settings_of("v", mel="ast").to_dict() == settings_of("v").to_dict()


# -- the JSON


def numbers_without_a_point(tree: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Places where the schema allows a fraction and the JSON has a whole number, or the other way round."""
    if schema.get("type") == "object":
        parts = schema["properties"].items()
        return [bad for name, part in parts for bad in numbers_without_a_point(tree[name], part, f"{path}/{name}")]
    if schema.get("type") == "array":
        return [bad for item in tree for bad in numbers_without_a_point(item, schema["items"], f"{path}[]")]
    kinds = {"number": float, "integer": int, "string": str, "boolean": bool}
    kind = kinds.get(schema.get("type", ""))
    return [] if kind is None or type(tree) is kind else [f"{path}: {tree!r}"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
words = texts.filter(str.strip)
clips = st.builds(
    Clip,
    video_id=words,
    start=st.integers(0, 1000).map(float) | st.integers(0, 10**6).map(lambda n: n / 1000) | st.integers(0, 99),
    end=st.integers(1001, 2000) | st.floats(1001, 2000).map(lambda x: round(x, 3)),
    split=st.sampled_from(["train", "val"]),
    captions=st.lists(st.builds(Caption, words, st.sampled_from(ROLES)), max_size=3).map(tuple),
    labels=st.lists(words, max_size=3).map(tuple),
    label_names=st.lists(words, max_size=3).map(tuple),
    questions=st.lists(
        st.builds(Question, words, words, st.lists(words, min_size=1, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
)
moments = st.lists(st.integers(0, 10) | st.floats(0, 10), max_size=4)
spans = st.lists(st.tuples(st.integers(0, 5), st.floats(5, 9)), max_size=2)


@settings(max_examples=150, deadline=None)
@given(clips, moments, spans, st.sampled_from(["av", "v", "a"]))
def test_the_json_is_valid_and_gives_the_clip_back(clip: Clip, moments: Any, spans: Any, modalities: str) -> None:
    data = json_of(clip, modalities, moments=moments, spans=spans)
    tree = json.loads(data)
    VALIDATOR.validate(tree)
    assert numbers_without_a_point(tree, load_schema("sample")) == []
    assert clip_of(tree) == clip
    assert tree["key"] == clip.key


def test_the_emptiest_clip() -> None:
    tree = json.loads(json_of(Clip("-x", 0, 1), "v"))
    assert tree["captions"] == [{"text": "", "role": "audiovisual"}]
    assert (tree["labels"], tree["label_names"]) == ([""], [""])
    assert tree["questions"] == [{"question_id": "", "question": "", "answers": [""]}]
    assert (tree["frame_moments"], tree["audio_spans"]) == ([0.0], [[0.0, 0.0]])
    assert b'"start": 0.0, "end": 1.0' in json_of(Clip("-x", 0, 1), "v")
    assert first_caption(Clip("-x", 0, 1)) == ""


def test_the_source_is_texts_only_and_nothing_private() -> None:
    told = {"extractor": "youtube", "format_id": 18, "license": "CC BY", "uploader_id": "@me", "name": "/home/me/x.mp4"}
    assert json.loads(json_of(Clip("x", 0, 1), source=json.dumps(told)))["source"] == {
        "extractor": "youtube",
        "license": "CC BY",
        "channel_id": "",
        "format_id": "18",
        "container": "",
    }


def test_a_number_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_of(Clip("x", 0, 1), moments=[float("nan")])


def test_arrays_are_written_in_one_way() -> None:
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    assert array_bytes(array) == array_bytes(np.asfortranarray(array))
    back = np.load(io.BytesIO(array_bytes(array)), allow_pickle=False)
    assert back.dtype == np.float16 and (back == array).all()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        array_bytes(np.array([object()]))


# -- the members, from a real file


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


CLIP = Clip("v", 0.0, SECONDS, captions=(Caption("Ein Bär brummt."), Caption("A growl.", "audio")))


@pytest.mark.parametrize(("modalities", "include"), [("av", ("audio", "video")), ("v", ()), ("a", ())])
def test_members_of_a_real_clip(video: Path, tmp_path: Path, modalities: str, include: tuple[str, ...]) -> None:
    asked = settings_of(modalities, num_frames=3, include=include)
    request = request_of(CLIP, video)
    members = members_of(request, asked, tmp_path)
    assert tuple(sorted(members)) == asked.member_names()
    assert members == members_of(request, asked, tmp_path), "the same bytes twice"
    assert list(tmp_path.iterdir()) == []
    assert members["txt"].decode() == "Ein Bär brummt."
    VALIDATOR.validate(json.loads(members["json"]))
    sample = decode_sample({"__key__": request.key, **members})
    assert (sample.key, sample.clip) == (request.key, CLIP)
    assert len(sample.jpegs) == (3 if "v" in modalities else 0)
    assert {simplejpeg.decode_jpeg(jpeg).shape for jpeg in sample.jpegs} <= {(72, 96, 3)}
    assert sorted(sample.media) == [name for name in ("flac", "mp4") if name in members]
    if "a" in modalities:
        assert sample.mel is not None and sample.mel.dtype == np.float16
        assert sample.mel.shape[1] == 64 and abs(len(sample.mel) - 100 * SECONDS) <= 3
    else:
        assert sample.mel is None


def test_text_and_json_anew_without_the_media(video: Path, tmp_path: Path) -> None:
    asked = settings_of(num_frames=2)
    former = members_of(request_of(CLIP, video), asked, tmp_path)
    other = Clip("v", 0.0, SECONDS, captions=(Caption("Another."),), labels=("/m/1",))
    members = remake_members(request_of(other), asked, former)
    assert members == members_of(request_of(other, video), asked, tmp_path)
    assert members["txt"] == b"Another."


def test_media_that_are_gone_or_no_media(tmp_path: Path) -> None:
    for path in (None, tmp_path / "gone.mp4"):
        with pytest.raises(FileNotFoundError):
            members_of(request_of(CLIP, path), settings_of(), tmp_path)
    (tmp_path / "page.mp4").write_text("<html>")
    with pytest.raises(ClipError, match=r"not_media|undecodable"):
        members_of(request_of(CLIP, tmp_path / "page.mp4"), settings_of(), tmp_path)


def test_a_clip_that_nobody_measured_is_measured_on_the_way(video: Path, tmp_path: Path) -> None:
    asked = settings_of(num_frames=3)
    facts = measure_clip(video, 0.0, 0.0, SECONDS).to_json()
    measured = dataclasses.replace(request_of(CLIP, video), facts=facts)
    fresh = dataclasses.replace(measured, facts=None)
    thresholds = FilterSection()
    judge = functools.partial(decide, thresholds=thresholds, modalities="av")
    made = make_members(fresh, asked, judge, tmp_path)
    assert made.judged == Outcome.kept() and made.facts == facts
    assert made.members == members_of(measured, asked, tmp_path), "the same bytes either way"
    strict = functools.partial(decide, thresholds=FilterSection(min_rms_dbfs=0.0), modalities="av")
    refused = make_members(fresh, asked, strict, tmp_path)
    assert refused.members is None and refused.judged is not None and refused.judged.reason == "silent"
    page = tmp_path / "page.mp4"
    page.write_text("<html>")
    nothing = make_members(dataclasses.replace(fresh, path=page), asked, judge, tmp_path)
    assert (nothing.members, nothing.facts) == (None, None)
    assert nothing.judged is not None and nothing.judged.reason in ("not_media", "undecodable")
