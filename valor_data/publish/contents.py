"""The files of an edition, as a repository will hold them: every name, every byte.

README.md  valor-data.json  croissant.json  SHA256SUMS  tombstones.parquet  card/funnel.svg
metadata/kept/…  metadata/refused/…
shards/<split>-000000.tar  index/<split>-000000.parquet  .json        (not in `ids`)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from valor_data.config import PublishSection
from valor_data.ledger import Ledger
from valor_data.look.status import read_status
from valor_data.publish.built import Built, Shard, local_tar
from valor_data.publish.card import make_card
from valor_data.publish.card_facts import CardFacts
from valor_data.publish.croissant import croissant
from valor_data.publish.editions import Derived, derive_index, derive_tar, edition_settings, is_derived
from valor_data.publish.figures import read_figures
from valor_data.publish.funnel import funnel_svg
from valor_data.publish.rows import write_rows
from valor_data.publish.version import Version, read_date
from valor_data.shard.output import json_of, rows_of, tar_of
from valor_data.tombstones import FILE_NAME as TOMBSTONES

FOLDERS = ("shards/", "index/", "metadata/", "card/")
"""Folders of a repository that are a push's alone: what is in them and not in the set is deleted."""

MARK = "valor-data.json"
"""The first file to come: says what the repository holds, so that a push that was stopped is known again."""

OWN_FILES = ("README.md", MARK, "croissant.json", "SHA256SUMS", TOMBSTONES)

