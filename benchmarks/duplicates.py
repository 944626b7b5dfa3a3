"""How well planted duplicates are found, what their figures cost to measure, and how the search grows.

    python benchmarks/duplicates.py pairs ../shared 1000     copies of real and of synthetic clips, pair by pair
    python benchmarks/duplicates.py cost ../shared           CPU of the content figures beside the facts'
    python benchmarks/duplicates.py search 10000 100000 1000000

The planted set is that of `tests/filter/planting.py`. CPU seconds of this process and its children; the search runs
in a process of its own for each size, for its peak memory.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "filter"))

ROUNDS = 3


def pairs(shared: Path, num_synthetic: int) -> None:
    """Plants, measures, searches, and prints a row for each thing that was done to a copy."""
    from planting import COPIES, copied, judge, measured, real, synthetic

    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(2) as pool:
        folder = Path(name)
        made = pool.map(synthetic, [folder / f"{n}.mp4" for n in range(num_synthetic)], range(num_synthetic))
        clips = [*real(shared), *made]
        num_real = len(clips) - num_synthetic
        kinds = list(COPIES)
        todo = [(n, kind) for n in range(num_real) for kind in kinds]
        todo += [(num_real + n, kinds[n % len(kinds)]) for n in range(num_synthetic)]
        places = [folder / f"copy{k}.mkv" for k in range(len(todo))]
        copies = list(pool.map(copied, [clips[n] for n, _ in todo], [kind for _, kind in todo], places, chunksize=8))
        originals = {len(clips) + k: n for k, (n, _) in enumerate(todo)}
        everything = [*clips, *copies]
        contents = list(pool.map(measured, everything, chunksize=8))
    for title, some in (("real", range(num_real)), ("synthetic", range(num_real, len(clips)))):
        wanted = set(some)
        found = judge(everything, contents, {k: n for k, n in originals.items() if n in wanted})
        for kind in kinds:
            print(f"{title:>9}  {kind:<20} {found.found[kind]:>4} of {found.planted[kind]:>4}  {found.share(kind):.1%}")
        print("\n".join(f"           missed: {text}" for text in found.missed))
    rate = len(found.false_alarms) / found.num_different
    print(f"{len(everything)} clips, {found.num_different:,} pairs that differ, "
          f"{len(found.false_alarms)} false alarms ({rate:.2e})")  # fmt: skip
    print("\n".join(f"           false: {text}" for text in found.false_alarms[:20]))


def cost(shared: Path) -> None:
    """CPU of facts alone, of content alone, and of both in one pass: real clips of at most 360p, then all."""
    from planting import real

    from valor_data.media.measure import measure_clip

    clips = real(shared)
    facts = [measure_clip(clip.path, 0.0, clip.start, clip.end) for clip in clips]
    small = [clip for clip, known in zip(clips, facts, strict=True) if min(known.width_px, known.height_px) <= 360]
    for title, some in (("of at most 360p", small), ("all", clips)):
        print(f"{len(some)} clips, {title}")
        cost_of(some)


def cost_of(clips: list[Any]) -> None:
    """Prints medians of some clips."""
    from valor_data.media.content import measure_content
    from valor_data.media.measure import measure_clip, measure_clip_and_content

    ways: dict[str, Any] = {"facts": measure_clip, "content": measure_content, "both": measure_clip_and_content}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(ROUNDS + 1):
        for name, way in ways.items():
            began = time.process_time()
            for clip in clips:
                way(clip.path, 0.0, clip.start, clip.end)
            if round_number:  # the first warms up
                times[name].append(1000 * (time.process_time() - began) / len(clips))
    for name, some in times.items():
        print(f"  {name:<8} {statistics.median(some):6.1f} ms a clip ({min(some):.1f} to {max(some):.1f})", flush=True)
    extra = [both - facts for both, facts in zip(times["both"], times["facts"], strict=True)]
    print(f"  content on the way: {statistics.median(extra):.1f} ms a clip", flush=True)


def search(size: int) -> None:
    """Searches a set of synthetic signatures; prints CPU seconds, peak MB and what was found as JSON."""
    import numpy as np

    from valor_data.filter.alike import Closeness, alike_pairs
    from valor_data.filter.footage import copies

    signatures, planted = synthetic_signatures(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    found = alike_pairs(signatures, Closeness())
    kept = copies(found, np.arange(size), lambda some: np.ones(len(some), bool))
    took = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    hit = np.isin(planted[:, 0] * size + planted[:, 1], found[:, 0] * size + found[:, 1])
    print(json.dumps([size, took, before, peak, len(planted), int(hit.sum()), len(found), int((kept >= 0).sum())]))


def synthetic_signatures(size: int) -> tuple[Any, Any]:
    """Signatures of clips of ten seconds: one in a hundred is a copy of another, one in twenty shows the same cards.

    A copy differs in 6 of 64 bits of its pictures on average, and in 15 % of those of its sound.
    """
    import numpy as np

    from valor_data.filter.signatures import Signatures
    from valor_data.media.content import NUM_PICTURES, VIEWS

    dice = np.random.default_rng(0)
    moments = 97
    hashes = dice.integers(0, 2**64, (size, NUM_PICTURES, 1), np.uint64).repeat(len(VIEWS), axis=2)
    hashes[:, :, 1:] ^= flips(dice, (size, NUM_PICTURES, len(VIEWS) - 1), 4 / 64)
    cards = dice.integers(0, 2**64, NUM_PICTURES, np.uint64)
    hashes[dice.choice(size, size // 20, replace=False)] = cards[None, :, None]
    sound = dice.integers(0, 2**32, (size, moments), np.uint32)
    some = dice.choice(size, size // 100 * 2, replace=False).reshape(-1, 2)
    planted = np.sort(some, axis=1)
    hashes[planted[:, 1]] = hashes[planted[:, 0]] ^ flips(dice, (len(planted), NUM_PICTURES, len(VIEWS)), 6 / 64)
    sound[planted[:, 1]] = sound[planted[:, 0]] ^ flips(dice, (len(planted), moments), 0.15).astype(np.uint32)
    figures = np.ones(size, np.float32)
    signatures = Signatures(
        measured=np.ones(size, bool), change=figures, moving=figures, borders=figures * 0, hashes=hashes,
        tells=np.ones((size, NUM_PICTURES), bool), sound=sound.reshape(-1), audible=np.ones(sound.size, bool),
        offsets=np.arange(size + 1) * moments,
    )  # fmt: skip
    return signatures, planted


def flips(dice: Any, shape: tuple[int, ...], share: float) -> Any:
    """Numbers of 64 bits, each bit set with a probability."""
    import numpy as np

    wrong = np.zeros(shape, np.uint64)
    for bit in range(64):
        wrong |= (dice.random(shape) < share).astype(np.uint64) << np.uint64(bit)
    return wrong


def main(arguments: list[str]) -> None:
    """Runs what is asked for."""
    what, *rest = arguments
    if what == "pairs":
        pairs(Path(rest[0]), int(rest[1]))
    elif what == "cost":
        cost(Path(rest[0]))
    elif len(rest) == 1:
        search(int(rest[0]))
    else:
        print("     clips   CPU s  MB before  MB peak  planted  found  pairs found  clips that go")
        for size in rest:
            answer = subprocess.run([sys.executable, __file__, "search", size], capture_output=True, check=True)
            number, took, before, peak, planted, hit, num, gone = json.loads(answer.stdout)
            print(
                f"{number:>10,} {took:7.1f} {before:10,.0f} {peak:8,.0f} {planted:>8,} {hit:>6,} {num:>12,} {gone:>14,}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
