"""CPU of a clip from the fetched file to the tar: the reference's recipe, one ffmpeg, ours, and the floor.

    python benchmarks/extract.py [--media ../shared/media/audible] [--clips DIR] [--rounds 5] [--write]

(a) the reference's recipe: ffprobe, one ffmpeg for JPEGs, one for a wav, then fbank and a tar
(b) one ffmpeg process with two outputs, then fbank and a tar
(c) ours: measured, judged, extracted, written, as `filter` and `shard` do it together
(d) the floor: PyAV with our decoder options, decoding the sound and the pictures that must be decoded
(k) ours with each moment snapped to the nearest key picture

CPU seconds of this process and its children, user and system; imports are done before the clock starts,
ffmpeg's own start is part of calling it. In every round each clip goes through all of them in turn; a figure
is the median of the rounds' means, a ratio the median of the rounds' ratios. Needs Debian's `ffmpeg` package.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import tarfile
import tempfile
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from extract_clips import FORMS, Form, make_clips

from valor_data.clip import Caption, Clip
from valor_data.config import FilterSection
from valor_data.filter.decide import decide
from valor_data.ledger import Outcome
from valor_data.media.extract import extract_clip, shown_moments
from valor_data.media.frames import FrameSettings
from valor_data.media.mel import MelSettings, log_mel
from valor_data.media.open import ACCESS_OPTIONS, DEFAULT_LIMITS, choose_streams, open_media
from valor_data.media.passage import Passage
from valor_data.media.pictures import _runs
from valor_data.shard.sample import SampleRequest, SampleSettings, make_members
from valor_data.shard.tar import TarFile

RESULTS = Path(__file__).parent / "results" / "extract.md"
WAYS = "abcdk"
TARGETS = {"a": 0.30, "b": 0.55, "d": 1.30}
SECONDS = 10.0

Plan = list[list[tuple[int, bool]]]
"""For each key picture to decode from: which packets to decode, and whether each is shown."""


def cpu_seconds() -> float:
    """User and system time of this process and of its children that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usages)


def quiet(*command: object) -> bytes:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout


