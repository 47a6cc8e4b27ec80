"""Mutants that get the problem itself, and no copy, leave it as it is, and all that is remembered
of it.
"""

import contextlib

import pytest
import torch

from ekfac_ref.conformance.diagnosis import comparison, selection
from ekfac_ref.conformance.diagnosis.comparable import DOUBLE as PRECISION
from ekfac_ref.conformance.diagnosis.quantity import OF_EKFAC
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.designed.batching import held
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.subjects.snapshot import differences, snapshot
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.tolerance import factor_scales, fisher_scale
from ekfac_ref.question.problem import Problem

DOUBLE = Abilities(dtypes=(torch.float64,))
READING = [mutant for mutant in MUTANTS.values() if mutant.only_reads]


def different(problems: list[Problem]) -> list[Problem]:
    """Some with a mask, with images, with words, with a loader, and with none of these."""
    found = {}
    for problem in problems:
        kinds = {type(module).__name__ for module in problem.model.modules()}
        special = problem.mask is not None, "Conv2d" in kinds, "Embedding" in kinds
        found.setdefault((*special, type(problem.batches)), problem)
    return list(found.values())


def asked(mutant: Mutant, problem: Problem) -> None:
    """All operators that it has of its own, a product and a solve of each."""
    for ask in mutant.subject.operators.values():
        for block in ask(problem).values():
            block.matvec(torch.ones(block.shape).double())
            block.solve(torch.ones(block.shape).double(), damping=1.0)


@pytest.mark.parametrize("number", range(4))
def test_a_mutant_made_of_steps_changes_nothing(number: int) -> None:
    problem = different(mixtures(DOUBLE, 60, 0))[number]
    seen = [one for groups in observed_exactly(problem).values() for one in groups]

    def known() -> list[torch.Tensor]:
        ones = [torch.tensor([fisher_scale(one), *factor_scales(one)]) for one in seen]
        return [*ones, *(x for one in seen for x in (*oracle.factors(one), *one.a, *one.g, *one.G))]

    before = snapshot(problem.model, held(problem.batches))
    remembered = [x.clone() for x in known()]
    for mutant in READING:
        with contextlib.suppress(Exception):  # some cannot answer, and may change nothing either
            asked(mutant, problem)
        after = snapshot(problem.model, held(problem.batches))
        assert differences(before, after) == [], mutant.name
    assert all(map(torch.equal, remembered, known()))


@pytest.mark.parametrize("name", ["data-overwritten", "requires-grad-left-on"])
def test_what_a_mutant_changes_is_a_copy(name: str) -> None:
    right = Subject("right", CORRECT.ekfac, abilities=DOUBLE)
    asked_about = selection.comparisons(right, PRECISION, 1, 0, OF_EKFAC)[0].question
    problem = asked_about.problem
    before = snapshot(problem.model, held(problem.batches))
    assert not MUTANTS[name].only_reads
    assert comparison.answer_of(MUTANTS[name], asked_about) is not None
    assert differences(before, snapshot(problem.model, held(problem.batches))) == []
