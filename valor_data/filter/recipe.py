"""The recipe of curation: which rules the `[filter]` settings turn on, in the order of `errors.CURATION`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields

from valor_data.config import FilterSection
from valor_data.errors import ConfigError
from valor_data.filter.captions import JunkRule, LanguageRule, Languages, LengthRule, TemplateRule
from valor_data.filter.drawing import BalanceRule, LicenceRule, SampleRule
from valor_data.filter.rules import Rule

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
    """

    languages: Callable[[], Languages]


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
        "unbalanced": section.balance > 0,
        "not_sampled": section.sample_share < 1 or section.sample_count > 0,
    }


def rules_of(section: FilterSection, scores: Scores) -> list[Rule]:
    """The rules that are on, in their order.

    Raises:
        ConfigError: settings that cannot be meant; all problems at once.
    """
    check_recipe(section)
    splits = section.train_splits
    rules: dict[str, Callable[[], Rule]] = {
        "licence": lambda: LicenceRule(section.licences_allowed, section.licences_denied),
        "caption_junk": JunkRule,
        "caption_length": lambda: LengthRule(section.caption_min_words, section.caption_max_words),
        "caption_language": lambda: LanguageRule(
            section.caption_languages, section.caption_certainty, scores.languages
        ),
        "caption_template": lambda: TemplateRule(section.caption_repeats),
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
    if problems:
        raise ConfigError(problems)
