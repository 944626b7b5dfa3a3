"""The last question of a push: whether what arrived loads, for somebody who has nothing but its name."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from valor_data.errors import PublishError, Status, hide_queries
from valor_data.publish.card_facts import CardFacts, split_name
from valor_data.publish.features import sample_features


def check_loads(facts: CardFacts, revision: str) -> list[str]:
    """Streams the first sample of every split through `datasets`.

    Without torchcodec `datasets` does not even pass sound and video on; they are then asked for as plain bytes.

    Args:
        facts: of what was pushed.
        revision: the commit to load.

    Returns:
        What to know of the check, a sentence each.

    Raises:
        PublishError: it does not load, or is not what was pushed.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    datasets.disable_progress_bars()
    client_error: Any = HfHubHTTPError.__mro__[1]  # of the client's HTTP library, whichever version it is of
    plain = None if facts.edition == "ids" or has_torchcodec() else as_bytes(sample_features(facts.settings))
    for split in facts.samples:
        try:
            stream = datasets.load_dataset(
                facts.name, split=split_name(split), revision=revision, streaming=True, features=plain
            )
            _check_sample(next(iter(stream.decode(False))), facts)
        except (client_error, OSError, ValueError, RuntimeError, LookupError, TypeError, StopIteration) as error:
            told = " ".join(hide_queries(f"{type(error).__name__}: {error}").split())[:300]
            raise PublishError(
                f"{facts.name}: everything arrived, but `datasets` does not load split {split} ({told}); look at its "
                "page, and run this again"
            ) from None
    if plain is not None and facts.settings.include:
        return ["sound and video were loaded as bytes: with torchcodec installed they are loaded as what they are"]
    return []


def has_torchcodec() -> bool:
    """Whether `datasets` can take sound and video in: torchcodec is there, and finds FFmpeg's libraries."""
    try:
        import_module("torchcodec.encoders")
    except (ImportError, RuntimeError, OSError):
        return False
    return True


def as_bytes(features: Any) -> Any:
    """The same columns, sound and video as plain bytes."""
    import datasets

    kinds = (datasets.Audio, datasets.Video)
    plain = {n: datasets.Value("binary") if isinstance(kind, kinds) else kind for n, kind in features.items()}
    return datasets.Features(plain)


def _check_sample(sample: dict[str, Any], facts: CardFacts) -> None:
    if facts.edition == "ids":
        if sample["status"] != Status.KEPT.value:
            raise ValueError(f"{sample['key']} is not a kept clip")
        return
    missing = [name for name in facts.settings.member_names() if sample.get(name) is None]
    if missing:
        raise ValueError(f"the first sample has no {', '.join(missing)}")
    details = sample["json"] if isinstance(sample["json"], dict) else json.loads(sample["json"])
    if sample["__key__"].rpartition("/")[2] != details["key"]:
        raise ValueError(f"sample {sample['__key__']} says it is {details['key']}")
