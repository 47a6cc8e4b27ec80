"""A correct EKFAC in the steps that mistakes are made in; a mutant replaces one of them.

Everything is computed in float64 from what each layer saw (``observation.py``), with the oracle's
own definitions as the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance import oracle
from ekfac_ref.conformance.observation import Observation, observe
from ekfac_ref.operators import BlockDiagonal, EigenKronecker
from ekfac_ref.problem import Problem

Looking = Callable[[Problem], dict[str, list[Observation]]]
Factor = Callable[[Observation], Tensor]
Basis = Callable[[Tensor], Tensor]
Eigenvalues = Callable[[Observation, Tensor, Tensor], Tensor]
Assembling = Callable[[Tensor, Tensor, Tensor], Any]


def factor_A(seen: Observation) -> Tensor:
    """A, [d_in, d_in], under the problem's sharing."""
    return oracle.factors(seen)[1]


def factor_B(seen: Observation) -> Tensor:
    """B, [d_out, d_out], under the problem's sharing."""
    return oracle.factors(seen)[0]


def eigenvectors(factor: Tensor) -> Tensor:
    """As columns."""
    return torch.linalg.eigh(factor).eigenvectors


@dataclass(frozen=True)
class Recipe:
    """One step after the other, as they come in ``ekfac``.

    Attributes:
        look: what every layer (and group) sees of the problem.
        A, B: the factors of one layer.
        basis: eigenvectors of a factor, as columns.
        eigenvalues: Lambda, [d_out, d_in], in the basis (Q_B, Q_A).
        assemble: (Q_B, Q_A, Lambda) to an operator on [d_out, d_in].
    """

    look: Looking = observe
    A: Factor = factor_A
    B: Factor = factor_B
    basis: Basis = eigenvectors
    eigenvalues: Eigenvalues = oracle.eigenvalues
    assemble: Assembling = EigenKronecker

    def ekfac(self, problem: Problem) -> dict[str, Any]:
        """{layer: operator}, a BlockDiagonal for a layer with groups."""
        return {
            name: _direct_sum([self._block(seen) for seen in groups])
            for name, groups in self.look(problem).items()
        }

    def _block(self, seen: Observation) -> Any:
        Q_B, Q_A = self.basis(self.B(seen)), self.basis(self.A(seen))
        operator = self.assemble(Q_B, Q_A, self.eigenvalues(seen, Q_B, Q_A))
        return InDtype(operator, seen.dtype)


@dataclass(frozen=True, eq=False)
class InDtype:
    """A float64 operator that takes and gives the dtype of the problem, as a subject's would."""

    own: Any
    dtype: torch.dtype

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


def _direct_sum(blocks: list[Any]) -> Any:
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(tuple(blocks))


CORRECT = Recipe()
