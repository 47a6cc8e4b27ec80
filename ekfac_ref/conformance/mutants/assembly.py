"""Mistakes in what is done with Q_B, Q_A and Lambda: products and solves."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Assembling, Handing, InDtype
from ekfac_ref.conformance.subject import Ask
from ekfac_ref.operators import Dense, EigenKronecker


def _with(assemble: Assembling) -> Ask:
    return replace(CORRECT, assemble=assemble).ekfac


def _handed_over(hand_over: Handing) -> Ask:
    return replace(CORRECT, hand_over=hand_over).ekfac


def _kron_of_the_other_order(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Dense:
    """Q_A (x) Q_B with Lambda by rows, for V by rows."""
    Q = torch.kron(Q_A.contiguous(), Q_B.contiguous())
    return Dense((Q * Lambda.reshape(-1)) @ Q.T, (len(Q_B), len(Q_A)))


class _NotTransposed(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        """Q Lambda Q instead of Q Lambda Q^T."""
        return self.Q_B @ (self.eigenvalues * (self.Q_B @ V @ self.Q_A.T)) @ self.Q_A.T


class _OtherWayRound(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        """Q^T Lambda Q instead of Q Lambda Q^T."""
        return self.Q_B.T @ (self.eigenvalues * (self.Q_B @ V @ self.Q_A.T)) @ self.Q_A


class _Twice(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        return super().matvec(super().matvec(V))


class _Damped(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        return super().matvec(V) + 1e-3 * self.eigenvalues.mean() * V


class _Untouched(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        """The column of the bias, or of the last input, comes back as it went in."""
        return torch.cat([super().matvec(V)[:, :-1], V[:, -1:]], 1)


class _OfTheDirection(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        return super().matvec(V / V.norm()) if V.any() else V


class _InHalf(EigenKronecker):
    def matvec(self, V: Tensor) -> Tensor:
        return super().matvec(V).bfloat16().double()


class _InBuffer(InDtype):
    """Every product is written to the same memory."""

    def matvec(self, V: Tensor) -> Tensor:
        product = super().matvec(V)
        if "buffer" not in vars(self):
            object.__setattr__(self, "buffer", torch.empty_like(product))
        return vars(self)["buffer"].copy_(product)


class _OverV(InDtype):
    """The product is written to where V was."""

    def matvec(self, V: Tensor) -> Tensor:
        return V.copy_(super().matvec(V))


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


class _DampingOfTheInverse(_Solving):
    def quotient(self, C: Tensor, damping: float) -> Tensor:
        return C * (1 / self.eigenvalues.clamp(min=1e-12) + damping)


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


ASSEMBLY = (
    Mutant(
        name="kron-in-the-other-order",
        mistake="builds kron(Q_A, Q_B) with eigenvalues and vectors in row order (right: kron(Q_B, "
        "Q_A))",
        story="vec stacks columns in the papers and rows in code: curvlinops#182.",
        ekfac=_with(_kron_of_the_other_order),
        laws=("commutes", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    Mutant(
        name="not-transposed",
        mistake="multiplies Q Lambda Q (right: Q Lambda Q^T)",
        story="Laplace#268: z L for z L^T.",
        ekfac=_with(_NotTransposed),
        laws=("symmetry", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="other-way-round",
        mistake="multiplies Q^T Lambda Q (right: Q Lambda Q^T)",
        story="Transposes exchanged in the product, whereas Q and Lambda are right.",
        ekfac=_with(_OtherWayRound),
        laws=("commutes", "self-projection"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="multiplied-twice",
        mistake="applies E twice (right: once)",
        story="pyDVL#595 applied its operator to what it had been applied to.",
        ekfac=_with(_Twice),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="damped-product",
        mistake="adds damping in the product (right: in solves only)",
        story="Damping stored with the eigenvalues.",
        ekfac=_with(_Damped),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="column-untouched",
        mistake="returns the last column of V as it was (right: all of the product)",
        story="curvlinops#77: entries that nothing had processed came back as they went in.",
        ekfac=_with(_Untouched),
        laws=("trace", "commutes"),
    ),
    Mutant(
        name="product-of-the-direction",
        mistake="normalises V (right: multiplies it)",
        story="A helper of the power method; every unit vector comes out right.",
        ekfac=_with(_OfTheDirection),
        laws=("linear",),
    ),
    Mutant(
        name="product-in-half-precision",
        mistake="returns products in bfloat16 (right: in the dtype of the model)",
        story="Automatic mixed precision, left on.",
        ekfac=_with(_InHalf),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="product-in-a-buffer",
        mistake="returns every product in the same memory (right: in memory of its own)",
        story="asdl@c73fab8: the next call overwrote what the caller had kept.",
        ekfac=_handed_over(_InBuffer),
        laws=("trace", "linear"),
        only="d_out d_in > 1",
    ),
    Mutant(
        name="product-over-v",
        mistake="writes the product to where V was (right: leaves V alone)",
        story="kfac-pytorch@06af951, asdl@c9916bc: in-place arithmetic on what others still hold.",
        ekfac=_handed_over(_OverV),
        laws=("linear", "solve 1"),
    ),
    Mutant(
        name="damped-twice",
        mistake="adds the damping twice in solves (right: once)",
        story="Once where the eigenvalues are stored and once where they are used.",
        ekfac=_with(_DampedTwice),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="factored-damping",
        mistake="adds the root of the damping to each factor (right: the damping to the products)",
        story="Laplace#13, Laplace#121; a convention of KFAC, where inverses come by factors.",
        ekfac=_with(_FactoredDamping),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="relative-damping",
        mistake="multiplies the damping by the mean eigenvalue (right: adds it as it is)",
        story="A heuristic of influence functions, as a default that nobody sees.",
        ekfac=_with(_RelativeDamping),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="squared-damping",
        mistake="squares the damping (right: adds it as it is); a damping of 1 cannot tell",
        story="Tikhonov's lambda^2.",
        ekfac=_with(_SquaredDamping),
        laws=("solve 1e-06",),
    ),
    Mutant(
        name="no-damping",
        mistake="leaves the damping out (right: adds it)",
        story="kfac-pytorch@12741b3: the caller did not pass it on.",
        ekfac=_with(_NoDamping),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="damping-of-the-inverse",
        mistake="adds the damping to 1 / Lambda (right: to Lambda)",
        story="Brackets.",
        ekfac=_with(_DampingOfTheInverse),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="pseudo-inverse",
        mistake="solves with zero where Lambda is zero (right: divides by the damping there)",
        story="A pinverse, or thin bases without the rest of the space.",
        ekfac=_with(_PseudoInverse),
        laws=("solve 1e-06", "solve 1"),
        only="a singular E",
    ),
    Mutant(
        name="solved-twice",
        mistake="solves what was already solved (right: once)",
        story="pyDVL#595: an operator applied to preconditioned factors.",
        ekfac=_with(_SolvedTwice),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="square-root-of-the-inverse",
        mistake="solves with the power -1/2 (right: -1)",
        story="bergson@6232d1e: a condition that was always true chose the two-sided form.",
        ekfac=_with(_SquareRoot),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="damping-accumulates",
        mistake="adds the damping in place (right: leaves Lambda alone)",
        story="asdl@c9916bc: add_ on the factor itself. The first solve is right.",
        ekfac=_with(_Accumulating),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="not-solved",
        mistake="returns V (right: the solution)",
        story="EKFAC-pytorch#1 stored the raw gradient after it had computed the natural one.",
        ekfac=_with(_NotSolved),
        laws=("solve 1e-06", "solve 1"),
    ),
    Mutant(
        name="one-step",
        mistake="stops the solver after one step (right: at the solution)",
        story="curvlinops@a05a8bc: a limit of 1e-8 on the condition number, for 1e8.",
        ekfac=_with(_OneStep),
        laws=("solve 1e-06", "solve 1"),
        only="Lambda not constant",
    ),
    Mutant(
        name="solution-over-v",
        mistake="writes the solution to where V was (right: leaves V alone)",
        story="asdl@c9916bc, on the right-hand side.",
        ekfac=_handed_over(_SolvingOverV),
        laws=("solve 1e-06", "solve 1"),
    ),
)
