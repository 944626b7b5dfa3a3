"""What `view` and `compare` cost with many clips: the index, its size, each kind of question, the comparison.

    python benchmarks/view.py 10000 1000000

Clips are synthetic: captions of 5 to 35 words drawn from 30,000 by Zipf's law (as words of a language are), labels,
measured facts, a seventh refused. The ledger, the manifest and the index are real, the tars are empty files. Beside
it a set of real shards with no ledger (pictures of two bytes), whose JSON is read sample by sample. CPU seconds of a
process of its own for each step, its peak resident memory; of questions CPU and wall milliseconds, the medians of
several that were not asked before, and the worst wall.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

NUM_WORDS = 30_000
NUM_LABELS = 500
REFUSED_EVERY = 7
SHARD_CLIPS = 1000
NUM_ASKED = 9
MAX_BARE_CLIPS = 100_000
"""Clips of the set without a ledger."""


def main() -> None:
    """Makes the sets, and runs each step in a process of its own."""
    if sys.argv[1:2] == ["--step"]:
        name, folder, size = sys.argv[2:5]
        figures = STEPS[name](Path(folder), int(size))
        figures["cpu_s"] = time.process_time()
        figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures))
        return
    for size in [int(text) for text in sys.argv[1:]] or [10_000]:
        with tempfile.TemporaryDirectory() as folder:
            for name in STEPS:
                command = [sys.executable, __file__, "--step", name, folder, str(size)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                print(f"{size:>9,}  {name:<22} {done.stdout.strip()}", flush=True)


def caption_maker(seed: int) -> Callable[[], str]:
    """Gives captions; word n is there 1/n as often as the first."""
    draw = random.Random(seed)
    names = [word_of(number) for number in range(NUM_WORDS)]
    weights = list(accumulate(1 / (number + 1) for number in range(NUM_WORDS)))
    return lambda: " ".join(draw.choices(names, cum_weights=weights, k=draw.randint(5, 35)))


def word_of(number: int) -> str:
    """A word that can be said, another for each number."""
    parts = ""
    while number or not parts:
        number, rest = divmod(number, 70)
        parts += "bdfgklmnprstvz"[rest % 14] + "aeiou"[rest // 14]
    return parts


def make(folder: Path, size: int) -> dict[str, Any]:
    """A work folder, and its manifest with a tenth of the captions changed and the first clips left out."""
    from valor_data.ledger import Ledger
    from valor_data.manifest import build_manifest, write_manifest
    from valor_data.road import Driver, StageReport
    from valor_data.road.entry import enter_manifest
    from valor_data.workdir import WorkDir

    for name in ("a", "b"):
        caption = caption_maker(1)
        listing = folder / f"{name}.jsonl"
        draw = random.Random(2)
        with listing.open("w") as stream:
            for number in range(size):
                text = caption() + (" changed" if name == "b" and number % 10 == 0 else "")
                label = word_of(draw.randrange(NUM_LABELS))
                tree = {"video_id": f"v{number:010d}", "start": 30.0, "end": 40.0, "caption": text,
                        "labels": [label], "split": "train" if number % 50 else "val"}  # fmt: skip
                if name == "a" or number >= size // 100:
                    stream.write(json.dumps(tree) + "\n")
        write_manifest(build_manifest([listing]), folder / f"{name}.parquet")
        listing.unlink()
    work = WorkDir.at(folder / "work")
    with Driver(work, stages=["shard"]) as driver:
        enter_manifest(driver, folder / "a.parquet", StageReport("fetch"))
        record_all(driver.ledger)
    work.shards.mkdir()
    for number in range(-(-size // SHARD_CLIPS)):
        (work.shards / f"train-{number:06d}.tar").write_bytes(b"")
    with Ledger(work.ledger, read_only=True) as ledger:
        return {"clips": ledger.num_clips()}


def record_all(ledger: Any) -> None:
    """Gives every clip a place in the plan, facts and outcomes."""
    from valor_data.ledger import Outcome
    from valor_data.media.facts import FACTS_VERSION, Facts

    draw = random.Random(3)
    clips = ledger.find_all()
    places = ((c.clip_id, c.split, n // SHARD_CLIPS, n % SHARD_CLIPS) for n, c in enumerate(clips))
    ledger.add_to_plan(places)
    for clip in clips:
        facts = Facts(
            has_video=True, has_audio=True, rms_dbfs=-draw.expovariate(0.04), width_px=640, height_px=360,
            silence_share=draw.random(),
        )  # fmt: skip
        ledger.record(clip.clip_id, "fetch", Outcome.kept())
        ledger.record_facts(clip.clip_id, FACTS_VERSION, facts.to_json())
        is_refused = clip.clip_id % REFUSED_EVERY == 0
        ledger.record(clip.clip_id, "filter", Outcome.refused("silent", "quiet") if is_refused else Outcome.kept())
        if not is_refused:
            ledger.record(clip.clip_id, "shard", Outcome.kept())
    ledger.commit()


def index(folder: Path, size: int) -> dict[str, Any]:
    """Builds the index of the work folder."""
    from valor_data.look.shard_set import find_set
    from valor_data.look.view.index import ready_index

    began = time.monotonic()
    path = ready_index(find_set(folder / "work"), folder / "cache")
    return {"wall_s": time.monotonic() - began, "mb": path.stat().st_size / 1e6}


def reopen(folder: Path, size: int) -> dict[str, Any]:
    """Opens it again, as a second `view` does."""
    from valor_data.look.shard_set import find_set
    from valor_data.look.view.index import ready_index
    from valor_data.look.view.search import Index

    began = time.monotonic()
    opened = Index(ready_index(find_set(folder / "work"), folder / "cache"))
    return {"wall_s": time.monotonic() - began, "clips": opened.num_clips}


def questions(folder: Path, size: int) -> dict[str, Any]:
    """Milliseconds of each kind of question: the count, the facets and the first sixty clips."""
    from valor_data.look.view.search import Index, Question

    path = next((folder / "cache").glob("*.sqlite"))
    opened = Index(path)
    draw = random.Random(4)
    kinds: dict[str, Callable[[int], Question]] = {
        "no words": lambda n: Question(),
        "a rare word": lambda n: Question(f"{word_of(20_000 + 7 * n)} "),
        "a word of one in 30 captions": lambda n: Question(f'"{word_of(60 + n)}"'),
        "a word of one in 3 captions": lambda n: Question(f'"{word_of(5 + n)}"'),
        "the most frequent words": lambda n: Question(f'"{word_of(n % 3)}" -"{word_of(9000 + n)}"'),
        "two words": lambda n: Question(f"{word_of(20 + n)} {word_of(40 + n)} "),
        "a phrase": lambda n: Question(f'"{word_of(n)} {word_of(n + 1)}"'),
        "the start of a word": lambda n: Question((word_of(n) + "bdf"[n % 3])[:3]),
        "a label": lambda n: Question(f"label:{word_of(100 + n)} "),
        "the start of a key": lambda n: Question(f"v{draw.randrange(size):010d}"[:9]),
        "three filters": lambda n: Question(
            choices={"split": ("train",), "reason": ("",)}, ranges={"rms": (-30.0 - n, -10.0)}
        ),
        "everything, the loudest first": lambda n: Question(order="rms", descending=True, first=60 * n),
        "a frequent word, sorted and filtered": lambda n: Question(
            f'"{word_of(3)}"', {"standing": ("dropped",)}, {"silence": (10.0 + n, None)}, "words", True
        ),
    }
    found = {}
    for name, kind in kinds.items():
        times, spent = [], []
        for number in range(NUM_ASKED):
            question = kind(number)
            began, cpu = time.perf_counter(), time.process_time()
            answer = opened.ask(question)
            times.append(1000 * (time.perf_counter() - began))
            spent.append(1000 * (time.process_time() - cpu))
        figures = (statistics.median(spent), statistics.median(times), max(times))
        found[name] = [*(round(figure, 1) for figure in figures), answer.count]
    return found


def bare(folder: Path, size: int) -> dict[str, Any]:
    """Builds the index of shards without a ledger, with `index/` and without: the JSON of every sample is read."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    from valor_data.look.shard_set import find_set
    from valor_data.look.view.index import ready_index
    from valor_data.media.facts import Facts
    from valor_data.shard.tar import TarFile

    caption, number = caption_maker(5), min(size, MAX_BARE_CLIPS)
    place = folder / "bare" / "shards"
    listings = folder / "bare" / "index"
    place.mkdir(parents=True)
    listings.mkdir()
    facts = {name: value for name, value in Facts(has_audio=True).to_dict().items() if name != "audio_spans"}
    for shard in range(-(-number // SHARD_CLIPS)):
        rows: list[dict[str, Any]] = []
        with TarFile(place / f"train-{shard:06d}.tar") as tar:
            for clip in range(SHARD_CLIPS):
                tree = {"captions": [{"text": caption(), "role": "audiovisual"}], "labels": [""], "label_names": [""],
                        "facts": facts}  # fmt: skip
                key = f"v{shard * SHARD_CLIPS + clip:010d}_00000000_00010000"
                files = {"json": json.dumps(tree).encode(), "txt": b""}
                found = tar.add_sample(key, files | {f"frame_{n:02d}.jpg": b"ab" for n in range(10)})
                members = [{"name": m.name, "offset": m.offset, "size": m.size, "sha256": m.sha256} for m in found]
                rows.append({"key": key, "video_id": key[:11], "split": "train", "status": "kept", "reason": "",
                             "size_bytes": 0, "members": members})  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), listings / f"train-{shard:06d}.parquet")
    times: dict[str, Any] = {"clips": number}
    for name in ("with_index", "without"):
        began, cpu = time.monotonic(), time.process_time()
        ready_index(find_set(place), folder / name)
        times |= {f"{name}_wall_s": time.monotonic() - began, f"{name}_cpu_s": time.process_time() - cpu}
        shutil.rmtree(listings, ignore_errors=True)
    return times


def compared(folder: Path, size: int) -> dict[str, Any]:
    """A work folder and another manifest, captions and certificates included."""
    from valor_data.look.compare import compare
    from valor_data.look.sides import read_side

    began = time.monotonic()
    found = compare(read_side(str(folder / "work")), read_side(str(folder / "b.parquet")))
    changed = found.captions.number if found.captions is not None else -1
    return {"wall_s": time.monotonic() - began, "both": len(found.both), "captions_differ": changed}


STEPS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "make": make,
    "index": index,
    "reopen": reopen,
    "questions": questions,
    "shards without ledger": bare,
    "compare": compared,
}


if __name__ == "__main__":
    main()
