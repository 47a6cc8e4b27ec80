"""A seed fixes the problems: whatever else is imported, in every process, on every machine."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import find
from torch import nn

import ekfac_ref as ek
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.problems.abilities import DTYPES, Abilities
from ekfac_ref.conformance.problems.changed import doubled, in_reverse, jittered, other_labels
from ekfac_ref.conformance.problems.choices import by_seed
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.draw import (
    QUIET,
    draw_problems,
    families_for,
    of_one_family,
    problems_for,
)
from ekfac_ref.conformance.problems.families.rows import vectors, words
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.question.problem import Problem
from tests.support.fresh import python

EVERYTHING = Abilities(dtypes=DTYPES)
# Whoever changes what is drawn says so here and in the change log: old seeds are other problems.
PINNED = "cdd58ac8adc8"
ASK = """
import constants
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems.abilities import DTYPES
from ekfac_ref.conformance.problems.digest import digest
print(digest(ct.draw_problems(ct.Abilities(dtypes=DTYPES), 200, 0)))
"""


def test_the_problems_of_a_seed_are_pinned() -> None:
    assert digest(draw_problems(EVERYTHING, 200, 0)) == PINNED
    assert digest(draw_problems(EVERYTHING, 200, 1)) != PINNED


@pytest.mark.parametrize("constants", ["", f"LIST = {[*range(0, 9000, 7)]}\nX = 0.30103, 'one'"])
def test_what_else_is_imported_changes_nothing(tmp_path: Path, constants: str) -> None:
    """Hypothesis would try these numbers; every process hashes strings in another way."""
    (tmp_path / "constants.py").write_text(constants)
    (tmp_path / "ask.py").write_text(ASK)
    ran = python(tmp_path, "ask.py", path=Path(ek.__file__).parents[1])
    assert ran.stdout.split() == [PINNED], ran.stderr


def test_neither_global_random_numbers_nor_the_default_dtype_matter() -> None:
    torch.manual_seed(7)
    torch.set_default_dtype(torch.float64)
    try:
        assert digest(draw_problems(EVERYTHING, 200, 0)) == PINNED
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_report_tells_the_digest() -> None:
    subject = replace(ek.conformance.load("ekfac_ref.examples:reference"), kfac=None)
    report = Run(Here(subject), Profile("three", 3, 0.0), 5, [LAWS["linear"]]).report()
    assert report.digest == digest(draw_problems(subject.abilities, 3, 5))


def test_a_draw_depends_on_the_seed_and_takes_every_option_as_often() -> None:
    draws = [by_seed(f"seed {n}")("abbc") for n in range(4000)]
    assert draws == [by_seed(f"seed {n}")("abbc") for n in range(4000)]
    shares = {letter: n / 4000 for letter, n in Counter(draws).items()}
    assert shares == pytest.approx({"a": 0.25, "b": 0.5, "c": 0.25}, abs=0.03)


def in_float64() -> list[Problem]:
    return draw_problems(Abilities(dtypes=(torch.float64,)), 66, 2)


def test_rounding_does_not_change_the_digest() -> None:
    """Of what a processor may round otherwise: every number is off by its last place."""
    for problem in in_float64():
        moved = jittered(problem, 0)
        pairs = zip(problem.model.parameters(), moved.model.parameters(), strict=True)
        assert any(not torch.equal(one, other) for one, other in pairs)
        assert digest([moved]) == digest([problem])


def test_a_pasted_problem_has_its_digest() -> None:
    for problem in in_float64():
        found: dict[str, object] = {}
        exec(script(problem, None, None).partition("subject = ")[0], found)
        again = found["problem"]
        assert isinstance(again, Problem)
        assert digest([again]) == digest([problem])


def _other(likelihood: ek.Likelihood) -> ek.Likelihood:
    return ek.Poisson() if isinstance(likelihood, ek.Gaussian) else ek.Gaussian()


def _moved(problem: Problem) -> Problem:
    """One number of one parameter larger by a thousandth."""
    changed = jittered(problem, 0)
    with torch.no_grad():
        next(changed.model.parameters()).view(-1)[0] += 1e-3
    return changed


def _frozen_in_train_mode(problem: Problem) -> Problem:
    changed = jittered(problem, 0)
    changed.model.train()
    return changed


@pytest.mark.parametrize(
    "change",
    [
        *(doubled, in_reverse, other_labels, _moved, _frozen_in_train_mode),
        lambda p: replace(p, likelihood=_other(p.likelihood)),
        lambda p: replace(p, fisher=ek.Sampled(draws=2)),
        lambda p: replace(p, sharing={ek.Expand(): ek.Reduce()}.get(p.sharing, ek.Expand())),
        lambda p: replace(p, layers=("0",)),
        lambda p: replace(p, mask=None if p.mask else lambda x: x),
    ],
)
def test_every_other_change_does(change: Callable[[Problem], Problem]) -> None:
    problem = draw_problems(Abilities(dtypes=(torch.float64,)), 12, 0)[11]
    assert digest([change(problem)]) != digest([problem])


def test_the_order_of_problems_counts() -> None:
    one, other = in_float64()[:2]
    assert len({digest([one, other]), digest([other, one]), digest([one]), digest([])}) == 4


def narrow() -> Iterator[Abilities]:
    """Subjects that can do little, so that most draws are nothing for them."""
    for likelihood in (ek.Gaussian, ek.Categorical, ek.Bernoulli, ek.Poisson):
        yield Abilities(likelihoods=(likelihood,), shared_weights=False, positions=False)
        yield Abilities(layers=(nn.Linear,), likelihoods=(likelihood,), bias=False)


@pytest.mark.parametrize("abilities", [*narrow()])
def test_what_a_subject_can_do_is_found_in_every_family(abilities: Abilities) -> None:
    """A family that gave up too soon would be missing from the run, in silence."""
    for family in families_for(abilities):
        assert len(of_one_family(abilities, family, 8, 0)) == 8, family.__name__


def test_a_family_without_what_the_subject_can_do_is_left_out() -> None:
    can = Abilities(layers=(nn.Embedding,), positions=False)
    assert all(words is not family for family in families_for(can)) or of_one_family(
        can, words, 2, 0
    )
    assert of_one_family(Abilities(likelihoods=()), vectors, 2, 0) == []


def test_hypothesis_finds_the_smallest() -> None:
    def large(problem: Problem) -> bool:
        return sum(p.numel() for p in problem.model.parameters()) >= 4

    smallest = find(problems_for(Abilities()), large, settings=QUIET)
    assert sum(p.numel() for p in smallest.model.parameters()) <= 6
    assert [len(y) for _, y in smallest.batches] == [1]
