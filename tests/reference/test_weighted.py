"""Weighted sums of what was seen of a layer, however its rows lie in memory."""

import pytest
import torch
from torch import Tensor

from ekfac_ref.model.refusals.weighted import (
    Sum,
    added,
    any_numbers,
    of_gradients,
    of_taps,
    weights,
)
from ekfac_ref.question.one_hot import OneHot

N, T, D_OUT, D_IN = 3, 4, 5, 70


def by_columns() -> Tensor:
    return torch.randn(D_IN, N * T, dtype=torch.float64).T.unflatten(0, (N, T))


@pytest.mark.parametrize("a", [by_columns(), by_columns().contiguous()], ids=["columns", "rows"])
@pytest.mark.parametrize("C", [1, 2])
def test_sums_and_squares_are_those_of_all_terms(a: Tensor, C: int) -> None:
    g = torch.randn(N, C, T, D_OUT, dtype=torch.float64)
    (r, w), x = weights(g), any_numbers(D_IN - 1, 2)
    found = of_taps([(a, g)], r, w, x)
    G = torch.einsum("n,c,ncto,nti->ntoi", r, w, g, a)
    terms = torch.stack([G[..., :-1] @ x, G[..., -1]], -1)  # of every position
    torch.testing.assert_close(found.total, terms.sum((0, 1)))
    torch.testing.assert_close(found.squares, terms.square().sum((0, 1, 2)))


def test_sums_and_squares_of_words() -> None:
    words = torch.tensor([[0, 2, -1, 2], [1, 1, 3, 0]])
    g = torch.randn(2, 1, 4, D_OUT, dtype=torch.float64)
    (r, w), x = weights(g), any_numbers(5, 2)
    one_hot = OneHot(words, 5, g.dtype)
    found = of_taps([(one_hot, g)], r, w, x)
    terms = torch.einsum("n,nto,nti,i->nto", r, g[:, 0], one_hot.dense(), x)
    torch.testing.assert_close(found.total, terms.sum((0, 1))[:, None])
    torch.testing.assert_close(found.squares, terms.square().sum()[None])


def test_sums_and_squares_of_gradients() -> None:
    G = torch.randn(N, 2, D_OUT, D_IN, dtype=torch.float64)
    (r, w), x = weights(G), any_numbers(D_IN - 1, 2)
    found = of_gradients(G, r, w, x)
    of_samples = torch.einsum("n,c,ncoi->noi", r, w, G)
    terms = torch.stack([of_samples[..., :-1] @ x, of_samples[..., -1]], -1)
    torch.testing.assert_close(found.total, terms.sum(0))
    torch.testing.assert_close(found.squares, terms.square().sum((0, 1)))


def test_a_sum_of_sums_in_other_units() -> None:
    """2 [3, 4] and 0.5 [8, 8]: their squares with the squares of the units."""
    one, other = (
        Sum(torch.tensor([[x]]), torch.tensor([x**2, 1.0]), unit)
        for x, unit in ((3.0, 2.0), (8.0, 0.5))
    )
    found = added([one, other])
    assert float(found.total) * found.unit == 2 * 3 + 0.5 * 8
    assert (found.squares * found.unit**2).tolist() == [4 * 9 + 0.25 * 64, 4 + 0.25]
