"""What curation measured, out of the ledger and as columns: languages, content, and other sets to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from valor_data.clip import MAX_MS, to_ms_array
from valor_data.config import FilterSection
from valor_data.errors import ConfigError
from valor_data.filter.captions import Languages
from valor_data.filter.clips import ClipTable
from valor_data.filter.leak import OWN_SPLITS, OtherSet
from valor_data.filter.signatures import SignatureColumns, Signatures
from valor_data.ledger import Ledger
from valor_data.manifest import ManifestOptions, build_manifest, is_manifest, read_manifest
from valor_data.media.content import CONTENT_VERSION, Content
from valor_data.road.measuring import CONTENT
from valor_data.workdir import WorkDir

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_ROWS = 20_000


def signatures_of(ledger: Ledger, clips: ClipTable) -> Signatures:
    """The content of every clip; one that was not measured has none."""
    stored = ledger.scores(CONTENT, CONTENT_VERSION)
    columns = SignatureColumns()
    row = next(stored, None)
    for clip_id in clips.clip_ids.tolist():
        while row is not None and row[0] < clip_id:
            row = next(stored, None)
        found = row is not None and row[0] == clip_id
        columns.add(Content.from_bytes(row[2]) if found and row is not None else None)
    return columns.finish()


def other_sets(work: WorkDir, section: FilterSection) -> list[OtherSet]:
    """The sets of `filter.leak`.

    Raises:
        ConfigError: a folder that is no work folder, or this one.
        ManifestError: a file that cannot be read.
    """
    return [_other_set(work, section, name) for name in section.leak]


def _other_set(work: WorkDir, section: FilterSection, name: str) -> OtherSet:
    import pyarrow as pa
    import pyarrow.compute as pc

    if name == OWN_SPLITS:
        rows = read_manifest(work.manifest).table
        is_other = pc.invert(pc.is_in(rows["split"], value_set=pa.array(section.train_splits, pa.string())))
        return _by_id("the other splits", rows.filter(is_other))
    place = Path(name)
    if not place.is_dir():
        return _by_id(place.name, _rows_of(place))
    other = WorkDir.at(place)
    if other.root.resolve() == work.root.resolve():
        raise ConfigError(f'filter.leak: {name} is this work folder: its other splits are named "{OWN_SPLITS}"')
    if not other.manifest.is_file():
        raise ConfigError(
            f"filter.leak: {name}: a folder without manifest.parquet is no work folder; name a work folder, a manifest "
            "or an annotation file"
        )
    return _with_content(_by_id(place.name, read_manifest(other.manifest).table), other)


def _rows_of(file: Path) -> pa.Table:
    if is_manifest(file):
        return read_manifest(file).table
    return build_manifest([file], options=ManifestOptions(split="test")).manifest.table


def _by_id(name: str, rows: pa.Table) -> OtherSet:
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = pc.fill_null(rows["end_seconds"], pa.scalar(MAX_MS / 1000))
    starts_ms = to_ms_array(np.asarray(rows["start_seconds"], np.float64))
    ends_ms = to_ms_array(np.asarray(ends, np.float64))
    return OtherSet(name, rows["video_id"], starts_ms, ends_ms, pa.chunked_array([], pa.string()), Signatures.of([]))


def _with_content(other: OtherSet, work: WorkDir) -> OtherSet:
    import pyarrow as pa

    columns, keys = SignatureColumns(), []
    if work.ledger.exists():
        with Ledger(work.ledger, read_only=True) as ledger:
            for key, score in ledger.scores_by_key(CONTENT, CONTENT_VERSION):
                columns.add(Content.from_bytes(score))
                keys.append(key)
    spans = (other.starts_ms, other.ends_ms)
    return OtherSet(other.name, other.video_ids, *spans, pa.chunked_array([keys], pa.string()), columns.finish())


def languages_of(ledger: Ledger, clips: ClipTable, basis: NDArray[np.int64], *, writes: bool) -> Languages:
    """The language of every caption: as it was told once, or told now.

    Args:
        ledger: of the work folder.
        clips: whose captions.
        basis: for each, a number that changes with its captions; a language told of others is told anew.
        writes: remember what is told now.
    """
    from valor_data.filter.language import LANGUAGE_VERSION, NUM_LIKELY, likely_languages

    stored = ledger.scores("language", LANGUAGE_VERSION)
    known: dict[int, tuple[int, bytes]] = {}
    num_captions = int(clips.caption_offsets[-1])
    codes = np.zeros((num_captions, NUM_LIKELY), "<U3")
    probabilities = np.zeros((num_captions, NUM_LIKELY), np.float32)
    new: list[tuple[int, int, bytes]] = []
    caption = 0
    for position, texts in enumerate(_texts_by_clip(clips)):
        clip_id = int(clips.clip_ids[position])
        _read_up_to(stored, known, clip_id)
        before = known.pop(clip_id, None)
        if before is not None and before[0] == basis[position]:
            score = before[1]
        else:
            score = json.dumps([likely_languages(text) for text in texts], separators=(",", ":")).encode()
            new.append((clip_id, int(basis[position]), score))
        for likely in json.loads(score):
            codes[caption, : len(likely)] = [code for code, _ in likely]
            probabilities[caption, : len(likely)] = [probability for _, probability in likely]
            caption += 1
        if writes and len(new) >= _CHUNK_ROWS:
            new = _write(ledger, new)
    if writes:
        _write(ledger, new)
    return Languages(codes, probabilities)


def _write(ledger: Ledger, rows: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    from valor_data.filter.language import LANGUAGE_VERSION

    ledger.record_scores("language", LANGUAGE_VERSION, rows)
    ledger.commit()
    return []


def _read_up_to(stored: Iterator[tuple[int, int, bytes]], known: dict[int, tuple[int, bytes]], clip_id: int) -> None:
    """Reads stored scores, which come in the order of clip ids, as far as a clip; those before it go."""
    while not known or max(known) < clip_id:
        row = next(stored, None)
        if row is None:
            return
        known.clear()
        known[row[0]] = (row[1], row[2])


def _texts_by_clip(clips: ClipTable) -> Iterator[list[str]]:
    for chunk in clips.rows["captions"].iterchunks():
        for first in range(0, len(chunk), _CHUNK_ROWS):
            for captions in chunk.slice(first, _CHUNK_ROWS).to_pylist():
                yield [caption["text"] for caption in captions or ()]
