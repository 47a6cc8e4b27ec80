"""What an implementation has found of one layer, and how one part of it becomes an operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.adapter.conventions import Bias, Convention, Layout, rows
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.matrix.operators import Dense, EigenKronecker, Kronecker
from ekfac_ref.model.layers import Layer

_Array = Any  # whatever torch.as_tensor takes
PartOperator = EigenKronecker | Kronecker | Dense


@dataclass(frozen=True, eq=False)
class Eigen:
    """An EKFAC block by eigenvectors of both sides and its corrected eigenvalues.

    Shapes are those of the default convention, for a layer (group) [d_out, d_in], the bias among
    the inputs; in anything that ``torch.as_tensor`` takes.

    Attributes:
        Q_B: [d_out, r_out], eigenvectors on the side of the output gradients, as columns.
        Q_A: [d_in, r_in], eigenvectors on the side of the inputs, as columns.
        eigenvalues: [r_out, r_in], the Lambda measured in them; 1/N, unit likelihood.
    """

    Q_B: _Array
    Q_A: _Array
    eigenvalues: _Array


@dataclass(frozen=True, eq=False)
class Factors:
    """A KFAC block B (x) A. Only the product counts: a scalar may sit in either factor.

    Attributes:
        B: [d_out, d_out], second moment of the output gradients; 1/N, unit likelihood.
        A: [d_in, d_in], second moment of the inputs, the bias among them.
    """

    B: _Array
    A: _Array


@dataclass(frozen=True, eq=False)
class Matrix:
    """A block as one matrix.

    Attributes:
        matrix: [P, P], P = d_out d_in, on vec([W | b]) as ``Convention.vec`` orders it; 1/N, unit
            likelihood.
    """

    matrix: _Array


Part = Eigen | Factors | Matrix


@dataclass(frozen=True, eq=False)
class WithBias:
    """W and b, each a block of its own: for a subject that declares ``Separate()``.

    The weight's part has the inputs without the 1, the bias's part has the 1 as its only input.
    """

    weight: Part
    bias: Part


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads parts of one layer, all groups alike.

    Attributes:
        layer: whose; for messages.
        convention: as declared.
        scale: the implementation's numbers over this package's.
        like: a tensor of the dtype and device to convert to.
        of: which part, for messages.
        d_in: number of inputs of the part.
        bias: where their order has the bias.
    """

    layer: Layer
    convention: Convention
    scale: float
    like: Tensor
    of: str
    d_in: int
    bias: Bias

    def read(self, part: Any) -> PartOperator:
        """One part as an operator on [d_out, d_in] of a group."""
        d_out, d_in = self.layer.shape[0] // self.layer.groups, self.d_in
        inputs = self._index(rows, 1, d_in)[0]
        if isinstance(part, Eigen):
            Q_B = self._vectors("Q_B", part.Q_B, d_out)
            Q_A = self._vectors("Q_A", part.Q_A, d_in)[inputs]
            return EigenKronecker(Q_B, Q_A, self._eigenvalues(part.eigenvalues, Q_B, Q_A))
        if isinstance(part, Factors):
            B = self._square("B", part.B, d_out)
            A = self._square("A", part.A, d_in)[inputs][:, inputs]
            return Kronecker(B / self.scale, A)
        if isinstance(part, Matrix):
            index = self._index(self.convention.vec, d_out, d_in).reshape(-1)
            matrix = self._square("matrix", part.matrix, d_out * d_in)[index][:, index]
            return Dense(matrix / self.scale, (d_out, d_in))
        raise self.bad("answer", f"a {type(part).__name__}, expected Eigen, Factors or Matrix")

    def _index(self, vec: Layout, d_out: int, d_in: int) -> Tensor:
        """[d_out, d_in]: where the implementation keeps each entry of the part."""
        return self.bias(vec, d_out, d_in).to(self.like.device)

    def _vectors(self, name: str, Q: _Array, d: int) -> Tensor:
        Q = self.convention.eigenvectors(self._tensor(name, Q))
        if Q.dim() != 2 or len(Q) != d:
            raise self.bad(name, f"eigenvectors of shape {list(Q.shape)}, expected {[d, d]}")
        return Q

    def _eigenvalues(self, eigenvalues: _Array, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        try:
            laid_out = self.convention.eigenvalues(
                self._tensor("eigenvalues", eigenvalues), Q_B.shape[1], Q_A.shape[1]
            )
        except ValueError as error:
            raise self.bad("eigenvalues", f"{error}; is rows or columns declared?") from None
        return laid_out / self.scale

    def _square(self, name: str, matrix: _Array, d: int) -> Tensor:
        matrix = self._tensor(name, matrix)
        if tuple(matrix.shape) != (d, d):
            raise self.bad(name, f"shape {list(matrix.shape)}, expected {[d, d]}")
        return matrix

    def _tensor(self, name: str, x: _Array) -> Tensor:
        try:
            found = torch.as_tensor(x).detach()
        except (TypeError, ValueError, RuntimeError):  # a None, or a dict of a library's own
            what = f"{{{', '.join(map(repr, x))}}}" if isinstance(x, Mapping) else ""
            raise self.bad(
                name, f"a {type(x).__name__} {what}".rstrip() + ", expected numbers"
            ) from None
        if found.is_complex():  # whose imaginary part would be dropped
            raise self.bad(name, f"numbers of {found.dtype}, expected real ones")
        return found.to(self.like)

    def bad(self, what: str, why: str) -> BadAnswer:
        """What is wrong with the answer, and what the layer is."""
        has = "without a bias" if self.layer.bias is None else "with its bias among the inputs"
        return BadAnswer(
            f"layer {self.layer.name!r}, {self.of}{what}: {why}; the layer is [d_out, d_in] = "
            f"{list(self.layer.shape)} {has}, in {self.layer.groups} group(s)"
        )
