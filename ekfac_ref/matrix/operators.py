r"""Matrices on [W | b], by what is known of them: Dense, Kronecker, EigenKronecker, BlockDiagonal.

All are symmetric and act on V of shape [d_out, d_in] as P x P matrices act on vec(V), rows stacked
(``notation.py``). All answer ``dense()``, ``matvec(V)``, ``solve(V, damping=)`` = (M + damping
I)^-1 V, ``trace()``, ``logdet(damping=)`` = log det(M + damping I) and ``scaled(factor)``. Damping
is added to the eigenvalues, once, in the units of the matrix. It must make the matrix positive
definite; eigenvalues within rounding of zero count as zero there.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError, enough_memory
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.matrix.vectors import check_shape, check_vector

_Matrix = Float[Tensor, "d_out d_in"]
_Scalar = Float[Tensor, ""]


@runtime_checkable
class Operator(Protocol):
    """What every block answers, for V shaped like [W | b]; damping is in units of the matrix."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def dense(self) -> Float[Tensor, "P P"]: ...
    def matvec(self, V: _Matrix) -> _Matrix: ...
    def solve(self, V: _Matrix, *, damping: float) -> _Matrix: ...
    def trace(self) -> _Scalar: ...
    def logdet(self, *, damping: float) -> _Scalar: ...
    def scaled(self, factor: float) -> "Operator": ...


@dataclass(frozen=True, eq=False)
class Dense:
    """The matrix itself; ``shape`` is that of the V it acts on, P = d_out d_in."""

    matrix: Float[Tensor, "P P"]
    shape: tuple[int, int]

    def dense(self) -> Float[Tensor, "P P"]:
        return self.matrix

    def matvec(self, V: _Matrix) -> _Matrix:
        check_vector(V, self.shape, self.matrix)
        return (self.matrix @ V.reshape(-1)).reshape(V.shape)

    def solve(self, V: _Matrix, *, damping: float) -> _Matrix:
        check_vector(V, self.shape, self.matrix)
        w, Q = eigh(self.matrix)
        w = damped(without_noise(w), damping, null_space=False)
        return (Q @ ((Q.T @ V.reshape(-1)) / w)).reshape(V.shape)

    def scaled(self, factor: float) -> "Dense":
        return Dense(self.matrix * factor, self.shape)

    def trace(self) -> _Scalar:
        return self.matrix.trace()

    def logdet(self, *, damping: float) -> _Scalar:
        w = without_noise(eigh(self.matrix)[0])
        return damped(w, damping, null_space=False).log().sum()


@dataclass(frozen=True, eq=False)
class Kronecker:
    """B (x) A: V -> B V A^T. Solves by way of ``diagonalized()``; keep that to solve often."""

    B: Float[Tensor, "d_out d_out"]
    A: Float[Tensor, "d_in d_in"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.B), len(self.A)

    def diagonalized(self) -> "EigenKronecker":
        """This matrix by its eigenvectors; its eigenvalues are the products of the factors'."""
        b, Q_B = eigh(self.B)
        a, Q_A = eigh(self.A)
        return EigenKronecker(Q_B, Q_A, torch.outer(without_noise(b), without_noise(a)))

    @enough_memory()
    def dense(self) -> Float[Tensor, "P P"]:
        return torch.einsum("op,iq->oipq", self.B, self.A).flatten(2).flatten(0, 1)

    def matvec(self, V: _Matrix) -> _Matrix:
        check_vector(V, self.shape, self.B)
        return self.B @ V @ self.A.T

    def solve(self, V: _Matrix, *, damping: float) -> _Matrix:
        return self.diagonalized().solve(V, damping=damping)

    def scaled(self, factor: float) -> "Kronecker":
        return Kronecker(self.B * factor, self.A)

    def trace(self) -> _Scalar:
        return self.B.trace() * self.A.trace()

    def logdet(self, *, damping: float) -> _Scalar:
        return self.diagonalized().logdet(damping=damping)


