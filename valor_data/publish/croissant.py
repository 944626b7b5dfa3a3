"""croissant.json: the set for machines that look for data sets, in the words of MLCommons' Croissant 1.0."""

from __future__ import annotations

import json
from typing import Any

from valor_data.publish.card_facts import CardFacts, sizes, split_name
from valor_data.publish.card_text import VALOR_CITATION

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that Croissant 1.0 prescribes."""

COLUMNS = (
    ("key", "sc:Text", "the clip's name: video id, start and end in milliseconds"),
    ("video_id", "sc:Text", "the video it is of"),
    ("start", "sc:Float", "seconds from the start of the video"),
    ("end", "sc:Float", "seconds; the clip is [start, end)"),
    ("split", "sc:Text", "train, val, test or another name"),
    ("status", "sc:Text", "kept, dropped or waiting"),
    ("reason", "sc:Text", "why it was refused; empty when it was kept"),
    ("shard", "sc:Text", "the tar it is in, without its ending"),
)
"""Columns of the rows that are described: those of plain types."""


def croissant(facts: CardFacts, date: str) -> str:
    """The JSON-LD of a set.

    Args:
        facts: what the card says.
        date: the day of the version, `2026-11-23`.
    """
    tree = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.name.split("/")[1],
        "description": _description(facts),
        "url": facts.url,
        "version": str(facts.version),
        "datePublished": date,
        "license": facts.section.licence_link or f"{facts.url}#licence-and-attribution",
        "creator": {"@type": "sc:Organization", "name": facts.name.split("/")[0]},
        "keywords": ["video", "audio", "captions", "VALOR", facts.edition],
        "inLanguage": list(facts.section.language),
        "citeAs": facts.section.citation.strip() or VALOR_CITATION,
        "isLiveDataset": False,
        "distribution": _distribution(facts),
        "recordSet": [_splits(facts), _rows("kept", "the clips that are here")]
        + ([_rows("refused", "the clips that were tried and are not")] if _has_refused(facts) else []),
    }
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _description(facts: CardFacts) -> str:
    form = "Parquet" if facts.edition == "ids" else "WebDataset tars and Parquet"
    told = f"{facts.num_samples:,} clips of videos with captions ({facts.edition} edition), in {form}."
    return facts.section.summary.strip() or told


def _has_refused(facts: CardFacts) -> bool:
    return any("/refused/" in name for name in facts.row_files)


def _distribution(facts: CardFacts) -> list[dict[str, Any]]:
    repository = {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "description": "The repository on the Hugging Face Hub; SHA256SUMS in it has the hash of every file.",
        "contentUrl": facts.url,
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",  # a repository has none: what the Hub writes too
    }
    found = [repository]
    for standing in ("kept", "refused") if _has_refused(facts) else ("kept",):
        found.append(_file_set(f"rows-{standing}", f"metadata/{standing}/*.parquet", "application/x-parquet", "rows"))
    if facts.edition != "ids":
        size = sizes(sum(facts.tar_bytes.values()))
        found.append(_file_set("shards", "shards/*.tar", "application/x-tar", f"WebDataset tars, {size}"))
    return found


def _file_set(name: str, pattern: str, form: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "containedIn": {"@id": "repository"},
        "encodingFormat": form,
        "includes": pattern,
    }


def _splits(facts: CardFacts) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [{"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}],
        "data": [{"splits/name": split_name(split)} for split in facts.samples],
    }


def _rows(standing: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": standing,
        "name": standing,
        "description": description,
        "key": {"@id": f"{standing}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{standing}/{name}",
                "name": name,
                "description": meaning,
                "dataType": kind,
                "source": {"fileSet": {"@id": f"rows-{standing}"}, "extract": {"column": name}},
            }
            for name, kind, meaning in COLUMNS
        ],
    }
