"""Other captions and questions for a finished set: json and txt of its samples anew, all other members byte for byte.

The manifest gets them too, so that a rebuild gives the same bytes. In place, the shards come first and the manifest
last: killed at any moment, the same command goes on. Into another folder, the first set is only read.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from valor_data.clip import Caption, Clip, Question, open_key
from valor_data.errors import ConfigError, ShardError
from valor_data.ledger import PlannedClip
from valor_data.manifest import Manifest, read_manifest
from valor_data.manifest.layout import manifest_schema
from valor_data.manifest.overrides import Overrides
from valor_data.publish.changes import note_changes
from valor_data.publish.removal import outputs
from valor_data.publish.version import raise_version, read_version
from valor_data.road.driver import Driver
from valor_data.road.entry import annotation_hash, ledger_rows
from valor_data.road.shard_states import digest_of
from valor_data.shard import shard_name
from valor_data.shard.output import Output, json_of, rows_of, tar_of
from valor_data.shard.rewrite import Rewriting, rewrite_shard
from valor_data.shard.sample import first_caption
from valor_data.shard.writer import digest_with
from valor_data.tombstones import FILE_NAME

BATCH_CLIPS = 4096


@dataclass(slots=True)
class Recaptioned:
    """What was done.

    Attributes:
        num_clips: clips of the manifest that have other captions or questions now.
        num_samples: samples of shards that were changed.
        num_shards: shards that were written.
        unknown: clips of the file that are not in the set.
        version: of the set; empty when it went into another folder.
        place: where the new set is; empty: in place.
    """

    num_clips: int = 0
    num_samples: int = 0
    num_shards: int = 0
    unknown: list[str] = field(default_factory=list)
    version: str = ""
    place: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `--json`."""
        return asdict(self)


def recaption(driver: Driver, overrides: Overrides, into: Output | None = None) -> Recaptioned:
    """Puts captions and questions in the place of others.

    Args:
        driver: of the work folder.
        overrides: the new ones, as `train --captions` takes them.
        into: where the new set goes; None: in place.

    Raises:
        ConfigError: the manifest of the work folder has not been entered yet, or the two places are one.
        ShardError: there is no shard, or one is damaged.
        StoreError: the store of the shards does not answer; the same call goes on.
    """
    work, ledger = driver.work, driver.ledger
    if into is not None and into.place == driver.output().place:
        raise ConfigError(f"--out {into.place}: the set itself is there; leave --out away to change it in place")
    listed = read_manifest(work.manifest)
    new, changed, known = _with_texts(listed, overrides)
    if ledger.get_meta("manifest") not in (listed.fingerprint, new.fingerprint):
        raise ConfigError(f"{work.manifest}: this manifest is not entered yet: run `valor-data fetch` first")
    if not ledger.finished_shards():
        raise ShardError(f"{work.root}: no finished shards here; run `valor-data shard` first")
    done = Recaptioned(len(changed), unknown=overrides.unknown(known), place="" if into is None else into.place)
    run = _Run(driver, new, changed, done)
    places = [("", driver.output())] if into is not None else list(outputs(driver))
    driver.progress.start("recaption", len(ledger.planned_shards()) * len(places), "shards")
    for prefix, output in places:
        run.rewrite(prefix, output, into)
    driver.progress.finish()
    if into is not None:
        _complete(driver, new, into)
        return done
    since = read_version(work)
    if run.files:
        done.version = str(raise_version(work, "minor"))
        note_changes(work, since, read_version(work), run.files)
    done.version = str(read_version(work))
    if ledger.get_meta("manifest") != new.fingerprint:
        ledger.sync(ledger_rows(new))
        ledger.set_meta("manifest", new.fingerprint)
        run.record()
        ledger.commit()
    if new.fingerprint != listed.fingerprint:
        new.save(work.manifest)
    return done


def _with_texts(listed: Manifest, overrides: Overrides) -> tuple[Manifest, dict[int, bytes], set[str]]:
    """The manifest with other texts; the hash of each changed row; and the names of all clips, as a file gives them."""
    import pyarrow as pa

    schema = manifest_schema()
    tables, changed, known, first = [], dict[int, bytes](), set[str](), 0
    for batch in listed.table.to_batches(max_chunksize=BATCH_CLIPS):
        clips = list(listed.clips(range(first, first + batch.num_rows)))
        for clip in clips:
            known |= {clip.key or "", open_key(clip.video_id, clip.start)}
        now = [_changed(clip, overrides) for clip in clips]
        different = [number for number, (a, b) in enumerate(zip(clips, now, strict=True)) if a != b]
        changed |= {first + number: annotation_hash(now[number]) for number in different}
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        if different:
            captions: Any = [[asdict(caption) for caption in clip.captions] for clip in now]
            questions: Any = [[_question(question) for question in clip.questions] for clip in now]
            columns["captions"] = pa.array(captions, schema.field("captions").type)
            columns["questions"] = pa.array(questions, schema.field("questions").type)
        tables.append(pa.table(columns, schema=schema))
        first += batch.num_rows
    if not changed:
        return listed, changed, known
    return Manifest.of(pa.concat_tables(tables), listed.sources), changed, known


def _changed(clip: Clip, overrides: Overrides) -> Clip:
    if not overrides.changes(clip):
        return clip
    return replace(clip, captions=overrides.captions_of(clip), questions=overrides.questions_of(clip))


