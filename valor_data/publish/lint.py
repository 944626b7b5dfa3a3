"""What the Hub's viewer and `datasets` will make of a set: looked at before anything is sent.

The viewer shows the first 5 GB of each split, reads types from the card (or guesses them from five samples, where a
card has none), and needs the same members in every sample.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from valor_data.errors import PublishError, Status
from valor_data.publish.built import Built, Shard
from valor_data.publish.card_facts import sizes, split_name
from valor_data.publish.contents import Contents
from valor_data.publish.editions import MEDIA_MEMBERS
from valor_data.shard.output import tar_of

FIRST_SAMPLES = 5
"""Samples that types are guessed from: `WebDataset.NUM_EXAMPLES_FOR_FEATURES_INFERENCE` of `datasets`."""

VIEWER_BYTES = 5 * 10**9
"""Of each split the viewer shows what lies within this."""

MAX_FOLDER_FILES = 10_000
MAX_REPOSITORY_FILES = 100_000
MAX_FILE_BYTES = 50 * 10**9
MAX_TOTAL_BYTES = 10**12
"""The Hub's advice: files of a folder, files of a repository, bytes of a file, and from where on to ask them first."""

MAX_ROW_GROUP_BYTES = 300 * 10**6
"""Larger row groups of Parquet the viewer does not read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        level: `wrong` (a push refuses), `limited` (it works, but not all is shown), `shown` (what people will see).
        text: what, and what to do.
    """

    level: str
    text: str


def lint(contents: Contents) -> list[Finding]:
    """Looks at an edition as the Hub will: limits, names, members, types, sizes."""
    findings = [*limits(contents), *_splits(contents), *_row_groups(contents)]
    if contents.edition != "ids":
        findings += [*_members(contents), *_types(contents)]
    return [*findings, *_shown(contents)]


def check(contents: Contents) -> list[Finding]:
    """Lints, and refuses what would not work.

    Returns:
        What is limited or shown.

    Raises:
        PublishError: something is wrong; all of it in one line.
    """
    findings = lint(contents)
    wrong = [finding.text for finding in findings if finding.level == "wrong"]
    if wrong:
        raise PublishError(f"not fit for the Hub: {'; '.join(wrong)}")
    return findings


def limits(contents: Contents) -> Iterator[Finding]:
    """The Hub's limits on numbers and sizes of files."""
    folders = Counter(name.rpartition("/")[0] for name in contents.files)
    for folder, number in folders.items():
        if number > MAX_FOLDER_FILES:
            yield Finding(
                "wrong",
                f"{folder}/ would hold {number:,} files, the Hub takes {MAX_FOLDER_FILES:,} in a folder: build fewer, "
                "larger shards with `valor-data shard --replan --max-clips N`",
            )
    if len(contents.files) > MAX_REPOSITORY_FILES:
        yield Finding(
            "wrong",
            f"{len(contents.files):,} files, the Hub takes {MAX_REPOSITORY_FILES:,} in a repository: build fewer, "
            "larger shards with `valor-data shard --replan --max-clips N`, or push parts of the set to several "
            "repositories",
        )
    for file in contents.files.values():
        if file.size_bytes > MAX_FILE_BYTES:
            yield Finding(
                "wrong",
                f"{file.name} has {sizes(file.size_bytes)}, the Hub takes {sizes(MAX_FILE_BYTES)} a file: build "
                "smaller shards with `valor-data shard --replan --max-bytes 1000000000`",
            )
    large = [file for file in contents.files.values() if file.size_bytes > VIEWER_BYTES and file.name.endswith(".tar")]
    if large:
        yield Finding(
            "limited",
            f"{len(large)} shards are larger than {sizes(VIEWER_BYTES)} (the first: {large[0].name}): the viewer shows "
            "a part of one at most; smaller ones come from `valor-data shard --replan --max-bytes 1000000000`",
        )
    if contents.total_bytes > MAX_TOTAL_BYTES:
        yield Finding(
            "limited",
            f"{sizes(contents.total_bytes)} in all: the Hub asks to be told of sets above {sizes(MAX_TOTAL_BYTES)} "
            "beforehand (datasets@huggingface.co)",
        )


def _splits(contents: Contents) -> Iterator[Finding]:
    names = Counter(map(split_name, contents.facts.samples))
    doubled = [name for name, number in names.items() if number > 1]
    if doubled:
        yield Finding("wrong", f"splits {', '.join(doubled)}: two splits have one name once `-` is written `_`")
    renamed = [split for split in contents.facts.samples if split != split_name(split)]
    if renamed:
        yield Finding("limited", f"splits {', '.join(renamed)}: called {', '.join(map(split_name, renamed))} on the "
                                 "Hub, where names hold letters, digits and `_`")  # fmt: skip
    tars = [name for name in contents.files if name.startswith("shards/") and not name.endswith(".tar")]
    if tars:
        yield Finding("wrong", f"{tars[0]}: only tars may stand in shards/, or `datasets` reads it as one")


def _row_groups(contents: Contents) -> Iterator[Finding]:
    import pyarrow.parquet as pq

    for name in contents.facts.row_files:
        parquet = pq.read_metadata(contents.folder / name)
        largest = max((parquet.row_group(n).total_byte_size for n in range(parquet.num_row_groups)), default=0)
        if largest > MAX_ROW_GROUP_BYTES:
            yield Finding(
                "limited", f"{name}: a row group has {sizes(largest)}; the viewer reads {sizes(MAX_ROW_GROUP_BYTES)}"
            )


