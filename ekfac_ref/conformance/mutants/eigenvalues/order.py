"""Mistakes in which entry of Lambda goes with which pair of eigenvectors."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.eigenvalues.numbers import then
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, with_eigenvalues
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.matrix.operators import EigenKronecker


def _with_imaginary_parts(Lambda: Tensor) -> Tensor:
    """Pairs (real, imaginary), cut to the size of Lambda."""
    real = Lambda.flatten()
    pairs = torch.stack([real, torch.zeros_like(real)], 1)
    return pairs.flatten()[: len(real)].reshape(Lambda.shape)


_mutant = partial(Mutant, laws=("eigenvalues", "self-projection"))

LAMBDA_ORDER = (
    _mutant(
        name="column-order",
        mistake="flattens Lambda by columns and reads it by rows (right: the same order twice)",
        story="The order of vec, as in curvlinops#182. Symmetric, PSD, the right trace, and right "
        "for a batch of one with one column.",
        ekfac=then(lambda Lambda: Lambda.T.reshape(Lambda.shape)),
        only="d_out > 1, d_in > 1",
    ),
    _mutant(
        name="row-order",
        mistake="flattens Lambda by rows and reads it by columns (right: the same order twice)",
        story="kron(Q_A, Q_B) in an implementation whose vec stacks columns, with eigenvalues "
        "[d_out, d_in] flattened as they are. The same blind spots as column-order.",
        ekfac=then(lambda Lambda: Lambda.reshape(Lambda.T.shape).T),
        only="d_out > 1, d_in > 1",
    ),
    _mutant(
        name="transposed-where-square",
        mistake="takes Lambda as [d_in, d_out] where the shape permits it (right: [d_out, d_in])",
        story="Second moments oriented by matching shapes, so that square layers came out "
        "transposed in silence: bergson@342a216, and twice more.",
        ekfac=then(lambda Lambda: Lambda.T if Lambda.shape[0] == Lambda.shape[1] else Lambda),
        only="d_out = d_in > 1, the bias included",
    ),
    _mutant(
        name="other-order-of-inputs",
        mistake="has Lambda in descending order of A's eigenvectors, which are ascending (right: "
        "one order)",
        story="eigh gives ascending eigenvalues and svd descending ones; mixing them compiles.",
        ekfac=then(lambda Lambda: Lambda.flip(1)),
        only="d_in > 1",
    ),
    _mutant(
        name="other-order-of-outputs",
        mistake="sorts B's eigenvectors after it has measured Lambda in them (right: before)",
        story="Sorting for show, or to truncate.",
        ekfac=replace(
            CORRECT, assemble=lambda Q_B, Q_A, Lambda: EigenKronecker(Q_B.flip(1), Q_A, Lambda)
        ).ekfac,
        only="d_out > 1",
    ),
    _mutant(
        name="sorted-lambda",
        mistake="sorts Lambda (right: entry oi belongs to eigenvectors o and i)",
        story="KFAC's eigenvalues come sorted; EKFAC's need not be.",
        ekfac=then(lambda Lambda: Lambda.flatten().sort().values.reshape(Lambda.shape)),
    ),
    _mutant(
        name="rotated-the-wrong-way",
        mistake="measures Lambda of Q_B G Q_A^T (right: of Q_B^T G Q_A)",
        story="Eigenvectors taken for rows in one place and for columns in another: lbann#2010.",
        ekfac=with_eigenvalues(
            lambda seen, Q_B, Q_A: oracle.eigenvalues(seen, Q_B.T.contiguous(), Q_A.T.contiguous())
        ),
        only="d_in > 1 or d_out > 1",
    ),
    _mutant(
        name="imaginary-parts-between",
        mistake="reads pairs (real, imaginary) as eigenvalues (right: the real parts alone)",
        story="A general eigensolver's answer without [:, 0]: kfac-pytorch@e5d6193.",
        ekfac=then(_with_imaginary_parts),
        laws=("eigenvalues", "trace"),
        only="d_out d_in > 1",
    ),
)
