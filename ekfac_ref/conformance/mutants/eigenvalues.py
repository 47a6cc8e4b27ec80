"""Mistakes in Lambda: the eigenvalues that EKFAC measures in KFAC's basis."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance import oracle
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import (
    CORRECT,
    Eigenvalues,
    by_batch,
    eigenvectors,
    factor_A,
    factor_B,
)
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.subject import Ask
from ekfac_ref.operators import EigenKronecker


def _with(eigenvalues: Eigenvalues) -> Ask:
    return replace(CORRECT, eigenvalues=eigenvalues).ekfac


def _then(change: Callable[[Tensor], Tensor]) -> Ask:
    """Lambda as it should be, and then a change."""
    return _with(lambda seen, Q_B, Q_A: change(oracle.eigenvalues(seen, Q_B, Q_A)))


def _rotated(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> list[Tensor]:
    """Q_B^T G_n Q_A, [C, r_out, r_in] each."""
    return [Q_B.T @ G @ Q_A for G in seen.G]


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


def _square_of_each_batch_mean(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """Averaged over batches."""
    return torch.stack([_square_of_the_mean(b, Q_B, Q_A) for b in by_batch(seen)]).mean(0)


def _columns_before_the_square(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return torch.stack([R.sum(0) ** 2 for R in _rotated(seen, Q_B, Q_A)]).mean(0)


def _absolute_value(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return torch.stack([R.abs().sum(0) for R in _rotated(seen, Q_B, Q_A)]).mean(0)


def _variance(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """The second moment less the square of the mean."""
    moment = oracle.eigenvalues(seen, Q_B, Q_A)
    return moment - _square_of_the_mean(seen, Q_B, Q_A)


def _products(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """KFAC's own eigenvalues, b_o a_i."""
    B, A = oracle.factors(seen)
    return torch.outer((Q_B.T @ B @ Q_B).diagonal(), (Q_A.T @ A @ Q_A).diagonal())


