"""Weighted sums of what was seen of a layer, however its rows lie in memory."""

import pytest
import torch
from torch import Tensor

from ekfac_ref.model.refusals.weighted import Sum, added, any_numbers, of_taps, weights

N, T, D_OUT, D_IN = 3, 4, 5, 70


def by_columns() -> Tensor:
    return torch.randn(D_IN, N * T, dtype=torch.float64).T.unflatten(0, (N, T))


@pytest.mark.parametrize("a", [by_columns(), by_columns().contiguous()], ids=["columns", "rows"])
@pytest.mark.parametrize("C", [1, 2])
def test_sums_and_squares_are_those_of_all_terms(a: Tensor, C: int) -> None:
    g = torch.randn(N, C, T, D_OUT, dtype=torch.float64)
    (r, w), x = weights(g), any_numbers(D_IN - 1, 2)
    found = of_taps([(a, g)], r, w, x)
    terms = torch.einsum("n,c,ncto,nti->ntoi", r, w, g, a)
    weight, bias = terms[..., :-1], terms[..., -1]
    sums = torch.stack([weight.sum((0, 1)) @ x, bias.sum((0, 1))], 1)
    torch.testing.assert_close(found.total, sums)
    torch.testing.assert_close(
        found.squares, torch.stack([weight.square().sum(), bias.square().sum()])
    )


def test_a_sum_of_sums_in_other_units() -> None:
    """2 [3, 4] and 0.5 [8, 8]: their squares with the squares of the units."""
    one, other = (
        Sum(torch.tensor([[x]]), torch.tensor([x**2, 1.0]), unit)
        for x, unit in ((3.0, 2.0), (8.0, 0.5))
    )
    found = added([one, other])
    assert float(found.total) * found.unit == 2 * 3 + 0.5 * 8
    assert (found.squares * found.unit**2).tolist() == [4 * 9 + 0.25 * 64, 4 + 0.25]
