"""A float64 model that computes in float32 in between, as the norms of Llama do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model import recorder
from tests.support.one_by_one import check


class Norm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.to(torch.float32)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Mixing(nn.Module):
    """Sums over many tokens, in another order for one sample than for several."""

    def forward(self, x: Tensor) -> Tensor:
        scores = (x @ x.mT).float().softmax(-1).to(x.dtype)
        return scores @ x


def problem() -> ek.Problem:
    model = nn.Sequential(nn.Linear(16, 32), Norm(), Mixing(), nn.Linear(32, 16), Norm())
    model.extend([Mixing(), nn.Linear(16, 3)])
    x, y = torch.randn(8, 24, 16).double(), torch.randn(8, 24, 3).double()
    return ek.Problem(model.double(), [(x, y)], ek.Gaussian(), fisher=ek.Sampled(1))


@pytest.mark.parametrize("entry", [ek.exact_fisher, ek.kfac, ek.ekfac])
def test_it_is_held_to_the_rounding_of_float32(entry: Callable[[ek.Problem], Any]) -> None:
    """Neither refused nor run sample by sample, of which a warning would tell."""
    entry(problem())


def test_its_numbers_are_right() -> None:
    x, y = torch.randn(4, 5, 16).double(), torch.randn(4, 3).double()
    model = nn.Sequential(nn.Linear(16, 8), Norm(), Mean(), nn.Linear(8, 3)).double()
    check(ek.Problem(model, [(x, y)], ek.Gaussian()), rtol=1e-5)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def test_a_thousandth_is_noticed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    right = recorder._with_homogeneous
    monkeypatch.setattr(recorder, "_with_homogeneous", lambda *a: 1.001 * right(*a))
    with pytest.raises(ek.ProblemError, match=r"differ from those of autograd by"):
        ek.kfac(problem())


def test_only_an_op_that_makes_a_dtype_coarser_rounds() -> None:
    x = torch.randn(3).double()
    for run, roundoff in (
        (lambda: x * torch.ones(3), 0.0),
        (lambda: x + torch.arange(3).float().to(x.dtype), 0.0),
        (lambda: x.float(), torch.finfo(torch.float32).eps),
        (lambda: x.to(torch.bfloat16).double(), torch.finfo(torch.bfloat16).eps),
    ):
        with recorder.Recorder(()) as seen:
            run()
        assert seen.roundoff == roundoff
