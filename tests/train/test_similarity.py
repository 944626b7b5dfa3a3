"""The lean similarity against the plain formula: values and gradients, whatever the sizes and the padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from valor_data.train import similarity
from valor_data.train.similarity import Tokens, score_matrix, scores
from valor_data.train.tasks import CONTRASTIVE_GROUPS


def tokens(count: int, size: int, seed: int, missing: bool) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    features = functional.normalize(torch.randn(count, size, 8, generator=generator, dtype=torch.float64), dim=-1)
    logits = torch.randn(count, size, generator=generator, dtype=torch.float64)
    valid = torch.rand(count, size, generator=generator) < 0.6
    valid[:, 0] = True
    return Tokens(features.requires_grad_(), logits.requires_grad_(), valid if missing else None)


def plain(rows: Tokens, columns: Tokens, zero_padding: bool) -> Tensor:
    """Equation 3 as it is written, with the whole tensor of dot products."""
    dots = torch.einsum("ric,kjc->rikj", rows.features, columns.features)
    there = rows.filled()[:, :, None, None] & columns.filled()[None, None]
    dots = dots * there if zero_padding else dots.masked_fill(~there, float("-inf"))
    row_weights = rows.logits.masked_fill(~rows.filled(), float("-inf")).softmax(1)
    column_weights = columns.logits.masked_fill(~columns.filled(), float("-inf")).softmax(1)
    best_column = dots.max(3).values.masked_fill(~rows.filled()[:, :, None], 0.0)
    best_row = dots.max(1).values.masked_fill(~columns.filled()[None], 0.0)
    by_row = torch.einsum("ri,rik->rk", row_weights, best_column)
    by_column = torch.einsum("kj,rkj->rk", column_weights, best_row)
    return (by_row + by_column) / 2


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3)),
    missing=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    zero_padding=st.booleans(),
    block=st.sampled_from([1, 40, 1 << 20]),
    seed=st.integers(0, 10_000),
    leave_padding_out=st.booleans(),
)
def test_every_group_equals_the_plain_formula(
    rows: int,
    columns: int,
    sizes: tuple[int, int, int],
    missing: tuple[bool, bool, bool],
    zero_padding: bool,
    block: int,
    seed: int,
    leave_padding_out: bool,
) -> None:
    """`leave_padding_out` is what happens on a CPU, the other way what happens on a GPU."""
    sides = []
    for count in (rows, columns):
        made = [tokens(count, size, seed + i, gone) for i, (size, gone) in enumerate(zip(sizes, missing, strict=True))]
        sides.append(dict(zip("tva", made, strict=True)))
    pulls = torch.randn(6, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(similarity.BLOCK_ELEMENTS, "cpu", block)
        if not leave_padding_out:
            patch.setattr(similarity._Plan, "multiplied", lambda plan, block: None)
        ours = scores(sides[0], sides[1], CONTRASTIVE_GROUPS, zero_padding)
        ours_grad = gradients(ours, pulls, sides)
    theirs = {
        group: plain(sides[0][group[0]], Tokens.join([sides[1][letter] for letter in group[1:]], 1), zero_padding)
        for group in CONTRASTIVE_GROUPS
    }
    for group in CONTRASTIVE_GROUPS:
        torch.testing.assert_close(ours[group].double(), theirs[group], atol=2e-6, rtol=0)
    for found, expected in zip(ours_grad, gradients(theirs, pulls, sides), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5)


def gradients(matrices: dict[str, Tensor], pulls: Tensor, sides: list[dict[str, Tokens]]) -> tuple[Tensor | None, ...]:
    """Of a random weighing of all scores, with regard to all features and logits."""
    leaves = [leaf for side in sides for one in side.values() for leaf in (one.features, one.logits)]
    total = torch.stack([(matrices[group] * pull).sum() for group, pull in zip(matrices, pulls, strict=True)]).sum()
    return torch.autograd.grad(total, leaves, allow_unused=True)


def test_a_clip_with_no_token_scores_nothing_and_breaks_nothing() -> None:
    text, video, audio = tokens(3, 4, 0, True), tokens(3, 2, 1, False), tokens(3, 2, 2, True)
    gone = torch.tensor([[True, True], [False, False], [True, False]])
    audio = Tokens(audio.features, audio.logits, gone)

    side = {"t": text, "v": video, "a": audio}
    found = scores(side, side, ("tva", "tv", "ta"))
    assert torch.equal(found["ta"][:, 1], torch.zeros(3))
    torch.testing.assert_close(found["tva"][:, 1], found["tv"][:, 1], atol=2e-6, rtol=0)  # its frames alone
    torch.stack([matrix.sum() for matrix in found.values()]).sum().backward()
    for one in (text, video, audio):
        assert one.features.grad is not None and bool(one.features.grad.isfinite().all())
    assert audio.features.grad is not None and float(audio.features.grad[1].abs().max()) == 0


def test_bounds() -> None:
    text, video = tokens(4, 5, 0, False), tokens(4, 3, 1, False)
    found = scores({"t": text}, {"v": video}, ["tv"])["tv"]
    assert bool((found.abs() <= 1).all())


def test_a_gallery_is_compared_in_chunks() -> None:
    text, video, audio = tokens(9, 5, 0, True), tokens(7, 3, 1, False), tokens(7, 2, 2, True)
    rows, columns = {"t": text}, {"v": video, "a": audio}
    whole = scores(rows, columns, ["tva"])["tva"]
    torch.testing.assert_close(score_matrix(rows, columns, "tva", chunk=2), whole.detach())


def test_half_precision_is_close() -> None:
    """Under autocast the dot products are made in half precision, scores and gradients come back in float32."""
    found = []
    for on in (False, True):
        text, video = tokens(6, 5, 0, True), tokens(6, 3, 1, True)
        text, video = (
            Tokens(one.features.detach().float().requires_grad_(), one.logits.detach().float(), one.valid)
            for one in (text, video)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            matrix = scores({"t": text}, {"v": video}, ["tv"])["tv"]
        matrix.diagonal().sum().backward()
        assert matrix.dtype == torch.float32 and text.features.grad is not None
        found.append((matrix.detach(), text.features.grad))
    torch.testing.assert_close(found[0][0], found[1][0], atol=0.02, rtol=0)
    torch.testing.assert_close(found[0][1], found[1][1], atol=0.2, rtol=0)


@pytest.mark.parametrize("num_tokens", [255, 256, 300])
def test_many_tokens_of_a_side(num_tokens: int) -> None:
    text, video = tokens(2, num_tokens, 0, False), tokens(2, 2, 1, False)
    ours = scores({"t": text}, {"v": video}, ["tv"])["tv"]
    theirs = plain(text, video, False)
    torch.testing.assert_close(ours.double(), theirs, atol=2e-6, rtol=0)
    grads = [torch.autograd.grad(m.sum(), text.features)[0] for m in (ours, theirs)]
    torch.testing.assert_close(*grads, atol=2e-6, rtol=0)
