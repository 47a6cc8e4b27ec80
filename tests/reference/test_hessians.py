"""The exact Fisher by its two other names, which share neither columns nor square roots with it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.problems.changed import in_dtype
from ekfac_ref.conformance.problems.strategies import Drawn, problems
from ekfac_ref.conformance.truth.cache import observed
from ekfac_ref.conformance.truth.tolerance import bounded, fisher_scale, length
from ekfac_ref.model.forward import call
from tests.independent import losses
from tests.independent.columns import Loss
from tests.independent.hessians import gauss_newton, loss_hessian


def loss_of(likelihood: ek.Likelihood) -> Loss:
    """Torch's own, summed over the batch."""
    if isinstance(likelihood, ek.Categorical):
        assert likelihood.ignore_index == -100
        classes_second = likelihood.class_axis == 1
        return losses.cross_entropy if classes_second else losses.token_cross_entropy
    return {
        ek.Gaussian: losses.half_squared_error,
        ek.Bernoulli: losses.bernoulli,
        ek.Poisson: losses.poisson,
    }[type(likelihood)]


def asked(problem: ek.Problem) -> tuple:
    """The problem without the package's records."""
    return problem.model, problem.batches, loss_of(problem.likelihood)


def assert_exact_is(got: Tensor, expected: Tensor, problem: ek.Problem, layer: str) -> None:
    """To rounding; softmax takes p from p^2: where it is sure, nearly all of |J|^2 cancels."""
    of_outputs = [(x, torch.zeros_like(call(problem.model, x))) for x, _ in problem.batches]
    all_of_J = replace(problem, likelihood=ek.Gaussian(), batches=of_outputs)
    seen = observed(problem)[layer] + observed(all_of_J)[layer]
    scale, summands = sum(map(fisher_scale, seen)), sum(map(length, seen))
    bounded("exact is it", got - expected, scale, seen[0], summands)


@given(problems())
def test_exact_is_gauss_newton(drawn: Drawn) -> None:
    # Forward mode sees the row at padding_idx, which reverse mode and this package leave at zero.
    assume("padding_idx" not in drawn.corners)
    problem = in_dtype(drawn.problem(ek.Exact()), torch.float64)
    full = ek.full_fisher(problem)
    for layer in full.shapes:
        GGN = gauss_newton(*asked(problem), layer)
        assert_exact_is(full.block(layer, layer), GGN, problem, layer)


@given(problems())
def test_exact_is_the_hessian_for_the_last_layer(drawn: Drawn) -> None:
    problem = in_dtype(drawn.problem(ek.Exact()), torch.float64)
    full = ek.full_fisher(problem)
    last = list(full.shapes)[-1]
    H = loss_hessian(*asked(problem), last)
    assert_exact_is(full.block(last, last), H, problem, last)


def test_a_hidden_layer_has_another_hessian() -> None:
    """Or the law above would be about nothing."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, y = torch.randn(4, 2, generator=generator).double(), torch.arange(4) % 2
    problem = ek.Problem(model, [(x, y)], ek.Categorical())
    F, H = ek.exact_fisher(problem)["0"].dense(), loss_hessian(*asked(problem), "0")
    assert float((F - H).norm() / F.norm()) > 0.1


@pytest.mark.parametrize("layer", ["0", "1", "2"])
def test_exact_is_the_hessian_in_deep_linear_networks(layer: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)).double()
    x, y = (torch.randn(4, 2, generator=generator).double() for _ in range(2))
    problem = ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian())
    F = ek.exact_fisher(problem)[layer].dense()
    assert_exact_is(F, loss_hessian(*asked(problem), layer), problem, layer)
