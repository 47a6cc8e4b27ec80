"""Correct answers in the corners where a bound on rounding is easily too tight."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.laws import of_a_case
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import notices
from ekfac_ref.conformance.laws.of_two_answers import unchanged_ekfac
from ekfac_ref.conformance.run.load import load
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import observation, oracle
from ekfac_ref.conformance.truth.observation import Observation, observe
from ekfac_ref.matrix.operators import Dense
from ekfac_ref.question.problem import Problem
from tests.support import by_hand
from tests.support.witnesses import witnesses

GAUSS = ek.Gaussian()


@pytest.mark.parametrize("path", ["reference", "reference_float32", "hooks"])
def test_gradients_whose_squares_underflow(path: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for size, parameter in zip((1, 1, 1e-22, 1), model.parameters(), strict=True):
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(3, 2, generator=generator)
    problem = Problem(model, [(x[:2], x[:2]), (x[2:], x[2:])], ek.Gaussian())
    trial = Trial(load(f"ekfac_ref.examples:{path}"), problem)
    assert not [law.name for law in LAWS.values() if notices(law, trial)]


def test_a_batch_of_one_with_the_strides_of_a_larger_matrix() -> None:
    problem = witnesses()["vectors 1"]
    x = torch.randn(2, 5, dtype=torch.float64).T[:1]  # [1, 2], strides 1 and 5
    y = torch.zeros(1, 2, dtype=torch.float64)
    odd = x.T[1:].T  # [1, 1] with strides that no fresh tensor has
    model = nn.Sequential(nn.Linear(1, 2)).double()
    for inputs, network in ((x, problem.model), (odd, model)):
        trial = Trial(load("ekfac_ref.examples:reference"), Problem(network, [(inputs, y)], GAUSS))
        assert len(trial.cases) == sum(isinstance(m, nn.Linear) for m in network.modules())


def nearly_singular() -> Observation:
    """B has the eigenvalues 1/2, 5e-11, 0: large inputs come with small gradients.

    So ||F|| is far below b a, and a turn toward the null space matters more than ||F|| says.
    """
    rows = torch.eye(3).double()
    g = [rows[0][None], 1e-5 * rows[1][None]]
    a = [torch.tensor([[1e-4, 0.0]]).double(), torch.tensor([[0.0, 1e4]]).double()]
    return by_hand.observation(a, [v[None] for v in g], ek.Expand())


def turned(seen: Observation, angle: float) -> Answered:
    """The EKFAC in a basis turned by this angle, from the second eigenvector to the null space."""
    Q_B, Q_A = torch.eye(3).double(), torch.eye(2).double()
    Q_B[1:, 1:] = torch.tensor([[1.0, -angle], [angle, 1.0]])
    Q = torch.kron(Q_B, Q_A)
    E = Q @ torch.diag(oracle.eigenvalues(seen, Q_B, Q_A).reshape(-1)) @ Q.T
    return Answered("ekfac", seen, E, Own(Dense(E, (3, 2)), "layer", (3, 2)))


@pytest.mark.shapes
def test_a_basis_that_rounding_turns_toward_the_null_space() -> None:
    seen = nearly_singular()
    of_rounding = torch.finfo(torch.float64).eps * 0.5 / 5e-11
    right, moved = turned(seen, 0.0), turned(seen, of_rounding)
    for law in (lambda case: unchanged_ekfac(right, case), of_a_case.comparison.formula):
        assert law(moved) < 1
        with pytest.raises(AssertionError):
            law(turned(seen, 1e3 * of_rounding))


def test_the_replay_that_moves_most_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = witnesses()["vectors 1"]
    before = observe(problem)["0"][0]

    def another_order(problem: Problem) -> Problem:
        """As if rounding alone moved the inputs by a thousandth."""
        return replace(problem, batches=[(moved(x), y) for x, y in problem.batches])

    def moved(x: Tensor) -> Tensor:
        return x + 1e-3

    monkeypatch.setattr(observation, "recut", another_order)
    after = observe(problem)["0"][0]
    least = 1e-3 / torch.finfo(torch.float32).eps
    assert max(float(w.max()) for w in before.rounding_a) < 2
    assert min(float(w.min()) for w in after.rounding_a) > least
