"""Mistakes on the way from A and B to their eigenvectors, and three that are none."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.eigenpairs import eigenpairs, eigenvectors
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, with_bases


def _transposed(factor: Tensor) -> Tensor:
    return eigenvectors(factor).T.contiguous()


def signs_turned(factor: Tensor) -> Tensor:
    """Every second eigenvector turned round."""
    Q = eigenvectors(factor)
    return Q * torch.where(torch.arange(len(Q)) % 2 == 0, -1.0, 1.0).to(Q)


def _packed(factor: Tensor) -> Tensor:
    """The upper triangle of Q twice."""
    Q = eigenvectors(factor)
    return Q.triu() + Q.triu(1).T


def _scaled_by_roots(factor: Tensor) -> Tensor:
    w, Q = eigenpairs(factor)
    return Q * w.clamp(min=0).sqrt()


def _without_null_space(factor: Tensor) -> Tensor:
    w, Q = eigenpairs(factor)
    return Q[:, w >= 1e-12 * w.amax()]


def _of_the_correlation(factor: Tensor) -> Tensor:
    scale = factor.diagonal().clamp(min=0).sqrt()
    scale = torch.where(scale == 0, 1.0, scale)
    return eigenvectors(factor / torch.outer(scale, scale))


def _of_halves(factor: Tensor) -> Tensor:
    half = len(factor) // 2
    return torch.block_diag(eigenvectors(factor[:half, :half]), eigenvectors(factor[half:, half:]))


_mutant = partial(Mutant, laws=("eigenbasis", "commutes"))
_not_of_scalars = partial(_mutant, only="d_in > 1 or d_out > 1")

EIGENVECTORS = (
    _not_of_scalars(
        name="eigenvectors-as-rows",
        mistake="uses the rows of eigh's Q (right: its columns are the eigenvectors)",
        story="numpy and torch return columns, other libraries rows.",
        ekfac=with_bases(_transposed),
    ),
    _mutant(
        name="input-eigenvectors-as-rows",
        mistake="transposes Q_A and not Q_B (right: neither)",
        story="lbann#2010: a transpose missing in one place.",
        ekfac=replace(CORRECT, input_basis=_transposed).ekfac,
        only="d_in > 1",
    ),
    _mutant(
        name="output-eigenvectors-as-rows",
        mistake="transposes Q_B and not Q_A (right: neither)",
        story="lbann#2010: a transpose missing in one place.",
        ekfac=replace(CORRECT, output_basis=_transposed).ekfac,
        only="d_out > 1",
    ),
    _mutant(
        name="identity-basis",
        mistake="has no eigenvectors (right: those of A and B)",
        story="The diagonal Fisher under another name. It has the right trace, and is symmetric "
        "and PSD.",
        ekfac=with_bases(lambda M: torch.eye(len(M), dtype=M.dtype)),
    ),
    _not_of_scalars(
        name="eigenvectors-packed",
        mistake="keeps the upper triangle of the eigenvectors, as if they were symmetric (right: "
        "only A and B are)",
        story="kfac-pytorch@8bd169c, to send less.",
        ekfac=with_bases(_packed),
        laws=("orthonormal basis", "commutes"),
    ),
    _mutant(
        name="eigenvectors-scaled",
        mistake="scales eigenvectors by the roots of their eigenvalues (right: unit length)",
        story="A square root of A where its eigenvectors are meant.",
        ekfac=with_bases(_scaled_by_roots),
        laws=("orthonormal basis", "trace"),
    ),
    _not_of_scalars(
        name="basis-of-correlations",
        mistake="takes the eigenvectors of the correlation matrices (right: of A and B)",
        story="Standardised inputs: the eigenvectors change with every scale.",
        ekfac=with_bases(_of_the_correlation),
    ),
    _not_of_scalars(
        name="basis-in-half-precision",
        mistake="accumulates A and B in bfloat16 (right: in the dtype of the model)",
        story="bergson@83c4629, where the recomposed block was off by a quarter; curvlinops#133 "
        "and kfac-pytorch@6bb29d8 ignored the dtype asked for.",
        ekfac=with_bases(lambda M: eigenvectors(M.bfloat16().double())),
    ),
    _not_of_scalars(
        name="damping-on-every-entry",
        mistake="adds the damping to every entry of A and B (right: to no entry, or the diagonal)",
        story="kfac-pytorch@12741b3: a vector of ones broadcast over the matrix.",
        ekfac=with_bases(lambda M: eigenvectors(M + 0.01 * M.trace() / len(M))),
    ),
    _mutant(
        name="null-space-dropped",
        mistake="leaves out what A and B do not reach (right: under Reduce gradients live there)",
        story="Right under Expand, where every gradient is made of the factors' own rows.",
        ekfac=with_bases(_without_null_space),
        laws=("trace", "kernel"),
        only="Reduce, T > 1 and a singular factor",
    ),
    _not_of_scalars(
        name="eigenvectors-of-halves",
        mistake="decomposes two diagonal blocks of A and of B (right: each as one matrix)",
        story="eigh takes all but the last two axes for a batch; nngeometry@4286b15 gave it four.",
        ekfac=with_bases(_of_halves),
    ),
    _mutant(
        name="scalar-inverted",
        mistake="has the inverse of a 1 x 1 factor for its eigenvector (right: 1)",
        story="A special case for scalars in the wrong branch: kfac-jax@ade495c.",
        ekfac=with_bases(lambda M: 1 / M.clamp(min=1e-3) if len(M) == 1 else eigenvectors(M)),
        laws=("orthonormal basis", "trace"),
        only="d_in = 1 or d_out = 1",
    ),
    _mutant(
        name="damped-factors",
        mistake="takes the eigenvectors of damped factors (it makes no difference)",
        story="A + c I, as inverses need it: baselines#130.",
        ekfac=with_bases(lambda M: eigenvectors(M + 0.01 * M.trace() / len(M) * torch.eye(len(M)))),
        laws=(),
        proof="A v = w v implies (A + c I) v = (w + c) v: the eigenvectors are the same, and "
        "Lambda is measured in them.",
    ),
    _mutant(
        name="singular-vectors",
        mistake="takes left singular vectors, in descending order (it makes no difference)",
        story="svd instead of eigh.",
        ekfac=with_bases(lambda M: torch.linalg.svd(M).U),
        laws=(),
        proof="For a symmetric positive semi-definite matrix they are its eigenvectors; and the "
        "order is one permutation of Q and Lambda both, so that E is the same sum.",
    ),
    _mutant(
        name="other-signs",
        mistake="turns the signs of eigenvectors (it makes no difference)",
        story="Every LAPACK has its own.",
        ekfac=with_bases(signs_turned),
        laws=(),
        proof="(-v)(-v)^T = v v^T, and Lambda holds squares.",
    ),
)
