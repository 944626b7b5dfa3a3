"""Every row of the real clips, and everything hostile: facts that lead to the right outcome, and an end."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from media_reference import Row, run_ffmpeg

from valor_data.errors import PRECEDENCE, ClipError
from valor_data.media.extract import extract_clip
from valor_data.media.facts import Facts
from valor_data.media.measure import measure_clip
from valor_data.media.open import DEFAULT_LIMITS, Limits, choose_streams, open_media
from valor_data.media.probe import probe
from valor_data.media.span import read_span

CPU_SECONDS = 20.0


def decide(facts: Facts, modalities: str) -> str:
    """DESIGN's thresholds and order of precedence, written out."""
    sound, picture = "a" in modalities, "v" in modalities
    refusals = {
        "undecodable": not facts.decodable,
        "no_video": picture and not facts.has_video,
        "no_audio": sound and not facts.has_audio,
        "short": (picture and facts.video_coverage < 0.5) or (sound and facts.audio_coverage < 0.5),
        "silent": sound and (facts.rms_dbfs < -60 or facts.peak_dbfs < -50),
    }
    return next((reason for reason in PRECEDENCE if refusals.get(reason)), "kept")


def outcome(path: Path, start: float, end: float, modalities: str = "av", **more: bool) -> str:
    try:
        facts = measure_clip(path, 0.0, start, end, modalities, **more)
    except ClipError as error:
        return error.reason
    check(facts)
    verdict = decide(facts, modalities)
    if verdict == "kept":
        try:
            features = extract_clip(path, 0.0, start, end, modalities=modalities)
        except ClipError as error:
            return error.reason
        assert len(features.jpegs) == (10 if "v" in modalities else 0)
        assert features.mel.shape[1] == 64
    return verdict


def check(facts: Facts) -> None:
    stored = facts.to_dict()
    assert Facts.from_dict(json.loads(json.dumps(stored, allow_nan=False))) == facts
    assert all(math.isfinite(v) for v in stored.values() if isinstance(v, float))
    assert facts.rms_dbfs <= facts.peak_dbfs + 0.001
    for share in (facts.video_coverage, facts.audio_coverage, facts.silence_share, facts.clipping_share):
        assert 0 <= share <= 1


def test_every_real_clip_ends_as_expected(media: Path, rows: list[Row]) -> None:
    wrong = []
    for row in rows:
        verdict = outcome(media / row.file, row.start, row.end)
        fits = {"any", verdict if verdict == "kept" else f"dropped:{verdict}"}
        if verdict != "kept":
            fits.add("dropped:any")
        if not fits & set(row.expect.split("|")):
            wrong.append((row.file, row.expect, verdict))
    assert wrong == []
    assert len(rows) == 75


def test_sound_may_decide_alone_and_then_no_picture_is_decoded(media: Path) -> None:
    path = media / "silent/silent-black-10s.mp4"
    facts = measure_clip(path, 0.0, 0.0, 10.0, sound_decides=True)
    assert (facts.num_pictures_decoded, facts.video_coverage, facts.rms_dbfs) == (0, 1.0, -150.0)
    assert outcome(media / "hostile/long_4k_av1.mp4", 0.0, 10.0, sound_decides=True) == "silent"
    loud = measure_clip(media / "audible/chrome.mp4", 0.0, 5.0, 15.0, sound_decides=True)
    assert loud.num_pictures_decoded >= 3


def test_still_pictures_are_told_from_moving_ones(media: Path) -> None:
    assert measure_clip(media / "silent/silent-black-10s.mp4", 0.0, 0.0, 10.0).still
    moving = measure_clip(media / "audible/mdn_pig.mp4", 0.0, 0.0, 6.5)
    assert not moving.still
    assert moving.picture_change > 5


@pytest.mark.parametrize("folder", ["hostile", "edge"])
def test_pictures_alone_end_soon_and_in_order(media: Path, rows: list[Row], folder: str) -> None:
    verdicts = {}
    for row in rows:
        if row.file.startswith(folder):
            began = time.process_time()
            verdicts[Path(row.file).name] = outcome(media / row.file, row.start, row.end, "v")
            assert time.process_time() - began < CPU_SECONDS, row.file
    if folder == "hostile":
        assert verdicts["invalid-bitstream.webm"] == "undecodable"
        assert verdicts["long_4k_av1.mp4"] == "too_large"
        assert verdicts["prog_8s_enc_dashinit.mp4"] == "undecodable"
        assert verdicts["derived_zero_byte.mp4"] == "empty"
        assert verdicts["derived_html_named.mp4"] == "not_media"
    else:
        assert verdicts["cursed-vfr.mp4"] == verdicts["sar_2x1.mp4"] == "kept"


