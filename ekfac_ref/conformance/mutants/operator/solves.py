"""Mistakes in solves: (E + damping I)^-1 V, where products are right."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Rounded, RoundedEigen, Solution
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.matrix.operators import EigenKronecker


def _solving(solution: Solution) -> Ask:
    """An EKFAC that is right but for its solves."""
    return replace(CORRECT, solution=solution).ekfac


def _dividing(quotient: Callable[[Tensor, Tensor, float], Tensor]) -> Ask:
    """One that makes a quotient of (C, Lambda, damping), C = Q_B^T V Q_A, and turns it back."""

    def solution(E: EigenKronecker, V: Tensor, damping: float) -> Tensor:
        C = E.Q_B.T @ V @ E.Q_A
        return E.Q_B @ quotient(C, E.eigenvalues, damping) @ E.Q_A.T

    return _solving(solution)


def _by_factors(C: Tensor, Lambda: Tensor, damping: float) -> Tensor:
    """C over (b + sqrt d)(a + sqrt d), with b and a from the sums of Lambda."""
    total = Lambda.sum().clamp(min=1e-300).sqrt()
    b, a = Lambda.sum(1) / total, Lambda.sum(0) / total
    return C / torch.outer(b + math.sqrt(damping), a + math.sqrt(damping))


def _pseudo_inverse(C: Tensor, Lambda: Tensor, damping: float) -> Tensor:
    return torch.where(Lambda <= 1e-12 * Lambda.amax(), 0.0, C / (Lambda + damping))


def _the_wrong_way_round(E: EigenKronecker, V: Tensor, damping: float) -> Tensor:
    """Q^T (Lambda + damping)^-1 Q V instead of Q (Lambda + damping)^-1 Q^T V."""
    return E.Q_B.T @ ((E.Q_B @ V @ E.Q_A.T) / (E.eigenvalues + damping)) @ E.Q_A


def _one_step(E: EigenKronecker, V: Tensor, damping: float) -> Tensor:
    """The first step of conjugate gradients."""
    product = E.matvec(V) + damping * V
    return V * ((V * V).sum() / (V * product).sum())


def _over_V(right: RoundedEigen) -> Rounded:
    """The solution is written to where V was."""
    return replace(right, solve=lambda V, *, damping: V.copy_(right.solve(V, damping=damping)))


_mutant = partial(Mutant, laws=("solve 1e-06", "solve 1"))

SOLVES = (
    _mutant(
        name="damped-twice",
        mistake="adds the damping twice in solves (right: once)",
        story="Once where the eigenvalues are stored and once where they are used.",
        ekfac=_dividing(lambda C, Lambda, damping: C / (Lambda + damping + damping)),
    ),
    _mutant(
        name="factored-damping",
        mistake="adds the root of the damping to each factor (right: the damping to the products)",
        story="Laplace#13, Laplace#121; a convention of KFAC, where inverses come by factors.",
        ekfac=_dividing(_by_factors),
    ),
    _mutant(
        name="relative-damping",
        mistake="multiplies the damping by the mean eigenvalue (right: adds it as it is)",
        story="A heuristic of influence functions, as a default that nobody sees.",
        ekfac=_dividing(
            lambda C, Lambda, damping: C / (Lambda + damping * Lambda.mean().clamp(min=1e-30))
        ),
    ),
    _mutant(
        name="squared-damping",
        mistake="squares the damping (right: adds it as it is); a damping of 1 cannot tell",
        story="Tikhonov's lambda^2.",
        ekfac=_dividing(lambda C, Lambda, damping: C / (Lambda + damping**2)),
        laws=("solve 1e-06",),
    ),
    _mutant(
        name="no-damping",
        mistake="leaves the damping out (right: adds it)",
        story="kfac-pytorch@12741b3: the caller did not pass it on.",
        ekfac=_dividing(lambda C, Lambda, damping: C / Lambda.clamp(min=1e-12)),
    ),
    _mutant(
        name="pseudo-inverse",
        mistake="solves with zero where Lambda is zero (right: divides by the damping there)",
        story="A pinverse, or thin bases without the rest of the space.",
        ekfac=_dividing(_pseudo_inverse),
        only="a singular E",
    ),
    _mutant(
        name="solved-twice",
        mistake="solves what was already solved (right: once)",
        story="pyDVL#595: an operator applied to preconditioned factors.",
        ekfac=_dividing(lambda C, Lambda, damping: C / (Lambda + damping) / (Lambda + damping)),
    ),
    _mutant(
        name="square-root-of-the-inverse",
        mistake="solves with the power -1/2 (right: -1)",
        story="bergson@6232d1e: a condition that was always true chose the two-sided form.",
        ekfac=_dividing(lambda C, Lambda, damping: C / (Lambda + damping).sqrt()),
    ),
    _mutant(
        name="damping-accumulates",
        mistake="adds the damping in place (right: leaves Lambda alone)",
        story="asdl@c9916bc: add_ on the factor itself. The first solve is right.",
        ekfac=_dividing(lambda C, Lambda, damping: C / Lambda.add_(damping)),
    ),
    _mutant(
        name="solved-with-another-scale",
        mistake="solves with twice the eigenvalues of its products (right: with the same)",
        story="asdl@77dc587: a scale that some of the representations knew and others did not.",
        ekfac=_dividing(lambda C, Lambda, damping: C / (2 * Lambda + damping)),
    ),
    _mutant(
        name="solved-the-wrong-way-round",
        mistake="solves with Q^T in the place of Q and Q in that of Q^T (right: Q D Q^T)",
        story="A transpose that only the preconditioner has: kfac-pytorch@b5b10e5, of embeddings.",
        ekfac=_solving(_the_wrong_way_round),
        only="d_in > 1 or d_out > 1",
    ),
    _mutant(
        name="not-solved",
        mistake="returns V (right: the solution)",
        story="EKFAC-pytorch#1 stored the raw gradient after it had computed the natural one.",
        ekfac=_solving(lambda E, V, damping: V.clone()),
    ),
    _mutant(
        name="one-step",
        mistake="stops the solver after one step (right: at the solution)",
        story="curvlinops@a05a8bc: a limit of 1e-8 on the condition number, for 1e8.",
        ekfac=_solving(_one_step),
        only="Lambda not constant",
    ),
    _mutant(
        name="solution-over-v",
        mistake="writes the solution to where V was (right: leaves V alone)",
        story="asdl@c9916bc, on the right-hand side.",
        ekfac=replace(CORRECT, hand_over=_over_V).ekfac,
        laws=("own answers",),
    ),
)
