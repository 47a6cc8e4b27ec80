"""What a trial on a model of one's own says of a preconditioner that is wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.own_model.looks import AS_SINGLE
from tests.kit.test_own_diagnosis import scaled, tokens
from tests.kit.test_own_freedom import uneven

Solved = Callable[[Any, Tensor, float], Tensor]  # of an operator, V and the damping


def preconditions(solved: Solved, blocks_of: Any = ek.ekfac, **declared: Any) -> ct.Subject:
    """By a block of its own for each layer."""

    def precondition(problem: ek.Problem, V: dict[str, Tensor], d: float) -> dict[str, Tensor]:
        return {name: solved(E, V[name], d) for name, E in blocks_of(problem).items()}

    return ct.Subject("P", precondition=precondition, definition=ct.Definition(**declared))


def by_eigenvalues(divisor: Callable[[Tensor, float], Tensor]) -> Solved:
    def solved(E: Any, V: Tensor, d: float) -> Tensor:
        return E.Q_B @ (E.Q_B.T @ V @ E.Q_A / divisor(E.eigenvalues, d)) @ E.Q_A.T

    return solved


def factored(K: Any, V: Tensor, d: float) -> Tensor:
    pi = float((K.A.trace() / len(K.A)) / (K.B.trace() / len(K.B))) ** 0.5
    left, right = (
        X + d**0.5 * by * torch.eye(len(X)).to(X) for X, by in ((K.B, 1 / pi), (K.A, pi))
    )
    return torch.linalg.solve(right, torch.linalg.solve(left, V).T).T


INVERTS = "Its preconditioner inverts"
THEIRS = "What its preconditioner inverts is right"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("solved", "blocks_of", "says"),
    [
        (lambda E, V, d: E.solve(V, damping=2 * d), ek.ekfac, f"{THEIRS}, but for 2 d in place"),
        (lambda E, V, d: E.solve(V, damping=0.01), ek.ekfac, f"{THEIRS}, but for 0.01 in place of"),
        (lambda E, V, d: E.solve(V, damping=d) / 4, ek.ekfac, f"{INVERTS} 4 times"),
        (
            lambda E, V, d: E.scaled(9.0).solve(V, damping=d),
            ek.ekfac,
            f"{THEIRS} up to a factor: times 9, which is samples here.",
        ),
        (by_eigenvalues(lambda L, d: L + d**0.5), ek.ekfac, "Its preconditioner adds sqrt(d)"),
        (
            by_eigenvalues(lambda L, d: (L + d).sqrt()),
            ek.ekfac,
            "Its preconditioner inverts the sq",
        ),
        (
            lambda K, V, d: K.solve(V, damping=d),
            ek.kfac,
            f"{INVERTS} B (x) A + d I",
        ),
        (factored, ek.kfac, f"{INVERTS} (B + sqrt(d) / pi I)"),
    ],
)
def test_what_a_preconditioner_does_with_the_damping_is_told(
    solved: Solved, blocks_of: Any, says: str, dtype: Any
) -> None:
    report = ct.check_on(preconditions(solved, blocks_of), tokens(dtype))
    assert report.exit_code == 1
    assert report.diagnosis.startswith(says)


def test_a_mistake_of_another_kind_in_a_preconditioner_gets_no_name() -> None:
    def turned(E: Any, V: Tensor, d: float) -> Tensor:
        return E.solve(V.flip(0), damping=d)

    report = ct.check_on(preconditions(turned), tokens())
    assert (report.exit_code, report.diagnosis) == (1, "")


def test_what_explains_one_block_and_not_another_is_not_told() -> None:
    """Twice the damping in the head, and half of it elsewhere."""

    def uneven(E: Any, V: Tensor, d: float) -> Tensor:
        return E.solve(V, damping=(2 if len(V) == 3 else 0.5) * d)

    assert ct.check_on(preconditions(uneven), tokens()).diagnosis == ""


def test_what_several_explain_on_one_block_the_others_decide() -> None:
    """Where no gradient comes, twice the damping is twice of everything."""
    report = ct.check_on(preconditions(lambda E, V, d: E.solve(V, damping=2 * d)), uneven(0.03))
    assert report.diagnosis == f"{THEIRS}, but for 2 d in place of d."


def test_what_nothing_tells_apart_is_not_told() -> None:
    """With no weights no gradient comes to the first layer, and it is the only one."""
    problem = tokens()
    for parameter in problem.model.parameters():
        parameter.data.zero_()
    twice = preconditions(lambda E, V, d: E.solve(V, damping=2 * d))
    report = ct.check_on(twice, replace(problem, layers=("0",)))
    assert (report.exit_code, report.diagnosis) == (1, "")


def test_one_that_computes_in_float32_is_told_so() -> None:
    def coarse(E: Any, V: Tensor, d: float) -> Tensor:
        return E.solve(V, damping=d).float().double()

    assert ct.check_on(preconditions(coarse), tokens()).diagnosis == AS_SINGLE


def test_one_that_is_not_that_of_the_e_beside_it_is_told_by_that_e_alone() -> None:
    """The preconditioner is right, and E is not."""
    right = preconditions(lambda E, V, d: E.solve(V, damping=d))
    report = ct.check_on(replace(right, ekfac=scaled(3.0)), tokens())
    assert {v.law.name for v in report.verdicts if v.broken} > {"precondition", "trace"}
    assert report.diagnosis.startswith("E is right up to a factor: times 3, ")
    assert "preconditioner" not in report.diagnosis


@pytest.mark.parametrize(("declared", "told"), [(ct.OnKFAC(), True), (ct.Factored(), False)])
def test_it_is_told_by_the_definition_that_is_declared(declared: Any, told: bool) -> None:
    """In the factored one d is added to no matrix."""
    twice = preconditions(lambda K, V, d: K.solve(V, damping=2 * d), ek.kfac, damping=declared)
    report = ct.check_on(twice, tokens())
    assert report.exit_code == 1
    assert report.diagnosis == (f"{THEIRS}, but for 2 d in place of d." if told else "")


def test_one_of_the_wrong_sign_is_told() -> None:
    negative = preconditions(lambda E, V, d: -E.solve(V, damping=d))
    report = ct.check_on(negative, tokens())
    assert report.diagnosis == "Its preconditioner inverts -1 times what it should, d included."