@pytest.mark.parametrize("folder", ["hostile", "edge"])
def test_with_a_tone_muxed_in_the_picture_path_is_reached(
    media: Path, rows: list[Row], tmp_path: Path, folder: str
) -> None:
    verdicts = {}
    for row in rows:
        if not row.file.startswith(folder):
            continue
        toned = tmp_path / (Path(row.file).stem.lstrip("-") + ".mkv")
        try:
            run_ffmpeg(
                "-i", media / row.file, "-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=10",
                "-map", "0:v:0", "-map", "1:a", "-c:v", "copy", "-c:a", "flac", "-shortest", toned,
            )  # fmt: skip
        except Exception:  # what ffmpeg cannot even copy has no picture path
            continue
        began = time.process_time()
        verdicts[Path(row.file).name] = outcome(toned, row.start, row.end)
        assert time.process_time() - began < CPU_SECONDS, row.file
    if folder == "hostile":
        assert verdicts["invalid-bitstream.webm"] == "undecodable"
        assert verdicts["long_4k_av1.mp4"] == "too_large"
    else:
        assert verdicts["bear-vp9-odd-dimensions.webm"] == "kept"


def test_facts_outlive_a_file_without_its_tail(media: Path, tmp_path: Path) -> None:
    whole = (media / "audible/mdn_crystal.webm").read_bytes()
    short = tmp_path / "short.webm"
    short.write_bytes(whole[: len(whole) // 2])
    facts = measure_clip(short, 0.0, 0.0, 10.0)
    assert 0.3 < facts.video_coverage < 0.8
    assert facts.decodable


def test_limits_are_kept_and_said(media: Path) -> None:
    path = media / "audible/chrome.mp4"
    with pytest.raises(ClipError, match=r"too_large: .* pictures of 480x270"):
        measure_clip(path, 0.0, 5.0, 15.0, limits=Limits(max_decoded_frames=3))
    with pytest.raises(ClipError, match=r"too_large: .* s of sound"):
        extract_clip(path, 0.0, 5.0, 15.0, limits=Limits(max_clip_seconds=5))
    with pytest.raises(ClipError, match="too_large: more than 100 compressed bytes"):
        measure_clip(path, 0.0, 5.0, 15.0, limits=Limits(max_packet_bytes=100))
    facts = measure_clip(path, 0.0, 5.0, 15.0, "v", limits=Limits(max_frame_pixels=1000))
    assert not facts.decodable


def test_probe_tells_true_lengths_covers_and_encryption(media: Path) -> None:
    lie = probe(media / "hostile/v300_multiple_segments.mp4")
    assert (lie.duration_seconds, lie.header_duration_seconds) == (pytest.approx(8.0, abs=0.1), 3900.0)
    assert probe(media / "hostile/derived_webm_truncated.webm").duration_seconds == pytest.approx(3.78, abs=0.05)
    assert probe(media / "silent/no_duration.webm").duration_seconds == pytest.approx(4.94, abs=0.05)
    cover = probe(media / "audio_only/test-pod.m4a")
    assert cover.video is not None
    assert cover.video.is_attached_picture
    assert not cover.has_video
    assert probe(media / "hostile/prog_8s_enc_dashinit.mp4").is_encrypted
    nasa = probe(media / "audible/nasa_13013.mp4")
    assert (nasa.video.width_px, nasa.audio.sample_rate_hz) == (480, 16_000)
    turned = probe(media / "edge/rotate-buck-bunny.mp4").video
    assert (turned.display_width_px, turned.display_height_px, turned.rotation_degrees) == (1080, 1920, 270)
    for name, extension in (
        ("audible/nasa_vp9_opus.webm", "webm"), ("audible/nasa_hevc_ac3.mkv", "mkv"), ("audible/100_0306.AVI", "avi"),
        ("audible/sowt-with-video.mov", "mov"), ("audible/nasa_start_7s25.ts", "ts"), ("audible/chrome.mp4", "mp4"),
    ):  # fmt: skip
        found = probe(media / name)
        assert found.extension == extension
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "file", ["audible/mediabunny_0.ts", "audible/chrome.mp4", "audible/nasa_flv1_mp3.flv", "audible/100_0306.AVI"]
)
def test_a_file_can_be_read_again_from_its_start(media: Path, file: str) -> None:
    with open_media(media / file) as container:
        source = choose_streams(container)
        first = next(p.dts for p in container.demux(source.video) if p.size)
        read_span(source, 1.5, 2.0, DEFAULT_LIMITS)
        again = read_span(source, 1.5, 2.0, DEFAULT_LIMITS, trust_keys=False)
        assert again.video[0].dts == first
        times = [p.dts for p in again.video]
        assert times == sorted(times)


def test_false_marks_of_key_pictures_are_noticed(media: Path) -> None:
    """Every 50th picture of this phone's file is marked as a key picture; only the first one is."""
    facts = measure_clip(media / "audible/MOV00006.3gp", 0.0, 4.0, 9.0)
    whole = measure_clip(media / "audible/MOV00006.3gp", 0.0, 0.0, 9.0)
    assert facts.decodable
    assert facts.picture_change < 120
    assert whole.picture_change < 120
