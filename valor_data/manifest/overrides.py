"""Captions and questions of an annotation file that take the place of others: for `train` and for `recaption`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from valor_data.clip import Caption, Clip, Question, open_key, parse_key
from valor_data.errors import ManifestError
from valor_data.manifest.build import build_manifest
from valor_data.manifest.formats import Head, recognise
from valor_data.manifest.options import ManifestOptions
from valor_data.manifest.source import Source
from valor_data.manifest.table import read_manifest

T = TypeVar("T", Caption, Question)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Captions and questions that take the place of those in the shards.

    Attributes:
        captions: by clip; those of a role take the place of the clip's own of that role.
        questions: by clip.
    """

    captions: Mapping[str, tuple[Caption, ...]]
    questions: Mapping[str, tuple[Question, ...]]

    @classmethod
    def read(cls, path: str | Path) -> Overrides:
        """Reads an annotation file: any format that `valor-data manifest` reads, or a manifest.

        Clips are named by a field `key`, or by video id with start and end.

        Raises:
            ManifestError: the file cannot be read, or holds neither captions nor questions.
        """
        captions: dict[str, tuple[Caption, ...]] = {}
        questions: dict[str, tuple[Question, ...]] = {}
        for clip in _clips(Path(path)):
            name = _name(clip)
            captions[name] = captions.get(name, ()) + clip.captions
            questions[name] = questions.get(name, ()) + clip.questions
        found = cls({k: v for k, v in captions.items() if v}, {k: v for k, v in questions.items() if v})
        if not found.captions and not found.questions:
            raise ManifestError(
                "neither captions nor questions in it; expected some for clips of the shards", file=path
            )
        return found

    def captions_of(self, clip: Clip) -> tuple[Caption, ...]:
        """The clip's captions, those of the file in the place of its own of the same role."""
        new = self._find(self.captions, clip)
        roles = {caption.role for caption in new}
        return new + tuple(caption for caption in clip.captions if caption.role not in roles)

    def questions_of(self, clip: Clip) -> tuple[Question, ...]:
        """The clip's questions: the file's, where it has some."""
        return self._find(self.questions, clip) or clip.questions

    def changes(self, clip: Clip) -> bool:
        """Whether the file says anything of a clip."""
        return bool(self._find(self.captions, clip) or self._find(self.questions, clip))

    def unknown(self, known: set[str]) -> list[str]:
        """Names of the file (keys, or open keys where it gives no end) that are none of a set's, sorted."""
        return sorted((self.captions.keys() | self.questions.keys()) - known)

    @staticmethod
    def _find(texts: Mapping[str, tuple[T, ...]], clip: Clip) -> tuple[T, ...]:
        return texts.get(clip.key or "") or texts.get(open_key(clip.video_id, clip.start)) or ()


def _clips(path: Path) -> list[Clip]:
    source = Source(path, path.name)
    if source.is_parquet and _is_manifest(path):
        return list(read_manifest(path).clips())
    names = _field_names(source)
    options = ManifestOptions(ids="any", split="train", id_field="key" if "key" in names else None)
    return list(build_manifest([path], options=options).manifest.clips())


def _is_manifest(path: Path) -> bool:
    import pyarrow.parquet as pq

    return b"valor_data.manifest_version" in (pq.read_schema(path).metadata or {})


def _field_names(source: Source) -> list[str]:
    """The names of the file's columns or keys, where its format has some."""
    head = Head(source)
    if "key" in head.header:
        return head.header
    names = recognise(head, ManifestOptions()).field_names
    return [] if names is None else names(head)


def _name(clip: Clip) -> str:
    """How a clip of the file is looked up: by its key, which may stand where its video id should."""
    if clip.end is None and not clip.start:
        try:
            parse_key(clip.video_id)
        except ManifestError:
            return open_key(clip.video_id, clip.start)
        return clip.video_id
    return clip.key or open_key(clip.video_id, clip.start)
