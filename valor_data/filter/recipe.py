"""The recipe of curation: which rules the `[filter]` settings turn on, in the order of `errors.CURATION`."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from valor_data.config import FilterSection
from valor_data.errors import ConfigError
from valor_data.filter.alike import Closeness
from valor_data.filter.captions import JunkRule, LanguageRule, Languages, LengthRule, TemplateRule
from valor_data.filter.drawing import BalanceRule, LicenceRule, SampleRule
from valor_data.filter.footage import DuplicateRule, Footage, letterbox_rule, still_rule, visualiser_rule
from valor_data.filter.leak import OWN_SPLITS, LeakRule, OtherSet
from valor_data.filter.rules import Rule
from valor_data.filter.signatures import Signatures

_NOT_CURATION = (
    "workers", "min_rms_dbfs", "min_peak_dbfs", "min_coverage", "clip_deadline_seconds", "clip_memory_bytes"
)  # fmt: skip

CURATION_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(FilterSection) if f.name not in _NOT_CURATION)
"""The settings of curation."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Where rules get what was measured, each asked for only when a rule needs it.

    Attributes:
        languages: the language of every caption.
        signatures: the content of every clip.
        others: the sets that training clips must not be in.
    """

    languages: Callable[[], Languages]
    signatures: Callable[[], Signatures]
    others: Callable[[], Sequence[OtherSet]]


def needs_content(section: FilterSection) -> bool:
    """Whether what clips show and sound like must be measured."""
    is_on = _is_on(section)
    looks = any(is_on[reason] for reason in ("still", "visualiser", "letterbox", "near_duplicate"))
    return section.content or looks or any(is_folder(name) for name in section.leak)


def is_folder(name: str) -> bool:
    """Whether a set of `filter.leak` has content to compare with: a work folder, or the other splits of this one."""
    return name == OWN_SPLITS or Path(name).is_dir()


def is_curated(section: FilterSection) -> bool:
    """Whether any rule is on."""
    return any(_is_on(section).values())


def _is_on(section: FilterSection) -> dict[str, bool]:
    return {
        "licence": bool(section.licences_allowed or section.licences_denied),
        "caption_junk": section.caption_junk,
        "caption_length": bool(section.caption_min_words or section.caption_max_words),
        "caption_language": bool(section.caption_languages),
        "caption_template": section.caption_repeats > 0,
        "still": section.min_picture_change > 0,
        "visualiser": section.min_moving_share > 0,
        "letterbox": section.max_border_share < 1,
        "leak": bool(section.leak),
        "near_duplicate": section.duplicates,
        "unbalanced": section.balance > 0,
        "not_sampled": section.sample_share < 1 or section.sample_count > 0,
    }


def rules_of(section: FilterSection, scores: Scores) -> list[Rule]:
    """The rules that are on, in their order.

    Raises:
        ConfigError: settings that cannot be meant; all problems at once.
    """
    check_recipe(section)
    splits, others = section.train_splits, functools.cache(lambda: tuple(scores.others()))
    own = functools.cache(scores.signatures)
    closeness = Closeness(section.max_picture_bits, section.max_sound_error)
    footage = Footage(lambda: Signatures.joined([own(), *(other.signatures for other in others())]), closeness)
    rules: dict[str, Callable[[], Rule]] = {
        "licence": lambda: LicenceRule(section.licences_allowed, section.licences_denied),
        "caption_junk": JunkRule,
        "caption_length": lambda: LengthRule(section.caption_min_words, section.caption_max_words),
        "caption_language": lambda: LanguageRule(
            section.caption_languages, section.caption_certainty, scores.languages
        ),
        "caption_template": lambda: TemplateRule(section.caption_repeats),
        "still": lambda: still_rule(section.min_picture_change, own),
        "visualiser": lambda: visualiser_rule(section.min_moving_share, own),
        "letterbox": lambda: letterbox_rule(section.max_border_share, own),
        "leak": lambda: LeakRule(section.leak_match, others, splits, footage, section.leak),
        "near_duplicate": lambda: DuplicateRule(section.duplicate_overlap, footage),
        "unbalanced": lambda: BalanceRule(section.balance, section.seed, splits),
        "not_sampled": lambda: SampleRule(section.sample_share, section.sample_count, section.seed, splits),
    }
    return [rules[reason]() for reason, is_on in _is_on(section).items() if is_on]


def check_recipe(section: FilterSection) -> None:
    """Refuses settings that cannot be meant.

    Raises:
        ConfigError: all problems at once.
    """
    problems = []
    if section.caption_max_words and section.caption_max_words < section.caption_min_words:
        problems.append(
            f"filter.caption_max_words: {section.caption_max_words} is below caption_min_words, "
            f"{section.caption_min_words}: no caption would be left"
        )
    if section.caption_repeats == 1:
        problems.append("filter.caption_repeats: 1 would drop every caption; expected 0 (off), or at least 2")
    if section.caption_languages:
        from valor_data.filter.language import known_languages

        known = known_languages()
        for name in section.caption_languages:
            if name not in known:
                near = difflib.get_close_matches(name.lower()[:2], known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                problems.append(f"filter.caption_languages: {name!r} is no code of a known language such as en{hint}")
    problems += [
        f"filter.leak: {name}: no such file or folder; expected a manifest, an annotation file, a work folder, or "
        f"{OWN_SPLITS} for the other splits of this one"
        for name in section.leak
        if name != OWN_SPLITS and not Path(name).exists()
    ]
    if problems:
        raise ConfigError(problems)
