"""What a mistake on the way to E makes of the inverse of KFAC, by either way to damp it."""

from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Factored, Tikhonov
from ekfac_ref.conformance.mutants.recipe import Around, Recipe, Solution
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.matrix.operators import EigenKronecker


def inverting(steps: Recipe | Around, how: Damping) -> Ask:
    """A way to ask for {layer: operator} whose ``solve`` is the damped inverse: of E, or of KFAC.

    KFAC is an operator in the mistaken basis with the products of the factors' eigenvalues for its
    Lambda, so that a mistake in solutions is made with it, too.
    """
    if isinstance(how, Tikhonov):
        return steps.ekfac
    if isinstance(steps, Around):
        return steps.wrap(inverting(Recipe(), how))
    kfac = replace(steps, eigenvalues=lambda *seen: _products(steps, *seen))
    by_factors = replace(kfac, solution=_by_factors(steps.solution))
    return by_factors.ekfac if isinstance(how, Factored) else kfac.ekfac


def _products(steps: Recipe, seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """b_o a_i; times what the mistake multiplies Lambda by, if it is a mistake of scale alone."""
    b, a = ((Q.T @ M(seen) @ Q).diagonal() for Q, M in ((Q_B, steps.B), (Q_A, steps.A)))
    theirs, right = (x(seen, Q_B, Q_A) for x in (steps.eigenvalues, oracle.eigenvalues))
    times = theirs.sum() / right.sum()
    is_scale = theirs.shape == right.shape and torch.allclose(theirs, times * right, atol=0.0)
    return torch.outer(b, a) * (times if is_scale else 1.0)


def _by_factors(solution: Solution) -> Solution:
    """That of (b + sqrt(d) / pi)(a + sqrt(d) pi), d what the mistaken solution adds for damping."""

    def damped(E: EigenKronecker, V: Tensor, damping: float) -> Tensor:
        d = _added(solution, E, damping)
        root = E.eigenvalues.sum().sqrt()
        b, a = E.eigenvalues.sum(1) / root, E.eigenvalues.sum(0) / root  # of one trace
        pi = (E.shape[0] / E.shape[1]) ** 0.5
        Lambda = torch.outer(b + d**0.5 / pi, a + d**0.5 * pi) - d
        return solution(EigenKronecker(E.Q_B, E.Q_A, Lambda), V, damping)

    return damped


def _added(solution: Solution, E: EigenKronecker, damping: float) -> float:
    """The number that is added to all eigenvalues; the damping, where it is no such number."""
    ones = E.Q_B @ torch.ones_like(E.eigenvalues) @ E.Q_A.T
    again = EigenKronecker(E.Q_B, E.Q_A, E.eigenvalues.clone())
    added = 1 / (E.Q_B.T @ solution(again, ones, damping) @ E.Q_A) - E.eigenvalues
    d = float(added.mean().clamp(min=0))
    rounding = 1e-9 * float(E.eigenvalues.amax() + damping)
    return d if float((added - d).abs().amax()) <= rounding else damping
