"""Which tokens are hidden: the reference's frequencies, and rules that hold for every text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valor_data.train.masking import FIRST_WORD, MASK, NOT_PREDICTED, PAD, mask_tokens

VOCABULARY = 30522
LENGTHS = (2, 3, 5, 10, 20, 42)


def texts(rows: int, length: int, width: int = 42, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(rows, width, dtype=torch.long)
    ids[:, :length] = torch.randint(1000, VOCABULARY, (rows, length), generator=generator)
    ids[:, 0] = 101
    return ids


@pytest.mark.parametrize("share", [0.15, 0.6])
def test_the_reference_s_frequencies(shared: Path, share: float) -> None:
    told = json.loads((shared / "golden" / "masker_stats.json").read_text())[str(share)]
    generator = torch.Generator().manual_seed(5)
    kinds = torch.zeros(3)
    for length in LENGTHS:
        ids = texts(8000, length)
        masked = mask_tokens(ids, share, VOCABULARY, generator)
        chosen = masked.labels != NOT_PREDICTED
        count = 8000 * (length - 1)
        expected = told["expected_p_over_1_minus_q_pow_m"][str(length)]
        error = 5 * math.sqrt(max(expected * (1 - expected), 1e-4) / count)
        assert float(chosen.sum()) / count == pytest.approx(expected, abs=error)
        # the reference's own sample is smaller: it may be off by its own error
        theirs = 5 * math.sqrt(0.25 / told["eligible_counts"][str(length)])
        assert float(chosen.sum()) / count == pytest.approx(
            told["chosen_fraction_by_length"][str(length)], abs=error + theirs
        )
        new, old = masked.ids[chosen], ids[chosen]
        kinds += torch.stack([(new == MASK).sum(), ((new != MASK) & (new != old)).sum(), (new == old).sum()])
    shares = kinds / kinds.sum()
    for found, expected in zip(shares.tolist(), (0.8, 0.1, 0.1), strict=True):
        assert found == pytest.approx(expected, abs=0.006)
    for found, name in zip(shares.tolist(), ("share_mask", "share_random", "share_unchanged"), strict=True):
        assert found == pytest.approx(told[name], abs=0.015)


def test_every_place_is_as_likely_as_any_other() -> None:
    """Drawing the first chosen place first must not favour early places."""
    for length, share in ((4, 0.15), (42, 0.15), (42, 0.6)):
        masked = mask_tokens(texts(40_000, length), share, VOCABULARY, torch.Generator().manual_seed(2))
        rates = (masked.labels != NOT_PREDICTED).float().mean(0)[1:length]
        expected = share / (1 - (1 - share) ** (length - 1))
        assert (rates - expected).abs().max() < 5 * math.sqrt(0.25 / 40_000)


def test_pairs_of_places_are_drawn_as_by_drawing_again() -> None:
    """The joint law of three tokens, against drawing until something is chosen."""
    masked = mask_tokens(texts(60_000, 4), 0.3, VOCABULARY, torch.Generator().manual_seed(3))
    bits = (masked.labels[:, 1:4] != NOT_PREDICTED).long()
    found = torch.bincount(bits @ torch.tensor([4, 2, 1]), minlength=8) / 60_000
    for pattern in range(8):
        ones = bin(pattern).count("1")
        expected = 0.0 if ones == 0 else 0.3**ones * 0.7 ** (3 - ones) / (1 - 0.7**3)
        assert float(found[pattern]) == pytest.approx(expected, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 20), min_size=1, max_size=8),
    share=st.sampled_from([0.01, 0.15, 0.6, 0.99, 1.0]),
    seed=st.integers(0, 1000),
)
def test_what_always_holds(lengths: list[int], share: float, seed: int) -> None:
    ids = torch.cat([texts(1, length, 20, seed + row) for row, length in enumerate(lengths)])
    before = ids.clone()
    masked = mask_tokens(ids, share, VOCABULARY, torch.Generator().manual_seed(seed))
    assert torch.equal(ids, before)
    chosen = masked.labels != NOT_PREDICTED
    assert bool(chosen.any(1).all())
    assert not bool(chosen[:, 0].any()) and not bool(chosen[ids == PAD].any())
    assert torch.equal(masked.labels[chosen], ids[chosen])
    assert torch.equal(masked.ids[~chosen], ids[~chosen])
    replaced = masked.ids[chosen & (masked.ids != ids)]
    assert bool(((replaced == MASK) | ((replaced >= FIRST_WORD) & (replaced < VOCABULARY))).all())
    again = mask_tokens(ids, share, VOCABULARY, torch.Generator().manual_seed(seed))
    assert torch.equal(again.ids, masked.ids) and torch.equal(again.labels, masked.labels)


def test_a_text_with_nothing_to_choose_stays_whole() -> None:
    ids = torch.tensor([[101, 0, 0], [101, 5000, 102]])
    masked = mask_tokens(ids, 0.6, VOCABULARY, torch.Generator().manual_seed(0))
    assert masked.labels[0].tolist() == [NOT_PREDICTED] * 3
    assert bool((masked.labels[1] != NOT_PREDICTED).any())
