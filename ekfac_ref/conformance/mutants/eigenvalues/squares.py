"""Mistakes in what is squared and what is averaged on the way to Lambda, over which batches."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import (
    CORRECT,
    Eigenvalues,
    by_batch,
    ends_in_ones,
    with_eigenvalues,
    with_lambda_of,
)
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation


def _rotated(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> list[Tensor]:
    """Q_B^T G_n Q_A, [C, r_out, r_in] each."""
    return [Q_B.T @ G @ Q_A for G in seen.G]


def _mean_of(term: Callable[[Tensor], Tensor]) -> Ask:
    """An EKFAC whose Lambda is the mean over samples of a term made of the rotated gradients."""

    def eigenvalues(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        return torch.stack([term(R) for R in _rotated(seen, Q_B, Q_A)]).mean(0)

    return with_eigenvalues(eigenvalues)


def _square_each_position(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """(1/N) sum_nct (g^T Q_B)^2 (a^T Q_A)^2."""
    terms = [
        torch.einsum("cto,ti->oi", (g @ Q_B) ** 2, (a @ Q_A) ** 2)
        for g, a in zip(seen.g, seen.a, strict=True)
    ]
    return torch.stack(terms).sum(0) / len(seen.g)


def _square_of_the_mean(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """sum_c ((1/N) sum_n Q_B^T G_nc Q_A)^2."""
    columns = max(len(G) for G in seen.G)
    total = torch.zeros(columns, Q_B.shape[1], Q_A.shape[1], dtype=Q_B.dtype)
    for R in _rotated(seen, Q_B, Q_A):
        total[: len(R)] += R
    return ((total / len(seen.G)) ** 2).sum(0)


def _variance(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """The second moment less the square of the mean."""
    moment = oracle.eigenvalues(seen, Q_B, Q_A)
    return moment - _square_of_the_mean(seen, Q_B, Q_A)


def _bias_of_the_batch(seen: Observation) -> Observation:
    """Every sample gets the bias gradient of its whole batch, where there is a bias."""
    if not ends_in_ones(seen):
        return seen
    G = []
    for batch in by_batch(seen):
        for G_n in batch.G:
            alike = [other for other in batch.G if len(other) == len(G_n)]
            bias = torch.stack([other[:, :, -1] for other in alike]).sum(0)
            G.append(torch.cat([G_n[:, :, :-1], bias[:, :, None]], 2))
    return replace(seen, G=G)


def _mean_of_batch_means(eigenvalues: Eigenvalues) -> Eigenvalues:
    """Lambda of every batch by itself, averaged over batches."""

    def average(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        return torch.stack([eigenvalues(batch, Q_B, Q_A) for batch in by_batch(seen)]).mean(0)

    return average


def _older_basis(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """In the basis that the first batch alone would give, if it counts any position."""
    first = by_batch(seen)[0]
    if any(bool(counted.any()) for counted in first.counted):
        Q_B = CORRECT.output_basis(CORRECT.B(first))
        Q_A = CORRECT.input_basis(CORRECT.A(first))
    return oracle.eigenvalues(seen, Q_B, Q_A)


_mutant = partial(Mutant, laws=("eigenvalues", "trace"))

SQUARES = (
    _mutant(
        name="square-each-position",
        mistake="squares every position and then sums (right: sums over positions, then squares)",
        story="The shorter einsum; the same wherever every column lives at one position. "
        "nngeometry@d374e2f, pyDVL#476.",
        ekfac=with_eigenvalues(_square_each_position),
        laws=("eigenvalues", "trace", "self-projection"),
        only="T > 1, with a column spread over positions",
    ),
    _mutant(
        name="square-of-the-mean",
        mistake="squares the mean gradient (right: averages the squares of the gradients)",
        story="The most repeated mistake of all in diagonal Fishers: pytorch-ewc#1, "
        "Overcoming-Catastrophic-forgetting-in-Neural-Networks#6, GradientEpisodicMemory#7, "
        "Continual-Learning-Benchmark#10, AiDotNet#1060.",
        ekfac=with_eigenvalues(_square_of_the_mean),
        only="N > 1",
    ),
    _mutant(
        name="square-of-each-batch-mean",
        mistake="squares the mean gradient of every batch and averages over batches (right: "
        "averages the squares of the gradients of samples)",
        story="avalanche#1224; right for batches of one, so that it depends on the batch size.",
        ekfac=with_eigenvalues(_mean_of_batch_means(_square_of_the_mean)),
        laws=("eigenvalues", "trace", "recut"),
        only="a batch of more than one sample",
    ),
    _mutant(
        name="columns-before-the-square",
        mistake="sums over the columns of the Fisher's square root and then squares (right: "
        "squares every column, then sums)",
        story="One backward pass of the sum of all columns instead of one each.",
        ekfac=_mean_of(lambda R: R.sum(0) ** 2),
        only="C > 1",
    ),
    _mutant(
        name="absolute-value",
        mistake="averages absolute values (right: squares)",
        story="A norm where its square is meant, as in asdl@20d2474.",
        ekfac=_mean_of(lambda R: R.abs().sum(0)),
    ),
    _mutant(
        name="variance",
        mistake="takes the variance of the rotated gradients (right: their mean square)",
        story="The Fisher is a covariance, but the mean that it leaves out is zero under the "
        "model's own labels and not over samples of gradients.",
        ekfac=with_eigenvalues(_variance),
    ),
    _mutant(
        name="bias-of-the-whole-batch",
        mistake="gives every sample the bias gradient of its whole batch (right: its own)",
        story="A sum over samples and positions where one over positions was meant: "
        "bergson@2d18737, 88% off for three samples and right for one.",
        ekfac=with_lambda_of(_bias_of_the_batch),
        laws=("eigenvalues", "trace", "recut"),
        only="a bias and a batch of more than one sample",
    ),
)

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
        ekfac=with_eigenvalues(_mean_of_batch_means(oracle.eigenvalues)),
        laws=("eigenvalues", "trace", "recut"),
        only="batches of different sizes",
    ),
    Mutant(
        name="lambda-of-the-last-batch",
        mistake="overwrites Lambda with every batch (right: adds to it)",
        story="An equals sign without its plus.",
        ekfac=with_lambda_of(lambda seen: by_batch(seen)[-1]),
        laws=("eigenvalues", "trace", "recut", "order"),
        only="several batches",
    ),
)
