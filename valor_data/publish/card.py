"""The dataset card: README.md, made of the real numbers of a run, with a part that is its owner's alone."""

from __future__ import annotations

import re

from valor_data.publish.card_facts import CardFacts
from valor_data.publish.card_text import sections
from valor_data.publish.card_yaml import card_yaml

MADE_BY = "<!-- made by valor-data push: everything but your own text below is written anew by each push -->"
OWN_BEGIN = "<!-- your own text: begin (what stands between these two lines is kept by every push) -->"
OWN_END = "<!-- your own text: end -->"

_OWN = re.compile(re.escape(OWN_BEGIN) + r"\n(.*?)\n?" + re.escape(OWN_END), re.DOTALL)
_YAML = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n", re.DOTALL)


def own_text(former: str | None) -> str:
    """What a person wrote into a card: the marked part, or all of a card that no push made.

    Args:
        former: the card as the Hub has it; None where there is none.
    """
    if former is None:
        return ""
    former = former.replace("\r\n", "\n")
    found = _OWN.search(former)
    if found is not None:
        return found[1].strip("\n")
    return "" if MADE_BY in former else _YAML.sub("", former).strip("\n")


def make_card(facts: CardFacts, former: str | None = None) -> str:
    """The whole README.md.

    Args:
        facts: what it says.
        former: the card that it takes the place of; what a person wrote there is kept.
    """
    own = own_text(former)
    block = f"{OWN_BEGIN}\n{own}\n{OWN_END}" if own else f"{OWN_BEGIN}\n{OWN_END}"
    head, *rest = sections(facts)
    body = "\n\n".join([MADE_BY, head, block, *rest])
    return f"---\n{card_yaml(facts).strip()}\n---\n\n{body}\n"
