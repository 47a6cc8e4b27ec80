"""Mistakes in solves: (E + damping I)^-1 V, where products are right."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import InDtype, assembled, handed_over
from ekfac_ref.matrix.operators import EigenKronecker


@dataclass(frozen=True, eq=False)
class _Solving(EigenKronecker):
    """Divides by something in the eigenbasis."""

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        return self._from_basis(self.quotient(self._to_basis(V), damping))

    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / (self.eigenvalues + damping)


class _DampedTwice(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / (self.eigenvalues + damping + damping)


class _FactoredDamping(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        """(b + sqrt d)(a + sqrt d), with b and a from the sums of Lambda."""
        total = self.eigenvalues.sum().clamp(min=1e-300).sqrt()
        b, a = self.eigenvalues.sum(1) / total, self.eigenvalues.sum(0) / total
        return C / torch.outer(b + math.sqrt(damping), a + math.sqrt(damping))


class _RelativeDamping(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / (self.eigenvalues + damping * self.eigenvalues.mean().clamp(min=1e-30))


class _SquaredDamping(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / (self.eigenvalues + damping**2)


class _NoDamping(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / self.eigenvalues.clamp(min=1e-12)


class _PseudoInverse(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        silent = self.eigenvalues <= 1e-12 * self.eigenvalues.amax()
        return torch.where(silent, 0.0, super().quotient(C, damping))


class _SolvedTwice(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return super().quotient(super().quotient(C, damping), damping)


class _SquareRoot(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / (self.eigenvalues + damping).sqrt()


class _Accumulating(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        """The damping stays in the eigenvalues."""
        return C / self.eigenvalues.add_(damping)


class _OtherScale(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C / (2 * self.eigenvalues + damping)


class _WrongWayRound(EigenKronecker):
    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """Q^T (Lambda + damping)^-1 Q instead of Q (Lambda + damping)^-1 Q^T."""
        quotient = (self.Q_B @ V @ self.Q_A.T) / (self.eigenvalues + damping)
        return self.Q_B.T @ quotient @ self.Q_A


class _NotSolved(EigenKronecker):
    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        return V.clone()


class _OneStep(EigenKronecker):
    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """The first step of conjugate gradients."""
        product = self.matvec(V) + damping * V
        return V * ((V * V).sum() / (V * product).sum())


class _SolvingOverV(InDtype):
    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name != "solve":
            return found
        return lambda V, *, damping: V.copy_(found(V, damping=damping))


SOLVES = (
    Mutant(
        name="damped-twice",
        mistake="adds the damping twice in solves (right: once)",
        story="Once where the eigenvalues are stored and once where they are used.",
        ekfac=assembled(_DampedTwice),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="factored-damping",
        mistake="adds the root of the damping to each factor (right: the damping to the products)",
        story="Laplace#13, Laplace#121; a convention of KFAC, where inverses come by factors.",
        ekfac=assembled(_FactoredDamping),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="relative-damping",
        mistake="multiplies the damping by the mean eigenvalue (right: adds it as it is)",
        story="A heuristic of influence functions, as a default that nobody sees.",
        ekfac=assembled(_RelativeDamping),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="squared-damping",
        mistake="squares the damping (right: adds it as it is); a damping of 1 cannot tell",
        story="Tikhonov's lambda^2.",
        ekfac=assembled(_SquaredDamping),
        laws=("solve 1e-06",),
    ),
    Mutant(
        name="no-damping",
        mistake="leaves the damping out (right: adds it)",
        story="kfac-pytorch@12741b3: the caller did not pass it on.",
        ekfac=assembled(_NoDamping),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="pseudo-inverse",
        mistake="solves with zero where Lambda is zero (right: divides by the damping there)",
        story="A pinverse, or thin bases without the rest of the space.",
        ekfac=assembled(_PseudoInverse),
        laws=("solve 1e-06", "solve 1"),
        only="a singular E",
    ),
    Mutant(
        name="solved-twice",
        mistake="solves what was already solved (right: once)",
        story="pyDVL#595: an operator applied to preconditioned factors.",
        ekfac=assembled(_SolvedTwice),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="square-root-of-the-inverse",
        mistake="solves with the power -1/2 (right: -1)",
        story="bergson@6232d1e: a condition that was always true chose the two-sided form.",
        ekfac=assembled(_SquareRoot),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="damping-accumulates",
        mistake="adds the damping in place (right: leaves Lambda alone)",
        story="asdl@c9916bc: add_ on the factor itself. The first solve is right.",
        ekfac=assembled(_Accumulating),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="solved-with-another-scale",
        mistake="solves with twice the eigenvalues of its products (right: with the same)",
        story="asdl@77dc587: a scale that some of the representations knew and others did not.",
        ekfac=assembled(_OtherScale),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="solved-the-wrong-way-round",
        mistake="solves with Q^T in the place of Q and Q in that of Q^T (right: Q D Q^T)",
        story="A transpose that only the preconditioner has: kfac-pytorch@b5b10e5, of embeddings.",
        ekfac=assembled(_WrongWayRound),
        laws=("solve 1e-06", "solve 1"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="not-solved",
        mistake="returns V (right: the solution)",
        story="EKFAC-pytorch#1 stored the raw gradient after it had computed the natural one.",
        ekfac=assembled(_NotSolved),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="one-step",
        mistake="stops the solver after one step (right: at the solution)",
        story="curvlinops@a05a8bc: a limit of 1e-8 on the condition number, for 1e8.",
        ekfac=assembled(_OneStep),
        laws=("solve 1e-06", "solve 1"),
        only="Lambda not constant",
    ),
    Mutant(
        name="solution-over-v",
        mistake="writes the solution to where V was (right: leaves V alone)",
        story="asdl@c9916bc, on the right-hand side.",
        ekfac=handed_over(_SolvingOverV),
        laws=("own answers",),
    ),
)