DATA_FOLDERS = ("shards/", "index/", "metadata/")
"""What a version's tag stands for; words about the set may change without a new version."""


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file of a repository.

    Attributes:
        name: where it goes.
        size_bytes: its size.
        sha256: empty while a tar of another edition, or what quotes its hash, has not been made.
        path: the finished local file; None of a tar, which is fetched or made when its turn comes.
        shard: the shard it belongs to; empty of other files.
    """

    name: str
    size_bytes: int
    sha256: str
    path: Path | None = None
    shard: str = ""


@dataclass(slots=True)
class Contents:
    """All files of an edition.

    Attributes:
        files: by name, sorted.
        facts: what the card says.
        tombstones: the list of what was removed that goes along; None where there is none.
    """

    built: Built
    edition: str
    folder: Path
    facts: CardFacts
    files: dict[str, RepoFile]
    derived: dict[str, Derived] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files.values())

    def of_shard(self, name: str) -> list[RepoFile]:
        """The tar (where it has samples), Parquet and JSON of a shard."""
        return [self.files[n] for n in (tar_of(name), rows_of(name), json_of(name)) if n in self.files]

    def know_tar(self, name: str, sha256: str) -> None:
        """Takes note of the hash of a shard's tar that was made: its JSON, which quotes it, is finished by that."""
        if tar_of(name) in self.files:
            self.files[tar_of(name)] = replace(self.files[tar_of(name)], sha256=sha256)
        self._stage(json_of(name), self.derived[name].json(sha256), shard=name)

    def make_tar(self, shard: Shard, folder: Path) -> tuple[Path, str]:
        """A shard's tar as a local file, with its hash; one of another edition is made in `folder`."""
        if shard.name not in self.derived:
            return local_tar(self.built, shard.name, folder), str(shard.sidecar["tar_sha256"])
        (folder / "source").mkdir(parents=True, exist_ok=True)
        target = folder / f"{shard.name}.tar"
        return target, derive_tar(self.built, shard, target)

    def finish_sums(self) -> None:
        """Writes SHA256SUMS, once the hashes of all other files are known."""
        self._stage("SHA256SUMS", sums(self.files.values()))

    def add_card(self, text: str) -> None:
        """Puts another README.md in the place of the one that is there."""
        self._stage("README.md", text.encode())

    def _stage(self, name: str, data: bytes, shard: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files[name] = RepoFile(name, len(data), hashlib.sha256(data).hexdigest(), path, shard)


def sums(files: Iterable[RepoFile]) -> bytes:
    """The text of SHA256SUMS; of hashes that are not known yet, as long as it will be."""
    lines = [f"{file.sha256 or '0' * 64}  {file.name}\n" for file in files if file.name != "SHA256SUMS"]
    return "".join(sorted(lines, key=lambda line: line[66:])).encode()


def gather(
    built: Built,
    ledger: Ledger,
    section: PublishSection,
    version: Version,
    where: tuple[str, str],
    folder: Path,
    former: str | None = None,
) -> Contents:
    """Works out an edition: everything but tars is written to a folder, of tars name and size are known.

    Args:
        built: the shards.
        ledger: of the work folder.
        section: the `[publish]` settings.
        version: of the set.
        where: the repository, and its page.
        folder: an empty folder for what is written.
        former: the README.md that is there; what a person wrote into it is kept.

    Raises:
        PublishError: a shard's index cannot be read.
    """
    shards: dict[str, RepoFile] = {}
    derived = {}
    if section.edition != "ids":
        if is_derived(built, section.edition):
            derived = {name: derive_index(built, shard, ledger) for name, shard in built.shards.items()}
        for shard in built.shards.values():
            shards.update(_shard_files(built, shard, derived.get(shard.name), folder))
    rows = write_rows(built.work.manifest, ledger, folder)
    facts = _facts(built, ledger, section, version, where, (folder, rows, shards))
    contents = Contents(built, section.edition, folder, facts, shards, derived)
    for row_file in rows:
        contents.files[row_file] = _staged(folder, row_file)
    if facts.num_tombstones:
        data = (built.work.root / TOMBSTONES).read_bytes()
        contents._stage(TOMBSTONES, data)
    contents._stage("card/funnel.svg", funnel_svg(facts.status.all).encode())
    contents._stage("croissant.json", croissant(facts, read_date(built.work)).encode())
    contents._stage(MARK, mark(facts).encode())
    contents.add_card(make_card(facts, former))
    contents.finish_sums()
    contents.files = dict(sorted(contents.files.items()))
    return contents


def mark(facts: CardFacts) -> str:
    """The text of valor-data.json."""
    tree = {
        "schema_version": 1,
        "edition": facts.edition,
        "version": str(facts.version),
        "package_version": facts.package_version,
        "samples": facts.samples,
        "shards": facts.num_tars,
        "settings": facts.settings.to_dict(),
    }
    return json.dumps(tree, indent=1, sort_keys=True) + "\n"


def _shard_files(built: Built, shard: Shard, derived: Derived | None, folder: Path) -> dict[str, RepoFile]:
    name = shard.name
    if derived is None:
        rows, sidecar = built.index(name), built.output.read(json_of(name))
        size, sha256 = int(shard.sidecar["tar_bytes"]), str(shard.sidecar["tar_sha256"])
    else:
        rows, sidecar, size = derived.rows, derived.json("" if not shard.num_samples else "0" * 64), derived.size_bytes
        sha256 = ""
    found = {}
    if shard.num_samples:
        found[tar_of(name)] = RepoFile(tar_of(name), size, sha256, None, name)
    for file, data in ((rows_of(name), rows), (json_of(name), sidecar)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
        is_known = derived is None or file == rows_of(name) or not shard.num_samples
        found[file] = RepoFile(
            file, len(data), hashlib.sha256(data).hexdigest() if is_known else "", folder / file, name
        )
    return found


def _staged(folder: Path, name: str) -> RepoFile:
    with (folder / name).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return RepoFile(name, (folder / name).stat().st_size, digest, folder / name)


def _facts(
    built: Built,
    ledger: Ledger,
    section: PublishSection,
    version: Version,
    where: tuple[str, str],
    made: tuple[Path, list[str], dict[str, RepoFile]],
) -> CardFacts:
    import pyarrow.parquet as pq

    folder, rows, shards = made
    tars = [file for file in shards.values() if file.name.endswith(".tar")]
    tar_bytes: Counter[str] = Counter()
    for file in tars:
        tar_bytes[built.shards[file.shard].split] += file.size_bytes
    removed = built.work.root / TOMBSTONES
    return CardFacts(
        name=where[0],
        url=where[1],
        edition=section.edition,
        version=version,
        section=section,
        built=built,
        settings=edition_settings(built, section.edition),
        figures=read_figures(folder, rows, built.settings.modalities),
        status=read_status(ledger),
        tar_bytes=dict(tar_bytes),
        num_tars=dict(Counter(built.shards[file.shard].split for file in tars)),
        row_files=tuple(rows),
        row_bytes={row_file: (folder / row_file).stat().st_size for row_file in rows},
        row_counts={row_file: pq.read_metadata(folder / row_file).num_rows for row_file in rows},
        package_version=metadata.version("valor-data"),
        num_tombstones=pq.read_metadata(removed).num_rows if removed.exists() else 0,
    )


def summary(contents: Contents) -> dict[str, Any]:
    """The list of files and bytes, JSON-able, for `--dry-run`."""
    return {
        "repository": contents.facts.name,
        "edition": contents.edition,
        "version": str(contents.facts.version),
        "files": [{"path": file.name, "bytes": file.size_bytes} for file in contents.files.values()],
        "bytes": contents.total_bytes,
    }
