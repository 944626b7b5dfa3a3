"""The last question of a push: whether what arrived loads, for somebody who has nothing but its name."""

from __future__ import annotations

import json
from typing import Any

from valor_data.errors import PublishError
from valor_data.publish.card_facts import CardFacts, split_name


def check_loads(facts: CardFacts, revision: str) -> dict[str, str]:
    """Streams the first sample of every split through `datasets`.

    Args:
        facts: of what was pushed.
        revision: the commit to load.

    Returns:
        Key of the first sample by split.

    Raises:
        PublishError: it does not load, or is not what was pushed.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    datasets.disable_progress_bars()
    client_error: Any = HfHubHTTPError.__mro__[1]  # of the client's HTTP library, whichever version it is of
    found = {}
    for split in facts.samples:
        try:
            stream = datasets.load_dataset(facts.name, split=split_name(split), revision=revision, streaming=True)
            first = next(iter(stream.decode(False)))
            found[split] = _key_of(first, facts)
        except (client_error, OSError, ValueError, RuntimeError, LookupError, TypeError, StopIteration) as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise PublishError(
                f"{facts.name}: everything arrived, but `datasets` does not load split {split} ({told}); look at its "
                "page, and run this again"
            ) from None
    return found


def _key_of(sample: dict[str, Any], facts: CardFacts) -> str:
    if facts.edition == "ids":
        return str(sample["key"])
    missing = [name for name in facts.settings.member_names() if sample.get(name) is None]
    if missing:
        raise ValueError(f"the first sample has no {', '.join(missing)}")
    details = sample["json"] if isinstance(sample["json"], dict) else json.loads(sample["json"])
    if sample["__key__"].rpartition("/")[2] != details["key"]:
        raise ValueError(f"sample {sample['__key__']} says it is {details['key']}")
    return str(details["key"])
