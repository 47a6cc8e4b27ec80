"""A correct EKFAC in the steps that mistakes are made in; a mutant replaces one of them.

Everything is computed in float64 from what each layer saw (``observation.py``), with the oracle's
own definitions as the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.matrix.operators import BlockDiagonal, EigenKronecker
from ekfac_ref.question.problem import Problem

Looking = Callable[[Problem], dict[str, list[Observation]]]
Factor = Callable[[Observation], Tensor]
Basis = Callable[[Tensor], Tensor]
Eigenvalues = Callable[[Observation, Tensor, Tensor], Tensor]
Assembling = Callable[[Tensor, Tensor, Tensor], Any]
Handing = Callable[[Any, torch.dtype], Any]


def factor_A(seen: Observation) -> Tensor:
    """A, [d_in, d_in], under the problem's sharing."""
    return oracle.factors(seen)[1]


def factor_B(seen: Observation) -> Tensor:
    """B, [d_out, d_out], under the problem's sharing."""
    return oracle.factors(seen)[0]


def eigenvectors(factor: Tensor) -> Tensor:
    """As columns."""
    return torch.linalg.eigh(factor).eigenvectors


def ends_in_ones(seen: Observation) -> bool:
    """Whether the last input is the homogeneous 1 of a bias, as far as inputs tell."""
    return all(bool((a[:, -1] == 1).all()) for a in seen.a)


def part(seen: Observation, samples: list[int]) -> Observation:
    """What it saw of some of the samples."""
    values = {field.name: getattr(seen, field.name) for field in fields(seen)}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = [value[n] for n in samples]
    return Observation(**values)


def by_batch(seen: Observation) -> list[Observation]:
    """What it saw of every batch."""
    return [
        part(seen, [n for n, number in enumerate(seen.batch) if number == batch])
        for batch in sorted(set(seen.batch))
    ]


@dataclass(frozen=True, eq=False)
class InDtype:
    """A float64 operator that takes and gives the dtype of the problem, as a subject's would."""

    own: Any
    dtype: torch.dtype

    @property  # type: ignore[misc]  # read-only, other than object's
    def __class__(self) -> Any:
        """What it stands for, so that ``isinstance`` takes it for that."""
        return type(self.own)

    def __getattr__(self, name: str) -> Any:
        """``solve`` where there is one; Q_B, Q_A and eigenvalues in the problem's dtype."""
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.own, name)
        if isinstance(found, Tensor):
            return found.to(self.dtype)
        if name == "solve":
            return lambda V, *, damping: found(V.double(), damping=damping).to(self.dtype)
        return found

    def matvec(self, V: Tensor) -> Tensor:
        """The operator's own, in float64, rounded."""
        product: Tensor = self.own.matvec(V.double())
        return product.to(self.dtype)


@dataclass(frozen=True)
class Recipe:
    """One step after the other, as they come in ``ekfac``.

    Attributes:
        look: what every layer (and group) sees of the problem.
        A, B: the factors of one layer.
        output_basis, input_basis: eigenvectors of each factor, as columns.
        eigenvalues: Lambda, [d_out, d_in], in the basis (Q_B, Q_A).
        assemble: (Q_B, Q_A, Lambda) to an operator on [d_out, d_in].
        hand_over: that operator in the dtype of the problem.
    """

    look: Looking = observed_exactly
    A: Factor = factor_A
    B: Factor = factor_B
    output_basis: Basis = eigenvectors
    input_basis: Basis = eigenvectors
    eigenvalues: Eigenvalues = oracle.eigenvalues
    assemble: Assembling = EigenKronecker
    hand_over: Handing = InDtype

    def ekfac(self, problem: Problem) -> dict[str, Any]:
        """{layer: operator}, a BlockDiagonal for a layer with groups."""
        return {
            name: direct_sum([self.block(seen) for seen in groups])
            for name, groups in self.look(problem).items()
        }

    def block(self, seen: Observation) -> Any:
        """The operator of one group."""
        Q_B, Q_A = self.output_basis(self.B(seen)), self.input_basis(self.A(seen))
        operator = self.assemble(Q_B, Q_A, self.eigenvalues(seen, Q_B, Q_A))
        return self.hand_over(operator, seen.algebra)


def direct_sum(blocks: list[Any]) -> Any:
    """One operator for a layer out of those of its groups."""
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(tuple(blocks))


CORRECT = Recipe()


def with_eigenvalues(eigenvalues: Eigenvalues) -> Ask:
    """All else is right."""
    return replace(CORRECT, eigenvalues=eigenvalues).ekfac


def with_bases(basis: Basis) -> Ask:
    """Another way to get either factor's eigenvectors; all else is right."""
    return replace(CORRECT, output_basis=basis, input_basis=basis).ekfac


def assembled(assemble: Assembling) -> Ask:
    """All else is right."""
    return replace(CORRECT, assemble=assemble).ekfac


def handed_over(hand_over: Handing) -> Ask:
    """All else is right."""
    return replace(CORRECT, hand_over=hand_over).ekfac
