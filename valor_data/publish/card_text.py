"""The words of a dataset card, section by section."""

from __future__ import annotations

from collections import Counter
from typing import Any

from valor_data.config import FilterSection
from valor_data.errors import REASONS
from valor_data.look.status import Funnel
from valor_data.publish.card_facts import CardFacts, clips, length, markdown, sizes, split_name, table
from valor_data.publish.figures import percentile

VALOR_CITATION = """@article{chen2023valor,
  title   = {VALOR: Vision-Audio-Language Omni-Perception Pretraining Model and Dataset},
  author  = {Chen, Sihan and He, Xingjian and Guo, Longteng and Zhu, Xinxin and Wang, Weining and Tang, Jinhui and Liu, Jing},
  journal = {arXiv preprint arXiv:2304.08345},
  year    = {2023}
}"""  # noqa: E501
"""As arXiv gives it."""

LICENCES_SHOWN = 10

_HELD = {
    "ids": "This edition holds **no media**: ids of public videos, spans in seconds, captions and measurements.",
    "features": "This edition holds **pictures and spectrograms** of each clip, not the videos themselves.",
    "media": "This edition holds **the clips themselves** beside pictures, spectrograms and captions.",
}


def sections(facts: CardFacts) -> list[str]:
    """The sections in order; the first is title and summary."""
    found = [_head(facts), _contents(facts), _loading(facts), _making(facts), _funnel(facts), _statistics(facts)]
    found += [_faults(facts), _licence(facts), _removal(facts), _citation(facts)]
    return [section for section in found if section]


def _head(facts: CardFacts) -> str:
    held = {"av": "what is seen and heard", "v": "what is seen", "a": "what is heard"}[facts.built.settings.modalities]
    all_of = facts.figures.all
    lead = (
        f"{clips(facts.num_samples)} of {facts.figures.num_videos:,} videos, {length(all_of.seconds)} in all, with "
        f"{all_of.num_captions:,} captions of {held}. {_HELD[facts.edition]} Version {facts.version}."
    )
    words = [f"# {facts.pretty_name}", facts.section.summary.strip(), lead, facts.section.text.strip()]
    return "\n\n".join(part for part in words if part)


def _contents(facts: CardFacts) -> str:
    rows: list[list[Any]] = []
    for split, number in facts.samples.items():
        one = facts.figures.splits[split]
        row: list[Any] = [
            f"`{split_name(split)}`",
            f"{number:,}",
            length(one.seconds),
            f"{one.num_captions:,}",
        ]
        if facts.edition != "ids":
            row += [facts.num_tars[split], sizes(facts.tar_bytes[split])]
        rows.append(row)
    heads = ["split", "clips", "length", "captions"] + (["shards", "size"] if facts.edition != "ids" else [])
    files = [
        ["`metadata/kept/*.parquet`", "a row for every clip: id, span, captions, labels, measurements"],
        ["`metadata/refused/*.parquet`", "a row for every clip that was tried and is not here, with the reason"],
        ["`SHA256SUMS`", "`sha256sum -c SHA256SUMS` checks a download"],
    ]
    if facts.edition != "ids":
        files = [
            ["`shards/*.tar`", "WebDataset tars, one sample a clip"],
            ["`index/*.parquet`, `index/*.json`", "where each member lies in its tar, with its hash; counts, settings"],
            *files,
        ]
    if facts.num_tombstones:
        files.append(["`tombstones.parquet`", "what was removed, as hashes; see [below](#removal)"])
    parts = ["## What is in it", table(heads, rows), table(["file", "what it holds"], files)]
    if facts.edition != "ids":
        parts += ["A sample:", table(["member", "what it holds"], _members(facts))]
    return "\n\n".join(parts)


def _members(facts: CardFacts) -> list[list[str]]:
    settings, frames, mel = facts.settings, facts.settings.frames, facts.settings.mel
    rows = [
        ["`<key>.json`", "captions with roles, labels, questions, span, times of the pictures, measurements, source"],
        ["`<key>.txt`", "the first caption"],
    ]
    if "v" in settings.modalities:
        rows.append([
            f"`<key>.frame_00.jpg` … `frame_{frames.count - 1:02d}.jpg`",
            f"{frames.count} pictures, the middles of {frames.count} equal parts of the clip, short side at most "
            f"{frames.short_side_px} px, upright",
        ])  # fmt: skip
    if "a" in settings.modalities:
        rows.append([
            "`<key>.mel.npy`",
            f"float16 `[T, {mel.num_mel_bins}]`: natural log of a mel filterbank (Kaldi's, {mel.sample_rate_hz:,} Hz "
            f"mono, windows of {mel.window_ms:g} ms every {mel.hop_ms:g} ms), not normalised",
        ])  # fmt: skip
    told = {"audio": ["`<key>.flac`", "the sound of exactly the span, as in the source, 16 bit"],
            "video": ["`<key>.mp4`", "the clip, exactly the span, H.264 and AAC"]}  # fmt: skip
    return rows + [told[name] for name in settings.include]


