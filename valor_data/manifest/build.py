"""From annotation files to a checked manifest, and both its files onto the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valor_data.errors import ManifestError
from valor_data.manifest.check import check_values
from valor_data.manifest.formats import Head, plan_reading, recognise
from valor_data.manifest.formats.audio_lists import is_class_list, read_class_names
from valor_data.manifest.join import Input, Joiner, Report
from valor_data.manifest.options import ManifestOptions
from valor_data.manifest.rejects import Reject, RejectList
from valor_data.manifest.sets import open_set
from valor_data.manifest.source import Source
from valor_data.manifest.splits import kept_split, leaked_videos, rows_to_drop, split_of_name
from valor_data.manifest.table import Manifest, SourceInfo
from valor_data.tombstones import no_longer_listed, read_tombstones
from valor_data.workdir import written_aside

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_NUM_SHOWN = 10
_CLASS_LIST = "classes"


@dataclass(frozen=True, slots=True)
class ManifestResult:
    """What a build gave.

    Attributes:
        manifest: the clips.
        rejects: the rows and captions that could not be used.
        num_rows: annotation rows read, of all files.
        counts: `clips`, `captions`, `questions`, `clips_without_captions`, `clips_with_labels`,
            `clips_without_end`, and of the joining: `clips_before_selection`, `label_rows_unused` (no caption
            asked for them), `clips_without_label_row` (no joined label row has their span).
        clips_by_split: number of clips by split.
        rejects_by_reason: number of rejects by reason, the most frequent first.
        notices: what a person should know, a sentence each.
    """

    manifest: Manifest
    rejects: RejectList
    num_rows: int
    counts: dict[str, int]
    clips_by_split: dict[str, int]
    rejects_by_reason: dict[str, int]
    notices: tuple[str, ...]


def build_manifest(
    files: Sequence[str | Path], *, options: ManifestOptions | None = None, progress: Report | None = None
) -> ManifestResult:
    """Reads annotation files into a manifest.

    Files with captions or questions define the clips; label files add labels to them and define clips only
    when they are alone (or with `join="outer"`). A list of class names is recognised among the files.

    Args:
        files: annotation files of any known format, gzipped or not.
        options: how to read and join; the defaults recognise everything from the content.
        progress: is told every few thousand rows how far reading has come.

    Raises:
        ManifestError: a file cannot be read or recognised, no row can be used, or a video is in two splits;
            the message says which file, what was found and what to do.
    """
    options = options or ManifestOptions()
    inputs, names, sources = open_inputs(files, options)
    joiner = Joiner(options, inputs, progress)
    joiner.read()
    table = joiner.columns.table(names)
    if not table.num_rows:
        raise ManifestError(_nothing_left(joiner))
    table = _without_removed(_without_leaks(table, joiner), joiner)
    before = table.num_rows
    infos = tuple(SourceInfo(s.name, f, s.sha256(), n) for s, f, n in _with_rows(sources, inputs))
    manifest = Manifest.of(table, infos).select(limit=options.limit, sample=options.sample, seed=options.seed)
    check_values(manifest.table)
    unnamed = joiner.columns.unnamed_labels(names) if names else []
    if unnamed:
        joiner.notices.append(f"{len(unnamed)} labels have no name in the class list, such as {unnamed[0]!r}")
    counts = _counts(manifest.table) | {
        "clips_before_selection": before,
        "label_rows_unused": joiner.num_label_rows_unused,
        "clips_without_label_row": joiner.num_clips_unlabelled,
    }
    return ManifestResult(
        manifest,
        joiner.rejects,
        sum(i.num_rows for i in inputs),
        counts,
        manifest.split_counts(),
        joiner.rejects.counts(),
        tuple(joiner.notices),
    )


def write_manifest(result: ManifestResult, path: str | Path, *, rejects_path: str | Path | None = None) -> Path:
    """Writes the manifest, and the rejects beside it. The manifest comes last, so where it is both are.

    Args:
        result: what `build_manifest` gave.
        path: where the manifest goes; an older file there is replaced whole.
        rejects_path: where the rejects go; `rejects.parquet` in the manifest's folder by default.

    Returns:
        The path of the rejects.

    Raises:
        ManifestError: a file cannot be written there.
    """
    import pyarrow.parquet as pq

    manifest_path = Path(path)
    rejected = Path(rejects_path) if rejects_path is not None else manifest_path.with_name("rejects.parquet")
    if manifest_path == rejected:
        raise ManifestError("the manifest and its rejects cannot be the same file; name another with -o", file=path)
    try:
        with written_aside(manifest_path) as manifest_part:
            result.manifest.write(manifest_part)
            with written_aside(rejected) as rejects_part:
                pq.write_table(result.rejects.table(result.manifest.fingerprint), rejects_part, compression="zstd")
    except OSError as error:
        raise ManifestError(f"cannot be written: {error.strerror or error}", file=path) from error
    return rejected


def open_inputs(
    files: Sequence[str | Path], options: ManifestOptions
) -> tuple[list[Input], dict[str, str], list[tuple[Source, str]]]:
    """Recognises every file: the inputs, the class names, and all sources with their format.

    Raises:
        ManifestError: a file cannot be read or recognised, or an option names what is not there.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise ManifestError("no annotation files were given; name at least one")
    base_names = [path.name for path in paths]
    unknown = sorted({*options.file_formats, *options.file_splits} - set(base_names))
    if unknown:
        raise ManifestError(f"an option names {unknown[0]!r}, which is none of the files: {', '.join(base_names)}")
    inputs: list[Input] = []
    names: dict[str, str] = {}
    sources: list[tuple[Source, str]] = []
    for path in paths:
        held = open_set(files[paths.index(path)], options)
        if held:
            for source, format, plan in held:
                forced = options.file_splits.get(path.name, options.split)
                inputs.append(Input(source, format, plan, len(inputs), split_of_name(Path(source.name)), forced))
                sources.append((source, format.name))
            continue
        source = Source(path, path.name if base_names.count(path.name) == 1 else str(path))
        head = Head(source)
        if is_class_list(head):
            names.update(read_class_names(source))
            sources.append((source, _CLASS_LIST))
            continue
        format = recognise(head, options)
        forced = options.file_splits.get(path.name, options.split)
        plan = plan_reading(format, head, options)
        inputs.append(Input(source, format, plan, len(inputs), split_of_name(path), forced))
        sources.append((source, format.name))
    if not inputs:
        raise ManifestError("a list of class names holds no clips; add the file that does", file=paths[0])
    _check_named_fields(inputs, options)
    return inputs, names, sources


