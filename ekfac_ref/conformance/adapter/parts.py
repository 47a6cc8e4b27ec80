"""What an implementation has found of one layer, and how one part of it becomes an operator."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.adapter.conventions import (
    Bias,
    Convention,
    Layout,
    bias_last,
    positions,
    rows,
)
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.matrix.operators import Dense, EigenKronecker, Kronecker
from ekfac_ref.model.layers import Layer

_Array = Any  # whatever torch.as_tensor takes
_Block = EigenKronecker | Kronecker | Dense


@dataclass(frozen=True, eq=False)
class Eigen:
    """An EKFAC block, E = (Q_B (x) Q_A) diag(eigenvalues) (Q_B (x) Q_A)^T, from the implementation.

    Numbers are anything that ``torch.as_tensor`` takes, for one group, laid out and scaled as the
    ``Convention`` declares.

    Attributes:
        Q_B: eigenvectors of the output gradients' factor, [d_out, d_out].
        Q_A: eigenvectors of the inputs' factor, [d_in, d_in] with the bias.
        eigenvalues: the corrected ones, [d_out, d_in] or flat, in the order of the eigenvectors.
    """

    Q_B: _Array
    Q_A: _Array
    eigenvalues: _Array


@dataclass(frozen=True, eq=False)
class Factors:
    """A KFAC block, K = B (x) A, from the implementation: for one group, as ``Eigen``.

    The ``Convention``'s scale is that of the product, whichever of the two bears it.

    Attributes:
        B: factor of the output gradients, [d_out, d_out].
        A: factor of the inputs, [d_in, d_in] with the bias.
    """

    B: _Array
    A: _Array


@dataclass(frozen=True, eq=False)
class Matrix:
    """A block as one matrix from the implementation: for one group, as ``Eigen``.

    Attributes:
        matrix: [P, P] with P = d_out d_in, the bias among the inputs. Its rows and columns are in
            the order of the ``Convention``'s vec and bias.
    """

    matrix: _Array


Part = Eigen | Factors | Matrix


@dataclass(frozen=True, eq=False)
class WithBias:
    """W and b, each a block of its own: from a subject that declares ``Separate()``.

    Attributes:
        weight: the part of W, whose d_in is without the 1 of the bias.
        bias: the part of b, whose d_in is 1.
    """

    weight: Part
    bias: Part


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads parts of one layer, all groups alike.

    Attributes:
        layer: whose parts they are.
        convention: as declared.
        scale: the implementation's numbers over this package's.
        like: a tensor of the dtype and device to convert to.
    """

    layer: Layer
    convention: Convention
    scale: float
    like: Tensor

    def read(self, part: Any, of: str = "", d_in: int | None = None) -> _Block:
        """One part as an operator on [d_out, d_in] of a group, in this package's conventions.

        ``of`` tells in messages which part it is; ``d_in`` that it has so many inputs, and no bias
        among them.
        """
        bias = bias_last if d_in or self.layer.bias is None else self.convention.bias
        d_out, d_in = self.layer.shape[0] // self.layer.groups, d_in or self.layer.shape[1]
        inputs = self._positions(bias, rows, 1, d_in)
        if isinstance(part, Eigen):
            Q_B = self._vectors(f"{of}Q_B", part.Q_B, d_out)
            Q_A = self._vectors(f"{of}Q_A", part.Q_A, d_in)[inputs]
            shape = Q_B.shape[1], Q_A.shape[1]
            return EigenKronecker(Q_B, Q_A, self._eigenvalues(of, part.eigenvalues, shape))
        if isinstance(part, Factors):
            B = self._square(f"{of}B", part.B, d_out)
            A = self._square(f"{of}A", part.A, d_in)[inputs][:, inputs]
            return Kronecker(B / self.scale, A)
        if isinstance(part, Matrix):
            entries = self._positions(bias, self.convention.vec, d_out, d_in)
            matrix = self._square(f"{of}matrix", part.matrix, d_out * d_in)[entries][:, entries]
            return Dense(matrix / self.scale, (d_out, d_in))
        what = f"a {type(part).__name__}, expected Eigen, Factors or Matrix"
        raise self.bad(f"{of}answer", what)

    def _positions(self, bias: Bias, vec: Layout, d_out: int, d_in: int) -> Tensor:
        return positions(bias, vec, d_out, d_in).reshape(-1).to(self.like.device)

    def _vectors(self, name: str, Q: _Array, d: int) -> Tensor:
        Q = self.convention.eigenvectors(self._tensor(Q))
        if Q.dim() != 2 or len(Q) != d:
            raise self.bad(name, f"eigenvectors of shape {list(Q.shape)}, expected {[d, d]}")
        return Q

    def _eigenvalues(self, of: str, eigenvalues: _Array, shape: tuple[int, int]) -> Tensor:
        try:
            return self.convention.eigenvalues(self._tensor(eigenvalues), *shape) / self.scale
        except ValueError as error:
            why = f"{error}; is rows or columns declared?"
            raise self.bad(f"{of}eigenvalues", why) from None

    def _square(self, name: str, matrix: _Array, d: int) -> Tensor:
        matrix = self._tensor(matrix)
        if tuple(matrix.shape) != (d, d):
            raise self.bad(name, f"shape {list(matrix.shape)}, expected {[d, d]}")
        return matrix

    def _tensor(self, x: _Array) -> Tensor:
        return torch.as_tensor(x).detach().to(self.like)

    def bad(self, what: str, why: str) -> BadAnswer:
        """The error that names what is wrong with the answer, and what the layer is."""
        has = "without a bias" if self.layer.bias is None else "with its bias among the inputs"
        return BadAnswer(
            f"layer {self.layer.name!r}, {what}: {why}; the layer is [d_out, d_in] = "
            f"{list(self.layer.shape)} {has}, in {self.layer.groups} group(s)"
        )
