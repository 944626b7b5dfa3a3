"""What the tests run in worker processes: damaged copies of real files, and many clips one after another."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil

from valor_data.errors import ClipError
from valor_data.media.extract import FeatureSettings
from valor_data.media.open import Limits
from valor_data.media.take import take_clip

Span = tuple[Path, float, float]

LIMITS = Limits(max_decoded_pixels=500_000_000)


def forkserver() -> ForkServerContext:
    """Workers as the product has them: forked from a server that did the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchaudio.compliance.kaldi", "valor_data.media.take"])
    return context


def _flip(data: bytearray, draw: random.Random, first: int, after: int) -> None:
    for _ in range(draw.choice((1, 4, 30, 200))):
        data[draw.randrange(first, after)] = draw.randrange(256)


def _head(data: bytearray, draw: random.Random) -> None:
    _flip(data, draw, 0, min(len(data), 2000))


def _tail(data: bytearray, draw: random.Random) -> None:
    _flip(data, draw, max(0, len(data) - 6000), len(data))


def _anywhere(data: bytearray, draw: random.Random) -> None:
    _flip(data, draw, 0, len(data))


def _cut_off(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(1, len(data)) :]


def _hole(data: bytearray, draw: random.Random) -> None:
    first = draw.randrange(len(data))
    del data[first : first + draw.choice((1, 188, 5000))]


def _zeros(data: bytearray, draw: random.Random) -> None:
    first = draw.randrange(len(data))
    piece = data[first : first + draw.choice((4, 512, 20_000))]
    data[first : first + len(piece)] = bytes(len(piece))


def _moved(data: bytearray, draw: random.Random) -> None:
    length = draw.choice((16, 1000, 30_000))
    source, target = draw.randrange(len(data)), draw.randrange(len(data))
    data[target : target + length] = data[source : source + length]


def _number(data: bytearray, draw: random.Random) -> None:
    """A 32-bit number at its edges, where headers keep sizes and counts."""
    at = draw.randrange(min(len(data), 8000)) if draw.random() < 0.5 else max(0, len(data) - draw.randrange(8000) - 4)
    data[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(4), b"\0\0\0\1"))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _head, _tail, _anywhere, _cut_off, _hole, _zeros, _moved, _number,
)  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """The file with one or two kinds of damage; the same for the same seed."""
    draw, changed = random.Random(seed), bytearray(data)
    for mutate in draw.choices(MUTATIONS, k=draw.choice((1, 1, 2))):
        if changed:
            mutate(changed, draw)
    return bytes(changed)


def take_mutated(span: Span, seed: int) -> str:
    """What comes of a damaged copy: `kept`, a reason code, or the traceback of what must not happen."""
    path, start, end = span
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / path.name
        copy.write_bytes(mutated(path.read_bytes(), seed))
        try:
            modalities = ("av", "v", "a")[seed % 3]
            taken = take_clip(copy, 0.0, start, end, lambda facts: True, FeatureSettings(modalities), LIMITS)
        except ClipError as refusal:
            return refusal.reason
        except Exception:
            return traceback.format_exc()
    return taken.refusal.reason if taken.refusal is not None else "kept"


def private_megabytes() -> float:
    return float(psutil.Process().memory_full_info().uss) / 2**20


def take_many(spans: list[Span], num_calls: int, every: int) -> tuple[list[float], int]:
    """Private memory of this process in MB: idle, then after each `every` calls; and its open files at the end."""
    memory = [private_megabytes()]
    for number in range(1, num_calls + 1):
        path, start, end = spans[number % len(spans)]
        take_clip(path, 0.0, start, end, lambda facts: True)
        if number % every == 0:
            memory.append(private_megabytes())
    return memory, psutil.Process().num_fds()
