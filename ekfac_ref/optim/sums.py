r"""Take one more batch into the running A, B and Lambda.

    A = sum_s beta^(t-s) sum_rows a a^T  /  sum_s beta^(t-s) (rows of batch s)
    B = sum_s beta^(t-s) sum_rows g g^T  /  sum_s beta^(t-s) N_s
    Lambda_oi = sum_s beta^(t-s) sum_nc [Q_B^T G_nc Q_A]_oi^2  /  sum_s beta^(t-s) N_s

(``running.py``). The squares are those of every sample's own gradient. The square of a batch's mean
gradient, which some implementations average, estimates another matrix.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.basis import WordBasis
from ekfac_ref.matrix.ekfac import squares_from_taps
from ekfac_ref.matrix.kfac import chunk_factors
from ekfac_ref.matrix.lookup import LookupEigenKronecker
from ekfac_ref.matrix.words import Counts, check_bags
from ekfac_ref.model.taps import Tap
from ekfac_ref.optim.curvature import BlockState, InBasis
from ekfac_ref.optim.reading import Chunks, Key
from ekfac_ref.optim.running import RunningMean
from ekfac_ref.question.finite import all_finite
from ekfac_ref.question.sharing import Sharing


def running_factors(
    blocks: dict[Key, BlockState], chunks: Chunks, sharing: Sharing, beta: float
) -> dict[Key, tuple[RunningMean, RunningMean]]:
    """A and B of every block, with the batch."""
    A = {key: block.A.faded(beta) for key, block in blocks.items()}
    B = {key: block.B.faded(beta) for key, block in blocks.items()}
    for chunk in chunks():
        for key, tap in chunk.taps.items():
            check_bags(key[0], tap.inputs, tap.g.shape[2], sharing)
            f = chunk_factors(sharing.rows(tap.inputs, tap.g, tap.counted), chunk.samples)
            _add(A, key, f.a.diagonal if isinstance(f.a, Counts) else f.a.gram(), f.rows_a)
            _add(B, key, f.g.gram(), f.samples)
    for (name, _), mean in A.items():
        if mean.count == 0:
            raise ProblemError(
                f"layer {name!r}: the mask counts none of its positions, in this batch or before, "
                "so A is a mean over nothing; correct the mask (True = counts), or leave the layer "
                "out."
            )
    for means in (A, B):
        for (name, _), mean in means.items():
            if not all_finite(mean.total):
                raise ProblemError(
                    f"layer {name!r}: its inputs or gradients are too large for "
                    f"{mean.total.dtype}, their squares overflow; scale the data, or lower the "
                    "learning rate if training diverges."
                )
    return {key: (A[key], B[key]) for key in A}


def running_eigenvalues(
    operators: dict[Key, InBasis], chunks: Chunks, count: float
) -> dict[Key, InBasis]:
    """The operators in their bases, with the batch's squares in the eigenvalues.

    ``count`` is the faded number of samples behind the eigenvalues so far.
    """
    means = {key: RunningMean.of(E.eigenvalues, count) for key, E in operators.items()}
    for chunk in chunks():
        for key, tap in chunk.taps.items():
            _add(means, key, _squares(operators[key], tap), chunk.samples)
    return {key: replace(E, eigenvalues=means[key].mean) for key, E in operators.items()}


def check_eigenvalues(operators: dict[Key, InBasis]) -> None:
    """Where A and B are, their products need not be, and an infinite eigenvalue moves nothing."""
    for (name, _), E in operators.items():
        if not all_finite(E.eigenvalues):
            raise ProblemError(
                f"layer {name!r}: its gradients are too large for {E.eigenvalues.dtype}, their "
                "squares overflow; scale the data, or lower the learning rate if training diverges."
            )


def _squares(E: InBasis, tap: Tap) -> Float[Tensor, "r_out r_in"]:
    """N Lambda of a chunk of samples, in the basis of E."""
    if isinstance(E, LookupEigenKronecker):
        return WordBasis(E.Q_B, E.words, E.vocabulary).squares(tap.inputs, tap.g)
    return squares_from_taps(tap.a, tap.g, E.Q_B, E.Q_A)


def _add(means: dict[Key, RunningMean], key: Key, total: Tensor, rows: int) -> None:
    old, count = means.get(key), float(rows)
    if (
        old is not None and old.total.ndim != total.ndim
    ):  # of one word a sample A is diagonal, of bags of words not
        old, total = RunningMean(_matrix(old.total), old.count), _matrix(total)
    means[key] = RunningMean(total, count) if old is None else old.plus(total, count)


def _matrix(A: Tensor) -> Float[Tensor, "d_in d_in"]:
    return torch.diag(A) if A.ndim == 1 else A