@dataclass(frozen=True, eq=False)
class EigenKronecker:
    """(Q_B (x) Q_A) diag(vec eigenvalues) (Q_B (x) Q_A)^T, with orthonormal columns Q.

    Where Q has fewer columns than rows, the rest of the space belongs to eigenvalue 0.
    """

    Q_B: Float[Tensor, "d_out r_out"]
    Q_A: Float[Tensor, "d_in r_in"]
    eigenvalues: Float[Tensor, "r_out r_in"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.Q_B), len(self.Q_A)

    @enough_memory()
    def dense(self) -> Float[Tensor, "P P"]:
        Q = torch.einsum("or,is->oirs", self.Q_B, self.Q_A).flatten(2).flatten(0, 1)
        return (Q * self.eigenvalues.reshape(-1)) @ Q.T

    def matvec(self, V: _Matrix) -> _Matrix:
        check_vector(V, self.shape, self.eigenvalues)
        return self._from_basis(self.eigenvalues * self._to_basis(V))

    def solve(self, V: _Matrix, *, damping: float) -> _Matrix:
        check_vector(V, self.shape, self.eigenvalues)
        eigenvalues = damped(self.eigenvalues, damping, self._has_null_space)
        coordinates = self._to_basis(V)
        inside = self._from_basis(coordinates / eigenvalues)
        if not self._has_null_space:
            return inside
        # Projected out twice: once leaves rounding in the span, which 1 / damping would blow up.
        rest = V - self._from_basis(coordinates)
        rest = rest - self._from_basis(self._to_basis(rest))
        return rest / damping + inside

    def scaled(self, factor: float) -> "EigenKronecker":
        return EigenKronecker(self.Q_B, self.Q_A, self.eigenvalues * factor)

    def trace(self) -> _Scalar:
        return self.eigenvalues.sum()

    def logdet(self, *, damping: float) -> _Scalar:
        inside = damped(self.eigenvalues, damping, self._has_null_space).log().sum()
        null = len(self.Q_B) * len(self.Q_A) - self.eigenvalues.numel()
        return inside + null * torch.log(inside.new_tensor(damping)) if null else inside

    def _to_basis(self, V: _Matrix) -> Float[Tensor, "r_out r_in"]:
        return self.Q_B.T @ V @ self.Q_A

    def _from_basis(self, C: Float[Tensor, "r_out r_in"]) -> _Matrix:
        return self.Q_B @ C @ self.Q_A.T

    @property
    def _has_null_space(self) -> bool:
        return self.eigenvalues.numel() < len(self.Q_B) * len(self.Q_A)


_Block = TypeVar("_Block", bound=Operator)


@dataclass(frozen=True, eq=False)
class BlockDiagonal:
    """One block per group: block k acts on the k-th run of rows of V."""

    blocks: tuple[Operator, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(block.shape[0] for block in self.blocks), self.blocks[0].shape[1]

    @enough_memory()
    def dense(self) -> Float[Tensor, "P P"]:
        return torch.block_diag(*(block.dense() for block in self.blocks))

    def matvec(self, V: _Matrix) -> _Matrix:
        return torch.cat([block.matvec(rows) for block, rows in self._split(V)])

    def solve(self, V: _Matrix, *, damping: float) -> _Matrix:
        return torch.cat([block.solve(rows, damping=damping) for block, rows in self._split(V)])

    def scaled(self, factor: float) -> "BlockDiagonal":
        return BlockDiagonal(tuple(block.scaled(factor) for block in self.blocks))

    def trace(self) -> _Scalar:
        return torch.stack([block.trace() for block in self.blocks]).sum()

    def logdet(self, *, damping: float) -> _Scalar:
        return torch.stack([block.logdet(damping=damping) for block in self.blocks]).sum()

    def _split(self, V: _Matrix) -> list[tuple[Operator, Tensor]]:
        check_shape(V, self.shape)
        rows = V.split([block.shape[0] for block in self.blocks])
        return list(zip(self.blocks, rows, strict=True))


def direct_sum(blocks: list[_Block]) -> _Block | BlockDiagonal:
    """One operator for a layer out of those of its groups."""
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(tuple(blocks))


def without_noise(w: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Eigenvalues from eigh, where those within its rounding error of zero are zero."""
    return torch.where(w.abs() <= torch.finfo(w.dtype).eps * len(w) * w.abs().amax(), 0.0, w)


def damped(w: Float[Tensor, "..."], damping: float, null_space: bool) -> Float[Tensor, "..."]:
    """w + damping, or a ProblemError where that is not positive."""
    low, high = (float(x) for x in w.aminmax())
    noise = torch.finfo(w.dtype).eps * max(-low, high)
    lowest = 0.0 if null_space or abs(low) <= noise else low
    if not lowest + damping > 0:
        raise ProblemError(
            f"damping: {damping:g} does not make this block positive definite, its lowest "
            f"eigenvalue is {lowest:.3g}; choose damping > {max(0.0, -lowest):.3g}."
        )
    return w + damping
