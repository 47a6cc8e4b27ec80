"""Mistakes in the basis: A and B, what rows they are made of, and their eigenvectors."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import (
    CORRECT,
    Basis,
    Factor,
    by_batch,
    eigenvectors,
    factor_A,
    factor_B,
    part,
)
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.subject import Ask
from ekfac_ref.sharing import Expand, Reduce

Change = Callable[[Observation], Observation]


def _bases(basis: Basis) -> Ask:
    """Another way to get either factor's eigenvectors."""
    return replace(CORRECT, output_basis=basis, input_basis=basis).ekfac


def _factors(change: Change) -> Ask:
    """The factors of something else than what the layer saw; Lambda of what it did see."""
    return replace(
        CORRECT, B=lambda seen: factor_B(change(seen)), A=lambda seen: factor_A(change(seen))
    ).ekfac


def _inputs(change: Change) -> Ask:
    """The same for A alone."""
    return replace(CORRECT, A=lambda seen: factor_A(change(seen))).ekfac


def _outputs(change: Change) -> Ask:
    """The same for B alone."""
    return replace(CORRECT, B=lambda seen: factor_B(change(seen))).ekfac


def _transposed(factor: Tensor) -> Tensor:
    return eigenvectors(factor).T.contiguous()


def _left_singular_vectors(factor: Tensor) -> Tensor:
    return torch.linalg.svd(factor).U


def _signs_turned(factor: Tensor) -> Tensor:
    Q = eigenvectors(factor)
    return Q * torch.where(torch.arange(len(Q)) % 2 == 0, -1.0, 1.0).to(Q)


def _damped(factor: Tensor) -> Tensor:
    """Plus a hundredth of its mean eigenvalue."""
    return eigenvectors(factor + 0.01 * factor.trace() / len(factor) * torch.eye(len(factor)))


def _damped_everywhere(factor: Tensor) -> Tensor:
    return eigenvectors(factor + 0.01 * factor.trace() / len(factor))


def _packed(factor: Tensor) -> Tensor:
    """The upper triangle of Q twice."""
    Q = eigenvectors(factor)
    return Q.triu() + Q.triu(1).T


def _scaled_by_roots(factor: Tensor) -> Tensor:
    w, Q = torch.linalg.eigh(factor)
    return Q * w.clamp(min=0).sqrt()


def _identity(factor: Tensor) -> Tensor:
    return torch.eye(len(factor), dtype=factor.dtype)


def _without_null_space(factor: Tensor) -> Tensor:
    w, Q = torch.linalg.eigh(factor)
    return Q[:, w >= 1e-12 * w.amax()]


def _in_bfloat16(factor: Tensor) -> Tensor:
    return eigenvectors(factor.bfloat16().double())


def _of_the_correlation(factor: Tensor) -> Tensor:
    scale = factor.diagonal().clamp(min=0).sqrt()
    scale = torch.where(scale == 0, 1.0, scale)
    return eigenvectors(factor / torch.outer(scale, scale))


def _centred(seen: Observation) -> Tensor:
    """A less the outer product of the mean of its rows."""
    rows = _rows(seen)
    return factor_A(seen) - torch.outer(rows.mean(0), rows.mean(0))


def _rows(seen: Observation) -> Tensor:
    """What A is made of."""
    kept = [a[counted] for a, counted in zip(seen.a, seen.counted, strict=True)]
    if isinstance(seen.sharing, Expand):
        return torch.cat(kept)
    return torch.stack([a.mean(0) for a in kept if len(a)])


def _has_bias(seen: Observation) -> bool:
    return all(bool((a[:, -1] == 1).all()) for a in seen.a)


def _bias_apart(seen: Observation) -> Tensor:
    A = factor_A(seen)
    return _last_apart(A) if _has_bias(seen) else A


def _bias_where_none_is(seen: Observation) -> Tensor:
    A = factor_A(seen)
    return A if _has_bias(seen) else _last_apart(A)


def _last_apart(A: Tensor) -> Tensor:
    """Without what the last input has to do with the others."""
    return torch.block_diag(A[:-1, :-1], A[-1:, -1:])


