"""Mistakes in A and B that come from batches: stale, partial, or weighed."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.basis.factors import both_factors
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Factor, by_batch, factor_A, factor_B, part
from ekfac_ref.conformance.truth.observation import Observation


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


_mutant = partial(Mutant, laws=("eigenbasis", "commutes", "recut"))

FACTORS_BY_BATCH = (
    _mutant(
        name="basis-of-the-first-batch",
        mistake="keeps the basis of the first batch (right: of all data)",
        story="bergson@19ecf86: stale factors out of a cache. Lambda is right in this basis.",
        ekfac=both_factors(lambda seen: _batches_that_count(seen)[0]),
        only="several batches",
    ),
    _mutant(
        name="basis-without-the-last-batch",
        mistake="makes the factors without the last batch (right: of all data)",
        story="asdl@2a1a15f: drop_last.",
        ekfac=both_factors(_all_but_the_last_batch),
        only="several batches",
    ),
    _mutant(
        name="factors-by-mean-of-batch-means",
        mistake="averages the batches' averages in A and B (right: divides sums by counts)",
        story="Right for batches of one size. Lambda is right in this basis.",
        ekfac=replace(
            CORRECT, B=_mean_of_batch_means(factor_B), A=_mean_of_batch_means(factor_A)
        ).ekfac,
        only="batches of different sizes",
    ),
    _mutant(
        name="factors-by-running-average",
        mistake="weighs the factors of earlier batches less (right: all alike)",
        story="What an optimizer wants; kfac-pytorch@793898a did so whatever it was asked for.",
        ekfac=replace(CORRECT, B=_running_average(factor_B), A=_running_average(factor_A)).ekfac,
        only="several batches",
    ),
)