def _loading(facts: CardFacts) -> str:
    split = next(iter(facts.samples))
    name = facts.name
    lines = ["from datasets import load_dataset", ""]
    lines.append(f'clips = load_dataset("{name}", split="{split_name(split)}", streaming=True)')
    if facts.edition == "ids":
        if any("/refused/" in file for file in facts.row_files):
            lines.append(f'refused = load_dataset("{name}", "refused")')
        return "## Loading\n\n" + _code("python", lines)
    lines += [
        f'rows = load_dataset("{name}", data_files="metadata/kept/*.parquet")    # for search: captions, labels, facts',
        "",
        "from valor_data import open_shards                       # pip install valor-data",
        "",
        f'for sample in open_shards("hf://datasets/{name}/shards", split="{split}"):',
        "    sample.clip.captions, sample.jpegs, sample.mel",
    ]
    more = (
        "`webdataset` and Megatron-Energon read the tars too. `valor-data verify --output "
        f"hf://datasets/{name}` reads every one of them and checks it."
    )
    needs = ["Pillow"] if "v" in facts.settings.modalities else []
    needs += ["torchcodec"] if facts.settings.include else []
    if needs:
        more += f" To decode what it loads, `datasets` needs {' and '.join(needs)}."
    return "\n\n".join(["## Loading", _code("python", lines), more])


