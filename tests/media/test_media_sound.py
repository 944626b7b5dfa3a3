"""Sound: the spectrogram is Kaldi's and the golden one, the grid is exact, levels are taken before any mix."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_reference import run_ffmpeg
from torchaudio.compliance import kaldi

from valor_data.errors import ClipError
from valor_data.media.extract import extract_clip
from valor_data.media.flac import audio_flac
from valor_data.media.levels import FLOOR_DBFS, measure_levels
from valor_data.media.measure import measure_clip
from valor_data.media.mel import MelSettings, clip_mel, clip_waveform, log_mel, num_mel_frames
from valor_data.media.playback import clip_sound
from valor_data.media.sound import Sound, merge_spans, num_samples, resample_mono

WAVES = (
    "tone", "noise", "chirp", "clicks", "silence", "real_nasa", "short_2s3", "short_5s0", "mult512_1024frames",
)  # fmt: skip


@pytest.mark.parametrize("name", WAVES)
def test_mel_equals_the_golden_one_and_kaldi(shared: Path, name: str) -> None:
    golden = np.load(shared / "golden" / "fbank.npz", allow_pickle=False)
    wave = golden[f"{name}.wave"].astype(np.float32) / 32768
    ours = log_mel(wave, MelSettings.valor())
    assert ours.dtype == np.float32
    assert np.abs(ours - golden[f"{name}.fbank"]).mean() < 1e-3
    tensor = torch.from_numpy(wave)
    theirs = kaldi.fbank(
        (tensor - tensor.mean()).unsqueeze(0), htk_compat=True, sample_frequency=22_050, use_energy=False,
        window_type="hanning", num_mel_bins=64, dither=0.0, frame_shift=10,
    )  # fmt: skip
    assert np.array_equal(ours, theirs.numpy())


def test_stored_mel_is_that_of_ffmpegs_wav_rounded_to_float16(media: Path) -> None:
    """The whole way: ffmpeg's own down-mix and resampling of a file, and our stored array."""
    for file, seconds in (("audible/prog_8s.mp4", 8.0), ("audible/bigbuckbunny_5_1.mp4", 5.3)):
        raw = run_ffmpeg("-i", media / file, "-t", seconds, "-ac", 1, "-ar", 22_050, "-f", "s16le", "-")
        wave = np.frombuffer(raw, np.int16).astype(np.float32) / 32768
        stored = extract_clip(media / file, 0.0, 0.0, seconds, modalities="a").mel
        theirs = log_mel(wave, MelSettings.valor())
        assert stored.dtype == np.float16
        assert stored.shape == theirs.shape
        # ffmpeg's newer resampler differs in the last of 16 bits here and there
        assert np.abs(stored - theirs).mean() < 0.03
        sound = clip_sound(media / file, 0.0, 0.0, seconds)
        ours = log_mel(clip_waveform(sound, seconds, MelSettings.valor()), MelSettings.valor())
        assert np.array_equal(stored, ours.astype(np.float16))


def test_ten_seconds_are_a_thousand_windows(media: Path) -> None:
    features = extract_clip(media / "audible/chrome.mp4", 0.0, 5.0, 15.0, modalities="a")
    assert features.mel.shape == (1000, 64)
    assert features.jpegs == ()
    ast = extract_clip(media / "audible/chrome.mp4", 0.0, 5.0, 15.0, mel_settings=MelSettings.ast(), modalities="a")
    assert ast.mel.shape == (998, 128)


def test_a_clip_shorter_than_a_window_gives_one_window() -> None:
    assert log_mel(np.ones(100, np.float32), MelSettings.valor()).shape == (1, 64)


def test_late_sound_is_zeros_first_and_recorded(media: Path) -> None:
    features = extract_clip(media / "audible/nasa_audio_late_2s5.mp4", 0.0, 0.0, 10.0, modalities="a")
    ((begin, end),) = features.audio_spans
    assert begin == pytest.approx(2.372, abs=0.001)  # 2.5 s less the AAC priming the remux laid bare
    assert end == 10.0
    silent = features.mel[: int(2.3 * 100)].astype(np.float32)
    assert silent.std() < 1.0 < features.mel[260:].astype(np.float32).std()


def test_levels_are_those_before_the_down_mix(media: Path) -> None:
    facts = measure_clip(media / "edge/rotate-buck-bunny.mp4", 0.0, 0.0, 2.0)
    assert facts.rms_dbfs == pytest.approx(-53.9, abs=0.05)
    assert facts.peak_dbfs == pytest.approx(-32.2, abs=0.05)
    assert facts.num_channels == 6
    mixed = clip_waveform(clip_sound(media / "edge/rotate-buck-bunny.mp4", 0.0, 0.0, 2.0), 2.0, MelSettings.valor())
    assert 20 * np.log10(np.sqrt(np.mean(mixed**2))) < -58


def sound_of(samples: np.ndarray, rate_hz: int, layout: str = "mono") -> Sound:
    samples = np.atleast_2d(samples).astype(np.float32)
    return Sound(samples, rate_hz, layout, [(0, samples.shape[1])])


def test_levels_of_known_sounds() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    levels = measure_levels(sound_of(sine, 48_000))
    assert levels.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert levels.peak_dbfs == pytest.approx(0.0, abs=0.01)
    assert levels.silence_share == 0
    quiet = measure_levels(sound_of(np.concatenate([sine, np.zeros(48_000)]), 48_000))
    assert quiet.silence_share == 0.5
    assert measure_levels(sound_of(np.zeros(100), 8000)).rms_dbfs == FLOOR_DBFS
    assert measure_levels(sound_of(np.array([1.0, -1.0, 0.0, 0.5]), 8000)).clipping_share == 0.5
    half_there = Sound(np.array([[1.0, 1.0, 0.0, 0.0]], np.float32), 8000, "mono", [(0, 2)])
    assert measure_levels(half_there).rms_dbfs == 0.0


