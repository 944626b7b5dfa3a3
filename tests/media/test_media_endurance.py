"""Thousands of damaged files, and thousands of clips in one process: nothing crashes, nothing leaks."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import TimeoutError as Overrun
from pathlib import Path

import pytest
from media_reference import Row
from media_worker import Span, forkserver, take_many, take_mutated
from pebble import ProcessExpired, ProcessPool

DEADLINE_SECONDS = 60.0
SMALL_BYTES = 700_000
PRIVATE_MEGABYTES = 150.0


def small_spans(media: Path, rows: list[Row]) -> list[Span]:
    """The first seconds of every real file that is small."""
    sizes = {row.file: (media / row.file).stat().st_size for row in rows}
    return [
        (media / row.file, row.start, min(row.end, row.start + 3)) for row in rows if 0 < sizes[row.file] < SMALL_BYTES
    ]


def outcomes_of_mutations(spans: list[Span], seeds: range) -> tuple[Counter[str], list[str]]:
    """How often each outcome came, and what must not happen: crashes, overruns, errors without a reason."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with ProcessPool(max_workers=2, context=forkserver()) as pool:
        work = {
            seed: pool.schedule(take_mutated, args=(spans[seed % len(spans)], seed), timeout=DEADLINE_SECONDS)
            for seed in seeds
        }
        for seed, future in work.items():
            name = spans[seed % len(spans)][0].name
            try:
                outcome = future.result()
            except ProcessExpired as crash:
                wrong.append(f"{name} seed {seed}: native crash, exit code {crash.exitcode}")
            except Overrun:
                wrong.append(f"{name} seed {seed}: more than {DEADLINE_SECONDS} s")
            else:
                if "\n" in outcome:
                    wrong.append(f"{name} seed {seed}: {outcome}")
                counts[outcome if "\n" not in outcome else "error"] += 1
    return counts, wrong


def test_damaged_files_end_with_a_reason(media: Path, rows: list[Row]) -> None:
    counts, wrong = outcomes_of_mutations(small_spans(media, rows), range(100))
    assert wrong == []
    assert counts.total() == 100
    assert counts["kept"] > 10
    assert counts["undecodable"] > 3


@pytest.mark.parametrize(
    ("file", "seed"),
    [
        ("edge/multiple-aac-tracks.mp4", 506),  # 6 channels become 22: more planes than a frame has room for
        ("audio_only/testMP4AudioOnly.mp4", 2837),  # 2 channels become 1 and 2 again
    ],
)
def test_sound_whose_channels_change_ends_no_process(media: Path, file: str, seed: int) -> None:
    with ProcessPool(max_workers=1, context=forkserver()) as pool:
        assert pool.schedule(take_mutated, args=((media / file, 0.0, 3.0), seed)).result() == "kept"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_thousand_damaged_files_end_with_a_reason(media: Path, rows: list[Row]) -> None:
    counts, wrong = outcomes_of_mutations(small_spans(media, rows), range(100, 5100))
    print(counts, *wrong, sep="\n")
    assert wrong == []
    assert counts.total() == 5000


def ordinary_spans(media: Path, rows: list[Row], seconds: float) -> list[Span]:
    """Clips of ordinary files, kept ones of up to 720 lines."""
    names = (
        "chrome",
        "nasa_13013",
        "mdn_pig",
        "flipping",
        "nasa_vp9",
        "nasa_av1",
        "bigbuckbunny",
        "100_0306",
        "rabbit",
    )
    chosen = [row for row in rows if row.expect == "kept" and any(name in row.file for name in names)]
    return [(media / row.file, row.start, min(row.end, row.start + seconds)) for row in chosen]


def test_private_memory_of_a_worker_is_bounded(media: Path, rows: list[Row]) -> None:
    with ProcessPool(max_workers=1, context=forkserver()) as pool:
        spans = ordinary_spans(media, rows, 10.0)
        memory, _ = pool.schedule(take_many, args=(spans, 2 * len(spans), len(spans))).result()
    assert len(spans) >= 8
    assert max(memory) - memory[0] <= PRIVATE_MEGABYTES, memory


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_stays_flat_over_thousands_of_clips(media: Path, rows: list[Row]) -> None:
    spans = ordinary_spans(media, rows, 1.0)
    with ProcessPool(max_workers=1, context=forkserver()) as pool:
        memory, num_files = pool.schedule(take_many, args=(spans, 10_000, 500)).result()
    print([round(megabytes) for megabytes in memory], num_files)
    assert max(memory) - memory[0] <= PRIVATE_MEGABYTES, memory
    assert memory[-1] - memory[2] <= 8, memory  # after a thousand calls every buffer has its size
    assert num_files < 40
