"""Mistakes in Lambda that come from batches: measured in parts, or too early."""

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import (
    Eigenvalues,
    by_batch,
    eigenvectors,
    factor_A,
    factor_B,
    with_eigenvalues,
)
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation


def _older_basis(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """In the basis that the first batch alone would give, if it counts any position."""
    first = by_batch(seen)[0]
    if not any(bool(counted.any()) for counted in first.counted):
        return oracle.eigenvalues(seen, Q_B, Q_A)
    Q_B, Q_A = eigenvectors(factor_B(first)), eigenvectors(factor_A(first))
    return oracle.eigenvalues(seen, Q_B, Q_A)


def mean_of_batch_means(eigenvalues: Eigenvalues) -> Eigenvalues:
    """Lambda of every batch by itself, averaged over batches."""

    def average(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        return torch.stack([eigenvalues(batch, Q_B, Q_A) for batch in by_batch(seen)]).mean(0)

    return average


LAMBDA_BY_BATCH = (
    Mutant(
        name="measured-in-an-older-basis",
        mistake="measures Lambda in the basis of the first batch and uses it in the final one "
        "(right: measures in the final basis)",
        story="One pass over the data for both; whoever tests with a single batch cannot see it.",
        ekfac=with_eigenvalues(_older_basis),
        laws=("eigenvalues", "self-projection", "recut"),
        only="several batches",
    ),
    Mutant(
        name="lambda-by-mean-of-batch-means",
        mistake="averages the batches' averages of Lambda (right: divides the sum by N)",
        story="Right for batches of one size, hence for most tests.",
        ekfac=with_eigenvalues(mean_of_batch_means(oracle.eigenvalues)),
        laws=("eigenvalues", "trace", "recut"),
        only="batches of different sizes",
    ),
    Mutant(
        name="lambda-of-the-last-batch",
        mistake="overwrites Lambda with every batch (right: adds to it)",
        story="An equals sign without its plus.",
        ekfac=with_eigenvalues(
            lambda seen, Q_B, Q_A: oracle.eigenvalues(by_batch(seen)[-1], Q_B, Q_A)
        ),
        laws=("eigenvalues", "trace", "recut", "order"),
        only="several batches",
    ),
)