def _code(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _making(facts: CardFacts) -> str:
    settings, built = facts.settings, facts.built
    thresholds = {**_filter_defaults(), **built.meta.get("filter", {})}
    rows: list[list[str]] = [
        ["modalities", {"av": "picture and sound", "v": "picture", "a": "sound"}[settings.modalities]]
    ]
    if "v" in settings.modalities:
        which = "on screen at each moment" if settings.frames.frame_snap == "exact" else "key pictures"
        rows.append(
            ["pictures", f"{settings.frames.count} a clip, JPEG quality {settings.frames.jpeg_quality}, {which}"]
        )
    if "a" in settings.modalities:
        rows.append(["mel", f"`{settings.mel.name}`"])
        rows.append(["kept as audible", f"RMS at least {thresholds['min_rms_dbfs']:g} dBFS and peak at least "
                                        f"{thresholds['min_peak_dbfs']:g} dBFS"])  # fmt: skip
    rows.append(["kept as complete", f"sound and picture cover at least {thresholds['min_coverage']:.0%} of the span"])
    rows += [[f"`{package}`", ", ".join(versions)] for package, versions in facts.versions.items()]
    words = (
        f"Made with valor-data {facts.package_version}, in the manner of "
        "[VALOR-1M](https://arxiv.org/abs/2304.08345): each clip was cut from its video, measured, and kept when it "
        "passed what stands below. The same media, settings and versions give the same bytes."
    )
    if facts.section.annotations:
        words += f"\n\n{facts.section.annotations.strip()}"
    return "\n\n".join(["## How it was made", words, table(["setting", "value"], rows)])


def _filter_defaults() -> dict[str, Any]:
    section = FilterSection()
    return {name: getattr(section, name) for name in ("min_rms_dbfs", "min_peak_dbfs", "min_coverage")}


def _funnel(facts: CardFacts) -> str:
    status = facts.status
    rows = [_funnel_row(funnel) for funnel in (*status.splits, status.all)]
    losses: Counter[tuple[str, str, str]] = status.all.losses
    parts = [
        "## What became of the clips",
        "![Bars: clips in the manifest, fetched, kept, in shards](card/funnel.svg)",
        table(["split", "in the list", "fetched", "kept", "here", "yield"], rows),
    ]
    if losses:
        lost = [
            [f"`{reason}`", stage, f"{number:,}", REASONS[reason].meaning if reason in REASONS else ""]
            for (stage, _, reason), number in sorted(losses.items(), key=lambda item: (-item[1], item[0]))
        ]
        parts += ["Why the others are not here:", table(["reason", "stage", "clips", "meaning"], lost)]
    return "\n\n".join(parts)


def _funnel_row(funnel: Funnel) -> list[str]:
    steps = [f"{funnel.kept[stage]:,}" for stage in ("fetch", "filter", "shard")]
    return [f"`{funnel.split}`" if funnel.split != "all" else "all", f"{funnel.num_clips:,}", *steps,
            f"{funnel.yield_share:.1%}"]  # fmt: skip


def _statistics(facts: CardFacts) -> str:
    figures, all_of = facts.figures, facts.figures.all
    rows: list[list[str]] = [["length of a clip", *_spread(figures.durations_seconds, "s")]]
    rows.append(["caption", *_spread(figures.caption_words, "words")])
    if figures.rms_dbfs:
        rows.append(["loudness (RMS)", *_spread(figures.rms_dbfs, "dBFS")])
    if figures.short_sides_px:
        rows.append(["short side of the source", *_spread(figures.short_sides_px, "px")])
    words = [f"{all_of.num_captions / max(all_of.num_clips, 1):.2f} captions a clip"]
    words += [f"{all_of.num_words / max(all_of.num_captions, 1):.1f} words a caption"]
    words += [f"{number:,} {role}" for role, number in sorted(figures.roles.items(), key=lambda item: -item[1])]
    words += [f"{figures.labels:,} clips with labels"] if figures.labels else []
    words += [f"{figures.questions:,} questions"] if figures.questions else []
    heads = ["", "a tenth below", "half below", "nine tenths below"]
    return "\n\n".join(["## Statistics", "; ".join(words) + ".", table(heads, rows)])


def _spread(counts: Counter[int], unit: str) -> list[str]:
    return [f"{percentile(counts, share)} {unit}" for share in (0.1, 0.5, 0.9)]


def _faults(facts: CardFacts) -> str:
    figures, total = facts.figures, max(facts.num_samples, 1)
    counted = [
        (figures.still, "one picture that does not move"),
        (figures.half_silent, "silence for more than half of its length"),
        (figures.clipped, "sound that is clipped (more than 1 % of the samples at full scale)"),
        (figures.partly_covered, "picture or sound for less than 95 % of its span"),
        (figures.without_captions, "no caption"),
    ]
    lines = [f"- {clips(number)} ({number / total:.1%}): {words}." for number, words in counted if number]
    if figures.without_letters:
        lines.append(f"- {figures.without_letters:,} of {figures.all.num_captions:,} captions hold no letter at all.")
    lines += [
        "- Captions are as their authors wrote them: nobody has compared them with the clips here.",
        "- Videos vanish: what is here was reachable when it was fetched, and the clips that were not are no random "
        "sample.",
        "- The set shows what people upload. It has their biases, and people in it who were never asked.",
    ]
    return "\n\n".join(["## Known faults", "\n".join(lines)])


def _licence(facts: CardFacts) -> str:
    section = facts.section
    name = section.licence_name or ("no licence is stated" if section.licence == "other" else section.licence)
    name = f"[{name}]({section.licence_link})" if section.licence_link else name
    covered = f"The captions, labels and the list of clips: {name}."
    media = {
        "ids": "No part of a video is in this edition. The videos belong to their uploaders or to those they took them "
        "from: whoever fetches them needs a right of their own to do so, and keeps to the terms of the site.",
        "features": "The pictures and spectrograms were made from videos that belong to their uploaders or to those "
        "they took them from. **The licence above does not cover them**, and publishing them here grants no right in "
        "them. Whether you may use them depends on where you live and on what for; exceptions for research or for text "
        "and data mining may apply, and this card is no legal advice.",
        "media": "The clips are excerpts of videos that belong to their uploaders or to those they took them from. "
        "**The licence above does not cover them**, and publishing them here grants no right in them: each clip is "
        "under the licence that its uploader chose. Whether you may use a clip depends on that licence, on where "
        "you live and on what for; this card is no legal advice.",
    }[facts.edition]
    parts = ["## Licence and attribution", covered, media]
    known = Counter({name: number for name, number in facts.figures.licences.items() if name})
    unknown = facts.num_samples - known.total()
    if known:
        rows = [[markdown(name), f"{number:,}"] for name, number in known.most_common(LICENCES_SHOWN)]
        rest = known.total() - sum(number for _, number in known.most_common(LICENCES_SHOWN))
        rows += [["others", f"{rest:,}"]] if rest else []
        rows += [["not said by the source", f"{unknown:,}"]] if unknown else []
        parts += ["What the uploaders set, as far as the source tells (`source.license` of each row):",
                  table(["licence", "clips"], rows)]  # fmt: skip
    else:
        parts.append("The source of the videos told no licence of any clip (`source.license` is empty).")
    parts.append(
        "To credit an uploader: `video_id` and `source.channel_id` of each row name the video and the channel."
    )
    return "\n\n".join(parts)


def _removal(facts: CardFacts) -> str:
    words = (
        f"If a clip shows you, or belongs to you, and should not be here, write to {facts.contact} with the address of "
        "the video. It is taken out of the shards, of every list and of this repository's files, and its key is "
        "put into `tombstones.parquet` as a hash, so that neither we nor who built on this set bring it back."
    )
    asked = (
        "If you keep a copy: look at `tombstones.parquet` of the newest version now and then. `valor-data` leaves out "
        "what it lists when it reads older shards."
    )
    taken = (
        f"So far {facts.num_tombstones:,} {'entry' if facts.num_tombstones == 1 else 'entries'}."
        if facts.num_tombstones
        else "So far nothing was taken out."
    )
    return "\n\n".join(["## Removal", words, f"{asked} {taken}"])


def _citation(facts: CardFacts) -> str:
    own = [_code("bibtex", facts.section.citation.strip().splitlines())] if facts.section.citation.strip() else []
    words = "The recipe, the captions' form and the model that such sets were made for are VALOR's:"
    return "\n\n".join(["## Citation", *own, words, _code("bibtex", VALOR_CITATION.splitlines())])