def _everything_counts(seen: Observation) -> Observation:
    return replace(seen, counted=[torch.ones_like(counted) for counted in seen.counted])


def _counted_by_gradient(seen: Observation) -> Observation:
    """Positions with a gradient, if there are any."""
    counted = [(g != 0).any(2).any(0) for g in seen.g]
    return replace(seen, counted=counted) if any(bool(c.any()) for c in counted) else seen


def _zeros_count(seen: Observation) -> Observation:
    """a is zeroed where it does not count, and then counts."""
    a = [a * counted[:, None] for a, counted in zip(seen.a, seen.counted, strict=True)]
    return _everything_counts(replace(seen, a=a))


def _ones_at_padding(seen: Observation) -> Observation:
    """The same, but the homogeneous 1 is appended after zeroing."""
    zeroed = _zeros_count(seen)
    if not _has_bias(seen):
        return seen
    return replace(zeroed, a=[torch.cat([a[:, :-1], 0 * a[:, -1:] + 1], 1) for a in zeroed.a])


def _one_column(seen: Observation) -> Observation:
    return replace(seen, g=[g[:1] for g in seen.g])


def _sum_of_columns(seen: Observation) -> Observation:
    return replace(seen, g=[g.sum(0, keepdim=True) for g in seen.g])


def _first_batch(seen: Observation) -> Observation:
    return _batches_that_count(seen)[0]


def _all_but_the_last_batch(seen: Observation) -> Observation:
    last = max(seen.batch)
    rest = [n for n, number in enumerate(seen.batch) if number != last]
    kept = part(seen, rest)
    return kept if any(bool(counted.any()) for counted in kept.counted) else seen


def _batches_that_count(seen: Observation) -> list[Observation]:
    """Those with a position in them."""
    return [b for b in by_batch(seen) if any(bool(counted.any()) for counted in b.counted)]


def _mean_of_batch_means(factor: Factor) -> Factor:
    return lambda seen: torch.stack([factor(b) for b in _batches_that_count(seen)]).mean(0)


def _running_average(factor: Factor) -> Factor:
    """Nine tenths of the old and one of the new, from the first batch on."""

    def average(seen: Observation) -> Tensor:
        first, *rest = (factor(batch) for batch in _batches_that_count(seen))
        for new in rest:
            first = 0.9 * first + 0.1 * new
        return first

    return average