def _question(question: Question) -> dict[str, Any]:
    return {**asdict(question), "answers": list(question.answers)}


@dataclass(slots=True)
class _Run:
    """One run: the new manifest, and what of the shards was written."""

    driver: Driver
    new: Manifest
    changed: Mapping[int, bytes]
    done: Recaptioned
    files: set[str] = field(default_factory=set)

    def rewrite(self, prefix: str, output: Output, into: Output | None) -> None:
        """Brings every shard of a place up to the new texts, or a copy of it."""
        standing = output.sizes()
        there = set() if into is None else set(into.sizes())
        for split, shard in self.driver.ledger.planned_shards():
            name = shard_name(split, shard)
            if json_of(name) in standing:
                self._rewrite_one(prefix, output, into, name, there)
            self.driver.progress.advance("done")

    def _rewrite_one(self, prefix: str, output: Output, into: Output | None, name: str, there: set[str]) -> None:
        sidecar = json.loads(output.read(json_of(name)))
        planned = list(self.driver.ledger.planned(sidecar["split"], sidecar["shard"]))
        digest = functools.partial(_digest, planned=planned, changed=self.changed)
        target = digest(sidecar, [])
        is_touched = any(clip.manifest_row in self.changed for clip in planned)
        if into is None and (sidecar["digest"] == target or not is_touched):
            return
        if into is not None and json_of(name) in there and json.loads(into.read(json_of(name)))["digest"] == target:
            return
        # What is to go elsewhere lies where a killed run's shards are not looked for: it must not take the old place.
        tmp = self.driver.work.own_tmp() / (prefix if into is None else "elsewhere")
        tmp.mkdir(parents=True, exist_ok=True)
        texts = _texts(planned, self.new)
        work = Rewriting(_nothing, digest, functools.partial(with_texts, texts=texts))
        written = rewrite_shard(output, name, tmp, work, into)
        self.done.num_shards += 1
        self.done.num_samples += written.num_changed
        if into is None:
            kinds = (tar_of, rows_of, json_of) if written.has_new_tar else (rows_of, json_of)
            self.files |= {prefix + kind(name) for kind in kinds}

    def record(self) -> None:
        """Notes shards as they stand now; whether something else about one had changed stays noted."""
        ledger, output = self.driver.ledger, self.driver.output()
        for row in list(ledger.finished_shards().values()):
            name = shard_name(row.split, row.shard)
            if rows_of(name) in self.files or row.touched:
                try:
                    beside = json.loads(output.read(json_of(name)))
                except FileNotFoundError:
                    continue
                ledger.record_shard(
                    replace(row, digest=beside["digest"], num_samples=beside["num_samples"],
                            size_bytes=beside["tar_bytes"], tar_sha256=beside["tar_sha256"], touched=1)
                )  # fmt: skip


def _nothing(key: str, video_id: str) -> bool:
    return False


def _digest(
    sidecar: Mapping[str, Any], keys: list[str], *, planned: list[PlannedClip], changed: Mapping[int, bytes]
) -> str:
    """What a shard is made of with the new texts; one that was stale before stays stale."""
    wanted = [clip for clip in planned if clip.wanted]
    settings = sidecar["settings"]
    new = digest_with(settings, (digest_of(_with_content(clip, changed)) for clip in wanted))
    if sidecar["digest"] in (new, digest_with(settings, map(digest_of, wanted))):
        return new
    return hashlib.sha256(f"{sidecar['digest']}\n{new}".encode()).hexdigest()


def _with_content(clip: PlannedClip, changed: Mapping[int, bytes]) -> PlannedClip:
    if clip.manifest_row is None or clip.manifest_row not in changed:
        return clip
    return replace(clip, content=changed[clip.manifest_row])


def _texts(planned: list[PlannedClip], new: Manifest) -> dict[str, Clip]:
    """The clips of a shard's slice as the new manifest has them, by key."""
    listed = [clip for clip in planned if clip.manifest_row is not None]
    rows = [clip.manifest_row for clip in listed if clip.manifest_row is not None]
    return {clip.key or "": told for clip, told in zip(listed, new.clips(rows), strict=True)}


def with_texts(key: str, files: dict[str, bytes], *, texts: Mapping[str, Clip]) -> dict[str, bytes]:
    """A sample's members with other captions and questions; a rebuild writes the same bytes.

    Args:
        key: the sample's.
        files: its members, by extension.
        texts: clips by key; of one that is not there nothing changes.
    """
    clip = texts.get(key)
    if clip is None:
        return files
    details = json.loads(files["json"])
    details["captions"] = [asdict(caption) for caption in clip.captions or (Caption(""),)]
    details["questions"] = [
        {**_question(q), "answers": list(q.answers) or [""]} for q in clip.questions or (Question("", "", ("",)),)
    ]
    text = json.dumps(details, ensure_ascii=False, separators=(", ", ": "), allow_nan=False)
    return {**files, "json": text.encode(), "txt": first_caption(clip).encode()}


def _complete(driver: Driver, new: Manifest, into: Output) -> None:
    """What a set in another folder needs besides its shards: the manifest and the tombstones."""
    tmp = driver.work.own_tmp()
    new.write(tmp / "manifest.parquet")
    into.put(tmp / "manifest.parquet", "manifest.parquet")
    if driver.work.tombstones.exists():
        copy = tmp / FILE_NAME
        copy.write_bytes(driver.work.tombstones.read_bytes())
        into.put(copy, FILE_NAME)
