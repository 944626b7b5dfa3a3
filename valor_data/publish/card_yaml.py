"""The YAML of a dataset card: what the Hub, its viewer and `datasets` read."""

from __future__ import annotations

from typing import Any

from valor_data.publish.card_facts import CardFacts, pattern_of, split_name
from valor_data.publish.features import row_features, sample_features

SIZE_CATEGORIES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"),
)  # fmt: skip
"""The Hub's own classes of size, by their upper bound."""


def card_yaml(facts: CardFacts) -> str:
    """The YAML, with configurations and the types of all columns."""
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    section = facts.section
    data = DatasetCardData(
        language=list(section.language) or None,
        pretty_name=facts.pretty_name,
        size_categories=[size_category(facts.num_samples)],
        task_categories=_tasks(facts),
        tags=_tags(facts),
        **_licence(facts),
    )
    infos = _infos(facts)
    DatasetInfosDict(infos).to_dataset_card_data(data)
    data["configs"] = [
        {"config_name": name, "data_files": [{"split": split_name(s), "path": p} for s, p in files.items()]}
        for name, files in configs(facts).items()
    ]
    if section.gated:
        data["extra_gated_prompt"] = _gate(facts)
        data["extra_gated_fields"] = {"I will use it for research and not share it further": "checkbox"}
    return str(data.to_yaml(line_break="\n"))


def size_category(number: int) -> str:
    """The Hub's class of so many samples."""
    return next((name for bound, name in SIZE_CATEGORIES if number < bound), "n>1T")


def configs(facts: CardFacts) -> dict[str, dict[str, str]]:
    """Patterns of data files by configuration and split; what a repository holds is read by one builder."""
    splits = list(facts.samples)
    if facts.edition != "ids":
        return {"default": {split: f"shards/{pattern_of(split, splits)}.tar" for split in splits}}
    kept = {split: facts.row_pattern("kept", split) for split in splits}
    refused = {
        split: facts.row_pattern("refused", split)
        for split in sorted({name.split("/")[2].rpartition("-")[0] for name in facts.row_files if "/refused/" in name})
    }
    return {"default": kept, **({"refused": refused} if refused else {})}


def _infos(facts: CardFacts) -> dict[str, Any]:
    import datasets

    features = row_features() if facts.edition == "ids" else sample_features(facts.settings)
    infos = {}
    for name, files in configs(facts).items():
        told = datasets.SplitDict()
        total = 0
        for split in files:
            number, size = _measure(facts, name, split)
            told.add(datasets.SplitInfo(split_name(split), num_bytes=size, num_examples=number))
            total += size
        infos[name] = datasets.DatasetInfo(
            config_name=name, features=features, splits=told, download_size=total, dataset_size=total
        )
    return infos


def _measure(facts: CardFacts, config: str, split: str) -> tuple[int, int]:
    """Rows and bytes of a split of a configuration."""
    if facts.edition != "ids":
        return facts.samples[split], facts.tar_bytes[split]
    standing = "refused" if config == "refused" else "kept"
    names = [n for n in facts.row_files if n.startswith(f"metadata/{standing}/") and _split_of(n) == split]
    return sum(facts.row_counts[n] for n in names), sum(facts.row_bytes[n] for n in names)


def _split_of(name: str) -> str:
    return name.rpartition("/")[2].rpartition("-")[0]


def _tasks(facts: CardFacts) -> list[str]:
    held = facts.built.settings.modalities
    tasks = (["video-text-to-text"] if "v" in held else []) + (["audio-text-to-text"] if "a" in held else [])
    return tasks + (["visual-question-answering"] if facts.figures.questions and "v" in held else [])


def _tags(facts: CardFacts) -> list[str]:
    held = facts.built.settings.modalities
    tags = ["valor-data", f"{facts.edition}-edition"]
    tags += ["video"] * ("v" in held) + ["audio"] * ("a" in held) + ["captions"]
    tags += ["webdataset"] * (facts.edition != "ids")
    return list(dict.fromkeys([*tags, *facts.section.tags]))


def _licence(facts: CardFacts) -> dict[str, Any]:
    """The licence fields. With pictures or sound in the set no single licence covers it."""
    section = facts.section
    if facts.edition != "ids" and section.licence != "other":
        return {
            "license": "other",
            "license_name": f"captions-{section.licence}-media-of-their-uploaders",
            "license_link": f"{facts.url}#licence-and-attribution",
        }
    if section.licence != "other":
        return {"license": section.licence}
    return {
        "license": "other",
        "license_name": section.licence_name or "see-the-card",
        "license_link": section.licence_link or f"{facts.url}#licence-and-attribution",
    }


def _gate(facts: CardFacts) -> str:
    held = {
        "ids": "ids of videos that others uploaded, with captions",
        "features": "pictures from videos that others uploaded, spectrograms of their sound, and captions",
        "media": "excerpts of videos that others uploaded, with captions",
    }[facts.edition]
    return (
        f"This set holds {held}. Rights in them stay with their owners. Clips are removed when that is asked for: "
        "whoever downloads the set also leaves out what later versions list in tombstones.parquet."
    )
