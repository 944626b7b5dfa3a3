"""Taking clips out of a data set for good: `valor-data remove`.

The order matters. Tombstones come first: from then on nothing comes back. Then each shard that holds one of the clips
is written anew, the media go, the ledger and the manifest forget, texts are cleaned, and at the end every file is
searched. Each step may be done again without harm, so that whatever is killed is ended by the same command.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from valor_data.errors import ConfigError, ValorDataError
from valor_data.ledger import ShardRow
from valor_data.manifest import Manifest, read_manifest
from valor_data.manifest.rejects import scrub_rejects
from valor_data.publish.changes import note_changes
from valor_data.publish.pending import Pending, forget_pending, read_pending, write_pending
from valor_data.publish.proof import Proof, files_to_search, search_folder
from valor_data.publish.scrub import Names, delete_leftovers, delete_media, scrub_deadlinks, scrub_files
from valor_data.publish.search import ByteSearch, search_bytes, search_file
from valor_data.publish.version import Version, read_version, write_version
from valor_data.publish.wanted import (
    Wanted,
    find_wanted,
    rows_of_wanted,
    texts_in_shard,
    texts_of_rows,
    to_look_for,
)
from valor_data.road.driver import Driver
from valor_data.road.entry import ledger_rows
from valor_data.road.shard_states import digest_of
from valor_data.shard import shard_name
from valor_data.shard.output import EXTENSIONS, Output, extension_of, extensions_of, json_of, rows_of, tar_of
from valor_data.shard.rewrite import Rewriting, rewrite_shard, rows_to_erase
from valor_data.shard.writer import digest_with
from valor_data.tombstones import FILE_NAME, add_tombstones, check_why


@dataclass(slots=True)
class Removal:
    """What a removal does, or did.

    Attributes:
        num_clips: clips of the set among what was named.
        num_videos: videos that are removed as a whole.
        unknown: what was named and is not in the set; it has tombstones all the same.
        shards: shards that were written anew.
        num_tombstones: new rows in the list.
        num_media: media files deleted.
        media_bytes: their bytes.
        num_outside: media files of the clips that lie outside the work folder and were left alone.
        scrubbed: other files that were changed, and folders that were deleted.
        version: the data set's version now.
        proof: what the search at the end found; None where it was left out.
        changed: files that the next upload has to send.
        deleted: files that it has to delete.
    """

    num_clips: int = 0
    num_videos: int = 0
    unknown: tuple[str, ...] = ()
    shards: list[str] = field(default_factory=list)
    num_tombstones: int = 0
    num_media: int = 0
    media_bytes: int = 0
    num_outside: int = 0
    scrubbed: list[str] = field(default_factory=list)
    version: str = ""
    proof: Proof | None = None
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        proof = self.proof
        return {
            "clips": self.num_clips,
            "videos": self.num_videos,
            "not_in_the_set": list(self.unknown),
            "shards_rewritten": self.shards,
            "new_tombstones": self.num_tombstones,
            "media_files_deleted": self.num_media,
            "media_bytes_deleted": self.media_bytes,
            "media_files_elsewhere": self.num_outside,
            "scrubbed": self.scrubbed,
            "version": self.version,
            "changed": self.changed,
            "deleted": self.deleted,
            "proof": None
            if proof is None
            else {"files": proof.num_files, "bytes": proof.size_bytes, "problems": proof.problems},
        }


def plan_removal(driver: Driver, entries: Iterable[str], *, reason: str, why: str) -> Pending:
    """Works out what is to be done; nothing is written.

    What an interrupted removal had begun is part of it.

    Args:
        driver: of the work folder, opened with `removing=True`.
        entries: keys and video ids.
        reason: one of `tombstones.REASON_CLASSES`.
        why: in words, without ids.

    Raises:
        ConfigError: the text says which clip is meant, or nothing was named.
    """
    former = read_pending(driver.work)
    wanted = find_wanted(driver.ledger, entries)
    if former is not None:
        reason, why = former.reason, former.why
        known = former.wanted
        wanted = Wanted(
            tuple(dict.fromkeys((*known.clip_ids, *wanted.clip_ids))), known.names | wanted.names,
            known.videos | wanted.videos, tuple(dict.fromkeys(known.unknown + tuple(
                name for name in wanted.unknown if name not in known.names | known.videos))),
        )  # fmt: skip
    if not (wanted.names or wanted.videos):
        raise ConfigError("nothing to remove: name clips with --ids FILE or --key KEY")
    check_why(why, wanted.names | wanted.videos)
    if former is not None:
        pending = replace(former, wanted=wanted)
    else:
        since, today = read_version(driver.work), datetime.datetime.now(datetime.UTC).date().isoformat()
        version = since.raised("minor") if wanted.clip_ids else since
        pending = Pending(wanted, reason, why, today, str(since), str(version))
    _look(driver, pending)
    return pending


def _look(driver: Driver, pending: Pending) -> None:
    """Gathers what the clips are called and what is said of them, everywhere; adds to what was gathered before."""
    wanted, texts = pending.wanted, set[str]()
    clips = set(wanted.clip_ids)
    mine = {clip.video_id for name in wanted.names for clip in driver.ledger.find_clips(name)}
    pending.lone_videos |= frozenset((mine | wanted.videos) - driver.ledger.other_videos(clips))
    left: Manifest | None = None
    if driver.work.manifest.exists():
        listed = read_manifest(driver.work.manifest)
        rows = rows_of_wanted(listed, wanted)
        texts |= texts_of_rows(listed, rows)
        left = listed.without(rows)
    for _, place, name in shards_concerned(driver, wanted):
        texts |= texts_in_shard(place, name, wanted.covers)
    check_why(pending.why, texts)
    new = to_look_for(wanted, pending.lone_videos, texts, left)
    pending.needles = list(dict.fromkeys([*pending.needles, *new]))


def outputs(driver: Driver) -> Iterator[tuple[str, Output]]:
    """Where shards stand, those of the set and those of its extensions, each with what goes before their names."""
    yield "", driver.output()
    for name in sorted(extensions_of(driver.ledger)):
        yield f"{EXTENSIONS}/{name}/", extension_of(driver.output(), name)


def shards_concerned(driver: Driver, wanted: Wanted) -> Iterator[tuple[str, Output, str]]:
    """Shards of which a row names one of the clips. Of objects, only those that the plan has them in are asked.

    Yields:
        What goes before its files' names, where it stands, and its name.
    """
    planned = {shard_name(split, shard) for split, shard in driver.ledger.shards_of(wanted.clip_ids)}
    for prefix, output in outputs(driver):
        for name in sorted(output.sizes()):
            shard = Path(name).stem
            is_asked = name == rows_of(shard) and (shard in planned or not output.is_remote)
            if is_asked and rows_to_erase(output, shard, wanted.covers):
                yield prefix, output, shard


def remove(driver: Driver, pending: Pending, *, is_proven: bool = True) -> Removal:
    """Does what `plan_removal` has worked out.

    Args:
        driver: of the work folder, opened with `removing=True`.
        pending: the plan.
        is_proven: whether every file is searched at the end.

    Raises:
        ShardError: a shard that holds one of the clips is damaged.
        StoreError: the store of the shards does not answer; the same call goes on.
        ValorDataError: something is left in a file that only this package writes.
    """
    done = Removal(len(pending.wanted.clip_ids), len(pending.wanted.videos), pending.wanted.unknown)
    write_pending(driver.work, pending)
    for step in STEPS:
        step(driver, pending, done)
    if is_proven:
        done.proof = _prove(driver, pending)
    done.changed, done.deleted, done.version = sorted(pending.changed), sorted(pending.deleted), pending.version
    forget_pending(driver.work)
    return done


def _write_tombstones(driver: Driver, pending: Pending, done: Removal) -> None:
    work = driver.work
    names, videos = pending.wanted.names, pending.wanted.videos
    details = {"reason": pending.reason, "why": pending.why, "date": pending.date}
    done.num_tombstones = add_tombstones(work.tombstones, names, videos, **details)
    pending.changed.add(FILE_NAME)
    output = driver.output()
    if output.is_remote or output.place != str(work.root):  # whoever reads the shards there must find them
        copy = work.own_tmp() / FILE_NAME
        copy.write_bytes(work.tombstones.read_bytes())
        output.put(copy, FILE_NAME)


def _cut_shards(driver: Driver, pending: Pending, done: Removal) -> None:
    """Writes each shard anew that names one of the clips; all others keep their bytes."""
    concerned = list(shards_concerned(driver, pending.wanted))
    driver.progress.start("remove", len(concerned), "shards")
    for prefix, output, name in concerned:
        changed, deleted = _cut_shard(driver, pending, prefix, output, name)
        pending.changed |= {prefix + file for file in changed}
        pending.deleted |= {prefix + file for file in deleted}
        write_pending(driver.work, pending)
        done.shards.append(f"{prefix}{name}")
        driver.progress.advance("rewritten")
    driver.progress.finish()


def _cut_shard(driver: Driver, pending: Pending, prefix: str, output: Output, name: str) -> tuple[list[str], list[str]]:
    """Files that are others now, and files that are no more."""
    try:
        output.read(json_of(name))
    except FileNotFoundError:
        # Without its JSON it is not finished: whatever stands there is made anew by `shard`.
        output.remove([tar_of(name), rows_of(name)])
        return [], [tar_of(name), rows_of(name)]
    tmp = driver.work.own_tmp() / prefix
    tmp.mkdir(parents=True, exist_ok=True)
    work = Rewriting(pending.wanted.covers, lambda sidecar, keys: _digest(driver, sidecar, keys))
    written = rewrite_shard(output, name, tmp, work)
    tar = [tar_of(name)] if written.has_new_tar else []
    sidecars = [rows_of(name), json_of(name)]
    return (tar + sidecars, []) if written.num_samples else (sidecars, tar)


def _digest(driver: Driver, sidecar: dict[str, Any], keys: list[str]) -> str:
    """What a shard is made of without the removed clips, so that it is as fresh, or as stale, as it was before."""
    planned = list(driver.ledger.planned(sidecar["split"], sidecar["shard"]))
    settings = sidecar["settings"]
    made_of = digest_with(settings, (digest_of(clip) for clip in planned if clip.wanted))
    digests = {clip.key: digest_of(clip) for clip in planned}
    if made_of == sidecar["digest"] and digests.keys() >= set(keys):
        return digest_with(settings, (digests[key] for key in keys))
    return hashlib.sha256("\n".join([sidecar["digest"], *keys]).encode()).hexdigest()


def _delete_media(driver: Driver, pending: Pending, done: Removal) -> None:
    paths = driver.ledger.media_paths(pending.wanted.clip_ids)
    done.num_media, done.media_bytes, done.num_outside = delete_media(driver.work, pending.wanted.covers, paths)


def _forget(driver: Driver, pending: Pending, done: Removal) -> None:
    """Manifest and ledger: first the ledger in one transaction, then the file that it was made to fit."""
    work, ledger, clip_ids = driver.work, driver.ledger, pending.wanted.clip_ids
    listed = read_manifest(work.manifest) if work.manifest.exists() else None
    kept = None if listed is None else listed.without(rows_of_wanted(listed, pending.wanted))
    entered = ledger.get_meta("manifest")
    shards = ledger.finished_shards()
    concerned = [shards[place] for place in ledger.shards_of(clip_ids) if place in shards]
    ledger.erase(clip_ids, renumber=listed is not None and entered == listed.fingerprint)
    ledger.scrub_texts(Names.of(pending.wanted.names, pending.wanted.videos | pending.lone_videos).cleaned)
    if kept is not None and listed is not None and entered not in (listed.fingerprint, kept.fingerprint, None):
        ledger.sync(ledger_rows(kept))
    if kept is not None and entered is not None:
        ledger.set_meta("manifest", kept.fingerprint)
    if ledger.get_meta("known_good_video") in pending.wanted.videos | pending.lone_videos:
        ledger.set_meta("known_good_video", "")
    if ledger.get_meta("plan_digest"):
        ledger.set_meta("plan_digest", ledger.plan_digest())
    for row in concerned:
        ledger.record_shard(_as_it_stands(driver.output(), row))
    ledger.commit()
    if kept is not None and kept is not listed:
        kept.save(work.manifest)
    ledger.compact()
    if kept is not None and work.rejects.exists():
        names = Names.of(pending.wanted.names, pending.wanted.videos | pending.lone_videos)
        search = ByteSearch(pending.needles)
        scrub_rejects(
            work.rejects,
            lambda text: (
                names.stand_in(text) or driver.tombstones.mentioned_in(text) or bool(search.find(text.encode()))
            ),
            kept.fingerprint,
        )
    done.scrubbed += [path.name for path in (work.manifest, work.ledger) if path.exists() and clip_ids]


def _as_it_stands(output: Output, row: ShardRow) -> ShardRow:
    """A finished shard as its JSON now says; whether something else about it had changed stays noted."""
    try:
        beside = json.loads(output.read(json_of(shard_name(row.split, row.shard))))
    except FileNotFoundError:
        return replace(row, touched=1)
    return replace(
        row,
        digest=beside["digest"],
        num_samples=beside["num_samples"],
        size_bytes=beside["tar_bytes"],
        tar_sha256=beside["tar_sha256"],
    )


def _clean_texts(driver: Driver, pending: Pending, done: Removal) -> None:
    work = driver.work
    delete_leftovers(work)
    names = Names.of(pending.wanted.names, pending.wanted.videos | pending.lone_videos)
    if scrub_deadlinks(work, names):
        done.scrubbed.append(work.deadlinks.name)
    done.scrubbed += scrub_files(work, ByteSearch(pending.needles))


def _raise_version(driver: Driver, pending: Pending, done: Removal) -> None:
    since, version = Version.parse(pending.since), Version.parse(pending.version)
    if pending.wanted.clip_ids:
        write_version(driver.work, version)
    note_changes(driver.work, since, version, pending.changed, pending.deleted)


STEPS: tuple[Callable[[Driver, Pending, Removal], None], ...] = (
    _write_tombstones,
    _cut_shards,
    _delete_media,
    _forget,
    _clean_texts,
    _raise_version,
)
"""In this order; each may be done again."""


def _prove(driver: Driver, pending: Pending) -> Proof:
    search = ByteSearch(pending.needles)
    driver.progress.start("search", len(files_to_search(driver.work)), "files")
    proof = search_folder(driver.work, search, lambda _: driver.progress.advance("searched"))
    driver.progress.finish()
    output = driver.output()
    if output.is_remote:
        _prove_objects(driver, output, pending, search, proof)
    if proof.is_ours:
        raise ValorDataError(
            f"{'; '.join(proof.problems[:3])}: another program may have written it meanwhile; give the same command "
            "again, and if it stays so, tell the makers of valor-data"
        )
    return proof


def _prove_objects(driver: Driver, output: Output, pending: Pending, search: ByteSearch, proof: Proof) -> None:
    """Of shards in a store, those that were written anew are read again; the others hold none of the clips."""
    folder = driver.work.own_tmp()
    for name in sorted(file for file in pending.changed if file.startswith(("shards/", "index/"))):
        if name.endswith(".tar"):
            copy = output.local(name, folder)
            found = search_file(search, copy)
            copy.unlink()
        else:
            found = search_bytes(search, output.read(name))
        proof.num_files += 1
        if found:
            proof.is_ours = True
            proof.problems.append(f"{output.place}/{name}: still holds {len(found)} of what was removed")
