"""Laws between two answers: a problem put otherwise has the same matrices."""

from collections.abc import Callable, Iterator

import torch

from ekfac_ref.conformance.declared.damping import Tikhonov
from ekfac_ref.conformance.laws.damped import roundings_of_inverse
from ekfac_ref.conformance.laws.law import Lane, Law, each, law_of_a_trial, named
from ekfac_ref.conformance.laws.of_a_preconditioner import named_blocks
from ekfac_ref.conformance.laws.of_tensors import UNCHANGED_TENSORS
from ekfac_ref.conformance.problems import changed
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.eigengaps import ekfac_scale, gap, gate
from ekfac_ref.conformance.truth.tolerance import (
    block_scale,
    bounded,
    factor_scales,
    fisher_scale,
    own_scale,
)
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.problem import Problem


def unchanged(one: Answered, other: Answered) -> float:
    """Two answers for F, or for KFAC, are one matrix."""
    scale = own_scale(one.matrix, block_scale(one.seen))
    return bounded("unchanged", other.matrix - one.matrix, scale, one.seen)


def unchanged_ekfac(one: Answered, other: Answered) -> float:
    """E is one matrix where eigengaps are wide, else it has the moments that no basis changes."""
    difference, seen, eigengap = other.matrix - one.matrix, one.seen, gap(one.seen)
    scale = own_scale(one.matrix, fisher_scale(seen))
    if eigengap >= gate(seen.dtype):
        scale = max(scale / eigengap, ekfac_scale(seen, eigengap))
        return bounded("E unchanged", difference, scale, seen)
    B, A = oracle.factors(seen)
    b, a = factor_scales(seen)
    law = "moments of E unchanged"
    return max(
        bounded(law, difference.trace(), scale, seen),
        bounded(law, (difference * torch.kron(B, A)).sum(), scale * (b * a), seen),
    )


def _unchanged_by(
    name: str,
    statement: str,
    change: Callable[[Problem], Problem],
    applies: Callable[[Problem], bool] = lambda problem: True,
    fits: Callable[[Abilities], bool] = lambda abilities: True,
) -> Law:
    """The answer to the changed problem is the same, as far as the basis is determined."""
    source = "F, A and B are means over samples and positions"

    @law_of_a_trial(name, source, Lane.SAME, fits, statement=statement)
    def law(trial: Trial) -> Iterator[float]:
        if not applies(trial.problem):
            return
        later = trial.about(change(trial.problem))
        parts = (_unchanged_operators, _unchanged_inverse, *UNCHANGED_TENSORS)
        yield from each(part(trial, later) for part in parts)

    return law


def _unchanged_operators(trial: Trial, later: Trial) -> Iterator[float]:
    for one, other in operators_of_both(trial, later):
        with named(one.way):
            yield (unchanged_ekfac if one.way == "ekfac" else unchanged)(one, other)


def _unchanged_inverse(trial: Trial, later: Trial) -> Iterator[float]:
    """P V of two trials is the same, where E is one matrix."""
    P, how = trial.inverse, trial.subject.definition.damping
    if P is None:
        return
    with named("precondition"):
        again = later.solved(P.U, P.damping)
        for name, block in named_blocks(trial):
            seen, eigengap = block.seen, gap(block.seen)
            size = roundings_of_inverse(seen, how, P.damping)
            if isinstance(how, Tikhonov):
                if eigengap < gate(seen.dtype):
                    continue
                size = (ekfac_scale(seen, eigengap) + P.damping) / P.damping**2
            if size is not None:
                difference = block.of(again[name]) - block.of(P.of_U[P.damping][name])
                scale = 2 * size * float(block.of(P.U[name]).norm())
                yield bounded("P V unchanged", difference, scale, seen)


def operators_of_both(trial: Trial, later: Trial) -> Iterator[tuple[Answered, Answered]]:
    """All operators of one trial, each with that of another one."""
    if trial.subject.operators:
        for before, after in zip(trial.cases, later.cases, strict=True):
            yield from zip(before.operators, after.operators, strict=True)


UNCHANGED = (
    _unchanged_by("recut", "the cut into batches changes nothing", changed.recut),
    _unchanged_by("order", "the order of the samples changes nothing", changed.in_reverse),
    _unchanged_by("doubled", "every sample twice changes nothing", changed.doubled),
    _unchanged_by(
        "labels",
        "the values of the labels change nothing under the exact Fisher",
        changed.other_labels,
        lambda problem: isinstance(problem.fisher, Exact),
        lambda abilities: Exact in abilities.fishers,
    ),
    _unchanged_by(
        "padding",
        "what stands at positions that the mask leaves out changes nothing",
        changed.padded,
        lambda problem: problem.mask is not None,
        lambda abilities: abilities.masks and abilities.positions,
    ),
)