def test_two_channels_are_mixed_half_and_half() -> None:
    stereo = np.stack([np.full(44_100, 0.5), np.full(44_100, 0.25)])
    mono = resample_mono(sound_of(stereo, 44_100, "stereo"), 22_050, 22_050)
    assert mono[100:-100] == pytest.approx(0.375, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]),
    milliseconds=st.integers(30, 3000),
    target=st.sampled_from([16_000, 22_050]),
)
def test_resampled_clips_have_exactly_their_length(rate: int, milliseconds: int, target: int) -> None:
    seconds = milliseconds / 1000
    sound = sound_of(np.full(num_samples(0, seconds, rate), 0.5), rate)
    mel = MelSettings(sample_rate_hz=target)
    wave = clip_waveform(sound, seconds, mel)
    assert wave.shape == (round(seconds * target + 1e-6),)
    middle = wave[wave.shape[0] // 4 : 3 * wave.shape[0] // 4]
    assert middle == pytest.approx(0.5, abs=0.01)
    assert clip_mel(sound, seconds, mel).shape == (num_mel_frames(wave.shape[0], mel), 64)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=12))
def test_merged_spans_cover_the_same_samples_and_stay_apart(pairs: list[tuple[int, int]]) -> None:
    spans = [(a, a + n) for a, n in pairs]
    merged = merge_spans(spans)
    assert {i for a, b in spans for i in range(a, b)} == {i for a, b in merged for i in range(a, b)}
    assert all(b < c for (_, b), (c, _) in pairwise(merged))


def test_a_position_inside_the_file_is_sample_exact(tmp_path: Path) -> None:
    """A wav whose every sample is its number: what lies at a moment is known."""
    whole, path = np.arange(-16_000, 16_000, dtype=np.int16), tmp_path / "ramp.wav"
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(whole[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = clip_sound(path, 0.0, 1.25, 2.5)
    assert np.array_equal(np.rint(sound.samples[0] * 32768).astype(int), whole[10_000:20_000])


def test_flac_holds_the_exact_span_at_the_files_own_rate(media: Path) -> None:
    for file, start, end in (
        ("audible/bigbuckbunny_5_1.mp4", 0.7, 2.0),
        ("audible/100_0306.AVI", 0.5, 2.0),
        ("audible/MOV00006.3gp", 1.0, 3.5),
    ):
        first, again = (audio_flac(media / file, 0.0, start, end) for _ in "12")
        assert first == again
        sound = clip_sound(media / file, 0.0, start, end)
        with av.open(io.BytesIO(first)) as container:
            stream = container.streams.audio[0]
            assert (stream.rate, stream.channels) == (sound.rate_hz, sound.samples.shape[0])
            frames = [f.to_ndarray().reshape(-1, stream.channels) for f in container.decode(stream)]
        stored = np.concatenate(frames).T / 32768
        assert stored.shape == sound.samples.shape
        assert np.abs(stored - np.clip(sound.samples, -1, 1)).max() <= 1 / 32768
    with pytest.raises(ClipError, match="no_audio"):
        audio_flac(media / "no_audio/bikes.mp4", 0.0, 0.0, 1.0)


@pytest.mark.parametrize("mel", [MelSettings.valor(), MelSettings.ast(), MelSettings("own", 48_000, 80, "hanning", 20)])
@pytest.mark.parametrize("seed", range(8))
def test_the_filterbank_is_torchaudios_bit_for_bit(mel: MelSettings, seed: int) -> None:
    draw = np.random.default_rng(seed)
    length = int(draw.integers(mel.window_samples, 6 * mel.sample_rate_hz))
    wave = np.round(draw.standard_normal(length) * 10 ** draw.uniform(0, 4)).clip(-32768, 32767) / np.float32(32768)
    samples = torch.from_numpy(wave.astype(np.float32))
    theirs = kaldi.fbank(
        (samples - samples.mean())[None], htk_compat=True, sample_frequency=mel.sample_rate_hz, use_energy=False,
        window_type="hanning", num_mel_bins=mel.num_mel_bins, dither=0.0, frame_length=mel.window_ms, frame_shift=10.0,
    )  # fmt: skip
    assert log_mel(wave.astype(np.float32), mel).tobytes() == theirs.numpy().tobytes()


@pytest.mark.parametrize("file", ["audible/chrome.mp4", "audible/nasa_13013.mp4", "audible/sync_test.mp4"])
def test_the_filterbank_of_real_sound_is_torchaudios_too(media: Path, file: str) -> None:
    mel = MelSettings.valor()
    wave = clip_waveform(clip_sound(media / file, 0.0, 2.0, 12.0), 10.0, mel)
    povey = log_mel(wave, replace(mel, window="povey"))  # another window goes through torchaudio itself
    samples = torch.from_numpy(wave)
    theirs = kaldi.fbank(
        (samples - samples.mean())[None], htk_compat=True, sample_frequency=22_050, use_energy=False,
        window_type="hanning", num_mel_bins=64, dither=0.0, frame_shift=10,
    )  # fmt: skip
    assert log_mel(wave, mel).tobytes() == theirs.numpy().tobytes()
    assert povey.shape == theirs.shape
    assert povey.tobytes() != theirs.numpy().tobytes()
