"""Mistakes in products: what matvec makes of V with Q_B, Q_A and Lambda that are right."""

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import InDtype, assembled, handed_over
from ekfac_ref.matrix.operators import Dense, EigenKronecker


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


PRODUCTS = (
    Mutant(
        name="kron-in-the-other-order",
        mistake="builds kron(Q_A, Q_B) with eigenvalues and vectors in row order (right: kron(Q_B, "
        "Q_A))",
        story="vec stacks columns in the papers and rows in code: curvlinops#182.",
        ekfac=assembled(_kron_of_the_other_order),
        laws=("commutes", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    Mutant(
        name="not-transposed",
        mistake="multiplies Q Lambda Q (right: Q Lambda Q^T)",
        story="Laplace#268: z L for z L^T.",
        ekfac=assembled(_NotTransposed),
        laws=("symmetry", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="other-way-round",
        mistake="multiplies Q^T Lambda Q (right: Q Lambda Q^T)",
        story="Transposes exchanged in the product, whereas Q and Lambda are right.",
        ekfac=assembled(_OtherWayRound),
        laws=("commutes", "self-projection"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="multiplied-twice",
        mistake="applies E twice (right: once)",
        story="pyDVL#595 applied its operator to what it had been applied to.",
        ekfac=assembled(_Twice),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="damped-product",
        mistake="adds damping in the product (right: in solves only)",
        story="Damping stored with the eigenvalues.",
        ekfac=assembled(_Damped),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="column-untouched",
        mistake="returns the last column of V as it was (right: all of the product)",
        story="curvlinops#77: entries that nothing had processed came back as they went in.",
        ekfac=assembled(_Untouched),
        laws=("trace", "commutes"),
    ),
    Mutant(
        name="product-of-the-direction",
        mistake="normalises V (right: multiplies it)",
        story="A helper of the power method; every unit vector comes out right.",
        ekfac=assembled(_OfTheDirection),
        laws=("linear",),
    ),
    Mutant(
        name="product-in-half-precision",
        mistake="returns products in bfloat16 (right: in the dtype of the model)",
        story="Automatic mixed precision, left on.",
        ekfac=assembled(_InHalf),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="product-in-a-buffer",
        mistake="returns every product in the same memory (right: in memory of its own)",
        story="asdl@c73fab8: the next call overwrote what the caller had kept.",
        ekfac=handed_over(_InBuffer),
        laws=("own answers",),
        only="d_out d_in > 1",
    ),
    Mutant(
        name="product-over-v",
        mistake="writes the product to where V was (right: leaves V alone)",
        story="kfac-pytorch@06af951, asdl@c9916bc: in-place arithmetic on what others still hold.",
        ekfac=handed_over(_OverV),
        laws=("own answers",),
    ),
)