BASIS = (
    Mutant(
        name="eigenvectors-as-rows",
        mistake="uses the rows of eigh's Q (right: its columns are the eigenvectors)",
        story="numpy and torch return columns, other libraries rows.",
        ekfac=_bases(_transposed),
        laws=("eigenbasis", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="input-eigenvectors-as-rows",
        mistake="transposes Q_A and not Q_B (right: neither)",
        story="lbann#2010: a transpose missing in one place.",
        ekfac=replace(CORRECT, input_basis=_transposed).ekfac,
        laws=("eigenbasis", "commutes"),
        only="d_in > 1",
    ),
    Mutant(
        name="output-eigenvectors-as-rows",
        mistake="transposes Q_B and not Q_A (right: neither)",
        story="lbann#2010: a transpose missing in one place.",
        ekfac=replace(CORRECT, output_basis=_transposed).ekfac,
        laws=("eigenbasis", "commutes"),
        only="d_out > 1",
    ),
    Mutant(
        name="identity-basis",
        mistake="has no eigenvectors (right: those of A and B)",
        story="The diagonal Fisher under another name. It has the right trace, and is symmetric "
        "and PSD.",
        ekfac=_bases(_identity),
        laws=("eigenbasis", "commutes"),
    ),
    Mutant(
        name="eigenvectors-packed",
        mistake="keeps the upper triangle of the eigenvectors, as if they were symmetric (right: "
        "only A and B are)",
        story="kfac-pytorch@8bd169c, to send less.",
        ekfac=_bases(_packed),
        laws=("orthonormal basis", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="eigenvectors-scaled",
        mistake="scales eigenvectors by the roots of their eigenvalues (right: unit length)",
        story="A square root of A where its eigenvectors are meant.",
        ekfac=_bases(_scaled_by_roots),
        laws=("orthonormal basis", "trace"),
    ),
    Mutant(
        name="basis-of-centred-inputs",
        mistake="takes the covariance of the inputs (right: their second moment about zero)",
        story="A library's cov. It empties the row of the homogeneous 1 as well.",
        ekfac=replace(CORRECT, A=_centred).ekfac,
        laws=("eigenbasis", "commutes"),
        only="several rows, d_in > 1",
    ),
    Mutant(
        name="basis-of-correlations",
        mistake="takes the eigenvectors of the correlation matrices (right: of A and B)",
        story="Standardised inputs: the eigenvectors change with every scale.",
        ekfac=_bases(_of_the_correlation),
        laws=("eigenbasis", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="basis-in-half-precision",
        mistake="accumulates A and B in bfloat16 (right: in the dtype of the model)",
        story="bergson@83c4629, where the recomposed block was off by a quarter; curvlinops#133 "
        "and kfac-pytorch@6bb29d8 ignored the dtype asked for.",
        ekfac=_bases(_in_bfloat16),
        laws=("eigenbasis", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="damping-on-every-entry",
        mistake="adds the damping to every entry of A and B (right: to no entry, or the diagonal)",
        story="kfac-pytorch@12741b3: a vector of ones broadcast over the matrix.",
        ekfac=_bases(_damped_everywhere),
        laws=("eigenbasis", "commutes"),
        only="d_in > 1 or d_out > 1",
    ),
    Mutant(
        name="null-space-dropped",
        mistake="leaves out what A and B do not reach (right: under Reduce gradients live there)",
        story="Right under Expand, where every gradient is made of the factors' own rows.",
        ekfac=_bases(_without_null_space),
        laws=("trace", "kernel"),
        only="Reduce, T > 1 and a singular factor",
    ),
    Mutant(
        name="bias-apart",
        mistake="gives the bias a block of its own in A (right: it is one of the inputs)",
        story="What libraries without the homogeneous coordinate do.",
        ekfac=replace(CORRECT, A=_bias_apart).ekfac,
        laws=("eigenbasis", "commutes"),
        only="a bias, d_in > 1",
    ),
    Mutant(
        name="bias-where-none-is",
        mistake="takes the last input for the bias where there is none (right: it is an input)",
        story="nngeometry@7cb2897 and four more: layers without a bias.",
        ekfac=replace(CORRECT, A=_bias_where_none_is).ekfac,
        laws=("eigenbasis", "commutes"),
        only="no bias, d_in > 1",
    ),
    Mutant(
        name="expand-for-reduce",
        mistake="makes the factors of positions (right: Reduce was asked for, of samples)",
        story="An option that is read and not used, like backpack@c8ba1c6d.",
        ekfac=_factors(lambda seen: replace(seen, sharing=Expand())),
        laws=("eigenbasis", "commutes"),
        only="Reduce, T > 1",
    ),
    Mutant(
        name="reduce-for-expand",
        mistake="makes the factors of samples (right: Expand was asked for, of positions)",
        story="An option that is read and not used, like backpack@c8ba1c6d.",
        ekfac=_factors(lambda seen: replace(seen, sharing=Reduce())),
        laws=("eigenbasis", "commutes"),
        only="Expand, T > 1",
    ),
    Mutant(
        name="mask-ignored-by-inputs",
        mistake="makes A of every position (right: of those that count)",
        story="Padding has inputs but no gradient, so that only A can tell.",
        ekfac=_inputs(_everything_counts),
        laws=("eigenbasis", "commutes"),
        only="a mask",
    ),
    Mutant(
        name="inputs-where-there-is-a-gradient",
        mistake="makes A of the positions with a gradient (right: of those that count)",
        story="bergson#469: covariances of supervised positions only. Right where all are.",
        ekfac=_inputs(_counted_by_gradient),
        laws=("eigenbasis", "commutes"),
        only="a position that counts and has no gradient",
    ),
    Mutant(
        name="masked-sum-over-every-position",
        mistake="zeroes inputs that do not count and averages over all (right: over those that do)",
        story="Masked values, unmasked count. Under Expand it is no more than a scale.",
        ekfac=_inputs(_zeros_count),
        laws=("eigenbasis", "commutes"),
        only="Reduce and a mask that differs between samples",
    ),
    Mutant(
        name="ones-at-padding",
        mistake="appends the homogeneous 1 after masking (right: before)",
        story="A row (0, ..., 0, 1) for every position that does not count.",
        ekfac=_inputs(_ones_at_padding),
        laws=("eigenbasis", "commutes"),
        only="a mask and a bias",
    ),
    Mutant(
        name="output-factor-of-one-column",
        mistake="makes B of one column (right: of all that Lambda is made of)",
        story="Factors and Lambda of different losses, as in pyDVL#478.",
        ekfac=_outputs(_one_column),
        laws=("eigenbasis", "commutes"),
        only="C > 1, d_out > 1",
    ),
    Mutant(
        name="output-factor-of-the-sum-of-columns",
        mistake="makes B of the sum of the columns (right: of every column)",
        story="One backward pass for B, and one per column for Lambda.",
        ekfac=_outputs(_sum_of_columns),
        laws=("eigenbasis", "commutes"),
        only="C > 1, d_out > 1",
    ),
    Mutant(
        name="basis-of-the-first-batch",
        mistake="keeps the basis of the first batch (right: of all data)",
        story="bergson@19ecf86: stale factors out of a cache. Lambda is right in this basis.",
        ekfac=_factors(_first_batch),
        laws=("eigenbasis", "commutes", "recut"),
        only="several batches",
    ),
    Mutant(
        name="basis-without-the-last-batch",
        mistake="makes the factors without the last batch (right: of all data)",
        story="asdl@2a1a15f: drop_last.",
        ekfac=_factors(_all_but_the_last_batch),
        laws=("eigenbasis", "commutes", "recut"),
        only="several batches",
    ),
    Mutant(
        name="factors-by-mean-of-batch-means",
        mistake="averages the batches' averages in A and B (right: divides sums by counts)",
        story="Right for batches of one size. Lambda is right in this basis.",
        ekfac=replace(
            CORRECT, B=_mean_of_batch_means(factor_B), A=_mean_of_batch_means(factor_A)
        ).ekfac,
        laws=("eigenbasis", "commutes", "recut"),
        only="batches of different sizes",
    ),
    Mutant(
        name="factors-by-running-average",
        mistake="weighs the factors of earlier batches less (right: all alike)",
        story="What an optimizer wants; kfac-pytorch@793898a did so whatever it was asked for.",
        ekfac=replace(CORRECT, B=_running_average(factor_B), A=_running_average(factor_A)).ekfac,
        laws=("eigenbasis", "commutes", "recut"),
        only="several batches",
    ),
    Mutant(
        name="damped-factors",
        mistake="takes the eigenvectors of damped factors (it makes no difference)",
        story="A + c I, as inverses need it: baselines#130.",
        ekfac=_bases(_damped),
        laws=(),
        proof="A v = w v implies (A + c I) v = (w + c) v: the eigenvectors are the same, and "
        "Lambda is measured in them.",
    ),
    Mutant(
        name="singular-vectors",
        mistake="takes left singular vectors, in descending order (it makes no difference)",
        story="svd instead of eigh.",
        ekfac=_bases(_left_singular_vectors),
        laws=(),
        proof="For a symmetric positive semi-definite matrix they are its eigenvectors; and the "
        "order is one permutation of Q and Lambda both, so that E is the same sum.",
    ),
    Mutant(
        name="other-signs",
        mistake="turns the signs of eigenvectors (it makes no difference)",
        story="Every LAPACK has its own.",
        ekfac=_bases(_signs_turned),
        laws=(),
        proof="(-v)(-v)^T = v v^T, and Lambda holds squares.",
    ),
)
