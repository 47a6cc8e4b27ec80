"""Refused: V of the wrong shape, damping that leaves a matrix singular, blocks of no layer."""

import math

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from tests.refusals.test_layers import two_layers


def columns(rows: int, *kept: int) -> Tensor:
    return torch.eye(rows)[:, list(kept)]


# All act on V of shape [2, 3]; all are singular.
SINGULAR: dict[str, ek.Operator] = {
    "dense": ek.Dense(torch.diag(torch.tensor([0.0, 1, 2, 3, 4, 5])), (2, 3)),
    "kronecker": ek.Kronecker(torch.eye(2), torch.diag(torch.tensor([0.0, 1, 2]))),
    "eigen_kronecker": ek.EigenKronecker(torch.eye(2), torch.eye(3), torch.arange(6.0).view(2, 3)),
    "thin": ek.EigenKronecker(columns(2, 0), columns(3, 1, 2), torch.ones(1, 2)),
    "block_diagonal": ek.BlockDiagonal((ek.Dense(torch.zeros(3, 3), (1, 3)),) * 2),
}
EVERY_OPERATOR = pytest.mark.parametrize("operator", SINGULAR.values(), ids=SINGULAR)


@EVERY_OPERATOR
@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 4), (1, 3), (2, 3, 1), ()])
def test_a_v_of_the_wrong_shape_is_refused(operator: ek.Operator, shape: tuple[int, ...]) -> None:
    V = torch.ones(shape)
    for answer in (operator.matvec, lambda V: operator.solve(V, damping=1.0)):
        with pytest.raises(ek.ProblemError) as caught:
            answer(V)
        assert f"V: shape {list(shape)}" in str(caught.value)
        assert "[d_out, d_in] = [2, 3]; bring gradients to [W | b]" in str(caught.value)


@EVERY_OPERATOR
@pytest.mark.parametrize("damping", [0.0, -0.5, -10.0, math.nan])
def test_damping_that_leaves_the_matrix_singular_is_refused(
    operator: ek.Operator, damping: float
) -> None:
    V = torch.ones(2, 3)
    answers = (
        lambda: operator.solve(V, damping=damping),
        lambda: operator.logdet(damping=damping),
    )
    for answer in answers:
        with pytest.raises(ek.ProblemError) as caught:
            answer()
        assert f"damping: {damping:g} does not make this block positive definite" in str(
            caught.value
        )
        assert "choose damping > 0." in str(caught.value)


def test_the_least_damping_is_named() -> None:
    indefinite = ek.Dense(torch.diag(torch.tensor([-2.0, 1.0])), (1, 2))
    with pytest.raises(ek.ProblemError, match=r"lowest eigenvalue is -2; choose damping > 2\."):
        indefinite.solve(torch.ones(1, 2), damping=1.5)
    indefinite.solve(torch.ones(1, 2), damping=2.5)


@EVERY_OPERATOR
def test_any_positive_damping_is_enough(operator: ek.Operator) -> None:
    assert bool(torch.isfinite(operator.solve(torch.ones(2, 3), damping=1e-3)).all())
    assert bool(torch.isfinite(operator.logdet(damping=1e-3)))


@pytest.mark.parametrize("names", [("0", "fc1"), ("fc1", "0")])
def test_a_block_of_an_unknown_layer_is_refused(names: tuple[str, str]) -> None:
    full = ek.full_fisher(ek.Problem(**two_layers()))
    with pytest.raises(ek.ProblemError) as caught:
        full.block(*names)
    assert "layer 'fc1': the full Fisher has no such layer" in str(caught.value)
    assert "choose among ['0', '2']" in str(caught.value)


@pytest.mark.parametrize("options", [{"draws": 0}, {"draws": -1}, {"seed": -1}])
def test_a_sampled_fisher_without_labels_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ek.ProblemError) as caught:
        ek.Sampled(**options)
    assert str(caught.value).startswith("fisher: Sampled(")
    assert "give the number of labels to draw" in str(caught.value)
