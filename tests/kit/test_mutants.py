"""Every mutant is noticed by the laws that it names, an equivalent one by none; no two are one."""

from dataclasses import replace
from functools import cache
from math import inf

import pytest

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import BY_CHANCE, Lane, notices
from ekfac_ref.conformance.mutants import CATALOGUE, MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem
from tests.support import pin_witnesses
from tests.support.pin_witnesses import broken, pinned, ratios
from tests.support.twins import twins
from tests.support.witnesses import witnesses

LANES = {law.name: law.lane for law in LAWS.values()}
# A mistake there may leave E as it is.
BESIDE = {Lane.SOLVE, Lane.KFAC, Lane.FISHER, Lane.TRAINING, *BY_CHANCE}
WRONG = [mutant for mutant in MUTANTS.values() if not mutant.proof]
EQUIVALENT = [mutant for mutant in MUTANTS.values() if mutant.proof]
DRAWN = PROFILES["quick"].problems


def every(mutants: list[Mutant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutant", mutants, ids=lambda mutant: mutant.name)


@cache
def drawn() -> list[Problem]:
    """Those of a run, for all mutants; its mixtures, which show most, stand last there."""
    return draw_problems(Abilities(), DRAWN, seed=0)[::-1]


def test_names_are_unique_and_laws_exist() -> None:
    assert len(MUTANTS) == len(CATALOGUE)
    for mutant in CATALOGUE:
        assert set(mutant.laws) <= set(LANES), mutant.name
        assert bool(mutant.laws) != bool(mutant.proof), mutant.name


def test_every_mutant_that_is_wrong_has_a_witness() -> None:
    assert list(pinned()) == [mutant.name for mutant in WRONG]


def test_a_row_with_a_law_near_its_limit_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"below": 0.9, "near": 1.1, "over": 299.0, "far over": 301.0, "yes or no": inf}
    assert pin_witnesses.undecided(found) == ["near 1.1", "over 3e+02"]
    monkeypatch.setattr(pin_witnesses, "witnesses", lambda: {"one": witnesses()["vectors 1"]})
    assert pin_witnesses.witnessed(WRONG[1]).witness == "one"
    monkeypatch.setattr(pin_witnesses, "MARGIN", inf)
    with pytest.raises(SystemExit, match=r"one is near the limit of .*trace"):
        pin_witnesses.witnessed(WRONG[1])


def test_a_mutant_whose_laws_are_silent_is_not_pinned() -> None:
    with pytest.raises(SystemExit, match=r"twice: .* broken on none. Add one"):
        pin_witnesses.witnessed(replace(EQUIVALENT[0], name="twice", laws=("trace",)))


@every(WRONG)
def test_all_laws_of_the_pinned_row_notice_and_no_others(mutant: Mutant) -> None:
    row = pinned()[mutant.name]
    assert broken(ratios(Trial(mutant.subject, witnesses()[row.witness]))) == row.laws
    assert set(mutant.laws) <= set(row.laws)


@every(WRONG)
def test_a_law_notices_on_a_drawn_problem(mutant: Mutant) -> None:
    """Those that it names are asked first, of all problems.

    And problems that have shown a mutant come first from then on: the next one is of its kind.
    """
    named = [law for law in LAWS.values() if law.name in mutant.laws]
    others = [law for law in LAWS.values() if law.name not in mutant.laws]
    problems = drawn()
    for laws in (named, others):
        for i, problem in enumerate(problems):
            trial = Trial(mutant.subject, problem)
            if any(notices(law, trial) for law in laws):
                problems.insert(0, problems.pop(i))
                return
    pytest.fail(f"none notices it on {DRAWN} problems")


@every([mutant for mutant in WRONG if not {LANES[name] for name in mutant.laws} <= BESIDE])
def test_a_matvec_is_enough_to_notice(mutant: Mutant) -> None:
    matvec = {Lane.SUBJECT, Lane.ANY, Lane.SAME, Lane.OPAQUE, Lane.EKFAC}
    assert any(LANES[name] in matvec for name in pinned()[mutant.name].laws)


def test_the_recipe_without_a_mistake_breaks_nothing() -> None:
    subject = Subject("correct", CORRECT.ekfac)
    for problem in witnesses().values():
        assert broken(ratios(Trial(subject, problem))) == ()


def test_one_that_remembers_begins_anew_with_every_subject() -> None:
    mutant = MUTANTS["eigenvectors-of-the-call-before"]
    subject, problem, other = mutant.subject, *(witnesses()[f"vectors {n}"] for n in (1, 3))
    first = Trial(subject, problem).cases[0].E.matrix
    assert Trial(subject, other).cases
    assert Trial(mutant.subject, problem).cases[0].E.matrix.equal(first)
    assert not Trial(subject, problem).cases[0].E.matrix.equal(first)


@every(EQUIVALENT)
def test_nothing_notices_an_equivalent_mutant(mutant: Mutant) -> None:
    for problem in [*witnesses().values()][::6]:
        assert broken(ratios(Trial(mutant.subject, problem))) == ()


def test_no_two_mutants_are_one() -> None:
    assert twins(WRONG) == []
