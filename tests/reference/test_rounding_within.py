"""A float64 model that computes in float32 in between, as the norms of Llama do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model.recording import recorder
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


class Attending(nn.Module):
    """A softmax in float32 takes away what keys have in common: their bias has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).mT
        return scores.softmax(-1, dtype=torch.float32).to(x.dtype) @ self.value(x)


class Normed(nn.Module):
    """A norm in float32 does so with the bias of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(5, 4, 2), nn.GroupNorm(4, 4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm(self.conv(x).float()).to(x.dtype) ** 3).mean(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [Attending, Normed])
def test_a_gradient_that_is_rounding_alone_is_no_reason(
    kind: type[nn.Module], dtype: torch.dtype
) -> None:
    """Both sides of the equation are noise, of the dtype that the forward rounds to."""
    for seed in range(3):
        torch.manual_seed(seed)
        x, y = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
        y = y if kind is Attending else y[:, 0]
        model = kind().to(dtype).eval()
        for entry in (ek.exact_fisher, ek.ekfac):
            problem = ek.Problem(model, [(x.to(dtype), y.to(dtype))], ek.Gaussian(), ek.Empirical())
            assert all(E.trace() > 0 for E in entry(problem).values())


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
