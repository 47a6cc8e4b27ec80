"""Mistakes in products: what matvec makes of V with Q_B, Q_A and Lambda that are right."""

from dataclasses import replace

import torch

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Product, Rounded, RoundedEigen, rounded
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.matrix.operators import Dense


def _multiplying(product: Product) -> Ask:
    """An EKFAC that is right but for its products."""
    return replace(CORRECT, product=product).ekfac


def _kron_in_the_other_order(right: RoundedEigen) -> Rounded:
    """Q_A (x) Q_B with Lambda by rows, for V by rows."""
    Q = torch.kron(right.E.Q_A.contiguous(), right.E.Q_B.contiguous())
    return rounded(Dense((Q * right.E.eigenvalues.reshape(-1)) @ Q.T, right.shape), right.dtype)


def _in_a_buffer(right: RoundedEigen) -> Rounded:
    """Every product is written to the same memory."""
    buffer = torch.empty(right.shape, dtype=right.dtype)
    return replace(right, matvec=lambda V: buffer.copy_(right.matvec(V)))


def _over_V(right: RoundedEigen) -> Rounded:
    """The product is written to where V was."""
    return replace(right, matvec=lambda V: V.copy_(right.matvec(V)))


PRODUCTS = (
    Mutant(
        name="kron-in-the-other-order",
        mistake="builds kron(Q_A, Q_B) with eigenvalues and vectors in row order (right: kron(Q_B, "
        "Q_A))",
        story="vec stacks columns in the papers and rows in code: curvlinops#182.",
        ekfac=replace(CORRECT, hand_over=_kron_in_the_other_order).ekfac,
        laws=("commutes", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    Mutant(
        name="not-transposed",
        mistake="multiplies Q Lambda Q (right: Q Lambda Q^T)",
        story="Laplace#268: z L for z L^T.",
        ekfac=_multiplying(lambda E, V: E.Q_B @ (E.eigenvalues * (E.Q_B @ V @ E.Q_A.T)) @ E.Q_A.T),
        laws=("symmetry", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="other-way-round",
        mistake="multiplies Q^T Lambda Q (right: Q Lambda Q^T)",
        story="Transposes exchanged in the product, whereas Q and Lambda are right.",
        ekfac=_multiplying(lambda E, V: E.Q_B.T @ (E.eigenvalues * (E.Q_B @ V @ E.Q_A.T)) @ E.Q_A),
        laws=("commutes", "self-projection"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="multiplied-twice",
        mistake="applies E twice (right: once)",
        story="pyDVL#595 applied its operator to what it had been applied to.",
        ekfac=_multiplying(lambda E, V: E.matvec(E.matvec(V))),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="damped-product",
        mistake="adds damping in the product (right: in solves only)",
        story="Damping stored with the eigenvalues.",
        ekfac=_multiplying(lambda E, V: E.matvec(V) + 1e-3 * E.eigenvalues.mean() * V),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="column-untouched",
        mistake="returns the last column of V as it was (right: all of the product)",
        story="curvlinops#77: entries that nothing had processed came back as they went in.",
        ekfac=_multiplying(lambda E, V: torch.cat([E.matvec(V)[:, :-1], V[:, -1:]], 1)),
        laws=("trace", "commutes"),
    ),
    Mutant(
        name="product-of-the-direction",
        mistake="normalises V (right: multiplies it)",
        story="A helper of the power method; every unit vector comes out right.",
        ekfac=_multiplying(lambda E, V: E.matvec(V / V.norm()) if V.any() else V),
        laws=("linear",),
    ),
    Mutant(
        name="product-in-half-precision",
        mistake="returns products in bfloat16 (right: in the dtype of the model)",
        story="Automatic mixed precision, left on.",
        ekfac=_multiplying(lambda E, V: E.matvec(V).bfloat16().double()),
        laws=("trace", "self-projection"),
    ),
    Mutant(
        name="product-in-a-buffer",
        mistake="returns every product in the same memory (right: in memory of its own)",
        story="asdl@c73fab8: the next call overwrote what the caller had kept.",
        ekfac=replace(CORRECT, hand_over=_in_a_buffer).ekfac,
        laws=("own answers",),
        only="d_out d_in > 1",
    ),
    Mutant(
        name="product-over-v",
        mistake="writes the product to where V was (right: leaves V alone)",
        story="kfac-pytorch@06af951, asdl@c9916bc: in-place arithmetic on what others still hold.",
        ekfac=replace(CORRECT, hand_over=_over_V).ekfac,
        laws=("own answers",),
    ),
)