def _members(contents: Contents) -> Iterator[Finding]:
    """The same members in every sample of every shard, by the index alone; the first that has others is named."""
    wanted = contents.facts.settings.member_names()
    for shard in contents.built.shards.values():
        if _member_counts(contents.built, shard, wanted) == dict.fromkeys(wanted, shard.num_samples):
            continue
        for row in _kept_rows(contents.built, shard):
            names = tuple(sorted(name for name in row["names"] if name not in MEDIA_MEMBERS or name in wanted))
            if names != wanted:
                yield Finding("wrong", f"{shard.name}/{row['key']}: holds {', '.join(names)}, other samples hold "
                                       f"{', '.join(wanted)}; run `valor-data shard`")  # fmt: skip
                return


def _member_counts(built: Built, shard: Shard, wanted: Sequence[str]) -> dict[str, int]:
    """How often each member is there in a shard, in columns; media that the edition leaves out do not count."""
    import pyarrow.parquet as pq
    from pyarrow import compute

    pc: Any = compute
    table = pq.read_table(io.BytesIO(built.index(shard.name)), columns=["status", "members"])
    members = pc.list_flatten(table.filter(pc.equal(table["status"], Status.KEPT.value))["members"])
    names = pc.replace_substring_regex(pc.struct_field(members, "name"), "^[^.]*[.]", "")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(names).to_pylist()}
    return {name: number for name, number in counts.items() if name in wanted or name not in MEDIA_MEMBERS}


def _kept_rows(built: Built, shard: Shard) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(built.index(shard.name)), columns=["key", "status", "members"])
    for batch in table.to_batches(1000):
        for row in batch.to_pylist():
            if row["status"] == Status.KEPT.value:
                names = [member["name"][len(row["key"]) + 1 :] for member in row["members"]]
                yield {"key": row["key"], "names": names, "members": row["members"]}


def _types(contents: Contents) -> Iterator[Finding]:
    """The first samples of each split have the types that the card declares."""
    seen = set()
    for shard in contents.built.shards.values():
        if shard.split in seen or not shard.num_samples:
            continue
        seen.add(shard.split)
        yield from sample_findings(shard.name, list(_first_samples(contents.built, shard)))


def _first_samples(built: Built, shard: Shard) -> Iterator[tuple[str, dict[str, bytes]]]:
    for row, _ in zip(_kept_rows(built, shard), range(FIRST_SAMPLES), strict=False):
        members = {m["name"][len(row["key"]) + 1 :]: m for m in row["members"]}
        member = members["json"]
        data = built.output.read(tar_of(shard.name), member["offset"], member["offset"] + member["size"])
        yield row["key"], {**dict.fromkeys(members, b""), "json": data}


def sample_findings(where: str, samples: Sequence[tuple[str, Mapping[str, bytes]]]) -> Iterator[Finding]:
    """What the first samples of a tar would do to a reader that guesses types from them.

    Args:
        where: the tar, for the words.
        samples: keys and members (extension to bytes; only that of `json` is read).
    """
    first: dict[str, str] = {}
    names = [tuple(sorted(members)) for _, members in samples]
    if len(set(names)) > 1:
        yield Finding("wrong", f"{where}: the first samples hold different members")
    for key, members in samples:
        if "." in key:
            yield Finding("wrong", f"{where}/{key}: a dot in a key: readers cut names at the first one")
        for name in members:
            if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9]+)?", name):
                yield Finding("wrong", f"{where}/{key}.{name}: a member's name must be small letters, digits and `_`")
        for path, kind in _kinds(json.loads(members["json"])):
            if kind in ("null", "empty"):
                yield Finding("wrong", f"{where}/{key}: {path} is {'null' if kind == 'null' else 'an empty list'}: its "
                                       "type cannot be told")  # fmt: skip
            elif first.setdefault(path, kind) != kind:
                yield Finding("wrong", f"{where}/{key}: {path} is a {kind}, in the first sample a {first[path]}")


def _kinds(tree: Any, path: str = "json") -> Iterator[tuple[str, str]]:
    """(path, type) of every value of a JSON tree; entries of a list share a path."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _kinds(value, f"{path}.{name}")
    elif isinstance(tree, list):
        if not tree:
            yield path, "empty"
        for value in tree:
            yield from _kinds(value, f"{path}[]")
    else:
        names = {bool: "truth value", int: "whole number", float: "number", str: "text", type(None): "null"}
        yield path, names[type(tree)]


def _shown(contents: Contents) -> Iterator[Finding]:
    facts = contents.facts
    if contents.edition == "ids":
        yield Finding("shown", "a table of clips, with search and filters: ids, spans, captions, measurements")
    else:
        for split, size in facts.tar_bytes.items():
            if size > VIEWER_BYTES:
                share = VIEWER_BYTES / size
                number = f"{share * facts.samples[split]:,.0f}"
                yield Finding("limited", f"split {split}: {sizes(size)}; the viewer shows the first "
                                         f"{sizes(VIEWER_BYTES)}, about {number} clips")  # fmt: skip
        kinds = {"jpg": "pictures", "flac": "a sound player", "mp4": "a video player"}
        endings = {name.rpartition(".")[2] for name in facts.settings.member_names()}
        seen = [words for ending, words in kinds.items() if ending in endings]
        yield Finding(
            "shown", f"a row a clip with {', '.join([*seen, 'the caption and the JSON'])}; types come from the card"
        )
        if "npy" in endings:
            yield Finding("limited", "mel.npy is shown as lists of numbers, not as a picture")
    if facts.section.private:
        yield Finding("limited", "a private repository has a viewer only with a paid account")
    if facts.section.gated:
        yield Finding("limited", "behind a gate the viewer is seen only by those who were let in")
