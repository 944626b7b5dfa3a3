"""CSV of captions, a row a caption, as RFC 4180 has it: comma, CRLF, quotes doubled, a header, UTF-8.

A file a split, `<split>.csv`.

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, and a formula can send the sheet's
contents away when somebody opens the file; ids of YouTube begin with `-` now and then. With `spreadsheet` such cells
get a `'` before them, which a spreadsheet takes for "text" and other programs for a part of the text. So it is off by
default: programs read what is there, and only a spreadsheet computes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import groupby

from valor_data.clip import Clip
from valor_data.publish.exports import Exported, ExportOptions, Progress
from valor_data.publish.exports.target import Target
from valor_data.publish.finished import FinishedSet, FinishedShard, open_shard
from valor_data.shard.reader import clip_of

HEADER = ("key", "video_id", "start_seconds", "end_seconds", "split", "number", "role", "caption")

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def disarm(cell: str) -> str:
    """A cell that no spreadsheet computes: with a `'` before what it would take for a formula.

    >>> disarm("=1+1"), disarm("a+b")
    ("'=1+1", 'a+b')
    """
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell


def check(finished: FinishedSet, target: Target, options: ExportOptions) -> None:
    """Every set has captions to write, or none."""


def write(finished: FinishedSet, target: Target, options: ExportOptions, progress: Progress) -> Exported:
    """Writes the layout; see `exports.run_export`."""
    chosen = finished.first(options.limit)
    exported = Exported(num_clips=sum(number for _, number in chosen))
    progress.start("export", exported.num_clips, "clips")
    for split, shards in groupby(chosen, key=lambda item: item[0].split):
        with target.written(f"{split}.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(HEADER)
            for clip in _clips(finished, list(shards), progress):
                cells = _cells(clip)
                exported.num_captions += len(cells)
                if not cells:
                    exported.counts["clips without a caption"] += 1
                rows.writerows([disarm(cell) for cell in row] if options.spreadsheet else row for row in cells)
        exported.files[f"{split}.csv"] = "a row a caption"
    former = {name for name in target.names() if name.endswith(".csv") and "/" not in name}
    target.output.remove(sorted(former - exported.files.keys()))
    return exported


def _clips(finished: FinishedSet, shards: list[tuple[FinishedShard, int]], progress: Progress) -> Iterator[Clip]:
    for shard, number in shards:
        with open_shard(finished.output, shard, number) as reader:
            for stored in reader.clips:
                yield clip_of(json.loads(reader.read(stored, "json")))
        progress.advance("written", count=number)


def _cells(clip: Clip) -> list[list[str]]:
    return [
        [clip.key or "", clip.video_id, f"{clip.start:.3f}", f"{clip.end:.3f}", clip.split, str(number), c.role, c.text]
        for number, c in enumerate(clip.captions)
    ]