def _check_named_fields(inputs: list[Input], options: ManifestOptions) -> None:
    """A field that somebody named must be in one of the files at least."""
    found = {name for file in inputs for name in file.plan.fields.values()}
    for meaning, name in options.fields.items():
        if name not in found:
            seen = ", ".join(sorted({repr(n) for file in inputs for n in file.plan.names})) or "none by name"
            raise ManifestError(f"no file has this field (--{meaning}-field); fields found: {seen}", column=name)


def _with_rows(sources: list[tuple[Source, str]], inputs: list[Input]) -> list[tuple[Source, str, int]]:
    rows = {file.source.name: file.num_rows for file in inputs}
    return [(source, format, rows.get(source.name, 0)) for source, format in sources]


def _nothing_left(joiner: Joiner) -> str:
    """Why no clip is left, with the first refused rows."""
    rejects = joiner.rejects
    if not rejects:
        return f"no rows in {', '.join(i.source.name for i in joiner.inputs)}; expected at least one clip"
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejects.counts().items())
    first = f"{rejects.files[0]}, row {rejects.rows[0]}: {rejects.details[0]}"
    hint = "; ids of another corpus are taken with --ids any" if rejects.reasons[0] == "bad_id" else ""
    return f"no row could be used: {len(rejects)} were refused ({reasons}); the first: {first}{hint}"


