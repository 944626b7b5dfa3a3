"""A manifest enters a work folder: its clips become rows of the ledger."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from valor_data.clip import Clip, open_key
from valor_data.errors import ConfigError
from valor_data.ledger import SyncReport, content_hash
from valor_data.manifest import Manifest, read_manifest
from valor_data.manifest.rejects import scrub_rejects
from valor_data.road.driver import Driver, StageReport
from valor_data.tombstones import no_longer_listed
from valor_data.workdir import written_aside


def enter_manifest(driver: Driver, manifest: Path | None, report: StageReport) -> Manifest:
    """Puts a manifest into the work folder and its clips into the ledger, if they are not there yet.

    Raises:
        ConfigError: no manifest given and none in the work folder.
        ManifestError: the manifest cannot be read.
    """
    work = driver.work
    if manifest is None and not work.manifest.exists():
        raise ConfigError(f"{work.root}: no manifest here yet; give one: valor-data fetch MANIFEST --work {work.root}")
    listed = _without_removed(driver, read_manifest(manifest or work.manifest), report)
    if driver.ledger.get_meta("manifest") == listed.fingerprint and work.manifest.exists():
        return listed
    changes = driver.ledger.sync(ledger_rows(listed))
    _bring_files(driver, manifest, listed)
    driver.ledger.set_meta("manifest", listed.fingerprint)
    _note_changes(changes, report)
    return listed


def _without_removed(driver: Driver, listed: Manifest, report: StageReport) -> Manifest:
    """What a manifest lists, but for what was removed from the set: it does not come back with a new list."""
    kept = listed.without(no_longer_listed(listed.table, driver.tombstones))
    if kept is not listed:
        report.notices.append(f"{len(listed) - len(kept)} clips of the manifest were removed from the set: left out")
    return kept


def _bring_files(driver: Driver, manifest: Path | None, listed: Manifest) -> None:
    """Puts the manifest into the work folder, and the rejects that lie beside it; nothing that was removed."""
    work = driver.work
    if driver.tombstones:
        listed.save(work.manifest)
    elif manifest is not None and manifest.absolute() != work.manifest:
        with written_aside(work.manifest) as path:
            shutil.copyfile(manifest, path)
    rejects = work.rejects if manifest is None else manifest.parent / "rejects.parquet"
    if rejects.exists() and rejects.absolute() != work.rejects:
        with written_aside(work.rejects) as path:
            shutil.copyfile(rejects, path)
    if driver.tombstones and work.rejects.exists():
        scrub_rejects(work.rejects, driver.tombstones.mentioned_in, listed.fingerprint)


def _note_changes(changes: SyncReport, report: StageReport) -> None:
    if changes.same or changes.changed:
        report.notices.append(
            f"manifest changed: {changes.new} new clips, {changes.changed} with other captions or labels, "
            f"{changes.left_out} no longer listed"
        )


def ledger_rows(listed: Manifest) -> Iterator[tuple[int, str, str | None, str, str, bytes]]:
    """(row, identity, key, video id, split, content hash) of every clip of a manifest, for `Ledger.sync`."""
    number = itertools.count()
    for clip in listed.clips():
        content = annotation_hash(clip)
        identity = clip.key or open_key(clip.video_id, clip.start)
        yield next(number), identity, clip.key, clip.video_id, clip.split, content


def annotation_hash(clip: Clip) -> bytes:
    """Tells whether anything that an annotation says of a clip has changed."""
    return content_hash(
        *itertools.chain.from_iterable(("c", c.role, c.text) for c in clip.captions),
        *itertools.chain(("l",), clip.labels, ("n",), clip.label_names),
        *itertools.chain.from_iterable(("q", q.question_id, q.question, *q.answers) for q in clip.questions),
    )
