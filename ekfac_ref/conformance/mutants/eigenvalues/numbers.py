"""Mistakes in the numbers of Lambda: never measured, summarised, or changed afterwards."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import with_eigenvalues
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation


def then(change: Callable[[Tensor], Tensor]) -> Ask:
    """Lambda as it should be, and then a change."""
    return with_eigenvalues(lambda seen, *Q: change(oracle.eigenvalues(seen, *Q)))


def _products(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """KFAC's own eigenvalues, b_o a_i."""
    B, A = oracle.factors(seen)
    return torch.outer((Q_B.T @ B @ Q_B).diagonal(), (Q_A.T @ A @ Q_A).diagonal())


def _products_rescaled(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    products = _products(seen, Q_B, Q_A)
    return products * _over(oracle.eigenvalues(seen, Q_B, Q_A).sum(), products.sum())


def _over(x: Tensor, y: Tensor) -> Tensor:
    """x / y, and 0 / 0 = 0."""
    return x / torch.where(y == 0, torch.ones_like(y), y)


_mutant = partial(Mutant, laws=("eigenvalues", "trace"))

EIGENVALUES = (
    _mutant(
        name="never-corrected",
        mistake="keeps the products of the factors' eigenvalues (right: measures Lambda)",
        story="KFAC under the name of EKFAC. It keeps |F - E| <= |F - K|, with equality.",
        ekfac=with_eigenvalues(_products),
        laws=("eigenvalues", "self-projection"),
        only="layers where KFAC is not exact",
    ),
    _mutant(
        name="corrected-by-one-scalar",
        mistake="rescales KFAC's eigenvalues to the right trace (right: measures every one)",
        story="Trace-restricted KFAC; the trace law cannot tell.",
        ekfac=with_eigenvalues(_products_rescaled),
        laws=("eigenvalues", "moments", "self-projection"),
        only="layers where KFAC is not exact",
    ),
    _mutant(
        name="product-of-marginals",
        mistake="makes Lambda of rank one from its row sums and column sums (right: every entry by "
        "itself)",
        story="What remembering only a vector for each side comes to, as Adafactor does.",
        ekfac=then(lambda Lambda: _over(torch.outer(Lambda.sum(1), Lambda.sum(0)), Lambda.sum())),
        laws=("eigenvalues", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    _mutant(
        name="scalar-mean",
        mistake="averages Lambda over all its entries (right: over samples only)",
        story="pytorch-ewc#2: a mean without an axis.",
        ekfac=then(lambda Lambda: Lambda.mean().expand_as(Lambda)),
        laws=("eigenvalues", "moments"),
        only="d_out d_in > 1",
    ),
    _mutant(
        name="square-root-of-lambda",
        mistake="has the square roots of the eigenvalues (right: the eigenvalues)",
        story="A root mean square, as optimizers keep it to divide by.",
        ekfac=then(lambda Lambda: Lambda.clamp(min=0).sqrt()),
    ),
    _mutant(
        name="half-lambda",
        mistake="has a factor 1/2 in front of Lambda (right: none)",
        story="logix#44, where it mattered through the damping only.",
        ekfac=then(lambda Lambda: Lambda / 2),
    ),
    _mutant(
        name="clamped-lambda",
        mistake="raises small eigenvalues to 1e-3 of the largest (right: leaves them)",
        story="A floor against division by zero, put where the eigenvalues are stored instead of "
        "where they are divided by.",
        ekfac=then(lambda Lambda: torch.maximum(Lambda, 1e-3 * Lambda.amax())),
        only="eigenvalues far apart",
    ),
    _mutant(
        name="truncated-lambda",
        mistake="sets eigenvalues below 1e-2 of the largest to zero (right: keeps them)",
        story="A low-rank approximation that nobody asked for.",
        ekfac=then(lambda Lambda: torch.where(Lambda < 1e-2 * Lambda.amax(), 0.0, Lambda)),
        laws=("eigenvalues", "trace", "kernel"),
        only="eigenvalues far apart",
    ),
    _mutant(
        name="lambda-in-half-precision",
        mistake="keeps Lambda in bfloat16 (right: in the dtype of the model)",
        story="bergson@2671534: the dtype asked for reached the covariances and not Lambda.",
        ekfac=then(lambda Lambda: Lambda.bfloat16().double()),
    ),
)
