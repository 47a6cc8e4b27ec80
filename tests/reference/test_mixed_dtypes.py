"""Layers, outputs and data in dtypes of their own: each layer's matrices are in the layer's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from tests.support.one_by_one import check


class Mixed(nn.Module):
    """Two layers, with a dtype before each and behind."""

    def __init__(self, first: torch.dtype, second: torch.dtype, outputs: torch.dtype) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5).to(first), nn.Linear(5, 3).to(second)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x.to(self.first.weight.dtype)))
        return self.second(h.to(self.second.weight.dtype)).to(self.outputs)


SINGLE, DOUBLE = torch.float32, torch.float64
MIXTURES = [
    (DOUBLE, DOUBLE, SINGLE),
    (SINGLE, DOUBLE, DOUBLE),
    (DOUBLE, SINGLE, SINGLE),
    (SINGLE, DOUBLE, SINGLE),
    (DOUBLE, SINGLE, DOUBLE),
]


@pytest.mark.parametrize("dtypes", MIXTURES, ids=str)
def test_numbers_are_right(dtypes: tuple[torch.dtype, ...]) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(6, 4), torch.randn(6, 3)
    problem = ek.Problem(Mixed(*dtypes), [(x, y.to(dtypes[2]))], ek.Gaussian())
    check(problem, rtol=1e-5)
    for name, E in ek.ekfac(problem).items():
        assert E.eigenvalues.dtype == problem.model.get_submodule(name).weight.dtype


@pytest.mark.parametrize("entry", [ek.exact_fisher, ek.full_fisher], ids=["block", "whole"])
def test_the_fisher_is_there(entry: Callable[[ek.Problem], object]) -> None:
    for dtypes in MIXTURES:
        batch = torch.randn(6, 4), torch.randn(6, 3, dtype=dtypes[2])
        assert entry(ek.Problem(Mixed(*dtypes), [batch], ek.Gaussian()))
