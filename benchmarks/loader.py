"""What loading costs: clips a second of one worker, as the trainer gets them, and where the time goes.

Clips of ten seconds (`extract_clips.py` makes them) become shards with the package, and once more the folders of the
reference: JPEG pictures at one a second and full size, a WAV at 22 050 Hz. Then, four pictures of 224 × 224 and one
slice of mel a clip in every way, each worker on one thread:

  a  the reference's layout read in its way: list the folder, four JPEG with PIL, ToTensor, Resize of the stack as
     floats, Normalize; the WAV decoded, filterbank computed, cut and normalised
  b  webdataset's plain `.decode("pil")` of the same shards, all ten pictures, the four then resized by PIL
  c  valor-data, batches of 16 made in the worker
  d  c's shards read through webdataset, nothing decoded
  r  c's shards read as bytes

a, b, c, d run in one process, by CPU seconds (`time.process_time`), in turns, median of the rounds. Then a, b, c each
with one worker process of torch's loader, by the clock: clips a second that arrive.

    python benchmarks/loader.py [--clips 400] [--rounds 5] [--write]

Targets: c at least 5 × a, at least 1.3 × b, in clips a second and worker.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision import transforms

from valor_data.train.data import DataSet, LoaderSettings, TrainingData
from valor_data.train.pictures import PictureSettings
from valor_data.train.shards import read_shard
from valor_data.train.text import Vocabulary

RESULTS = Path(__file__).parent / "results" / "loader.md"
BATCH, FRAMES, SIZE, SLICE = 16, 4, 224, 512
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WORDS = Vocabulary.learn(["a caption of a clip"] * 2, 400)
TARGETS = {"a": 5.0, "b": 1.3}


# --- the data ---------------------------------------------------------------------------------------------------


def make_data(folder: Path, media: Path, num_clips: int) -> None:
    """Shards by the package, and the reference's folders, of the same clips; made once."""
    if (folder / "done").exists():
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from extract_clips import FORMS, make_clips

    clips = make_clips(FORMS[0], media, folder / "clips")
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(num_clips):
        name = f"clip{number:07d}"
        if not (videos / f"{name}.mp4").exists():
            (videos / f"{name}.mp4").symlink_to(clips[number % len(clips)].absolute())
        rows.append(f"{name},0,10,a caption of clip {number},train\n")
    (folder / "clips.csv").write_text("video_id,start,end,caption,split\n" + "".join(rows))
    command = Path(sys.executable).with_name("valor-data")
    manifest, work = folder / "manifest.parquet", folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    for words in (
        ["manifest", folder / "clips.csv", "-o", manifest],
        ["fetch", manifest, "--source", videos, "--work", work],
        ["shard", "--work", work, "--max-clips", "100", "--workers", "2"],
    ):
        subprocess.run([str(command), *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    for number, clip in enumerate(clips):
        make_folder(clip, folder / "reference" / f"clip{number:07d}")
    for number in range(len(clips), num_clips):
        shutil.copytree(
            folder / "reference" / f"clip{number % len(clips):07d}",
            folder / "reference" / f"clip{number:07d}",
            dirs_exist_ok=True,
        )
    (folder / "done").touch()


def make_folder(clip: Path, folder: Path) -> None:
    """What the reference's own script extracts of a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    common = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(clip)]
    pictures = ["-vf", "fps=fps=1.00", "-vsync", "0", "-f", "image2", "-qscale:v", "2", str(folder / "frame_%04d.jpg")]
    subprocess.run(common + pictures, check=True)
    subprocess.run([*common, "-vn", "-ac", "1", "-ar", "22050", str(folder / "clip.wav")], check=True)


# --- (a) the reference's layout in the reference's way ------------------------------------------------------------


def middle_of_each(length: int, k: int) -> list[list[int]]:
    """The members of k near-equal groups of a list."""
    return [part.tolist() for part in np.array_split(np.arange(length), k)]


class ReferenceFolders(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """A clip an item: written from the description of the reference's loader."""

    def __init__(self, root: Path) -> None:
        self.folders = sorted(root.iterdir())
        self.resize = transforms.Resize((SIZE, SIZE), antialias=False)
        self.normalize = transforms.Normalize(MEAN, STD)

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        folder = self.folders[number]
        names = sorted(path.name for path in folder.iterdir() if path.suffix == ".jpg")
        chosen = [names[random.choice(group)] for group in middle_of_each(len(names), FRAMES)]
        to_tensor = transforms.ToTensor()
        frames = torch.stack([to_tensor(Image.open(folder / name).convert("RGB")) for name in chosen])
        text = torch.zeros(42, dtype=torch.int64)
        ids = [WORDS.start, *WORDS.ids("a caption of a clip"), WORDS.end]
        text[: len(ids)] = torch.tensor(ids)
        return self.normalize(self.resize(frames)), self.sound(folder / "clip.wav"), text

    def sound(self, path: Path) -> torch.Tensor:
        from torchaudio.compliance import kaldi

        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        waveform = torch.from_numpy(samples).unsqueeze(0)
        bands = kaldi.fbank(
            waveform - waveform.mean(), htk_compat=True, sample_frequency=22050, use_energy=False,
            window_type="hanning", num_mel_bins=64, dither=0.0, frame_shift=10,
        )  # fmt: skip
        padded = torch.nn.functional.pad(bands, (0, 0, 0, SLICE - len(bands) % SLICE))
        slices = padded.split(SLICE)
        return (random.choice(slices).T + 4.2677393) / (2 * 4.5689974)


# --- (b) webdataset's plain decoding ------------------------------------------------------------------------------


def plain_webdataset(tars: list[str]) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    data = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pil")
    for sample in data:
        names = sorted(name for name in sample if name.endswith(".jpg"))
        pictures = [
            sample[name].resize((SIZE, SIZE), Image.Resampling.BILINEAR) for name in (names[i] for i in (1, 4, 6, 8))
        ]
        frames = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
        mel = torch.from_numpy(sample["mel.npy"][:SLICE].astype(np.float32).T)
        text = WORDS.encode([sample["json"]["captions"][0]["text"]], 40)[0]
        yield frames.contiguous(), (mel + 4.2677393) / (2 * 4.5689974), text


class PlainWebdataset(IterableDataset[Any]):
    def __init__(self, tars: list[str]) -> None:
        self.tars = tars

    def __iter__(self) -> Iterator[Any]:
        return batched(plain_webdataset(self.tars))


def batched(items: Iterable[tuple[torch.Tensor, ...]]) -> Iterator[list[torch.Tensor]]:
    waiting = []
    for item in items:
        waiting.append(item)
        if len(waiting) == BATCH:
            yield [torch.stack(parts) for parts in zip(*waiting, strict=True)]
            waiting = []


# --- the ways -----------------------------------------------------------------------------------------------------


def ours(work: Path, workers: int, seed: int = 0) -> TrainingData:
    settings = LoaderSettings(
        batch_size=BATCH, workers=workers, seed=seed, buffer=100, pictures=PictureSettings(count=FRAMES, size_px=SIZE)
    )
    return TrainingData([DataSet(shards=work, task="pt_contra%tva%tv%ta_caption%tva%tv%ta")], settings, WORDS)


def count_a(folder: Path) -> int:
    data = ReferenceFolders(folder / "reference")
    order = random.sample(range(len(data)), len(data))
    return sum(BATCH for _ in batched(data[number] for number in order))


def count_b(folder: Path) -> int:
    return sum(len(batch[0]) for batch in batched(plain_webdataset(tars_of(folder))))


def count_c(folder: Path) -> int:
    return sum(len(step.batch) for step in ours(folder / "work", 0))


def count_d(folder: Path) -> int:
    return sum(1 for tar in tars_of(folder) for _ in read_shard(tar))


def count_r(folder: Path) -> int:
    num_bytes = 0
    for tar in tars_of(folder):
        with Path(tar).open("rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                num_bytes += len(chunk)
    return num_bytes


def tars_of(folder: Path) -> list[str]:
    return sorted(map(str, (folder / "work/shards").glob("*.tar")))


def worker_a(folder: Path) -> Iterable[Any]:
    data = ReferenceFolders(folder / "reference")
    return DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=1, drop_last=True)


def worker_b(folder: Path) -> Iterable[Any]:
    return DataLoader(PlainWebdataset(tars_of(folder)), batch_size=None, num_workers=1)


def worker_c(folder: Path) -> Iterable[Any]:
    return ours(folder / "work", 1)


def clips_a_second(batches: Iterable[Any]) -> float:
    """From the first batch on: starting a worker is not what is measured."""
    stream = iter(batches)
    next(stream)
    begun = time.perf_counter()
    return sum(BATCH for _ in stream) / (time.perf_counter() - begun)


COUNTS: dict[str, Callable[[Path], int]] = {"a": count_a, "b": count_b, "c": count_c, "d": count_d, "r": count_r}
WORKERS: dict[str, Callable[[Path], Iterable[Any]]] = {"a": worker_a, "b": worker_b, "c": worker_c}


def measure(folder: Path, num_rounds: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """CPU milliseconds a clip in one process, and clips a second of one worker; a dictionary a round."""
    num_clips = count_d(folder)
    alone, worker = [], []
    for number in range(num_rounds + 1):
        cpu, speed = {}, {}
        for way, count in COUNTS.items():
            begun = time.process_time()
            clips = num_clips if way == "r" else count(folder)
            if way == "r":
                count(folder)
            cpu[way] = 1000 * (time.process_time() - begun) / clips
        for way, loader in WORKERS.items():
            speed[way] = clips_a_second(loader(folder))
        if number:  # the first round warms caches and lazy imports
            alone.append(cpu)
            worker.append(speed)
    return alone, worker


def report(folder: Path, alone: list[dict[str, float]], worker: list[dict[str, float]]) -> str:
    def cpu(way: str) -> float:
        return median(r[way] for r in alone)

    def speed(way: str) -> float:
        return median(r[way] for r in worker)

    def times(way: str, of: list[dict[str, float]]) -> float:
        return median((r["c"] / r[way]) if of is worker else (r[way] / r["c"]) for r in of)

    size = sum(Path(tar).stat().st_size for tar in tars_of(folder)) / count_d(folder)
    lines = [
        "| way | CPU ms a clip | clips a second of CPU | clips a second, one worker |",
        "|---|---|---|---|",
        *(
            f"| ({way}) {words} | {cpu(way):.2f} | {1000 / cpu(way):.0f} "
            f"| {f'{speed(way):.0f}' if way in WORKERS else ''} |"
            for way, words in (
                ("a", "the reference's folders and way"),
                ("b", 'webdataset, `.decode("pil")`'),
                ("c", "valor-data"),
                ("d", "the shards through webdataset, not decoded"),
                ("r", "the shards as bytes"),
            )
        ),
        "",
        f"Shards: {size / 1000:.0f} kB a clip. Of CPU: raw {size / 1e3 / cpu('r'):.0f} MB/s, through webdataset "
        f"{size / 1e3 / cpu('d'):.0f} MB/s, loaded {size / 1e3 / cpu('c'):.0f} MB/s.",
        "",
    ]
    for way, bound in TARGETS.items():
        by_cpu, by_worker = times(way, alone), times(way, worker)
        is_met = min(by_cpu, by_worker) >= bound
        lines.append(
            f"c/{way}: {by_worker:.2f} × with one worker, {by_cpu:.2f} × by CPU "
            f"({'met' if is_met else 'missed'}, target {bound:.1f} ×).  "
        )
    return "\n".join(lines)


def heading(num_clips: int, num_rounds: int) -> str:
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    return (
        f"## {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} shared {platform.machine()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, webdataset {webdataset.__version__}, commit "
        f"{commit}, {num_clips} clips, {num_rounds} rounds"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared/media/audible")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "valor-loader")
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"append the table to {RESULTS.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_data(given.folder, given.media, given.clips)
    alone, worker = measure(given.folder, given.rounds)
    text = f"{heading(given.clips, given.rounds)}\n\n{report(given.folder, alone, worker)}\n"
    print(text)
    if given.write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    main()