def mel_of_wav(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return log_mel(samples, MelSettings.valor())


def add_folder(tar: tarfile.TarFile, folder: Path, mel: np.ndarray) -> None:
    np.save(folder / "mel.npy", mel)
    (folder / "clip.txt").write_text("a caption")
    for file in sorted(folder.iterdir()):
        if file.suffix != ".wav":
            tar.add(file, f"clip.{file.name}")


def reference_recipe(clip: Path, folder: Path, tar: tarfile.TarFile) -> None:
    """(a)"""
    quiet("ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", clip)
    quiet(
        "ffmpeg", "-v", "error", "-nostdin", "-y", "-i", clip, "-vf", "fps=fps=1.00", "-vsync", "0", "-f", "image2",
        "-qscale:v", "2", folder / "frame_%04d.jpg",
    )  # fmt: skip
    quiet("ffmpeg", "-v", "error", "-nostdin", "-y", "-i", clip, "-vn", "-ac", "1", "-ar", "22050", folder / "clip.wav")
    add_folder(tar, folder, mel_of_wav(folder / "clip.wav"))


def one_ffmpeg(clip: Path, folder: Path, tar: tarfile.TarFile) -> None:
    """(b)"""
    quiet(
        "ffmpeg", "-v", "error", "-nostdin", "-y", "-i", clip,
        "-vf", "fps=fps=1.00", "-vsync", "0", "-f", "image2", "-qscale:v", "2", folder / "frame_%04d.jpg",
        "-vn", "-ac", "1", "-ar", "22050", folder / "clip.wav",
    )  # fmt: skip
    add_folder(tar, folder, mel_of_wav(folder / "clip.wav"))


def judge(facts: Mapping[str, Any]) -> Outcome:
    return decide(facts, FilterSection(), "av")


def ours(clip: Path, tar: TarFile, frame_snap: str = "exact") -> None:
    """(c) and (k): a worker's own call for a clip that nobody has measured yet, and its tar."""
    settings = SampleSettings("av", FrameSettings(frame_snap=frame_snap), MelSettings.valor())
    row = Clip(video_id="AAAAAAAAAAA", start=0.0, end=SECONDS, captions=(Caption("a caption"),), split="train")
    request = SampleRequest(1, row, clip, 0.0, None, "{}", "")
    made = make_members(request, settings, judge, clip.parent)
    if made.members is None:
        raise RuntimeError(f"{clip}: {made}")
    tar.add_sample(request.key, made.members)


def plan_of(clip: Path) -> Plan:
    """What the floor decodes; made outside the clock."""
    with open_media(clip) as container:
        passage = Passage.read(choose_streams(container), 0.0, SECONDS, DEFAULT_LIMITS)
        timeline = passage.timeline
        if timeline is None:
            raise RuntimeError(f"{clip}: no picture")
        targets = sorted({timeline.at(m) for m in shown_moments(passage, timeline, FrameSettings())})
        order = [id(p) for p in passage.packets.video]
        return [
            [(order.index(id(timeline.packets[i])), i in wanted) for i in range(key, wanted[-1] + 1)]
            for key, wanted in _runs(timeline, targets)
        ]


def floor(clip: Path, plan: Plan) -> int:
    """(d): opens, reads, decodes all sound and the planned pictures; gives the number of pictures."""
    shown = 0
    with av.open(f"file:{clip}", options={**ACCESS_OPTIONS, "threads": "1"}) as container:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        for stream in (video, audio):
            stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "NONE"
        pictures = []
        for packet in container.demux([video, audio]):
            if packet.stream is video:
                pictures.append(packet)
            else:
                audio.codec_context.decode(packet if packet.size else None)
        context = video.codec_context
        can_skip = context.codec.name in ("h264", "mpeg4", "vp8")
        for run in plan:
            context.flush_buffers()
            for position, is_shown in run:
                if can_skip:
                    context.skip_frame = "DEFAULT" if is_shown else "NONREF"
                shown += len(context.decode(pictures[position]))
            shown += len(context.decode(None))
    return shown


@dataclass
class Figures:
    """CPU seconds a clip of every way, one number a round."""

    form: Form
    rounds: list[dict[str, float]]
    moved: list[float]
    tar_bytes: float

    def cpu(self, way: str) -> float:
        return median(r[way] for r in self.rounds)

    def ratio(self, way: str, other: str) -> float:
        return median(r[way] / r[other] for r in self.rounds)


def measure(form: Form, clips: list[Path], num_rounds: int, wanted: str) -> Figures:
    plans = {clip: plan_of(clip) for clip in clips}
    rounds: list[dict[str, float]] = []
    size = 0
    for number in range(num_rounds + 1):
        with Round(plans) as ways:
            for clip in clips:
                for way in wanted:
                    ways.run(way, clip)
        size = ways.tar_bytes
        if number:  # the first round warms caches and lazy imports
            rounds.append({way: ways.sums[way] / len(clips) for way in wanted})
    return Figures(form, rounds, moved_seconds(clips), size / len(clips))


class Round:
    """One round: a tar for each way that writes one, which all its clips go into, and the CPU each way took."""

    def __init__(self, plans: dict[Path, Plan]) -> None:
        self._plans = plans
        self._folder = tempfile.TemporaryDirectory()
        self.sums = dict.fromkeys(WAYS, 0.0)
        self.tar_bytes = 0

    def __enter__(self) -> Round:
        folder = Path(self._folder.name)
        self._theirs = {way: tarfile.open(folder / f"{way}.tar", "w") for way in "ab"}  # noqa: SIM115
        self._ours = {way: TarFile(folder / f"{way}.tar") for way in "ck"}
        return self

    def run(self, way: str, clip: Path) -> None:
        with tempfile.TemporaryDirectory() as name, self._clock(way):
            match way:
                case "a":
                    reference_recipe(clip, Path(name), self._theirs["a"])
                case "b":
                    one_ffmpeg(clip, Path(name), self._theirs["b"])
                case "c":
                    ours(clip, self._ours["c"])
                case "d":
                    floor(clip, self._plans[clip])
                case "k":
                    ours(clip, self._ours["k"], "key")

    @contextmanager
    def _clock(self, way: str) -> Iterator[None]:
        begun = cpu_seconds()
        yield
        self.sums[way] += cpu_seconds() - begun

    def __exit__(self, *error: object) -> None:
        for way, tar in self._theirs.items():
            with self._clock(way):
                tar.close()
        for way, ours_tar in self._ours.items():
            with self._clock(way):
                ours_tar.__exit__(None, None, None)
        self.tar_bytes = self._ours["c"].size
        self._folder.cleanup()


def moved_seconds(clips: list[Path]) -> list[float]:
    """How far snapping to key pictures moved each moment's picture."""
    moved = []
    for clip in clips:
        features = extract_clip(clip, 0.0, 0.0, SECONDS, FrameSettings(frame_snap="key"), modalities="v")
        pairs = zip(features.frame_moments, features.frame_times, strict=True)
        moved += [abs(asked - shown) for asked, shown in pairs]
    return moved


def table(all_figures: list[Figures]) -> str:
    lines = [
        "| clips of 10 s | n | (a) ms | (b) ms | (c) ms | (d) ms | c/a | c/b | c/d | (k) ms | k/d "
        "| moved, median/most s | tar MB/s of CPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for f in all_figures:
        milliseconds = {way: f"{1000 * f.cpu(way):.0f}" for way in "abcdk"}
        lines.append(
            f"| {f.form.name} | {len(f.moved) // 10} | {milliseconds['a']} | {milliseconds['b']} | {milliseconds['c']} "
            f"| {milliseconds['d']} | {f.ratio('c', 'a'):.2f} | {f.ratio('c', 'b'):.2f} | {f.ratio('c', 'd'):.2f} "
            f"| {milliseconds['k']} | {f.ratio('k', 'd'):.2f} | {median(f.moved):.2f}/{max(f.moved):.2f} "
            f"| {f.tar_bytes / 1e6 / f.cpu('c'):.1f} |"
        )
    return "\n".join(lines)


def verdict(figures: Figures) -> str:
    met = {way: figures.ratio("c", way) <= bound for way, bound in TARGETS.items()}
    return "; ".join(
        f"c/{way} {figures.ratio('c', way):.2f} ({'met' if met[way] else 'missed'}, target {bound:.2f})"
        for way, bound in TARGETS.items()
    )


def heading(num_rounds: int) -> str:
    commit = quiet("git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD").decode().strip()
    tool = quiet("ffmpeg", "-version").decode().split()[2]
    return (
        f"## {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} shared {platform.machine()} cores, Python "
        f"{platform.python_version()}, PyAV {av.__version__}, ffmpeg {tool}, commit {commit}, {num_rounds} rounds"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared/media/audible")
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "valor-extract-clips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", type=int, nargs="*", default=list(range(len(FORMS))), help="by number, from 0")
    parser.add_argument("--ways", default=WAYS, help="some of them only, to try things out: prints no table")
    parser.add_argument("--write", action="store_true", help=f"append the table to {RESULTS.name}")
    given = parser.parse_args()
    figures = []
    for form in (FORMS[i] for i in given.forms):
        figures.append(measure(form, make_clips(form, given.media, given.clips), given.rounds, given.ways))
        print(form.name, json.dumps({w: round(1000 * figures[-1].cpu(w), 1) for w in given.ways}), flush=True)
    if given.ways != WAYS:
        for f in figures:
            print({way: round(f.ratio(way, given.ways[-1]), 3) for way in given.ways})
        return
    text = f"{heading(given.rounds)}\n\n{table(figures)}\n\n{figures[0].form.name}: {verdict(figures[0])}.\n"
    print(text)
    if given.write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    main()
