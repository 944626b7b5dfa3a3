"""VALOR's task strings: what to learn or to measure, and from which modalities.

    pt_contra%tva%tv%ta_caption%tva%tv%ta    pretraining: MGA and MGC, three groups each
    pt_contra%tv_caption%tv_mlm%tv           pretraining on pictures and text alone
    ret%tva    cap%tva%tv%ta    qa%tva       fine-tuning and evaluation

A string is parts joined by `_`; a part is a task and its groups joined by `%`; `pt` in front says only that
it is pretraining. A group is read from its letters: t text, v video, a audio (sound).
"""

from __future__ import annotations

from dataclasses import dataclass

from valor_data.errors import ConfigError

CONTRASTIVE_GROUPS = ("tva", "tv", "ta", "va", "vta", "atv")
"""Sides that can be compared: the first letter against the rest. The last three are off in VALOR's own recipes."""

TEXT_GROUPS = ("tva", "tv", "ta")
"""What text can be written or guessed from: the letters after the t."""

_TASKS = {
    "contra": ("contrastive", CONTRASTIVE_GROUPS),
    "ret": ("contrastive", CONTRASTIVE_GROUPS),
    "caption": ("caption", TEXT_GROUPS),
    "cap": ("caption", TEXT_GROUPS),
    "mlm": ("mlm", TEXT_GROUPS),
    "qa": ("qa", TEXT_GROUPS),
}

_EXAMPLE = "pt_contra%tva%tv%ta_caption%tva%tv%ta, ret%tva, cap%tva%tv%ta or qa%tva"


@dataclass(frozen=True, slots=True)
class Tasks:
    """A task string, taken apart. A task that was not asked for has no groups.

    Attributes:
        text: the string it came from.
        contrastive: groups whose two sides are compared (MGA; retrieval).
        caption: groups that captions are written from (MGC).
        mlm: groups that masked words are guessed from, with the words on both sides in view.
        qa: groups that answers are written from.
    """

    text: str
    contrastive: tuple[str, ...] = ()
    caption: tuple[str, ...] = ()
    mlm: tuple[str, ...] = ()
    qa: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group of every task, once."""
        return tuple(dict.fromkeys(self.contrastive + self.caption + self.mlm + self.qa))

    @property
    def modalities(self) -> str:
        """The letters that the data must have, of `tva`."""
        return "".join(letter for letter in "tva" if any(letter in group for group in self.groups))

    @property
    def needs_video(self) -> bool:
        """Whether frames are needed."""
        return "v" in self.modalities

    @property
    def needs_audio(self) -> bool:
        """Whether sound is needed."""
        return "a" in self.modalities


def parse_tasks(text: str) -> Tasks:
    """Takes a task string apart.

    Raises:
        ConfigError: something in it has no meaning; every problem is named with what would be right.
    """
    problems: list[str] = []
    found: dict[str, tuple[str, ...]] = {}
    for part in text.strip().removeprefix("pt_").split("_"):
        name, *groups = part.split("%")
        if name not in _TASKS:
            problems.append(f"task {text!r}: no task {name!r}; there are {', '.join(_TASKS)} (such as {_EXAMPLE})")
            continue
        task, allowed = _TASKS[name]
        if task in found:
            problems.append(f"task {text!r}: {name} is there twice; give it all its groups at once")
        problems += _group_problems(text, name, groups, allowed)
        found[task] = tuple(groups)
    if "qa" in found and len(found) > 1:
        problems.append(f"task {text!r}: qa stands alone: its batches hold answers where the others read captions")
    if problems:
        raise ConfigError(problems)
    return Tasks(text=text, **found)


def _group_problems(text: str, name: str, groups: list[str], allowed: tuple[str, ...]) -> list[str]:
    if not groups:
        return [f"task {text!r}: {name} has no group; write {name}%tva, or any of {', '.join(allowed)}"]
    problems = [
        f"task {text!r}: {name} has no group {group!r}; it takes {', '.join(allowed)}"
        for group in groups
        if group not in allowed
    ]
    if len(set(groups)) < len(groups):
        problems.append(f"task {text!r}: a group of {name} is there twice")
    return problems
