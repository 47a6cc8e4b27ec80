"""Mistakes in the rows and batches that A and B are made of; Lambda is right in their basis."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Factor, by_batch, ends_in_ones, part
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.question.sharing import Expand, Reduce

Change = Callable[[Observation], Observation]


def _both_factors(change: Change) -> Ask:
    """The factors of something else than what the layer saw; Lambda of what it did see."""
    return replace(
        CORRECT, B=lambda seen: CORRECT.B(change(seen)), A=lambda seen: CORRECT.A(change(seen))
    ).ekfac


def _inputs(change: Change) -> Ask:
    """An EKFAC with A of something else than what the layer saw."""
    return replace(CORRECT, A=lambda seen: CORRECT.A(change(seen))).ekfac


def _outputs(change: Change) -> Ask:
    """An EKFAC with B of something else than what the layer saw."""
    return replace(CORRECT, B=lambda seen: CORRECT.B(change(seen))).ekfac


def _centred(seen: Observation) -> Tensor:
    """A less the outer product of the mean of the rows that it is made of."""
    rows = [a[counted] for a, counted in zip(seen.a, seen.counted, strict=True)]
    if isinstance(seen.sharing, Reduce):
        rows = [a.mean(0, keepdim=True) for a in rows if len(a)]
    mean = torch.cat(rows).mean(0)
    return CORRECT.A(seen) - torch.outer(mean, mean)


def _last_apart(of_ones: bool) -> Ask:
    """A without what the last input has to do with the others, where it is a 1 or is not."""

    def factor(seen: Observation) -> Tensor:
        A = CORRECT.A(seen)
        apart = torch.block_diag(A[:-1, :-1], A[-1:, -1:])
        return apart if ends_in_ones(seen) is of_ones else A

    return replace(CORRECT, A=factor).ekfac


def _everything_counts(seen: Observation) -> Observation:
    return replace(seen, counted=[torch.ones_like(counted) for counted in seen.counted])


def _mask_of_the_batch_before(seen: Observation) -> Observation:
    """A batch of which all counts takes the mask of the last one of which not all did."""
    mask: list[Tensor] = []
    counted = []
    for batch in by_batch(seen):
        if not all(bool(c.all()) for c in batch.counted):
            mask = batch.counted
        counted += [
            mask[n % len(mask)] if mask and len(mask[n % len(mask)]) == len(c) else c
            for n, c in enumerate(batch.counted)
        ]
    return replace(seen, counted=counted)


def _counted_by_gradient(seen: Observation) -> Observation:
    """Positions with a gradient, if there are any."""
    counted = [(g != 0).any(2).any(0) for g in seen.g]
    return replace(seen, counted=counted) if any(bool(c.any()) for c in counted) else seen


def _zeros_count(seen: Observation) -> Observation:
    """a is zeroed where it does not count, and then counts."""
    a = [a * counted[:, None] for a, counted in zip(seen.a, seen.counted, strict=True)]
    return _everything_counts(replace(seen, a=a))


def _ones_at_padding(seen: Observation) -> Observation:
    """a is zeroed where it does not count, the homogeneous 1 is appended, and all count."""
    zeroed = _zeros_count(seen)
    if not ends_in_ones(seen):
        return seen
    return replace(zeroed, a=[torch.cat([a[:, :-1], 0 * a[:, -1:] + 1], 1) for a in zeroed.a])


def _all_but_the_last_batch(seen: Observation) -> Observation:
    kept = part(seen, [n for n, batch in enumerate(seen.batch) if batch != max(seen.batch)])
    return kept if any(bool(counted.any()) for counted in kept.counted) else seen


def _batches_that_count(seen: Observation) -> list[Observation]:
    """Those with a position in them."""
    return [b for b in by_batch(seen) if any(bool(counted.any()) for counted in b.counted)]


def _mean_of_batch_means(factor: Factor) -> Factor:
    return lambda seen: torch.stack([factor(b) for b in _batches_that_count(seen)]).mean(0)


def _running_average(factor: Factor) -> Factor:
    """Nine tenths of the old and one of the new, from the first batch on."""
    return lambda seen: reduce(
        lambda old, new: 0.9 * old + 0.1 * new, map(factor, _batches_that_count(seen))
    )


_mutant = partial(Mutant, laws=("eigenbasis", "commutes"))
_of_batches = partial(Mutant, laws=("eigenbasis", "commutes", "recut"))

FACTORS = (
    _mutant(
        name="basis-of-centred-inputs",
        mistake="takes the covariance of the inputs (right: their second moment about zero)",
        story="A library's cov. It empties the row of the homogeneous 1 as well.",
        ekfac=replace(CORRECT, A=_centred).ekfac,
        only="several rows, d_in > 1",
    ),
    _mutant(
        name="bias-apart",
        mistake="gives the bias a block of its own in A (right: it is one of the inputs)",
        story="What libraries without the homogeneous coordinate do.",
        ekfac=_last_apart(of_ones=True),
        only="a bias, d_in > 1",
    ),
    _mutant(
        name="bias-where-none-is",
        mistake="takes the last input for the bias where there is none (right: it is an input)",
        story="nngeometry@7cb2897 and four more: layers without a bias.",
        ekfac=_last_apart(of_ones=False),
        only="no bias, d_in > 1",
    ),
    _mutant(
        name="expand-for-reduce",
        mistake="makes the factors of positions (right: Reduce was asked for, of samples)",
        story="An option that is read and not used, like backpack@c8ba1c6d.",
        ekfac=_both_factors(lambda seen: replace(seen, sharing=Expand())),
        only="Reduce, T > 1",
    ),
    _mutant(
        name="reduce-for-expand",
        mistake="makes the factors of samples (right: Expand was asked for, of positions)",
        story="An option that is read and not used, like backpack@c8ba1c6d.",
        ekfac=_both_factors(lambda seen: replace(seen, sharing=Reduce())),
        only="Expand, T > 1",
    ),
    _mutant(
        name="mask-ignored-by-inputs",
        mistake="makes A of every position (right: of those that count)",
        story="Padding has inputs but no gradient, so that only A can tell.",
        ekfac=_inputs(_everything_counts),
        only="a mask",
    ),
    _mutant(
        name="mask-of-the-batch-before",
        mistake="keeps the mask of an earlier batch where one has none (right: all of it counts)",
        story="An attribute that hooks read is set where there is a mask, and never cleared.",
        ekfac=_inputs(_mask_of_the_batch_before),
        laws=("eigenbasis", "commutes", "recut"),
        only="a batch that has no mask, behind one that has",
    ),
    _mutant(
        name="inputs-where-there-is-a-gradient",
        mistake="makes A of the positions with a gradient (right: of those that count)",
        story="bergson#469: covariances of supervised positions only. Right where all are.",
        ekfac=_inputs(_counted_by_gradient),
        only="a position that counts and has no gradient",
    ),
    _mutant(
        name="masked-sum-over-every-position",
        mistake="zeroes inputs that do not count and averages over all (right: over those that do)",
        story="Masked values, unmasked count. Under Expand it is no more than a scale.",
        ekfac=_inputs(_zeros_count),
        only="Reduce and a mask that differs between samples",
    ),
    _mutant(
        name="ones-at-padding",
        mistake="appends the homogeneous 1 after masking (right: before)",
        story="A row (0, ..., 0, 1) for every position that does not count.",
        ekfac=_inputs(_ones_at_padding),
        only="a mask and a bias",
    ),
    _mutant(
        name="output-factor-of-one-column",
        mistake="makes B of one column (right: of all that Lambda is made of)",
        story="Factors and Lambda of different losses, as in pyDVL#478.",
        ekfac=_outputs(lambda seen: replace(seen, g=[g[:1] for g in seen.g])),
        only="C > 1, d_out > 1",
    ),
    _mutant(
        name="output-factor-of-the-sum-of-columns",
        mistake="makes B of the sum of the columns (right: of every column)",
        story="One backward pass for B, and one per column for Lambda.",
        ekfac=_outputs(lambda seen: replace(seen, g=[g.sum(0, keepdim=True) for g in seen.g])),
        only="C > 1, d_out > 1",
    ),
    _of_batches(
        name="basis-of-the-first-batch",
        mistake="keeps the basis of the first batch (right: of all data)",
        story="bergson@19ecf86: stale factors out of a cache. Lambda is right in this basis.",
        ekfac=_both_factors(lambda seen: _batches_that_count(seen)[0]),
        only="several batches",
    ),
    _of_batches(
        name="basis-without-the-last-batch",
        mistake="makes the factors without the last batch (right: of all data)",
        story="asdl@2a1a15f: drop_last.",
        ekfac=_both_factors(_all_but_the_last_batch),
        only="several batches",
    ),
    _of_batches(
        name="factors-by-mean-of-batch-means",
        mistake="averages the batches' averages in A and B (right: divides sums by counts)",
        story="Right for batches of one size. Lambda is right in this basis.",
        ekfac=replace(
            CORRECT, B=_mean_of_batch_means(CORRECT.B), A=_mean_of_batch_means(CORRECT.A)
        ).ekfac,
        only="batches of different sizes",
    ),
    _of_batches(
        name="factors-by-running-average",
        mistake="weighs the factors of earlier batches less (right: all alike)",
        story="What an optimizer wants; kfac-pytorch@793898a did so whatever it was asked for.",
        ekfac=replace(CORRECT, B=_running_average(CORRECT.B), A=_running_average(CORRECT.A)).ekfac,
        only="several batches",
    ),
)