def _products_rescaled(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    products = _products(seen, Q_B, Q_A)
    return products * _over(oracle.eigenvalues(seen, Q_B, Q_A).sum(), products.sum())


def _product_of_marginals(Lambda: Tensor) -> Tensor:
    return _over(torch.outer(Lambda.sum(1), Lambda.sum(0)), Lambda.sum())


def _over(x: Tensor, y: Tensor) -> Tensor:
    """x / y, and 0 / 0 = 0."""
    return x / torch.where(y == 0, torch.ones_like(y), y)


def _column_order(Lambda: Tensor) -> Tensor:
    return Lambda.T.reshape(Lambda.shape)


def _row_order(Lambda: Tensor) -> Tensor:
    return Lambda.reshape(Lambda.T.shape).T


def _transposed_where_square(Lambda: Tensor) -> Tensor:
    return Lambda.T if Lambda.shape[0] == Lambda.shape[1] else Lambda


def _sorted(Lambda: Tensor) -> Tensor:
    return Lambda.flatten().sort().values.reshape(Lambda.shape)


def _truncated(Lambda: Tensor) -> Tensor:
    return torch.where(Lambda < 1e-2 * Lambda.amax(), 0.0, Lambda)


def _rotated_back(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return oracle.eigenvalues(seen, Q_B.T.contiguous(), Q_A.T.contiguous())


def _older_basis(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """In the basis that the first batch alone would give, if it counts any position."""
    first = by_batch(seen)[0]
    if not any(bool(counted.any()) for counted in first.counted):
        return oracle.eigenvalues(seen, Q_B, Q_A)
    Q_B, Q_A = eigenvectors(factor_B(first)), eigenvectors(factor_A(first))
    return oracle.eigenvalues(seen, Q_B, Q_A)


def _mean_of_batch_means(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return torch.stack([oracle.eigenvalues(b, Q_B, Q_A) for b in by_batch(seen)]).mean(0)


def _last_batch(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return oracle.eigenvalues(by_batch(seen)[-1], Q_B, Q_A)


def _bias_of_the_batch(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """Every sample gets the bias gradient of its whole batch, where there is a bias."""
    if not all(bool((a[:, -1] == 1).all()) for a in seen.a):
        return oracle.eigenvalues(seen, Q_B, Q_A)
    G = []
    for batch in by_batch(seen):
        for G_n in batch.G:
            alike = [other for other in batch.G if len(other) == len(G_n)]
            bias = torch.stack([other[:, :, -1] for other in alike]).sum(0)
            G.append(torch.cat([G_n[:, :, :-1], bias[:, :, None]], 2))
    return oracle.eigenvalues(replace(seen, G=G), Q_B, Q_A)


def _rows_of_Q_B_turned_round(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> EigenKronecker:
    return EigenKronecker(Q_B.flip(1), Q_A, Lambda)


EIGENVALUES = (
    Mutant(
        name="square-each-position",
        mistake="squares every position and then sums (right: sums over positions, then squares)",
        story="The shorter einsum; the same wherever every column lives at one position. "
        "nngeometry@d374e2f, pyDVL#476.",
        ekfac=_with(_square_each_position),
        laws=("eigenvalues", "trace", "self-projection"),
        only="T > 1, with a column spread over positions",
    ),
    Mutant(
        name="square-of-the-mean",
        mistake="squares the mean gradient (right: averages the squares of the gradients)",
        story="The most repeated mistake of all in diagonal Fishers: pytorch-ewc#1, "
        "Overcoming-Catastrophic-forgetting-in-Neural-Networks#6, GradientEpisodicMemory#7, "
        "Continual-Learning-Benchmark#10, AiDotNet#1060.",
        ekfac=_with(_square_of_the_mean),
        laws=("eigenvalues", "trace"),
        only="N > 1",
    ),
    Mutant(
        name="square-of-each-batch-mean",
        mistake="squares the mean gradient of every batch and averages over batches (right: "
        "averages the squares of the gradients of samples)",
        story="avalanche#1224; right for batches of one, so that it depends on the batch size.",
        ekfac=_with(_square_of_each_batch_mean),
        laws=("eigenvalues", "trace", "recut"),
        only="a batch of more than one sample",
    ),
    Mutant(
        name="columns-before-the-square",
        mistake="sums over the columns of the Fisher's square root and then squares (right: "
        "squares every column, then sums)",
        story="One backward pass of the sum of all columns instead of one each.",
        ekfac=_with(_columns_before_the_square),
        laws=("eigenvalues", "trace"),
        only="C > 1",
    ),
    Mutant(
        name="absolute-value",
        mistake="averages absolute values (right: squares)",
        story="A norm where its square is meant, as in asdl@20d2474.",
        ekfac=_with(_absolute_value),
        laws=("eigenvalues", "trace"),
    ),
    Mutant(
        name="variance",
        mistake="takes the variance of the rotated gradients (right: their mean square)",
        story="The Fisher is a covariance, but the mean that it leaves out is zero under the "
        "model's own labels and not over samples of gradients.",
        ekfac=_with(_variance),
        laws=("eigenvalues", "trace"),
    ),
    Mutant(
        name="never-corrected",
        mistake="keeps the products of the factors' eigenvalues (right: measures Lambda)",
        story="KFAC under the name of EKFAC. It keeps |F - E| <= |F - K|, with equality.",
        ekfac=_with(_products),
        laws=("eigenvalues", "self-projection"),
        only="layers where KFAC is not exact",
    ),
    Mutant(
        name="corrected-by-one-scalar",
        mistake="rescales KFAC's eigenvalues to the right trace (right: measures every one)",
        story="Trace-restricted KFAC; the trace law cannot tell.",
        ekfac=_with(_products_rescaled),
        laws=("eigenvalues", "moments", "self-projection"),
        only="layers where KFAC is not exact",
    ),
    Mutant(
        name="product-of-marginals",
        mistake="makes Lambda of rank one from its row sums and column sums (right: every entry by "
        "itself)",
        story="What remembering only a vector for each side comes to, as Adafactor does.",
        ekfac=_then(_product_of_marginals),
        laws=("eigenvalues", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    Mutant(
        name="scalar-mean",
        mistake="averages Lambda over all its entries (right: over samples only)",
        story="pytorch-ewc#2: a mean without an axis.",
        ekfac=_then(lambda Lambda: Lambda.mean().expand_as(Lambda)),
        laws=("eigenvalues", "moments"),
        only="d_out d_in > 1",
    ),
    Mutant(
        name="square-root-of-lambda",
        mistake="has the square roots of the eigenvalues (right: the eigenvalues)",
        story="A root mean square, as optimizers keep it to divide by.",
        ekfac=_then(lambda Lambda: Lambda.clamp(min=0).sqrt()),
        laws=("eigenvalues", "trace"),
    ),
    Mutant(
        name="half-lambda",
        mistake="has a factor 1/2 in front of Lambda (right: none)",
        story="logix#44, where it mattered through the damping only.",
        ekfac=_then(lambda Lambda: Lambda / 2),
        laws=("eigenvalues", "trace"),
    ),
    Mutant(
        name="clamped-lambda",
        mistake="raises small eigenvalues to 1e-3 of the largest (right: leaves them)",
        story="A floor against division by zero, put where the eigenvalues are stored instead of "
        "where they are divided by.",
        ekfac=_then(lambda Lambda: torch.maximum(Lambda, 1e-3 * Lambda.amax())),
        laws=("eigenvalues", "trace"),
        only="eigenvalues far apart",
    ),
    Mutant(
        name="truncated-lambda",
        mistake="sets eigenvalues below 1e-2 of the largest to zero (right: keeps them)",
        story="A low-rank approximation that nobody asked for.",
        ekfac=_then(_truncated),
        laws=("eigenvalues", "trace", "kernel"),
        only="eigenvalues far apart",
    ),
    Mutant(
        name="column-order",
        mistake="flattens Lambda by columns and reads it by rows (right: the same order twice)",
        story="The order of vec, as in curvlinops#182. Symmetric, PSD, the right trace, and right "
        "for a batch of one with one column.",
        ekfac=_then(_column_order),
        laws=("eigenvalues", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    Mutant(
        name="row-order",
        mistake="flattens Lambda by rows and reads it by columns (right: the same order twice)",
        story="kron(Q_A, Q_B) in an implementation whose vec stacks columns, with eigenvalues "
        "[d_out, d_in] flattened as they are. The same blind spots as column-order.",
        ekfac=_then(_row_order),
        laws=("eigenvalues", "self-projection"),
        only="d_out > 1, d_in > 1",
    ),
    Mutant(
        name="transposed-where-square",
        mistake="takes Lambda as [d_in, d_out] where the shape permits it (right: [d_out, d_in])",
        story="Second moments oriented by matching shapes, so that square layers came out "
        "transposed in silence: bergson@342a216, and twice more.",
        ekfac=_then(_transposed_where_square),
        laws=("eigenvalues", "self-projection"),
        only="d_out = d_in > 1, the bias included",
    ),
    Mutant(
        name="other-order-of-inputs",
        mistake="has Lambda in descending order of A's eigenvectors, which are ascending (right: "
        "one order)",
        story="eigh gives ascending eigenvalues and svd descending ones; mixing them compiles.",
        ekfac=_then(lambda Lambda: Lambda.flip(1)),
        laws=("eigenvalues", "self-projection"),
        only="d_in > 1",
    ),
    Mutant(
        name="other-order-of-outputs",
        mistake="sorts B's eigenvectors after it has measured Lambda in them (right: before)",
        story="Sorting for show, or to truncate.",
        ekfac=replace(CORRECT, assemble=_rows_of_Q_B_turned_round).ekfac,
        laws=("eigenvalues", "self-projection"),
        only="d_out > 1",
    ),
    Mutant(
        name="sorted-lambda",
        mistake="sorts Lambda (right: entry oi belongs to eigenvectors o and i)",
        story="KFAC's eigenvalues come sorted; EKFAC's need not be.",
        ekfac=_then(_sorted),
        laws=("eigenvalues", "self-projection"),
    ),
    Mutant(
        name="rotated-the-wrong-way",
        mistake="measures Lambda of Q_B G Q_A^T (right: of Q_B^T G Q_A)",
        story="Eigenvectors taken for rows in one place and for columns in another: lbann#2010.",
        ekfac=_with(_rotated_back),
        laws=("eigenvalues", "self-projection"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="measured-in-an-older-basis",
        mistake="measures Lambda in the basis of the first batch and uses it in the final one "
        "(right: measures in the final basis)",
        story="One pass over the data for both; whoever tests with a single batch cannot see it.",
        ekfac=_with(_older_basis),
        laws=("eigenvalues", "self-projection", "recut"),
        only="several batches",
    ),
    Mutant(
        name="lambda-by-mean-of-batch-means",
        mistake="averages the batches' averages of Lambda (right: divides the sum by N)",
        story="Right for batches of one size, hence for most tests.",
        ekfac=_with(_mean_of_batch_means),
        laws=("eigenvalues", "trace", "recut"),
        only="batches of different sizes",
    ),
    Mutant(
        name="lambda-of-the-last-batch",
        mistake="overwrites Lambda with every batch (right: adds to it)",
        story="An equals sign without its plus.",
        ekfac=_with(_last_batch),
        laws=("eigenvalues", "trace", "recut", "order"),
        only="several batches",
    ),
    Mutant(
        name="bias-of-the-whole-batch",
        mistake="gives every sample the bias gradient of its whole batch (right: its own)",
        story="A sum over samples and positions where one over positions was meant: "
        "bergson@2d18737, 88% off for three samples and right for one.",
        ekfac=_with(_bias_of_the_batch),
        laws=("eigenvalues", "trace", "recut"),
        only="a bias and a batch of more than one sample",
    ),
    Mutant(
        name="lambda-in-half-precision",
        mistake="keeps Lambda in bfloat16 (right: in the dtype of the model)",
        story="bergson@2671534: the dtype asked for reached the covariances and not Lambda.",
        ekfac=_then(lambda Lambda: Lambda.bfloat16().double()),
        laws=("eigenvalues", "trace"),
    ),
)