def _without_leaks(table: pa.Table, joiner: Joiner) -> pa.Table:
    """The table without videos in two splits, or an error that names them."""
    import numpy as np
    import pyarrow as pa

    leaks = leaked_videos(table)
    if not leaks:
        return table
    if joiner.options.on_leak == "error":
        shown = ", ".join(f"{video} ({' and '.join(splits)})" for video, splits in list(leaks.items())[:_NUM_SHOWN])
        more = f" and {len(leaks) - _NUM_SHOWN} more" if len(leaks) > _NUM_SHOWN else ""
        raise ManifestError(
            f"{len(leaks)} videos are in more than one split: {shown}{more}; take them out of one, or "
            "--on-leak drop keeps each in one split (test, then val, before train)"
        )
    dropped = rows_to_drop(table, leaks)
    _refuse_leaks(table, dropped, leaks, joiner)
    keep = np.ones(table.num_rows, dtype=bool)
    keep[dropped] = False
    joiner.notices.append(
        f"{len(leaks)} videos were in more than one split; {len(dropped)} of their clips were dropped"
    )
    return table.filter(pa.array(keep))


def _without_removed(table: pa.Table, joiner: Joiner) -> pa.Table:
    """The table without what was removed from the set; no reject either quotes it."""
    import numpy as np
    import pyarrow as pa

    if not joiner.options.tombstones:
        return table
    tombstones = read_tombstones(joiner.options.tombstones)
    removed = no_longer_listed(table, tombstones)
    joiner.rejects.leave_out(lambda text: tombstones.mentioned_in(text))
    if not removed.any():
        return table
    if removed.all():
        raise ManifestError(f"every clip was removed from the set, says {joiner.options.tombstones}")
    joiner.notices.append(f"{np.count_nonzero(removed)} clips were removed from the set and are left out (tombstones)")
    return table.filter(pa.array(~removed))


def _refuse_leaks(table: pa.Table, dropped: np.ndarray, leaks: dict[str, list[str]], joiner: Joiner) -> None:
    """A reject for every caption of a dropped clip, or for the clip where it has none."""
    import pyarrow as pa

    columns = joiner.columns
    files, rows, offsets = columns.caption_origins()
    chosen = table.select(["video_id", "split", "captions"]).take(pa.array(dropped)).to_pylist()
    for clip, row in zip(dropped.tolist(), chosen, strict=True):
        kept = kept_split(leaks[row["video_id"]])
        detail = f"video {row['video_id']!r} is in {kept!r} too, where it stays; this clip was {row['split']!r}"
        origins = [(files[i], rows[i]) for i in range(offsets[clip], offsets[clip + 1])]
        texts = [caption["text"] for caption in row["captions"]]
        for (file, number), text in zip(
            origins or [(columns.clip_files[clip], columns.clip_rows[clip])], texts or [row["video_id"]], strict=True
        ):
            joiner.rejects.add(joiner.inputs[file].source.name, Reject(int(number), text, "leak", detail))


def _counts(table: pa.Table) -> dict[str, int]:
    """What the manifest holds, in numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths: dict[str, Any] = {
        column: pc.list_value_length(table[column]) for column in ("captions", "questions", "labels")
    }

    def total(column: str) -> int:
        return int(pc.sum(lengths[column]).as_py() or 0)

    def without(column: str) -> int:
        return int(pc.sum(pc.equal(lengths[column], pa.scalar(0))).as_py() or 0)

    num = int(table.num_rows)
    return {
        "clips": num,
        "captions": total("captions"),
        "questions": total("questions"),
        "clips_without_captions": without("captions"),
        "clips_with_labels": num - without("labels"),
        "clips_without_end": int(table["end_seconds"].null_count),
    }
